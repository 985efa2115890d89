"""Every Suno id from the line to storage, against a simulated Kie over real HTTP: music, what is made from a song, and
what is answered at once. Where peers lose music (a word they misspell, a notice that nobody took), a test by name.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiejobs.answers import Accepted, Answered
from kiejobs.db.session import Database
from kiejobs.errors import Reason
from kiejobs.jobs import Job, JobState
from kiejobs.kie.families import FAMILIES, family_for
from kiejobs.nudge import create_nudge, poll_nudge
from kiejobs.producer import KieJobs
from kiejobs.simulator import Simulator
from tests.factories import Nudges, account_row, act, age, alarms_of, finish, job_row, outputs_of, work
from workers.runtime import Runtime
from workers.sweeps.stale import sweep

S = JobState
UPLOAD = "https://example.com/song.mp3"
SONG = {"prompt": "a calm piano", "customMode": False, "instrumental": True, "model": "V6"}
SONGS = ["result", "cover", "result", "cover"]

MUSIC: dict[str, dict[str, Any]] = {
    "suno": SONG,
    "suno/generate": SONG | {"customMode": True, "style": "jazz", "title": "Night"},
    "suno/upload-cover": SONG | {"uploadUrl": UPLOAD},
    "suno/upload-extend": {"uploadUrl": UPLOAD, "defaultParamFlag": False, "continueAt": 20, "model": "V6"},
    "suno/add-instrumental": {"uploadUrl": UPLOAD, "title": "Night", "negativeTags": "metal", "tags": "calm"},
    "suno/add-vocals": {
        "uploadUrl": UPLOAD,
        "prompt": "la la",
        "title": "Night",
        "negativeTags": "metal",
        "style": "jazz",
    },
    "suno/mashup": {
        "uploadUrlList": [UPLOAD, UPLOAD + "?2"],
        "style": "house",
        "title": "Two",
        "customMode": True,
        "model": "V6",
    },
    "suno/sounds": {"prompt": "rain on tin", "model": "V6"},
    "suno/lyrics": {"prompt": "morning coffee"},
}
"""What needs no song of Suno's own."""

OF_A_SONG: dict[str, dict[str, Any]] = {
    "suno/extend": {"defaultParamFlag": False, "model": "V6"},
    "suno/replace-section": {
        "prompt": "softer",
        "tags": "jazz",
        "title": "Night",
        "infillStartS": 10,
        "infillEndS": 25,
        "fullLyrics": "la la",
    },
    "suno/wav": {},
    "suno/music-video": {"author": "us"},
    "suno/stems": {"type": "split_stem"},
    "suno/cover-image": {},
    "suno/timestamped-lyrics": {},
    "suno/persona": {"name": "Singer", "description": "calm"},
}
"""Follow-ups: the task and the song are filled in from the job that made it."""

OTHERS = {"suno/midi", "suno/style"}

ROLES: dict[str, list[str]] = {
    "suno/lyrics": ["result", "result", "document"],
    "suno/wav": ["result"],
    "suno/music-video": ["result"],
    "suno/cover-image": ["result", "result"],
    "suno/timestamped-lyrics": ["document"],
    "suno/persona": ["document"],
    "suno/stems": [
        *("vocals", "backing_vocals", "drums", "bass", "guitar", "keyboard"),
        *("percussion", "strings", "synth", "fx", "brass", "woodwinds"),
    ],
}


@pytest.fixture
def rt(simulator: Simulator, sqlite: Database, runtime: Callable[..., Runtime]) -> Runtime:
    """A runtime that leads to the simulator."""
    return runtime(sqlite)


def enqueue(rt: Runtime, model: str, given: dict[str, Any]) -> Job:
    jobs = KieJobs(rt.settings, database=rt.database, publish=Nudges())
    return jobs.enqueue(model, given, validate="strict")


def made(rt: Runtime, simulator: Simulator, job: Job) -> str:
    """Do all that workers do for a job, its generation over at once; return the state it ended in."""
    outcome = act(rt, create_nudge(job.id))
    assert isinstance(outcome, Accepted | Answered), outcome
    if isinstance(outcome, Accepted):
        finish(simulator, outcome.task_id)
    work(rt)
    return str(job_row(rt.database, job.id).state)


