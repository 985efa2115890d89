"""Luma Modify: videos changed by text. Kie took it out of its documents in August 2026; old tasks stay readable here.

Source: https://docs.kie.ai/luma-api/generate-luma-modify-video and https://docs.kie.ai/luma-api/get-luma-modify-details.
The flag 4 says that the video was made and only its callback could not be delivered.
"""

from typing import Any

from kiejobs.answers import Finished, Outcome, Pending, Snapshot
from kiejobs.kie.adoption import Echo
from kiejobs.kie.envelope import Envelope
from kiejobs.kie.family import Call, accepted, common_link, flat, given
from kiejobs.kie.reading import (
    FAILED_CODES,
    NOT_VISIBLE_CODES,
    broken,
    credits,
    files,
    param_echo,
    task_id,
    unseen,
    word,
)

WORKING = frozenset({"0"})
MADE = frozenset({"1", "4"})
FAILED = frozenset({"2", "3"})
"""`successFlag`. Source: https://docs.kie.ai/luma-api/get-luma-modify-details"""

URL_KEYS = (("resultUrls", "result"),)


class Luma:
    """The Luma Modify API."""

    name = "luma"
    models = frozenset({"luma-modify"})
    create_deadline_s: float | None = None
    readable = NOT_VISIBLE_CODES | FAILED_CODES

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Call:
        """POST /api/v1/modify/generate."""
        return flat("/api/v1/modify/generate", given(request), callback_url)

    def created(self, answer: Envelope, request: dict[str, Any]) -> Outcome:
        """`data.taskId`."""
        return accepted(task_id(answer.data), answer)

    def read(self, task_id: str) -> Call:
        """GET /api/v1/modify/record-info?taskId=…."""
        return Call("GET", "/api/v1/modify/record-info", query={"taskId": task_id})

    def snapshot(self, envelope: Envelope) -> Snapshot:
        """Read the record by its flag."""
        record = envelope.data
        if not isinstance(record, dict):
            return unseen(envelope)
        flag, spent = word(record.get("successFlag")), credits(record.get("creditsConsumed"))
        if flag in MADE:
            return Finished(files(record.get("response"), URL_KEYS), spent)
        if flag in FAILED:
            return broken(record.get("errorCode") or flag, record.get("errorMessage"), spent)
        return Pending(flag or "no flag", known=flag in WORKING)

    def fresh_link(self, task_id: str, url: str) -> Call:
        """The common download-url call."""
        return common_link(url)

    def asked(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        """All parameters; the callback address is compared by itself."""
        return {name: value for name, value in given(request).items() if name != "callBackUrl"}

    def echo(self, record: Any) -> Echo:
        """`paramJson` and `createTime`; the record names no model."""
        return param_echo(record)
