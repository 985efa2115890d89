"""4o image: pictures from text and pictures. One of the older APIs; the jobs API has it as `4o-image-api`.

Source: https://docs.kie.ai/4o-image-api/generate-4-o-image and https://docs.kie.ai/4o-image-api/get-4-o-image-details.
The flag comes as a number or as text, and some records have the status word alone. A record with a `completeTime` whose
flag is still 0 was reported: it is waited on like any other.
"""

from collections.abc import Mapping
from typing import Any

from kiejobs.answers import Finished, Outcome, Pending, Snapshot
from kiejobs.kie.adoption import Echo
from kiejobs.kie.envelope import Envelope
from kiejobs.kie.family import Call, accepted, flat, given
from kiejobs.kie.reading import (
    FAILED_CODES,
    NOT_VISIBLE_CODES,
    broken,
    credits,
    files,
    mapping,
    param_echo,
    share,
    task_id,
    unseen,
    word,
)

WORKING = frozenset({"0", "GENERATING"})
MADE = frozenset({"1", "SUCCESS"})
FAILED = frozenset({"2", "3", "CREATE_TASK_FAILED", "GENERATE_FAILED"})
"""`successFlag` and `status`. Source: https://docs.kie.ai/4o-image-api/get-4-o-image-details"""

URL_KEYS = (("resultUrls", "result"), ("result_urls", "result"))
"""The details page has the first spelling, the quickstart page the second."""


class FourO:
    """The 4o image API."""

    name = "4o-image"
    models = frozenset({"gpt4o-image"})
    create_deadline_s: float | None = None
    readable = NOT_VISIBLE_CODES | FAILED_CODES

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Call:
        """POST /api/v1/gpt4o-image/generate."""
        return flat("/api/v1/gpt4o-image/generate", given(request), callback_url)

    def created(self, answer: Envelope, request: dict[str, Any]) -> Outcome:
        """`data.taskId`."""
        return accepted(task_id(answer.data), answer)

    def read(self, task_id: str) -> Call:
        """GET /api/v1/gpt4o-image/record-info?taskId=…."""
        return Call("GET", "/api/v1/gpt4o-image/record-info", query={"taskId": task_id})

    def snapshot(self, envelope: Envelope) -> Snapshot:
        """Read the record by its flag, or by its status word where there is no flag or the flag is only 0."""
        record = envelope.data
        if not isinstance(record, dict):
            return unseen(envelope)
        said, spent = _state(record), credits(record.get("creditsConsumed"))
        if said in MADE:
            return Finished(files(record.get("response"), URL_KEYS), spent)
        if said in FAILED:
            return broken(record.get("errorCode") or said, record.get("errorMessage"), spent)
        return Pending(said or "no flag", share(record.get("progress"), 1.0), known=said in WORKING)

    def fresh_link(self, task_id: str, url: str) -> Call:
        """POST /api/v1/gpt4o-image/download-url: a link of 20 minutes, by task and URL.

        Source: https://docs.kie.ai/4o-image-api/get-4-o-image-download-url
        """
        return Call("POST", "/api/v1/gpt4o-image/download-url", body={"taskId": task_id, "url": url})

    def asked(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        """All parameters; the callback address is compared by itself."""
        return {name: value for name, value in given(request).items() if name != "callBackUrl"}

    def echo(self, record: Any) -> Echo:
        """`paramJson` and `createTime`; the record names no model."""
        return param_echo(mapping(record))


def _state(record: Mapping[str, Any]) -> str:
    """A flag of 0 is also what an unset number reads as, so a status word that says more is heard."""
    flag, status = word(record.get("successFlag")), word(record.get("status"))
    return status if flag in ("", "0") and status else flag
