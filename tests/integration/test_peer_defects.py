"""What other clients of Kie's get wrong, each by its number: found in public code, and shown not to happen here."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import pytest

from kiejobs.db.session import Database
from kiejobs.errors import Reason
from kiejobs.jobs import Job, JobState
from kiejobs.kie.callbacks import callback_url, signature_fault
from kiejobs.nudge import create_nudge
from kiejobs.producer import KieJobs
from kiejobs.simulator import Simulator
from tests.factories import Nudges, act, age, finish, job_row, outputs_of, submissions_of, work
from workers.runtime import Runtime
from workers.steps.poll import poll
from workers.sweeps.stale import sweep

S = JobState

ASKED: dict[str, dict[str, Any]] = {
    "z-image": {"prompt": "a cat"},
    "gpt4o-image": {"prompt": "a cat", "size": "1:1"},
    "flux-kontext-pro": {"prompt": "a cat"},
    "veo3": {"prompt": "a cat"},
    "runway": {"prompt": "a cat", "duration": 5, "quality": "720p", "aspectRatio": "1:1"},
    "aleph": {"prompt": "a canal", "videoUrl": "https://example.com/input.mp4"},
    "luma-modify": {"prompt": "a canal", "videoUrl": "https://example.com/input.mp4"},
    "mj_txt2img": {"prompt": "a jet"},
}
any_model = pytest.mark.parametrize("model", ASKED)


@pytest.fixture
def rt(simulator: Simulator, sqlite: Database, runtime: Callable[..., Runtime]) -> Runtime:
    """A runtime that leads to the simulator."""
    return runtime(sqlite)


def submitted(rt: Runtime, model: str, words: str = "") -> Job:
    """A job whose create call was made."""
    given = ASKED[model] | {"prompt": f"{ASKED[model]['prompt']} {words}".strip()}
    job = KieJobs(rt.settings, database=rt.database, publish=Nudges()).enqueue(model, given, validate="off")
    act(rt, create_nudge(job.id))
    return job


def row(rt: Runtime, job: Job) -> Any:
    return job_row(rt.database, job.id)


def over(rt: Runtime, simulator: Simulator, job: Job) -> Any:
    """Let the generation be over, do what workers do, return the row."""
    finish(simulator, row(rt, job).provider_task_id)
    work(rt)
    return row(rt, job)


def look_after(rt: Runtime, job: Job, seconds: float) -> str:
    """Let so much time pass, look once, return the state."""
    age(rt.database, job.id, seconds)
    poll(rt, job.id, row(rt, job).version)
    return str(row(rt, job).state)


@any_model
@pytest.mark.parametrize(
    "hiccup", ["[[poll-http=502*4]]", "[[poll-429=4]]", "[[null-record=0.05]] [[poll-http=500*2]]"]
)
def test_peer_defect_1_a_status_hiccup_never_pays_twice(
    rt: Runtime, simulator: Simulator, model: str, hiccup: str
) -> None:
    """Create and poll in one retry loop: an error of the record call started again at the create call."""
    job = submitted(rt, model, hiccup)
    assert over(rt, simulator, job).state == S.SUCCESS
    assert len(simulator.ledger()["creates"]) == 1  # type: ignore[arg-type]
    assert len(submissions_of(rt.database, job.id)) == 1


@pytest.mark.parametrize("model", ["veo3", "aleph", "flux-kontext-pro", "luma-modify", "mj_txt2img", "gpt4o-image"])
def test_peer_defect_2_numeric_flags_end_the_wait(rt: Runtime, simulator: Simulator, model: str) -> None:
    """A wait for lower-case `success` or `fail` goes on for ever where the record has a number or an upper-case word."""
    made, failed = submitted(rt, model), submitted(rt, model, "[[fail=501]]")
    assert over(rt, simulator, made).state == S.SUCCESS
    assert over(rt, simulator, failed).state == S.FAIL
    assert row(rt, failed).reason == Reason.GENERATION


@any_model
@pytest.mark.parametrize("word", ["rendering", "QUEUED", "99"])
def test_peer_defect_3_an_undocumented_word_loses_no_job(
    rt: Runtime, simulator: Simulator, model: str, word: str
) -> None:
    """A decoder that throws on a new word failed tasks that were rendering."""
    job = submitted(rt, model, f"[[odd-state={word}]]")
    assert over(rt, simulator, job).state == S.SUCCESS


def test_peer_defect_5_kies_own_signature_is_accepted() -> None:
    """Kie sends base64; a comparison with a hex digest refuses every real callback."""
    mac = hmac.new(b"key", b"task-1.1763712000", hashlib.sha256)
    told = {"key": "key", "now_s": 1763712003.0}
    genuine = base64.b64encode(mac.digest()).decode()
    assert signature_fault("task-1", "1763712000", genuine, **told) is None  # type: ignore[arg-type]
    assert signature_fault("task-1", "1763712000", mac.hexdigest(), **told) is not None  # type: ignore[arg-type]
    assert signature_fault("task-2", "1763712000", genuine, **told) is not None  # type: ignore[arg-type]


@any_model
def test_peer_defect_6_no_state_is_left_blank(rt: Runtime, simulator: Simulator, model: str) -> None:
    """A client that knows waiting, success and fail shows nothing in between: ours shows Kie's word from the first look."""
    job = submitted(rt, model)
    work(rt, at_most=1)
    assert row(rt, job).state == S.WAITING
    assert row(rt, job).word in {"waiting", "wait", "0", "GENERATING"}
    assert over(rt, simulator, job).word