def assert_stored(rt: Runtime, job: Job, roles: list[str]) -> list[Any]:
    rows = outputs_of(rt.database, job.id)
    assert [row.role for row in rows] == roles
    assert {row.state for row in rows} == {"stored"}
    assert alarms_of(rt.database, job.id) == []
    return rows


def content(rt: Runtime, row: Any) -> str:
    return (Path(rt.settings.storage) / row.key).read_text(encoding="utf-8")


def song(rt: Runtime, simulator: Simulator, words: str = "") -> Job:
    """A job that made two songs."""
    job = enqueue(rt, "suno", SONG | {"prompt": f"a calm piano {words}"})
    assert made(rt, simulator, job) == S.SUCCESS
    return job


def of_song(rt: Runtime, model: str, parent: Job, output: int, more: dict[str, Any]) -> Job:
    return enqueue(rt, model, {"job": parent.id, "output": output, **more})


# ── the whole way ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_model_of_suno_goes_the_whole_way_here() -> None:
    """A new id is added above, or this fails."""
    here = {model for each in FAMILIES if each.name.startswith("suno") for model in each.models}
    assert here == set(MUSIC) | set(OF_A_SONG) | OTHERS


@pytest.mark.parametrize("model", MUSIC)
def test_a_generation_goes_from_the_line_to_storage(rt: Runtime, simulator: Simulator, model: str) -> None:
    """One create, by the operation's own call, and every song with its cover."""
    job = enqueue(rt, model, MUSIC[model])
    assert job_row(rt.database, job.id).family == family_for(model).name
    assert made(rt, simulator, job) == S.SUCCESS
    rows = assert_stored(rt, job, ROLES.get(model, SONGS))
    if model != "suno/lyrics":
        assert rows[0].ref == rows[1].ref != rows[2].ref
        assert [row.media_type.partition("/")[0] for row in rows] == ["audio", "image"] * 2
    seen = simulator.ledger()
    assert [len(seen[what]) for what in ("creates", "leaks")] == [1, 0]  # type: ignore[arg-type]


@pytest.mark.parametrize("model", OF_A_SONG)
def test_a_follow_up_takes_its_song_from_our_job(rt: Runtime, simulator: Simulator, model: str) -> None:
    """Task and audio id are those of the job that made the song, of the second one here."""
    parent = song(rt, simulator)
    job = of_song(rt, model, parent, 2, OF_A_SONG[model])
    assert made(rt, simulator, job) == S.SUCCESS
    assert_stored(rt, job, ROLES.get(model, SONGS))
    task_id = job_row(rt.database, job.id).provider_task_id
    if task_id is not None:
        client = rt.client("default")
        assert client is not None
        told = json.dumps(client.record(family_for(model), task_id)[1])
        song_id = outputs_of(rt.database, parent.id)[2].ref
        assert (job_row(rt.database, parent.id).provider_task_id if model == "suno/cover-image" else song_id) in told


def test_notes_are_made_of_stems(rt: Runtime, simulator: Simulator) -> None:
    """A follow-up of a follow-up; the notes are a document, because Kie makes no file of them."""
    stems = of_song(rt, "suno/stems", song(rt, simulator), 0, {})
    assert made(rt, simulator, stems) == S.SUCCESS
    assert all(row.ref for row in outputs_of(rt.database, stems.id))
    job = of_song(rt, "suno/midi", stems, 0, {})
    assert made(rt, simulator, job) == S.SUCCESS
    (row,) = assert_stored(rt, job, ["document"])
    assert row.media_type == "application/json"
    assert json.loads(content(rt, row))["instruments"]


def test_a_style_is_answered_at_once(rt: Runtime, simulator: Simulator) -> None:
    """As text, and whole; no task, no look."""
    job = enqueue(rt, "suno/style", {"content": "Pop, Mysterious"})
    assert made(rt, simulator, job) == S.SUCCESS
    text, whole = assert_stored(rt, job, ["result", "document"])
    assert "Pop, Mysterious" in content(rt, text)
    assert text.media_type.startswith("text/plain")
    assert json.loads(content(rt, whole))["result"] == content(rt, text)
    assert simulator.ledger()["queries"] == []


