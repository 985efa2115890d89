"""Flux Kontext: pictures from text, and edits of pictures. An older API; the jobs API has it as `flux1-kontext`.

Source: https://docs.kie.ai/flux-kontext-api/generate-or-edit-image and
https://docs.kie.ai/flux-kontext-api/get-image-details. The original picture's link lives 10 minutes, the result's 14 days.
"""

from dataclasses import replace
from typing import Any

from kiejobs.answers import Finished, Outcome, Pending, Result, Snapshot
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
"""`successFlag`. Source: https://docs.kie.ai/flux-kontext-api/get-image-details"""

URL_KEYS = (("resultImageUrl", "result"), ("originImageUrl", "origin"))

ORIGIN_LIVES_S = 600.0
"""Source: https://docs.kie.ai/flux-kontext-api/generate-or-edit-image-callbacks"""


class FluxKontext:
    """The Flux Kontext API."""

    name = "flux-kontext"
    models = frozenset({"flux-kontext-pro", "flux-kontext-max"})
    create_deadline_s: float | None = None
    readable = NOT_VISIBLE_CODES | FAILED_CODES

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Call:
        """POST /api/v1/flux/kontext/generate; the model is a parameter among the others."""
        return flat("/api/v1/flux/kontext/generate", given(request) | {"model": model}, callback_url)

    def created(self, answer: Envelope, request: dict[str, Any]) -> Outcome:
        """`data.taskId`."""
        return accepted(task_id(answer.data), answer)

    def read(self, task_id: str) -> Call:
        """GET /api/v1/flux/kontext/record-info?taskId=…."""
        return Call("GET", "/api/v1/flux/kontext/record-info", query={"taskId": task_id})

    def snapshot(self, envelope: Envelope) -> Snapshot:
        """Read the record by its flag."""
        record = envelope.data
        if not isinstance(record, dict):
            return unseen(envelope)
        flag, spent = word(record.get("successFlag")), credits(record.get("creditsConsumed"))
        if flag in MADE:
            return Finished(tuple(map(_lives, files(record.get("response"), URL_KEYS))), spent)
        if flag in FAILED:
            return broken(record.get("errorCode") or flag, record.get("errorMessage"), spent)
        return Pending(flag or "no flag", known=flag in WORKING)

    def fresh_link(self, task_id: str, url: str) -> Call:
        """The common download-url call."""
        return common_link(url)

    def asked(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        """All parameters but the model, which is compared by itself, like the callback address."""
        return {name: value for name, value in given(request).items() if name not in ("model", "callBackUrl")}

    def echo(self, record: Any) -> Echo:
        """`paramJson` and `createTime`; the model is named among the parameters, if at all."""
        found = param_echo(record)
        named = (found.input or {}).get("model")
        return replace(found, model=named if isinstance(named, str) else None)


def _lives(result: Result) -> Result:
    return replace(result, lives_s=ORIGIN_LIVES_S) if result.role == "origin" else result
