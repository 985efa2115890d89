"""Suno music: generate, extend, covers, accompaniment, vocals, mashups, sections and sounds; one record for all.

Source: https://docs.kie.ai/suno-api/generate-music and https://docs.kie.ai/suno-api/get-music-details. A generation
makes two songs; their ids are the `audioId` of every follow-up. Observed: code 200 with `data` null means that the task
is not visible. Where nobody takes the callbacks the record may say CALLBACK_EXCEPTION while the music is made all the
same, so the songs decide then, not the word.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from kiejobs.answers import Broken, Finished, Outcome, Pending, Result, Snapshot
from kiejobs.errors import Reason
from kiejobs.kie.adoption import Echo
from kiejobs.kie.envelope import Envelope, as_json
from kiejobs.kie.families.suno.calls import READABLE, create_call, created, echoed, unseen, without_callback
from kiejobs.kie.family import Call, common_link
from kiejobs.kie.reading import broken, credits, mapping, moment, once, texts, word

PATHS = {
    "suno": "/api/v1/generate",
    "suno/generate": "/api/v1/generate",
    "suno/extend": "/api/v1/generate/extend",
    "suno/upload-cover": "/api/v1/generate/upload-cover",
    "suno/upload-extend": "/api/v1/generate/upload-extend",
    "suno/add-instrumental": "/api/v1/generate/add-instrumental",
    "suno/add-vocals": "/api/v1/generate/add-vocals",
    "suno/mashup": "/api/v1/generate/mashup",
    "suno/replace-section": "/api/v1/generate/replace-section",
    "suno/sounds": "/api/v1/generate/sounds",
}
NAMED_BY_AUDIO_ALONE = frozenset({"suno/extend"})
"""Takes no `taskId`: one that was filled in stays here. Source: https://docs.kie.ai/suno-api/extend-music."""
CALLBACK_OPTIONAL = frozenset({"suno/replace-section", "suno/sounds"})

WORKING = frozenset({"PENDING", "TEXT_SUCCESS", "FIRST_SUCCESS"})
"""Queued or at work, the lyrics are there, the first of two songs is there: none of these is an end."""
MADE = frozenset({"SUCCESS"})
PERHAPS_MADE = frozenset({"CALLBACK_EXCEPTION"})
FAILED = {
    "CREATE_TASK_FAILED": Reason.GENERATION,
    "GENERATE_AUDIO_FAILED": Reason.GENERATION,
    "SENSITIVE_WORD_ERROR": Reason.CONTENT,
}


class Music:
    """Suno's music."""

    name = "suno"
    models: frozenset[str] = frozenset(PATHS)
    create_deadline_s: float | None = None
    readable = READABLE

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Call:
        """POST /api/v1/generate or a path below it; `input.model` is Suno's version."""
        path = PATHS.get(model) or f"/api/v1/generate/{quote(model.removeprefix('suno/'), safe='')}"
        return create_call(
            path, {"input": self.asked(model, request)}, callback_url, needs_callback=model not in CALLBACK_OPTIONAL
        )

    def created(self, answer: Envelope, request: dict[str, Any]) -> Outcome:
        """`data.taskId`."""
        return created(answer)

    def read(self, task_id: str) -> Call:
        """GET /api/v1/generate/record-info?taskId=…."""
        return Call("GET", "/api/v1/generate/record-info", query={"taskId": task_id})

    def snapshot(self, envelope: Envelope) -> Snapshot:
        """Read the record by its `status`."""
        record = envelope.data
        if not isinstance(record, dict):
            return unseen(envelope)
        status = word(record.get("status"))
        if status in FAILED:
            return _failed(status, record)
        if status in MADE or (status in PERHAPS_MADE and _all_there(record)):
            return Finished(once(list(_results(record))), credits(record.get("creditsConsumed")))
        return Pending(status or "no status", known=status in WORKING | PERHAPS_MADE)

    def fresh_link(self, task_id: str, url: str) -> Call:
        """The common download-url call."""
        return common_link(url)

    def asked(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        """The whole input, but the callback's address."""
        without = {"taskId"} if model in NAMED_BY_AUDIO_ALONE else set()
        return {name: value for name, value in without_callback(request).items() if name not in without}

    def echo(self, record: Any) -> Echo:
        """`param` is JSON text of the request; nothing names the operation. Where the record has no time, its songs may."""
        echo = echoed(record, {})
        began = [at for song in _songs(mapping(record)) if (at := moment(song.get("createTime")))]
        return replace(echo, created_at=echo.created_at or min(began, default=None))


def _failed(status: str, record: Mapping[str, Any]) -> Broken:
    said = record.get("errorMessage") or _response(record).get("errorMessage")
    failure = broken(record.get("errorCode") or status, said, credits(record.get("creditsConsumed")))
    return replace(failure, reason=FAILED[status]) if FAILED[status] is Reason.CONTENT else failure


def _response(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(as_json(record.get("response")))


def _songs(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    listed = as_json(_response(record).get("sunoData"))
    return [song for song in listed if isinstance(song, dict)] if isinstance(listed, list) else []


def _all_there(record: Mapping[str, Any]) -> bool:
    """Say whether there are songs and each has its audio; the streaming copy comes first and is not all of it."""
    songs = _songs(record)
    return bool(songs) and all(texts(song.get("audioUrl")) for song in songs)


def _results(record: Mapping[str, Any]) -> Iterator[Result]:
    """Give each song's audio and cover; the streaming copy only where the audio is missing."""
    for song in _songs(record):
        ref = next(iter(texts(song.get("id"))), None)
        for url in texts(song.get("audioUrl")) or texts(song.get("streamAudioUrl")):
            yield Result("result", url=url, ref=ref)
        for url in texts(song.get("imageUrl")):
            yield Result("cover", url=url, ref=ref)