def test_lyrics_are_kept_as_text(rt: Runtime, simulator: Simulator) -> None:
    """Each variant as a text of its own, then all with their titles."""
    job = enqueue(rt, "suno/lyrics", MUSIC["suno/lyrics"])
    assert made(rt, simulator, job) == S.SUCCESS
    *variants, whole = assert_stored(rt, job, ROLES["suno/lyrics"])
    assert [row.key.rpartition(".")[2] for row in variants] == ["txt", "txt"]
    assert [one["text"] for one in json.loads(content(rt, whole))] == [content(rt, row) for row in variants]


# ── what peers get wrong ─────────────────────────────────────────────────────────────────────────────────────────────


def test_stages_in_upper_case_are_waited_on_and_end_well(rt: Runtime, simulator: Simulator) -> None:
    """A waiter that looks for lower-case words polls past finished music for ever; one that takes a stage for the end
    stores a streaming copy."""
    job = enqueue(rt, "suno", SONG)
    act(rt, create_nudge(job.id))
    words = []
    for _ in range(2):
        row = job_row(rt.database, job.id)
        act(rt, poll_nudge(job.id, row.version))
        words.append(job_row(rt.database, job.id).word)
    assert set(words) <= {"PENDING", "TEXT_SUCCESS", "FIRST_SUCCESS"}
    assert job_row(rt.database, job.id).state == S.WAITING
    finish(simulator, job_row(rt.database, job.id).provider_task_id)
    work(rt, [poll_nudge(job.id, job_row(rt.database, job.id).version)])
    assert_stored(rt, job, SONGS)


def test_generate_audio_failed_is_the_failure_and_generate_music_failed_is_no_word_of_suno(
    rt: Runtime, simulator: Simulator
) -> None:
    """The failure ends the job at once with Kie's words; a word that Suno does not have ends nothing."""
    failed = enqueue(rt, "suno", SONG | {"prompt": "x [[fail=500]]"})
    assert made(rt, simulator, failed) == S.FAIL
    row = job_row(rt.database, failed.id)
    assert (row.reason, row.code) == (Reason.GENERATION, "500")
    other = enqueue(rt, "suno", SONG | {"prompt": "x [[odd-state=GENERATE_MUSIC_FAILED]]"})
    assert made(rt, simulator, other) == S.SUCCESS
    assert_stored(rt, other, SONGS)


@pytest.mark.parametrize("model", ["suno", "suno/lyrics"])
def test_callback_exception_is_no_failure_where_the_music_is_there(
    rt: Runtime, simulator: Simulator, model: str
) -> None:
    """The notice failed, not the work: what was paid for is stored."""
    given = MUSIC[model] | {"prompt": "x [[ends=CALLBACK_EXCEPTION]]"}
    job = enqueue(rt, model, given)
    assert made(rt, simulator, job) == S.SUCCESS
    assert_stored(rt, job, ROLES.get(model, SONGS))


@pytest.mark.parametrize("model", ["suno/wav", "suno/stems", "suno/music-video", "suno/midi", "suno/cover-image"])
def test_callback_exception_is_no_failure_of_a_follow_up(rt: Runtime, simulator: Simulator, model: str) -> None:
    """Each has a record of its own."""
    parent = song(rt, simulator, "[[next:ends=CALLBACK_EXCEPTION]]")
    if model == "suno/midi":
        parent = of_song(rt, "suno/stems", parent, 0, {})
        assert made(rt, simulator, parent) == S.SUCCESS
    job = of_song(rt, model, parent, 0, {})
    assert made(rt, simulator, job) == S.SUCCESS
    assert outputs_of(rt.database, job.id)


def test_where_callbacks_are_off_the_address_is_nobodys(rt: Runtime, simulator: Simulator) -> None:
    """Kie insists on one; a stranger's would get the notices, and with them the music."""
    job = enqueue(rt, "suno", SONG)
    act(rt, create_nudge(job.id))
    (create,) = simulator.ledger()["creates"]  # type: ignore[misc]
    assert create["callBackUrl"] == "https://callback.invalid/"


def test_all_songs_are_kept_and_each_file_once(rt: Runtime, simulator: Simulator) -> None:
    """Not only the first."""
    job = enqueue(rt, "suno", SONG | {"prompt": "x [[outputs=3]]"})
    assert made(rt, simulator, job) == S.SUCCESS
    rows = assert_stored(rt, job, ["result", "cover"] * 3)
    assert len({row.key for row in rows}) == 6


