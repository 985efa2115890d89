"""Midjourney: pictures, videos, and upscales and variations of a picture. Kie withdrew it; old tasks stay readable here.

Source: https://docs.kie.ai/mj-api/generate-mj-image, https://docs.kie.ai/mj-api/generate-mj-upscale and
https://docs.kie.ai/mj-api/get-mj-task-details. The record has an object per picture where callbacks have plain URLs.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from kiejobs.answers import Finished, Outcome, Pending, Result, Snapshot
from kiejobs.kie.adoption import Echo
from kiejobs.kie.envelope import Envelope, as_json
from kiejobs.kie.family import Call, accepted, common_link, flat, given
from kiejobs.kie.reading import (
    FAILED_CODES,
    NOT_VISIBLE_CODES,
    broken,
    credits,
    mapping,
    once,
    param_echo,
    task_id,
    texts,
    unseen,
    word,
)

WORKING = frozenset({"0"})
MADE = frozenset({"1"})
FAILED = frozenset({"2", "3"})
"""`successFlag`. Source: https://docs.kie.ai/mj-api/get-mj-task-details"""

TASK_TYPES = frozenset(
    {"mj_txt2img", "mj_img2img", "mj_style_reference", "mj_omni_reference", "mj_video", "mj_video_hd"}
)
"""Kie's `taskType` is our model id. Source: https://docs.kie.ai/mj-api/generate-mj-image"""

OPERATIONS = {"mj_upscale": "/api/v1/mj/generateUpscale", "mj_vary": "/api/v1/mj/generateVary"}

RESULTS_LIVE_S = 15 * 86400.0


class Midjourney:
    """The Midjourney API."""

    name = "midjourney"
    models = TASK_TYPES | frozenset(OPERATIONS)
    create_deadline_s: float | None = None
    readable = NOT_VISIBLE_CODES | FAILED_CODES

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Call:
        """POST /api/v1/mj/generate with the `taskType`, or /generateUpscale or /generateVary."""
        if model in OPERATIONS:
            return flat(OPERATIONS[model], given(request), callback_url)
        return flat("/api/v1/mj/generate", given(request) | {"taskType": model}, callback_url)

    def created(self, answer: Envelope, request: dict[str, Any]) -> Outcome:
        """`data.taskId`."""
        return accepted(task_id(answer.data), answer)

    def read(self, task_id: str) -> Call:
        """GET /api/v1/mj/record-info?taskId=…."""
        return Call("GET", "/api/v1/mj/record-info", query={"taskId": task_id})

    def snapshot(self, envelope: Envelope) -> Snapshot:
        """Read the record by its flag."""
        record = envelope.data
        if not isinstance(record, dict):
            return unseen(envelope)
        flag, spent = word(record.get("successFlag")), credits(record.get("creditsConsumed"))
        if flag in MADE:
            return Finished(once(list(_results(record))), spent)
        if flag in FAILED:
            return broken(record.get("errorCode") or flag, record.get("errorMessage"), spent)
        return Pending(flag or "no flag", known=flag in WORKING)

    def fresh_link(self, task_id: str, url: str) -> Call:
        """The common download-url call."""
        return common_link(url)

    def asked(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        """All parameters but the task type, which is compared by itself, like the callback address."""
        return {name: value for name, value in given(request).items() if name not in ("taskType", "callBackUrl")}

    def echo(self, record: Any) -> Echo:
        """`paramJson` and `createTime`; the task type is named among the parameters, if at all."""
        found = param_echo(record)
        named = (found.input or {}).get("taskType")
        return replace(found, model=named if isinstance(named, str) and named in TASK_TYPES else None)


def _results(record: dict[str, Any]) -> Iterator[Result]:
    listed = as_json(mapping(as_json(record.get("resultInfoJson"))).get("resultUrls"))
    for entry in listed if isinstance(listed, list) else [listed]:
        for url in texts(entry.get("resultUrl") if isinstance(entry, dict) else entry):
            yield Result("result", url=url, lives_s=RESULTS_LIVE_S)
