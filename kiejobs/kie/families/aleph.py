"""Runway Aleph: videos changed by text. An older API; the jobs API has it as `runway/gen4-aleph`.

Source: https://docs.kie.ai/runway-api/generate-aleph-video and https://docs.kie.ai/runway-api/get-aleph-video-details.
A record whose flag stays 0 but which has an error code has failed. Callbacks have their task id at the top of the body.
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
MADE = frozenset({"1"})
FAILED = frozenset({"2", "3"})
"""`successFlag`. Source: https://docs.kie.ai/runway-api/get-aleph-video-details"""

NO_ERROR = frozenset({"", "0", "200"})
"""An `errorCode` beside the flag 0 that tells of no failure."""

URL_KEYS = (("resultVideoUrl", "result"), ("resultImageUrl", "cover"))


class Aleph:
    """The Aleph API."""

    name = "aleph"
    models = frozenset({"aleph"})
    create_deadline_s: float | None = None
    readable = NOT_VISIBLE_CODES | FAILED_CODES

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Call:
        """POST /api/v1/aleph/generate."""
        return flat("/api/v1/aleph/generate", given(request), callback_url)

    def created(self, answer: Envelope, request: dict[str, Any]) -> Outcome:
        """`data.taskId`."""
        return accepted(task_id(answer.data), answer)

    def read(self, task_id: str) -> Call:
        """GET /api/v1/aleph/record-info?taskId=…."""
        return Call("GET", "/api/v1/aleph/record-info", query={"taskId": task_id})

    def snapshot(self, envelope: Envelope) -> Snapshot:
        """Read the record by its flag; 0 with an error code is a failure."""
        record = envelope.data
        if not isinstance(record, dict):
            return unseen(envelope)
        flag, code = word(record.get("successFlag")), word(record.get("errorCode"))
        spent = credits(record.get("creditsConsumed"))
        if flag in MADE:
            return Finished(files(record.get("response"), URL_KEYS), spent)
        if flag in FAILED or (flag in WORKING and code not in NO_ERROR):
            return broken(code or flag, record.get("errorMessage"), spent)
        return Pending(flag or "no flag", known=flag in WORKING)

    def fresh_link(self, task_id: str, url: str) -> Call:
        """The common download-url call."""
        return common_link(url)

    def asked(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        """All parameters; the callback address is compared by itself."""
        return {name: value for name, value in given(request).items() if name != "callBackUrl"}

    def echo(self, record: Any) -> Echo:
        """`paramJson` and `createTime`, which is in milliseconds on the wire; the record names no model."""
        return param_echo(record)