@any_model
def test_peer_defect_7_no_callback_goes_where_nobody_reads_it(
    simulator: Simulator, sqlite: Database, runtime: Callable[..., Runtime], model: str
) -> None:
    """A hard-coded fallback address told somebody else. Ours is the job's own, or there is none."""
    silent = runtime(sqlite)
    submitted(silent, model)
    public = runtime(sqlite, public_url="http://127.0.0.1:9", callback_secret="a-secret-of-some-length")
    job = submitted(public, model, "[[no-callback]]")
    sent: Any = simulator.ledger()["creates"]
    mine = callback_url("http://127.0.0.1:9", row(public, job).submission_id, "a-secret-of-some-length")
    assert [create["callBackUrl"] for create in sent] == [None, mine]


@pytest.mark.parametrize(
    ("model", "words", "files"), [("z-image", "[[outputs=6]]", 6), ("mj_txt2img", "", 4), ("runway", "", 2)]
)
def test_peer_defect_8_every_file_is_kept(
    rt: Runtime, simulator: Simulator, model: str, words: str, files: int
) -> None:
    """Not the first one alone."""
    job = submitted(rt, model, words)
    assert over(rt, simulator, job).state == S.SUCCESS
    kept = outputs_of(rt.database, job.id)
    assert [output.state for output in kept] == ["stored"] * files
    assert len({output.sha256 for output in kept}) == files


def test_peer_defect_8_a_word_like_an_end_is_not_spun_on(rt: Runtime, simulator: Simulator, nudges: Nudges) -> None:
    """A waiter span on CANCELLED until its timeout: here the looks grow rarer, are told of, and end after a day."""
    job = submitted(rt, "runway", "[[ends=CANCELLED]]")
    finish(simulator, row(rt, job).provider_task_id)
    work(rt, at_most=1)
    assert (row(rt, job).state, row(rt, job).word) == (S.WAITING, "CANCELLED")
    waits = [1.0]
    for seconds in (1, 40, 200):
        nudges.take()
        assert look_after(rt, job, seconds) == S.WAITING
        waits.append(nudges.take()[0].countdown_s)
    assert waits == sorted(waits)
    assert waits[-1] >= 15
    assert look_after(rt, job, 600) == S.TIMEOUT
    assert look_after(rt, job, 86400) == S.FAIL
    assert row(rt, job).reason == Reason.NO_RESULT


@any_model
def test_peer_defect_9_silence_is_no_progress(rt: Runtime, simulator: Simulator, model: str) -> None:
    """A look that brought no answer is counted as trouble, and a Kie that never answers ends the job within a day."""
    job = submitted(rt, model, "[[poll-http=503*1000]]")
    assert look_after(rt, job, 5) == S.WAITING
    assert row(rt, job).troubles == 1
    assert look_after(rt, job, 600) == S.TIMEOUT
    assert look_after(rt, job, 86400) == S.FAIL
    assert (row(rt, job).reason, row(rt, job).due_at) == (Reason.NO_RESULT, None)
    sweep(rt)
    assert row(rt, job).state == S.FAIL
