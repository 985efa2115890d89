"""Suno's calls that are answered at once: a better description of a style, words with their times, a persona.

Sources: https://docs.kie.ai/suno-api/boost-music-style, …/get-timestamped-lyrics, …/generate-persona. There is no task to
poll: the answer's `data` is the result. Observed for the style: `data` has a task id that no record call knows, the
credits, and the Chinese word for success as its flag.
"""

import json
from collections.abc import Iterator
from typing import Any

from kiejobs.answers import Answered, NotVisible, Outcome, Result, Snapshot, Unknown
from kiejobs.kie.adoption import Echo
from kiejobs.kie.envelope import Envelope
from kiejobs.kie.families.suno.calls import READABLE, refused, without_callback
from kiejobs.kie.family import Call, common_link
from kiejobs.kie.reading import credits, texts

PATHS = {
    "suno/style": "/api/v1/style/generate",
    "suno/timestamped-lyrics": "/api/v1/generate/get-timestamped-lyrics",
    "suno/persona": "/api/v1/generate/generate-persona",
}
CONTENT = ("result", "alignedWords", "personaId")
"""What `data` has of each, in this order; without any of them there is no result."""


class AtOnce:
    """Suno's calls without a task."""

    name = "suno-at-once"
    models: frozenset[str] = frozenset(PATHS)
    create_deadline_s: float | None = 120.0
    readable = READABLE

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Call:
        """POST the input; none of these calls back."""
        return Call("POST", PATHS.get(model, "/api/v1/style/generate"), body=without_callback(request))

    def created(self, answer: Envelope, request: dict[str, Any]) -> Outcome:
        """Take `data` for the answer where it has content; a yes without content may have been charged."""
        found = answer.data if isinstance(answer.data, dict) else {}
        if answer.ok and any(found.get(key) for key in CONTENT):
            whole = json.dumps(answer.body or found, ensure_ascii=False)
            return Answered(tuple(_results(found)), whole, credits(found.get("creditsConsumed")))
        if answer.ok:
            said = (
                texts(found.get("errorMessage")) or texts(found.get("errorMsg")) or ["Kie said yes, without a result"]
            )
            return Unknown(said[0], "200", {"data": repr(answer.data)[:2000]})
        return refused(answer)

    def read(self, task_id: str) -> Call:
        """Ask the jobs API, which knows no such task: nothing has a record here."""
        return Call("GET", "/api/v1/jobs/recordInfo", query={"taskId": task_id})

    def snapshot(self, envelope: Envelope) -> Snapshot:
        """No task is ever visible."""
        return NotVisible("this call is answered at once; it has no task")

    def fresh_link(self, task_id: str, url: str) -> Call:
        """The common download-url call."""
        return common_link(url)

    def asked(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        """The input; nothing ever echoes it."""
        return without_callback(request)

    def echo(self, record: Any) -> Echo:
        """Nothing."""
        return Echo(None, None, None, None)


def _results(found: dict[str, Any]) -> Iterator[Result]:
    """The text of a style, where it is one; then all of the answer. A persona's id is the answer's `ref`."""
    yield from (Result("result", document=text) for text in texts(found.get("result")))
    ref = next(iter(texts(found.get("personaId"))), None)
    yield Result("document", document=json.dumps(found, ensure_ascii=False, sort_keys=True), ref=ref)


AT_ONCE = AtOnce()