# ── what may go wrong ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_second_wav_of_a_song_is_refused_with_a_sentence(rt: Runtime, simulator: Simulator) -> None:
    """It exists already; nothing was made, nothing is sent again."""
    parent = song(rt, simulator)
    assert made(rt, simulator, of_song(rt, "suno/wav", parent, 0, {})) == S.SUCCESS
    again = enqueue(
        rt,
        "suno/wav",
        {
            "taskId": job_row(rt.database, parent.id).provider_task_id,
            "audioId": outputs_of(rt.database, parent.id)[0].ref,
        },
    )
    act(rt, create_nudge(again.id))
    row = job_row(rt.database, again.id)
    assert (row.state, row.reason, row.code) == (S.FAIL, Reason.REFUSED, "409")
    assert "before" in row.message


def test_a_song_that_nobody_made_is_refused(rt: Runtime, simulator: Simulator) -> None:
    """ "Record does not exist": certainly nothing was made."""
    job = enqueue(rt, "suno/wav", {"taskId": "0" * 32, "audioId": "a"})
    act(rt, create_nudge(job.id))
    assert (job_row(rt.database, job.id).state, job_row(rt.database, job.id).code) == (S.FAIL, "422")


def test_a_405_of_the_lyrics_call_is_a_rate_limit(rt: Runtime, simulator: Simulator) -> None:
    """The job keeps its place and the account waits; elsewhere 405 would end the job."""
    job = enqueue(rt, "suno/lyrics", {"prompt": "x [[refuse=405]]"})
    act(rt, create_nudge(job.id))
    assert job_row(rt.database, job.id).state == S.QUEUED
    assert account_row(rt.database).pause_code == "405"


def test_content_is_told_from_other_failures(rt: Runtime, simulator: Simulator) -> None:
    """By Kie's words."""
    job = enqueue(rt, "suno", SONG | {"prompt": "x [[fail=moderation]]"})
    assert made(rt, simulator, job) == S.FAIL
    assert job_row(rt.database, job.id).reason == Reason.CONTENT


@pytest.mark.parametrize("model", ["suno", "suno/lyrics"])
def test_a_task_that_is_not_shown_yet_is_looked_at_again(rt: Runtime, simulator: Simulator, model: str) -> None:
    """Code 200 with `data` null, as it was seen."""
    job = enqueue(rt, model, MUSIC[model] | {"prompt": "x [[null-record=60]]"})
    act(rt, create_nudge(job.id))
    work(rt, at_most=3)
    assert job_row(rt.database, job.id).state == S.WAITING


def test_music_whose_every_nudge_was_lost_is_stored_all_the_same(rt: Runtime, simulator: Simulator) -> None:
    """The sweep looks, and the songs are there."""
    job = enqueue(rt, "suno", SONG)
    act(rt, create_nudge(job.id))
    finish(simulator, job_row(rt.database, job.id).provider_task_id)
    rt.publish.take()  # type: ignore[attr-defined]
    age(rt.database, job.id, 60)
    sweep(rt)
    work(rt)
    assert_stored(rt, job, SONGS)


@pytest.mark.parametrize("name", ["generate", "generate-lyrics", "separate-vocals", "generate-midi-from-audio"])
def test_the_newer_ids_are_the_jobs_apis(rt: Runtime, simulator: Simulator, name: str) -> None:
    """Songs, texts, stems and notes in the shapes that it has."""
    given: dict[str, Any] = {
        "generate": {"model": "V6", "custom_mode": False, "instrumental": True, "prompt": "a calm piano"},
        "generate-lyrics": {"prompt": "morning coffee"},
    }.get(name, {})
    if not given:
        parent = enqueue(rt, "suno", SONG)
        assert made(rt, simulator, parent) == S.SUCCESS
        given = {"task_id": job_row(rt.database, parent.id).provider_task_id}
    job = enqueue(rt, f"ai-music-api/{name}", given)
    assert job_row(rt.database, job.id).family == "jobs"
    assert made(rt, simulator, job) == S.SUCCESS
    assert outputs_of(rt.database, job.id)
