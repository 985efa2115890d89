"""Chat: GPT, Gemini, Claude and Grok, answered in the call itself; the answer is the generation.

Sources: https://docs.kie.ai/market/chat/gpt-5-2, https://docs.kie.ai/market/codex/gpt-codex and the pages under
https://docs.kie.ai/market/gemini, …/claude and …/grok. There is no task: a call that breaks off cannot be looked up, and
money may have been spent. `endpoints` says where a model is served, the four
dialects how its answers read, `answering` what an answer means for the money.
"""

from typing import Any
from urllib.parse import quote

from kiejobs.answers import NotVisible, Outcome, Snapshot
from kiejobs.kie.adoption import Echo
from kiejobs.kie.envelope import Envelope
from kiejobs.kie.families.chat.answering import outcome
from kiejobs.kie.families.chat.endpoints import ENDPOINTS, endpoint
from kiejobs.kie.family import Call, common_link, given
from kiejobs.kie.reading import NOT_VISIBLE_CODES


class Chat:
    """All chat endpoints."""

    name = "chat"
    models: frozenset[str] = frozenset(ENDPOINTS)
    create_deadline_s: float | None = 600.0
    readable = NOT_VISIBLE_CODES

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Call:
        """POST the input; in one piece, unless the input asks for a stream. None of these calls back."""
        served = endpoint(model)
        body = {"stream": False, **given(request), **({"model": model} if served.names_model else {})}
        return Call("POST", served.path.format(m=quote(model, safe="")), body=body)

    def created(self, answer: Envelope, request: dict[str, Any]) -> Outcome:
        """Read the answer in whatever dialect it came: each is told from the others by its keys."""
        return outcome(answer)

    def read(self, task_id: str) -> Call:
        """Ask the jobs API, which knows no such task: nothing has a record here."""
        return Call("GET", "/api/v1/jobs/recordInfo", query={"taskId": task_id})

    def snapshot(self, envelope: Envelope) -> Snapshot:
        """No task is ever visible."""
        return NotVisible("a chat is answered at once; it has no task")

    def fresh_link(self, task_id: str, url: str) -> Call:
        """The common download-url call."""
        return common_link(url)

    def asked(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        """The input; nothing ever echoes it."""
        return given(request)

    def echo(self, record: Any) -> Echo:
        """Nothing."""
        return Echo(None, None, None, None)
