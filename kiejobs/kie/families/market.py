"""The jobs API ("Market"): one create and one record call for nearly all of Kie's models.

Source: https://docs.kie.ai/market/quickstart and https://docs.kie.ai/market/common/get-task-detail. Observed beyond the
documents: `param` holds JSON text inside JSON text, `resultJson` is an empty string until success, `costTime` is in
seconds, `creditsConsumed` is there while waiting and final only at the end, a fresh task may be "recordInfo is null".
"""

from collections.abc import Iterator
from json import dumps
from typing import Any

from kiejobs.answers import Finished, NotVisible, Outcome, Pending, Result, Snapshot
from kiejobs.kie.adoption import Echo
from kiejobs.kie.envelope import Envelope, as_json
from kiejobs.kie.family import Call, accepted, common_link
from kiejobs.kie.reading import broken, credits, mapping, moment, share, task_id, texts

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


KNOWN_KEYS = frozenset({"resultObject", "data", "sunoData", *(key for key, _ in URL_KEYS)})
"""Where a result of any documented shape is. One without any of them is kept whole, as a document and its files: nobody
documents what the stems, notes, covers and personas of the music models look like here."""


class Market:
    """The jobs API."""

    name = "jobs"
    models: frozenset[str] = frozenset()  # whatever no other family makes
    create_deadline_s: float | None = None
    readable = NOT_VISIBLE_CODES | FAILED_CODES

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Call:
        """POST /api/v1/jobs/createTask: `model` and `input`, and `callBackUrl` with its capital B."""
        body: dict[str, Any] = {"model": model, "input": request.get("input") or {}}
        if callback_url:
            body["callBackUrl"] = callback_url
        return Call("POST", "/api/v1/jobs/createTask", body=body)

    def created(self, answer: Envelope, request: dict[str, Any]) -> Outcome:
        """`data.taskId`, an opaque text (`recordId` is its undocumented twin)."""
        return accepted(task_id(answer.data), answer)

    def read(self, task_id: str) -> Call:
        """GET /api/v1/jobs/recordInfo?taskId=…."""
        return Call("GET", "/api/v1/jobs/recordInfo", query={"taskId": task_id})

    def snapshot(self, envelope: Envelope) -> Snapshot:
        """Read the record by its `state`; a failed task's envelope still has code 200."""
        record = envelope.data
        if not isinstance(record, dict):
            if envelope.code in FAILED_CODES:
                return broken(envelope.code, envelope.message)
            return NotVisible(envelope.message or f"code {envelope.effective_code}")
        word = str(record.get("state") or "")[:100]
        if word in MADE:
            return Finished(results(record), credits(record.get("creditsConsumed")))
        if word in FAILED or (not word and envelope.code in FAILED_CODES):
            return broken(record.get("failCode"), record.get("failMsg"), credits(record.get("creditsConsumed")))
        return Pending(word or "no state", share(record.get("progress"), 100.0), known=word in WORKING)

    def fresh_link(self, task_id: str, url: str) -> Call:
        """The common download-url call."""
        return common_link(url)

    def asked(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        """The `input` as it was given."""
        return dict(request.get("input") or {})

    def echo(self, record: Any) -> Echo:
        """`param` is JSON text of the whole create request, its `input` JSON text again; `createTime` in milliseconds."""
        record = mapping(record)
        asked = mapping(as_json(record.get("param") or record.get("paramJson")))
        given = as_json(asked.get("input"))
        return Echo(
            model=record.get("model") or asked.get("model") or "",
            input=given if isinstance(given, dict) else None,
            callback_url=asked.get("callBackUrl"),
            created_at=moment(record.get("createTime")),
        )


def results(record: dict[str, Any]) -> tuple[Result, ...]:
    """List what a finished record gives: every URL once, in Kie's order, and documents as they are.

    What is in no documented shape is kept whole, and its files have the role `file`: they may be what was bought.
    """
    found = _found(record)
    songs = found.get("data") or found.get("sunoData")
    listed = [*_urls(found), *_songs(songs), *_document(found.get("resultObject"), "linked")]
    whole = {name: value for name, value in found.items() if _says_something(value)}
    if not KNOWN_KEYS & found.keys() or isinstance(songs, dict) or (not listed and any(_links(whole))):
        listed += _document(whole, "file")
    return tuple({result.url or result.document: result for result in reversed(listed)}.values())[::-1]


def _found(record: dict[str, Any]) -> dict[str, Any]:
    """Read `resultJson`, or its undocumented twin, seen since autumn 2026. A bare list or URL is as good as a named one."""
    found = as_json(record.get("resultJson")) or as_json(record.get("response"))
    if isinstance(found, dict):
        return found
    return {"resultUrls": [one for one in (found if isinstance(found, list) else [found]) if _is_link(one)]}


def _urls(found: dict[str, Any]) -> Iterator[Result]:
    for key, role in URL_KEYS:
        for url in texts(as_json(found.get(key))):
            yield Result(role, url=url)


def _songs(songs: Any) -> Iterator[Result]:
    """Songs of the music models: the audio and its cover; the streaming copy only where the audio is missing."""
    for song in songs if isinstance(songs, list) else []:
        if isinstance(song, dict):
            ref = next(iter(texts(song.get("id"))), None)
            for url in texts(
                _either(song, "audio_url", "audioUrl") or _either(song, "stream_audio_url", "streamAudioUrl")
            ):
                yield Result("result", url=url, ref=ref)
            for url in texts(_either(song, "image_url", "imageUrl")):
                yield Result("cover", url=url, ref=ref)


def _either(song: dict[str, Any], name: str, other: str) -> Any:
    """Read a song's field in the jobs API's spelling, or in the older API's."""
    return song.get(name) or song.get(other)


def _says_something(value: Any) -> bool:
    return bool(value) and isinstance(value, str | list | dict)


def _document(found: Any, role: str) -> Iterator[Result]:
    """A text or structured result: the document itself, then every file it points at."""
    if found in (None, "", {}, []):
        return
    yield Result("document", document=dumps(found, ensure_ascii=False, sort_keys=True))
    yield from (Result(role, url=url) for url in _links(found))


def _is_link(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://")) and " " not in value


def _links(value: Any) -> Iterator[str]:
    if _is_link(value):
        yield value
    elif isinstance(value, dict):
        for child in value.values():
            yield from _links(child)
    elif isinstance(value, list):
        for child in value:
            yield from _links(child)
