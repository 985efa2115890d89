"""The jobs API ("Market"): one create and one record call for nearly all of Kie's models.

Source: https://docs.kie.ai/market/quickstart and https://docs.kie.ai/market/common/get-task-detail. Observed beyond the
documents: `param` holds JSON text inside JSON text, `resultJson` is an empty string until success, `costTime` is in
seconds, `creditsConsumed` is there while waiting and final only at the end, a fresh task may be "recordInfo is null".
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from json import dumps
from math import isfinite
from typing import Any

from kiejobs.answers import Broken, Finished, NotVisible, Pending, Result, Snapshot
from kiejobs.errors import Reason
from kiejobs.kie.adoption import Echo
from kiejobs.kie.envelope import Envelope, as_int, as_json
from kiejobs.kie.family import Call
from kiejobs.writable import writable_credits

WORKING = frozenset({"waiting", "queuing", "generating"})
MADE = frozenset({"success"})
FAILED = frozenset({"fail"})
FAILED_CODES = frozenset({408, 501, 531})
"""Envelope codes that end a task although its record has no state: no result in time, generation failed."""

NOT_VISIBLE_CODES = frozenset({404, 422})

URL_KEYS: tuple[tuple[str, str], ...] = (
    ("resultUrls", "result"),
    ("resultImageUrl", "result"),
    ("resultVideoUrl", "result"),
    ("video_url", "result"),
    ("resultWaterMarkUrls", "watermark"),
    ("firstFrameUrl", "first_frame"),
    ("lastFrameUrl", "last_frame"),
)
"""Where `resultJson` may have URLs, and what they are; in this order they become outputs."""

_YEAR_9000_MS = 221_845_392_000_000

CONTENT_WORDS = ("policy", "moderation", "sensitive", "nsfw", "safety", "prohibited", "content filter")


class Market:
    """The jobs API."""

    name = "jobs"
    create_deadline_s: float | None = None

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Call:
        """POST /api/v1/jobs/createTask: `model` and `input`, and `callBackUrl` with its capital B."""
        body: dict[str, Any] = {"model": model, "input": request.get("input") or {}}
        if callback_url:
            body["callBackUrl"] = callback_url
        return Call("POST", "/api/v1/jobs/createTask", body=body)

    def task_id(self, envelope: Envelope) -> str | None:
        """`data.taskId`, an opaque string (`recordId` is its undocumented twin)."""
        data = envelope.data if isinstance(envelope.data, dict) else {}
        for key in ("taskId", "task_id", "recordId"):
            value = data.get(key)
            if isinstance(value, int) and not isinstance(value, bool):
                value = str(value)
            if isinstance(value, str) and value.strip():
                return value.strip()
        return None

    def read(self, task_id: str) -> Call:
        """GET /api/v1/jobs/recordInfo?taskId=…."""
        return Call("GET", "/api/v1/jobs/recordInfo", query={"taskId": task_id})

    def snapshot(self, envelope: Envelope) -> Snapshot:
        """Read the record by its `state`; a failed task's envelope still has code 200."""
        record = envelope.data
        if not isinstance(record, dict):
            if envelope.code in FAILED_CODES:
                return _broken({"failCode": str(envelope.code), "failMsg": envelope.message})
            return NotVisible(envelope.message or f"code {envelope.effective_code}")
        word = str(record.get("state") or "")[:100]
        if word in MADE:
            return Finished(results(record), _credits(record))
        if word in FAILED or (not word and envelope.code in FAILED_CODES):
            return _broken(record)
        return Pending(word or "no state", _progress(record), known=word in WORKING)

    def echo(self, record: Any) -> Echo:
        """`param` is JSON text of the whole create request, its `input` JSON text again; `createTime` in milliseconds."""
        record = record if isinstance(record, dict) else {}
        asked = as_json(record.get("param") or record.get("paramJson"))
        asked = asked if isinstance(asked, dict) else {}
        given = as_json(asked.get("input"))
        made = as_int(record.get("createTime"))
        return Echo(
            model=record.get("model") or asked.get("model"),
            input=given if isinstance(given, dict) else None,
            callback_url=asked.get("callBackUrl"),
            created_at=datetime.fromtimestamp(made / 1000, UTC) if made and 0 < made < _YEAR_9000_MS else None,
        )


def results(record: dict[str, Any]) -> tuple[Result, ...]:
    """List what a finished record gives: every URL once, in Kie's order, and documents as they are."""
    found = as_json(record.get("resultJson"))
    if not found:
        found = record.get("response")  # the undocumented twin, seen since autumn 2026
    if not isinstance(found, dict):
        return ()
    listed = [*_urls(found), *_songs(found.get("data")), *_document(found.get("resultObject"))]
    return tuple({result.url or result.document: result for result in reversed(listed)}.values())[::-1]


def _urls(found: dict[str, Any]) -> Iterator[Result]:
    for key, role in URL_KEYS:
        for url in _texts(as_json(found.get(key))):
            yield Result(role, url=url)


def _songs(songs: Any) -> Iterator[Result]:
    """Songs of the music models: the audio and its cover; the streaming copy only where the audio is missing."""
    for song in songs if isinstance(songs, list) else []:
        if isinstance(song, dict):
            for url in _texts(song.get("audio_url") or song.get("stream_audio_url")):
                yield Result("result", url=url)
            for url in _texts(song.get("image_url")):
                yield Result("cover", url=url)


def _document(found: Any) -> Iterator[Result]:
    """A text or structured result: the document itself, then every file it points at."""
    if found in (None, "", {}, []):
        return
    yield Result("document", document=dumps(found, ensure_ascii=False, sort_keys=True))
    yield from (Result("linked", url=url) for url in _links(found))


def _links(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value.startswith(("http://", "https://")) and " " not in value:
            yield value
    elif isinstance(value, dict):
        for child in value.values():
            yield from _links(child)
    elif isinstance(value, list):
        for child in value:
            yield from _links(child)


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text.strip() for text in values if isinstance(text, str) and text.strip()]


def _broken(record: dict[str, Any]) -> Broken:
    code = str(record.get("failCode") or "")[:100]
    message = str(record.get("failMsg") or "Kie gave no reason")[:500]
    content = any(word in message.lower() for word in CONTENT_WORDS)
    return Broken(code, message, Reason.CONTENT if content else Reason.GENERATION, _credits(record))


def _credits(record: dict[str, Any]) -> Decimal | None:
    value = record.get("creditsConsumed")
    if value is None or isinstance(value, bool):
        return None
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return None
    return writable_credits(found)


def _progress(record: dict[str, Any]) -> float | None:
    """0 … 1 from Kie's 0 … 100; absent for nearly every model."""
    try:
        percent = float(record["progress"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return min(max(percent / 100.0, 0.0), 1.0) if isfinite(percent) else None
