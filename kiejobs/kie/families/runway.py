"""Runway: videos from text or a picture, and their extension. An older API; the jobs API has `runway` and
`runway/extend-ai-video` (ask for `jobs:runway` to get that one).

Source: https://docs.kie.ai/runway-api/generate-ai-video, https://docs.kie.ai/runway-api/extend-ai-video and
https://docs.kie.ai/runway-api/get-ai-video-details. Only `state` tells the state: a documented sample that is still
generating has `videoInfo` and `failCode` filled in.
"""

from dataclasses import replace
from typing import Any

from kiejobs.answers import Broken, Finished, Outcome, Pending, Snapshot
from kiejobs.errors import Reason
from kiejobs.kie.adoption import Echo
from kiejobs.kie.envelope import Envelope, as_json
from kiejobs.kie.family import Call, accepted, common_link, flat, given
from kiejobs.kie.reading import (
    FAILED_CODES,
    NOT_VISIBLE_CODES,
    broken,
    credits,
    files,
    mapping,
    moment,
    task_id,
    texts,
    unseen,
    word,
)

WORKING = frozenset({"wait", "queueing", "generating"})
MADE = frozenset({"success"})
FAILED = frozenset({"fail"})
"""`state`. Source: https://docs.kie.ai/runway-api/get-ai-video-details"""

GONE = "1"
"""`expireFlag`: 14 days are over and the files are deleted. Source: the same page."""

PATHS = {"runway": "/api/v1/runway/generate", "runway/extend": "/api/v1/runway/extend"}

SPELLINGS = {
    "image_url": "imageUrl",
    "aspect_ratio": "aspectRatio",
    "watermark": "waterMark",
    "task_id": "taskId",
}
"""How the jobs API's page of the same model spells a parameter, and what it is called here."""

ECHOED = ("prompt", "imageUrl")
"""What `generateParam` repeats of the parameters."""

URL_KEYS = (("videoUrl", "result"), ("imageUrl", "cover"))


class Runway:
    """The Runway API."""

    name = "runway"
    models = frozenset(PATHS)
    create_deadline_s: float | None = None
    readable = NOT_VISIBLE_CODES | FAILED_CODES

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Call:
        """POST /api/v1/runway/generate or /extend; parameters are taken in both spellings."""
        return flat(PATHS.get(model, PATHS["runway"]), _spelt(request), callback_url)

    def created(self, answer: Envelope, request: dict[str, Any]) -> Outcome:
        """`data.taskId`."""
        return accepted(task_id(answer.data), answer)

    def read(self, task_id: str) -> Call:
        """GET /api/v1/runway/record-detail?taskId=…."""
        return Call("GET", "/api/v1/runway/record-detail", query={"taskId": task_id})

    def snapshot(self, envelope: Envelope) -> Snapshot:
        """Read the record by its `state`."""
        record = envelope.data
        if not isinstance(record, dict):
            return unseen(envelope)
        state, spent = word(record.get("state")), credits(record.get("creditsConsumed"))
        if state in MADE and word(record.get("expireFlag")) == GONE:
            return Broken("", "Kie has deleted the video, 14 days after it was made", Reason.RESULT_EXPIRED, spent)
        if state in MADE:
            return _finished(record)
        if state in FAILED:
            return broken(record.get("failCode"), record.get("failMsg"), spent)
        return Pending(state or "no state", known=state in WORKING)

    def fresh_link(self, task_id: str, url: str) -> Call:
        """The common download-url call."""
        return common_link(url)

    def asked(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        """The prompt and the picture; the record repeats no other parameter."""
        return {name: value for name, value in _spelt(request).items() if name in ECHOED}

    def echo(self, record: Any) -> Echo:
        """`generateParam`. The record names no model; `generateTime` is text without a zone and proves nothing."""
        record = mapping(record)
        asked = as_json(record.get("generateParam"))
        callback_url = mapping(asked).get("callBackUrl")
        return Echo(
            model=None,
            input=asked if isinstance(asked, dict) else None,
            callback_url=callback_url if isinstance(callback_url, str) else None,
            created_at=moment(record.get("generateTime")),
        )


def _spelt(request: dict[str, Any]) -> dict[str, Any]:
    return {SPELLINGS.get(name, name): value for name, value in given(request).items()}


def _finished(record: dict[str, Any]) -> Finished:
    made = mapping(as_json(record.get("videoInfo")))
    ref = next(iter(texts(made.get("videoId"))), None)
    found = (replace(result, ref=ref) for result in files(made, URL_KEYS))
    return Finished(tuple(found), credits(record.get("creditsConsumed")))
