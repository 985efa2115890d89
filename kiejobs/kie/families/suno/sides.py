"""What Suno makes from a song, and lyrics: each with a create call, a record and status words of its own.

Sources: https://docs.kie.ai/suno-api/get-lyrics-details, …/get-wav-details, …/get-music-video-details,
…/get-vocal-separation-details, …/get-midi-details, …/get-cover-suno-details. The status is in `successFlag`, as text or
as a number, or in `status`; it is compared as text. The number 2 means "not created" for MIDI and is said to mean "at
work" for cover images. CALLBACK_EXCEPTION says that our notice failed, not the work: what `response` has decides.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kiejobs.answers import Finished, Outcome, Pending, Result, Snapshot
from kiejobs.errors import Reason
from kiejobs.kie.adoption import Echo
from kiejobs.kie.envelope import Envelope, as_json
from kiejobs.kie.families.suno.calls import READABLE, create_call, created, echoed, unseen
from kiejobs.kie.family import Call, common_link, given
from kiejobs.kie.reading import broken, credits, mapping, once, texts, word

Record = Mapping[str, Any]

PERHAPS_MADE = frozenset({"CALLBACK_EXCEPTION"})
CONTENT = frozenset({"SENSITIVE_WORD_ERROR"})


@dataclass(frozen=True, kw_only=True)
class Side:
    """One operation beside music, as its two pages describe it."""

    name: str
    model: str
    create_path: str
    record_path: str
    status_key: str = "successFlag"
    working: frozenset[str] = frozenset({"PENDING"})
    made: frozenset[str] = frozenset({"SUCCESS"})
    failed: frozenset[str]
    results: Callable[[Record], Iterable[Result]]
    told: dict[str, str] = field(default_factory=dict)
    """Which fields of the input the record tells, and under which names."""
    create_deadline_s: float | None = None
    readable: frozenset[int] = READABLE

    @property
    def models(self) -> frozenset[str]:
        """The one id that it makes."""
        return frozenset({self.model})

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Call:
        """POST the input; the callback's address is mandatory."""
        return create_call(self.create_path, request, callback_url)

    def created(self, answer: Envelope, request: dict[str, Any]) -> Outcome:
        """`data.taskId`: the operation's own task, not the song's."""
        return created(answer)

    def read(self, task_id: str) -> Call:
        """GET the operation's own record."""
        return Call("GET", self.record_path, query={"taskId": task_id})

    def snapshot(self, envelope: Envelope) -> Snapshot:
        """Read the record by its status word."""
        record = envelope.data
        if not isinstance(record, dict):
            return unseen(envelope)
        status = word(record.get(self.status_key))
        spent = credits(record.get("creditsConsumed"))
        if status in self.failed:
            failure = broken(_code(record, status), record.get("errorMessage"), spent)
            return replace(failure, reason=Reason.CONTENT) if status in CONTENT else failure
        found = once(list(self.results(record))) if status in self.made | PERHAPS_MADE else ()
        if status in self.made or found:
            return Finished(found, spent)
        return Pending(status or "no status", known=status in self.working | PERHAPS_MADE)

    def fresh_link(self, task_id: str, url: str) -> Call:
        """The common download-url call."""
        return common_link(url)

    def asked(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        """What of the input the record tells."""
        asked = given(request)
        return {name: asked[name] for name in self.told if name in asked}

    def echo(self, record: Any) -> Echo:
        """The audio or the parent's task, and the callback's address, under names of the record's own."""
        return echoed(record, self.told)


def _code(record: Record, status: str) -> Any:
    """Choose the code of a failure; the cover's page shows 200 beside it, which says nothing."""
    return record.get("errorCode") if record.get("errorCode") not in (None, "", 200, "200") else status


def _response(record: Record) -> Record:
    return mapping(as_json(record.get("response")))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _lyrics(record: Record) -> Iterator[Result]:
    """Every variant's text, then all of them with their titles. A variant that failed has no text."""
    listed = as_json(_response(record).get("data"))
    variants = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    said = [text for one in variants for text in texts(one.get("text"))]
    yield from (Result("result", document=text) for text in said)
    if said:
        yield Result("document", document=_json(variants))


def _one_file(key: str) -> Callable[[Record], Iterator[Result]]:
    def results(record: Record) -> Iterator[Result]:
        ref = next(iter(texts(record.get("musicId"))), None)
        yield from (Result("result", url=url, ref=ref) for url in texts(_response(record).get(key)))

    return results


STEM_ROLES = {
    "vocalUrl": "vocals",
    "instrumentalUrl": "instrumental",
    "backingVocalsUrl": "backing_vocals",
    "drumsUrl": "drums",
    "bassUrl": "bass",
    "guitarUrl": "guitar",
    "pianoUrl": "piano",
    "keyboardUrl": "keyboard",
    "percussionUrl": "percussion",
    "stringsUrl": "strings",
    "synthUrl": "synth",
    "fxUrl": "fx",
    "brassUrl": "brass",
    "woodwindsUrl": "woodwinds",
    "originUrl": "origin",
}
"""Where a separation's `response` has its parts; those that were not asked for are null."""


def _stems(record: Record) -> Iterator[Result]:
    """Every part once, by its role. `originData` lists the same parts with their ids, and may have more."""
    response = _response(record)
    listed = as_json(response.get("originData"))
    parts = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    ids = {url: part.get("id") for part in parts for url in texts(part.get("audio_url"))}
    roles = {url: role for key, role in STEM_ROLES.items() for url in texts(response.get(key))}
    for part in parts:
        for url in texts(part.get("audio_url")):
            roles.setdefault(url, _role(part.get("stem_type_group_name")))
    for url, role in roles.items():
        yield Result(role, url=url, ref=next(iter(texts(ids.get(url))), None))


def _role(name: Any) -> str:
    words = "".join(letter if letter.isalnum() else " " for letter in str(name or "").lower()).split()
    return "_".join(words)[:50] or "stem"


def _notes(record: Record) -> Iterator[Result]:
    """All instruments with their notes, as JSON: this API makes no MIDI file."""
    found = as_json(record.get("midiData")) or _response(record)
    if found and isinstance(found, Mapping):
        yield Result("document", document=_json(found))


def _images(record: Record) -> Iterator[Result]:
    listed = as_json(_response(record).get("images"))
    yield from (Result("result", url=url) for url in texts(listed))


LYRICS = Side(
    name="suno-lyrics",
    model="suno/lyrics",
    create_path="/api/v1/lyrics",
    record_path="/api/v1/lyrics/record-info",
    status_key="status",
    failed=frozenset({"CREATE_TASK_FAILED", "GENERATE_LYRICS_FAILED", "SENSITIVE_WORD_ERROR"}),
    results=_lyrics,
    told={"prompt": "prompt"},
)
WAV = Side(
    name="suno-wav",
    model="suno/wav",
    create_path="/api/v1/wav/generate",
    record_path="/api/v1/wav/record-info",
    failed=frozenset({"CREATE_TASK_FAILED", "GENERATE_WAV_FAILED"}),
    results=_one_file("audioWavUrl"),
    told={"audioId": "musicId"},
)
MUSIC_VIDEO = Side(
    name="suno-video",
    model="suno/music-video",
    create_path="/api/v1/mp4/generate",
    record_path="/api/v1/mp4/record-info",
    failed=frozenset({"CREATE_TASK_FAILED", "GENERATE_MP4_FAILED"}),
    results=_one_file("videoUrl"),
    told={"audioId": "musicId"},
)
STEMS = Side(
    name="suno-stems",
    model="suno/stems",
    create_path="/api/v1/vocal-removal/generate",
    record_path="/api/v1/vocal-removal/record-info",
    failed=frozenset({"CREATE_TASK_FAILED", "GENERATE_AUDIO_FAILED"}),
    results=_stems,
    told={"audioId": "musicId"},
)
MIDI = Side(
    name="suno-midi",
    model="suno/midi",
    create_path="/api/v1/midi/generate",
    record_path="/api/v1/midi/record-info",
    working=frozenset({"0", "PENDING"}),
    made=frozenset({"1", "SUCCESS"}),
    failed=frozenset({"2", "3", "CREATE_TASK_FAILED", "GENERATE_MIDI_FAILED"}),
    results=_notes,
    told={"audioId": "audioId"},
)
COVER_IMAGE = Side(
    name="suno-cover",
    model="suno/cover-image",
    create_path="/api/v1/suno/cover/generate",
    record_path="/api/v1/suno/cover/record-info",
    working=frozenset({"0", "2", "PENDING"}),
    made=frozenset({"1", "SUCCESS"}),
    failed=frozenset({"3", "CREATE_TASK_FAILED", "GENERATE_COVER_FAILED"}),
    results=_images,
    told={"taskId": "parentTaskId"},
)
