"""The steps as functions, against a simulated Kie over real HTTP, with both databases.

What counts is what the rows say, what lies in storage, and what the simulator saw: one create per job, no call for a
nudge that comes twice, no key where none belongs.
"""

import hashlib
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from kiejobs import counted
from kiejobs.answers import Accepted, Answered, NotSent, Result
from kiejobs.db import counters, ledger
from kiejobs.db.session import Database
from kiejobs.db.tables import payloads
from kiejobs.errors import KieUnavailable, Reason
from kiejobs.jobs import Job, JobState, SubmissionState
from kiejobs.kie.client import KieClient
from kiejobs.kie.envelope import Envelope
from kiejobs.kie.families import family
from kiejobs.kie.family import Call
from kiejobs.nudge import POLL, STORE, SUBMIT, create_nudge, poll_nudge, store_nudge
from kiejobs.producer import KieJobs
from kiejobs.simulator import Simulator
from tests.factories import (
    Nudges,
    Ticker,
    account_row,
    act,
    age,
    age_account,
    alarms_of,
    alter,
    alter_outputs,
    everything,
    finish,
    job_row,
    make_job,
    make_runtime,
    make_settings,
    outputs_of,
    race,
    submission_row,
    submissions_of,
    work,
)
from workers.runtime import Runtime
from workers.steps.notify import notify
from workers.steps.poll import poll
from workers.steps.store import store
from workers.steps.submit import record, submit
from workers.sweeps.pump import pump
from workers.sweeps.stale import sweep

S = JobState


@pytest.fixture
def rt(simulator: Simulator, database: Database, runtime: Callable[..., Runtime]) -> Runtime:
    """A runtime that leads to the simulator."""
    return runtime(database)


def enqueue(rt: Runtime, prompt: str = "a cat", model: str = "z-image", **more: Any) -> Job:
    jobs = KieJobs(rt.settings, database=rt.database, publish=Nudges())
    return jobs.enqueue(model, {"prompt": prompt}, validate="off", **more)


def state(rt: Runtime, job_id: str) -> S:
    return S(job_row(rt.database, job_id).state)


def saw(simulator: Simulator, what: str) -> list[dict[str, Any]]:
    return simulator.ledger()[what]  # type: ignore[return-value]


def sent(rt: Runtime, simulator: Simulator, prompt: str = "a cat", **more: Any) -> Job:
    """A job whose generation is over at Kie, and which nobody has looked at yet."""
    job = enqueue(rt, prompt, **more)
    submit(rt, job.id)
    finish(simulator, job_row(rt.database, job.id).provider_task_id)
    return job


def files(rt: Runtime) -> dict[str, bytes]:
    """Everything that lies in storage, by its key."""
    folder = Path(rt.settings.storage)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_stored(rt: Runtime, job_id: str) -> list[Any]:
    """Show that each output of a job lies in storage as its row says; return the rows."""
    rows, kept = outputs_of(rt.database, job_id), files(rt)
    assert rows
    for row in rows:
        content = kept[row.key]
        assert row.state == "stored"
        assert (len(content), hashlib.sha256(content).hexdigest()) == (row.size_bytes, row.sha256)
        assert f"/{job_id}/" in row.key
        assert row.error is None
    return rows


def rest(rt: Runtime, simulator: Simulator) -> dict[str, int]:
    """How many calls the simulator saw of each kind."""
    return {what: len(saw(simulator, what)) for what in ("creates", "queries", "downloads", "leaks")}


# ── the whole way ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_goes_from_the_line_to_storage(rt: Runtime, simulator: Simulator) -> None:
    """Submit, poll, store: one create, the file as Kie has it, and the timeline in order."""
    job = enqueue(rt, metadata={"order": 42})
    assert isinstance(act(rt, create_nudge(job.id)), Accepted)
    finish(simulator, job_row(rt.database, job.id).provider_task_id)
    work(rt)
    (row,) = assert_stored(rt, job.id)
    assert (row.media_type, row.role) == ("image/png", "result")
    found = KieJobs(rt.settings, database=rt.database).get(job.id)
    assert (found.phase, found.progress, found.late, found.reason) == (S.SUCCESS, 1.0, False, None)
    assert found.credits == 4
    assert found.outputs[0].url == f"{rt.settings.storage}/{row.key}"
    told = [line.to_state for line in KieJobs(rt.settings, database=rt.database).timeline(job.id) if line.to_state]
    assert told == ["queued", "submitting", "waiting", "storing", "success"]
    assert rest(rt, simulator) == {"creates": 1, "queries": 1, "downloads": 1, "leaks": 0}
    assert saw(simulator, "creates")[0]["prompt"] == "a cat"


def test_a_job_still_at_work_is_looked_at_again_on_the_ladder(
    rt: Runtime, simulator: Simulator, nudges: Nudges
) -> None:
    """2 s, then 5 s, then 15 s after the task was taken; each nudge carries the version of its claim."""
    job = enqueue(rt)
    submit(rt, job.id)
    (first,) = nudges.take()
    assert (first.task, first.countdown_s, first.task_id) == (POLL, 2.0, f"{job.id}.poll")
    waits = []
    for elapsed_s in (0, 31, 90):
        age(rt.database, job.id, elapsed_s)
        act(rt, first)
        (first,) = nudges.take()
        waits.append(first.countdown_s)
        assert first.kwargs["version"] == job_row(rt.database, job.id).version
    assert waits == [2.0, 5.0, 15.0]
    assert [row.polls for row in [job_row(rt.database, job.id)]] == [3]
    assert first.retries == 3


@pytest.mark.parametrize("outputs", [1, 4])
def test_every_output_is_copied_by_a_message_of_its_own(
    rt: Runtime, simulator: Simulator, nudges: Nudges, outputs: int
) -> None:
    """And the last one, whichever it is, makes the success."""
    job = sent(rt, simulator, f"[[outputs={outputs}]]")
    work(rt, at_most=1)
    copies = nudges.take()
    assert [one.task_id for one in copies] == [f"{job.id}.store.{index}" for index in range(outputs)]
    for one in reversed(copies):
        assert state(rt, job.id) is S.STORING
        assert act(rt, one)
    assert state(rt, job.id) is S.SUCCESS
    assert len(assert_stored(rt, job.id)) == outputs


def test_a_key_is_made_of_our_own_words(rt: Runtime, simulator: Simulator) -> None:
    """Tenant, day, job and index; nothing of a URL or a prompt."""
    job = sent(rt, simulator, "../../etc/passwd")
    work(rt)
    (row,) = assert_stored(rt, job.id)
    assert row.key == f"default/{job.created_at:%Y/%m/%d}/{job.id}/0.png"


@pytest.mark.parametrize(
    ("prompt", "model", "expected"),
    [
        ("[[first-last-frame]]", "kling-2.6/text-to-video", ["result", "first_frame", "last_frame"]),
        ("[[result-songs]]", "ai-music-api/generate", ["result", "cover", "result", "cover"]),
        ("[[result-object]]", "elevenlabs/speech-to-text", ["document"]),
        ("six", "grok-imagine/text-to-image", ["result"] * 6),
    ],
)
def test_every_shape_of_result_is_stored(
    rt: Runtime, simulator: Simulator, prompt: str, model: str, expected: list[str]
) -> None:
    """Files, songs with their covers, and documents that are no files at Kie."""
    job = sent(rt, simulator, prompt, model=model)
    work(rt)
    assert state(rt, job.id) is S.SUCCESS
    assert [row.role for row in assert_stored(rt, job.id)] == expected


def test_a_result_object_is_kept_as_json(rt: Runtime, simulator: Simulator) -> None:
    """The document itself, without any download."""
    job = sent(rt, simulator, "[[result-object]]")
    work(rt)
    (row,) = assert_stored(rt, job.id)
    assert (row.media_type, row.key.rpartition(".")[2]) == ("application/json", "json")
    assert b"A simulated structured result." in files(rt)[row.key]
    assert saw(simulator, "downloads") == []


# ── the create call ──────────────────────────────────────────────────────────────────────────────────────────────────

CREATES: dict[str, tuple[S, SubmissionState, Reason | None]] = {
    "[[slow=0.2]]": (S.WAITING, SubmissionState.ACCEPTED, None),
    "[[refuse=400]]": (S.FAIL, SubmissionState.REFUSED, Reason.REFUSED),
    "[[refuse=404]]": (S.FAIL, SubmissionState.REFUSED, Reason.REFUSED),
    "[[refuse=413]]": (S.FAIL, SubmissionState.REFUSED, Reason.INVALID_INPUT),
    "[[refuse=422]]": (S.FAIL, SubmissionState.REFUSED, Reason.INVALID_INPUT),
    "[[refuse=451]]": (S.FAIL, SubmissionState.REFUSED, Reason.INVALID_INPUT),
    "[[refuse=401]]": (S.QUEUED, SubmissionState.REFUSED, None),
    "[[refuse=402]]": (S.QUEUED, SubmissionState.REFUSED, None),
    "[[refuse=433]]": (S.QUEUED, SubmissionState.REFUSED, None),
    "[[refuse=455]]": (S.QUEUED, SubmissionState.REFUSED, None),
    "[[refuse=505]]": (S.QUEUED, SubmissionState.REFUSED, None),
    "[[refuse=429]]": (S.QUEUED, SubmissionState.REFUSED, None),
    "[[refuse=430]]": (S.QUEUED, SubmissionState.REFUSED, None),
    "[[refuse=500]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
    "[[refuse=408]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
    "[[refuse=550]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
    "[[refuse=777]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
    "[[http=400]]": (S.FAIL, SubmissionState.REFUSED, Reason.REFUSED),
    "[[http=401]]": (S.QUEUED, SubmissionState.REFUSED, None),
    "[[http=403]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
    "[[http=429]]": (S.QUEUED, SubmissionState.REFUSED, None),
    "[[http=502]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
    "[[http-after=504]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
    "[[hang]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
    "[[reset]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
    "[[cut-header]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
    "[[cut-body]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
    "[[no-task-id]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
    "[[no-such-scenario]]": (S.FAIL, SubmissionState.REFUSED, Reason.INVALID_INPUT),
}


@pytest.mark.parametrize("prompt", CREATES)
def test_every_way_a_create_can_go(
    simulator: Simulator, database: Database, runtime: Callable[..., Runtime], prompt: str
) -> None:
    """One create at Kie, whatever comes of it, and none again however often the job is nudged and swept."""
    rt = runtime(database, http_timeout_s=0.6)
    expected, submission, reason = CREATES[prompt]
    job = enqueue(rt, prompt)
    submit(rt, job.id)
    row = job_row(database, job.id)
    assert (S(row.state), row.reason) == (expected, reason)
    (call,) = submissions_of(database, job.id)
    assert call.state == submission
    assert (call.provider_task_id == row.provider_task_id) and (
        (row.provider_task_id is None) == (expected != S.WAITING)
    )
    if expected is not S.WAITING:
        for _ in range(2):
            submit(rt, job.id)
            pump(rt)
            sweep(rt)
        act(rt, create_nudge(job.id))
    assert len(saw(simulator, "creates")) == 1


def test_a_parked_create_is_not_sent_again_for_days(rt: Runtime, simulator: Simulator, nudges: Nudges) -> None:
    """Promise 1: visible, adopted by a person or a callback, never silently repeated."""
    job = enqueue(rt, "[[no-task-id]]")
    submit(rt, job.id)
    for _ in range(5):
        age(rt.database, job.id, 86400)
        pump(rt)
        sweep(rt)
        work(rt, [create_nudge(job.id), poll_nudge(job.id, job_row(rt.database, job.id).version)])
    assert state(rt, job.id) is S.UNCONFIRMED
    assert rest(rt, simulator)["creates"] == 1


def test_an_account_that_was_refused_waits_and_goes_on(rt: Runtime, simulator: Simulator) -> None:
    """No credits: the job keeps its place, nobody of the account is sent, and after the pause it is tried again."""
    first, second = enqueue(rt, "[[refuse=402]]"), enqueue(rt)
    submit(rt, first.id)
    assert account_row(rt.database).pause_code == "402"
    submit(rt, second.id)
    assert len(saw(simulator, "creates")) == 1
    assert state(rt, second.id) is S.QUEUED
    alter(rt.database, first.id, state=S.CANCELED)  # else it would be first again
    age_account(rt.database, "default", 61)
    submit(rt, second.id)
    assert state(rt, second.id) is S.WAITING
    assert account_row(rt.database).pause_code is None


def test_a_create_that_starts_too_late_is_not_sent(
    simulator: Simulator, database: Database, nudges: Nudges, settings: Any
) -> None:
    """Two seconds after the commit somebody else may count on the budget: the intent is given back."""

    class Jumping(Ticker):
        def __call__(self) -> float:
            self.now_s += 2.0
            return self.now_s

    rt = make_runtime(settings, database, nudges, monotonic=Jumping())
    job = enqueue(rt)
    assert isinstance(submit(rt, job.id), NotSent)
    assert state(rt, job.id) is S.QUEUED
    assert saw(simulator, "creates") == []
    assert submissions_of(database, job.id)[0].state == SubmissionState.NOT_SENT


def test_a_kie_that_cannot_be_reached_costs_nothing(
    database: Database, simulator: Simulator, runtime: Callable[..., Runtime]
) -> None:
    """Not sent: back at the same place in line, and bought when Kie is back."""
    job = enqueue(runtime(database))
    place = job_row(database, job.id).line_at
    submit(runtime(database, base_url="http://127.0.0.1:9"), job.id)
    row = job_row(database, job.id)
    assert (row.state, row.line_at) == (S.QUEUED, place)
    age(database, job.id, 11)
    age_account(database, "default", 11)
    submit(runtime(database), job.id)
    assert state(runtime(database), job.id) is S.WAITING
    assert [call.state for call in submissions_of(database, job.id)] == ["not_sent", "accepted"]
    assert len(saw(simulator, "creates")) == 1


def test_thirty_jobs_and_eight_threads_stay_within_kies_limit(rt: Runtime, simulator: Simulator) -> None:
    """I9, as Kie counts it: twenty creates, none refused as one too many."""
    jobs = [enqueue(rt, f"cat {number}") for number in range(30)]

    def run(number: int) -> None:
        for job in jobs[number:] + jobs[:number]:
            submit(rt, job.id)

    assert race(*[partial(run, number) for number in range(8)]).errors == []
    assert len(saw(simulator, "creates")) == 20
    assert simulator.ledger()["create_violations"] == 0
    assert [state(rt, job.id) for job in jobs].count(S.WAITING) == 20


def test_a_worker_without_the_key_leaves_the_job_in_line(
    simulator: Simulator, database: Database, tmp_path: Path
) -> None:
    """And pauses nothing: another worker has it."""
    rt = make_runtime(make_settings(tmp_path, api_key=None, base_url=simulator.base_url), database)
    job = enqueue(rt)
    before = everything(database)
    assert submit(rt, job.id) is None
    assert pump(rt) == 0
    assert everything(database) == before
    assert saw(simulator, "creates") == []


def test_a_key_that_is_replaced_while_jobs_are_at_kie_loses_none(database: Database, tmp_path: Path) -> None:
    """With the key that was revoked looks fail, which ends no job; with the new one the same task is finished."""
    with Simulator(keys={"old-key-00000001": "shop", "new-key-00000002": "shop"}) as kie:
        host, _, port = kie.files_host_port.rpartition(":")

        def with_key(key: str) -> Runtime:
            given = {"api_key": key, "base_url": kie.base_url, "egress_allow": frozenset({(host, int(port))})}
            return make_runtime(make_settings(tmp_path, **given), database)

        old, new, revoked = map(with_key, ("old-key-00000001", "new-key-00000002", "revoked-key-0003"))
        job = enqueue(old, "[[duration=30]] [[outputs=1]]")
        submit(old, job.id)
        finish(kie, job_row(database, job.id).provider_task_id)
        look = poll(revoked, job.id, job_row(database, job.id).version)
        assert (look and look.state, state(old, job.id)) == (S.WAITING, S.WAITING)
        poll(new, job.id, job_row(database, job.id).version)
        work(new)
        assert state(new, job.id) == S.SUCCESS
        assert len(saw(kie, "creates")) == 1


def test_a_message_about_a_job_that_is_not_there_does_nothing(rt: Runtime, simulator: Simulator) -> None:
    """After a restored backup: no error that would be tried again, no call to Kie, no row."""
    before, nobody = everything(rt.database), "0b8f3c1e-58a2-4b0e-9d7c-3d0f6a2a1e11"
    found = [submit(rt, nobody), poll(rt, nobody, 1), store(rt, nobody, 0), notify(rt, nobody)]
    assert not any(found)
    assert everything(rt.database) == before
    assert (saw(simulator, "creates"), saw(simulator, "queries")) == ([], [])


def test_with_creates_switched_off_nothing_is_bought(
    simulator: Simulator, database: Database, runtime: Callable[..., Runtime]
) -> None:
    """After restoring a database; looks and copies go on."""
    rt = runtime(database, submit="off")
    job = enqueue(rt)
    assert submit(rt, job.id) is None
    assert saw(simulator, "creates") == []
    running = sent(runtime(database), simulator)
    work(rt, [poll_nudge(running.id, job_row(database, running.id).version)])
    assert state(rt, running.id) is S.SUCCESS


def test_no_message_carries_a_wait_of_more_than_a_minute(
    simulator: Simulator, database: Database, runtime: Callable[..., Runtime], nudges: Nudges
) -> None:
    """Longer ones live in the row: a broker gives such a message back before its time."""
    rt = runtime(database, query_limit_per_s=0.01)
    for _ in range(3):
        make_job(database, S.WAITING)
    job = enqueue(rt)
    submit(rt, job.id)
    sent_now = nudges.take()
    act(rt, poll_nudge(job.id, job_row(database, job.id).version))
    sent_now += nudges.take()
    assert job_row(database, job.id).due_at is not None
    assert [one.countdown_s for one in sent_now if one.countdown_s > 60] == []


# ── second nudges ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_second_nudge_makes_no_call(rt: Runtime, simulator: Simulator, nudges: Nudges) -> None:
    """I10, for each step: the row decides, not the number of messages."""
    job = enqueue(rt)
    for _ in range(3):
        act(rt, create_nudge(job.id))
    finish(simulator, job_row(rt.database, job.id).provider_task_id)
    (look,) = nudges.take()
    for _ in range(3):
        act(rt, look)
    for _ in range(3):
        store(rt, job.id, 0)
    act(rt, create_nudge(job.id))
    act(rt, look)
    assert state(rt, job.id) is S.SUCCESS
    assert rest(rt, simulator) == {"creates": 1, "queries": 1, "downloads": 1, "leaks": 0}


def test_a_hundred_nudges_at_once_make_one_call_each(rt: Runtime, simulator: Simulator, nudges: Nudges) -> None:
    """The same from many threads."""
    job = enqueue(rt)
    assert race(*[lambda: act(rt, create_nudge(job.id)) for _ in range(20)]).errors == []
    (look,) = nudges.take()
    finish(simulator, job_row(rt.database, job.id).provider_task_id)
    assert race(*[lambda: act(rt, look) for _ in range(20)]).errors == []
    (copy,) = nudges.take()
    assert race(*[lambda: act(rt, copy) for _ in range(20)]).errors == []
    assert state(rt, job.id) is S.SUCCESS
    assert rest(rt, simulator) == {"creates": 1, "queries": 1, "downloads": 1, "leaks": 0}


@pytest.mark.parametrize("ended", [S.SUCCESS, S.FAIL, S.CANCELED])
def test_a_late_nudge_for_an_ended_job_changes_and_calls_nothing(rt: Runtime, simulator: Simulator, ended: S) -> None:
    """A message may be hours old."""
    made = make_job(rt.database, ended)
    before = everything(rt.database)
    for version in range(made.version + 2):
        act(rt, poll_nudge(made.id, version))
    act(rt, create_nudge(made.id))
    act(rt, store_nudge(made.id, 0))
    assert everything(rt.database) == before
    assert rest(rt, simulator) == {"creates": 0, "queries": 0, "downloads": 0, "leaks": 0}


# ── looks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "prompt",
    [
        "[[odd-state=daydreaming]]",
        "[[regress]]",
        "[[poll-429=3]]",
        "[[poll-http=503*4]]",
        "[[empty-result]]",
        "[[poll-http=520*9]]",
        "[[odd-state=SUCCESS]]",
        "[[poll-429=2]] [[poll-http=502*2]] [[odd-state=x]]",
    ],
)
def test_an_odd_answer_is_waited_on_and_the_result_stored(rt: Runtime, simulator: Simulator, prompt: str) -> None:
    """Unknown words, throttling, gateways, a success that takes itself back or has nothing to show yet."""
    job = sent(rt, simulator, prompt)
    work(rt)
    assert state(rt, job.id) is S.SUCCESS
    assert_stored(rt, job.id)
    assert rest(rt, simulator)["creates"] == 1


def test_a_word_that_nobody_knows_is_told_counted_and_its_record_kept(rt: Runtime, simulator: Simulator) -> None:
    """So that it can be learned; a known word keeps nothing."""
    job = enqueue(rt, "[[odd-state=daydreaming]]")
    submit(rt, job.id)
    work(rt, at_most=1)
    with rt.database.read() as tx:
        kept = tx.scalar(select(payloads.c.record).where(payloads.c.job_id == job.id))
    row = job_row(rt.database, job.id)
    assert row.word == "waiting"
    assert kept is None
    finish(simulator, row.provider_task_id)
    work(rt, at_most=1)
    with rt.database.read() as tx:
        kept = tx.scalar(select(payloads.c.record).where(payloads.c.job_id == job.id))
    assert job_row(rt.database, job.id).word == "daydreaming"
    assert kept["state"] == "daydreaming"
    rt.counts.flush(rt.database)
    assert counters.everything(rt.database)[counted.UNKNOWN_WORDS.name, "jobs"] == 1


def test_trouble_before_an_empty_success_does_not_use_up_its_looks(rt: Runtime, simulator: Simulator) -> None:
    """Five throttled looks and then a success without links yet: two more looks bring the result."""
    job = sent(rt, simulator, "[[poll-429=5]] [[empty-result]]")
    work(rt)
    row = job_row(rt.database, job.id)
    assert (row.state, row.reason) == (S.SUCCESS, None)


def test_a_throttled_look_makes_the_account_slower(rt: Runtime, simulator: Simulator, nudges: Nudges) -> None:
    """And waits longer itself, without failing."""
    job = sent(rt, simulator, "[[poll-429=1]]")
    work(rt, at_most=1)
    assert rt.crowd("default").rate_per_s() == 5
    (again,) = nudges.take()
    assert again.countdown_s == 4
    assert job_row(rt.database, job.id).troubles == 1


@pytest.mark.parametrize(
    ("code", "reason"), [("501", Reason.GENERATION), ("422", Reason.GENERATION), ("moderation", Reason.CONTENT)]
)
def test_a_failed_generation_fails_with_kies_words(
    rt: Runtime, simulator: Simulator, code: str, reason: Reason
) -> None:
    """Its code and message; the refund is known credits."""
    job = sent(rt, simulator, f"[[fail={code}]]")
    work(rt)
    row = job_row(rt.database, job.id)
    assert (row.state, row.reason, row.code) == (S.FAIL, reason, "400" if code == "moderation" else code)
    assert row.message
    assert row.credits == 0
    assert outputs_of(rt.database, job.id) == []


def test_a_fresh_task_that_kie_does_not_show_is_waited_for(rt: Runtime, simulator: Simulator, nudges: Nudges) -> None:
    """90 s without trouble, then with it, then the timeout, and after a day it never was."""
    job = sent(rt, simulator, "[[null-record=99999]]")
    (look,) = nudges.take()
    act(rt, look)
    row = job_row(rt.database, job.id)
    assert (row.state, row.troubles, row.word) == (S.WAITING, 0, "not visible")
    for seconds, expected in ((91, S.WAITING), (600, S.TIMEOUT), (86400, S.FAIL)):
        age(rt.database, job.id, seconds)
        poll(rt, job.id, job_row(rt.database, job.id).version)
        assert state(rt, job.id) is expected
    assert job_row(rt.database, job.id).reason == Reason.UNKNOWN_TASK


def test_a_late_result_is_stored_and_marked(rt: Runtime, simulator: Simulator, nudges: Nudges) -> None:
    """Promise 2: the timeout is a notice; the tail is the sweep's, and it keeps looking."""
    job = enqueue(rt)
    submit(rt, job.id)
    age(rt.database, job.id, 600)
    work(rt, at_most=1)
    assert state(rt, job.id) is S.TIMEOUT
    assert nudges.take() == []
    finish(simulator, job_row(rt.database, job.id).provider_task_id)
    age(rt.database, job.id, 71)
    sweep(rt)
    work(rt)
    row = job_row(rt.database, job.id)
    assert (row.state, row.late) == (S.SUCCESS, True)
    assert_stored(rt, job.id)


def test_a_job_without_a_result_ends_after_a_day(
    simulator: Simulator, database: Database, runtime: Callable[..., Runtime]
) -> None:
    """Whether Kie answers or not: here nobody listens any more."""
    job = enqueue(runtime(database))
    submit(runtime(database), job.id)
    gone = runtime(database, base_url="http://127.0.0.1:9")
    for seconds, expected in ((599, S.WAITING), (2, S.TIMEOUT), (86400 - 700, S.TIMEOUT), (100, S.FAIL)):
        age(database, job.id, seconds)
        poll(gone, job.id, job_row(database, job.id).version)
        assert state(gone, job.id) is expected
    assert job_row(database, job.id).reason == Reason.NO_RESULT


def test_a_job_that_killed_five_workers_is_not_looked_at_again(rt: Runtime, simulator: Simulator) -> None:
    """I16."""
    job = sent(rt, simulator)
    alter(rt.database, job.id, executions=5)
    poll(rt, job.id, job_row(rt.database, job.id).version)
    row = job_row(rt.database, job.id)
    assert (row.state, row.reason) == (S.FAIL, Reason.QUARANTINED)
    assert saw(simulator, "queries") == []


def test_a_finished_look_clears_the_executions(rt: Runtime, simulator: Simulator, nudges: Nudges) -> None:
    """A neighbour in a worker that died is charged, too, and cleared by its next look."""
    job = enqueue(rt)
    submit(rt, job.id)
    alter(rt.database, job.id, executions=4)
    work(rt, at_most=1)
    assert (state(rt, job.id), job_row(rt.database, job.id).executions) == (S.WAITING, 0)


# ── copies ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_expired_link_is_renewed(rt: Runtime, simulator: Simulator) -> None:
    """403, then a fresh link from Kie, then the file."""
    job = sent(rt, simulator, "[[expired-link]]")
    work(rt)
    assert state(rt, job.id) is S.SUCCESS
    assert_stored(rt, job.id)
    assert [one["status"] for one in saw(simulator, "downloads")] == [403, 200]
    assert saw(simulator, "leaks") == []


def test_a_dead_link_keeps_storing(rt: Runtime, simulator: Simulator) -> None:
    """The result is paid for: it is asked for again and again, with growing gaps, and nothing half is kept."""
    job = sent(rt, simulator, "[[dead-link]]")
    work(rt, at_most=9)
    assert state(rt, job.id) is S.STORING
    (row,) = outputs_of(rt.database, job.id)
    assert (row.state, row.link_expired, row.attempts) == ("pending", True, 5), "then the wait is the sweep's"
    age(rt.database, job.id, 91)
    sweep(rt)
    work(rt)
    assert outputs_of(rt.database, job.id)[0].attempts == 6
    assert state(rt, job.id) is S.STORING
    assert files(rt) == {}


def test_a_dead_link_fails_when_kie_keeps_files_no_longer(rt: Runtime, simulator: Simulator) -> None:
    """14 days."""
    job = sent(rt, simulator, "[[dead-link]]")
    work(rt, at_most=4)
    age(rt.database, job.id, 14 * 86400)
    store(rt, job.id, 0)
    row = job_row(rt.database, job.id)
    assert (row.state, row.reason) == (S.FAIL, Reason.RESULT_EXPIRED)


def test_a_copy_that_was_tried_two_thousand_times_is_put_off_like_any_other(rt: Runtime, simulator: Simulator) -> None:
    """Ten-minute gaps for two weeks are that many attempts."""
    job = sent(rt, simulator, "[[dead-link]]")
    work(rt, at_most=2)
    alter_outputs(rt.database, job.id, attempts=1500)
    age(rt.database, job.id, 601)
    store(rt, job.id, 0)
    (row,) = outputs_of(rt.database, job.id)
    assert (row.state, row.executions) == ("pending", 0)


def test_a_cut_download_leaves_nothing_and_is_tried_again(rt: Runtime, simulator: Simulator, nudges: Nudges) -> None:
    """Half a file is no file."""
    job = sent(rt, simulator, "[[truncate]]")
    work(rt, at_most=3)
    assert state(rt, job.id) is S.STORING
    assert files(rt) == {}
    (row,) = outputs_of(rt.database, job.id)
    assert (row.state, row.attempts) == ("pending", 2)
    assert "declared" in row.error


def test_a_web_page_instead_of_the_file_fails_after_three_tries(rt: Runtime, simulator: Simulator) -> None:
    """Bytes that are no result are looked at again twice, for a page in between; then Kie's result is broken."""
    job = sent(rt, simulator, "[[html-result]]")
    work(rt)
    assert state(rt, job.id) is S.STORING
    age(rt.database, job.id, 91)
    sweep(rt)
    work(rt)
    row = job_row(rt.database, job.id)
    assert (row.state, row.reason) == (S.FAIL, Reason.RESULT_INVALID)
    assert len(saw(simulator, "downloads")) == 3
    assert files(rt) == {}


def test_an_outage_does_not_use_up_the_tries_for_bad_bytes(rt: Runtime, simulator: Simulator) -> None:
    """Five tries failed for the storage's sake, then one page from a CDN in trouble: the paid result is not given up."""
    job = sent(rt, simulator, "[[html-result]]")
    work(rt, at_most=1)
    alter_outputs(rt.database, job.id, attempts=5, error="the storage is full")
    store(rt, job.id, 0)
    assert state(rt, job.id) is S.STORING


def test_a_storage_outage_fails_no_job(rt: Runtime, simulator: Simulator) -> None:
    """The copy is tried again until the storage is back."""
    job = sent(rt, simulator)
    folder = Path(rt.settings.storage)
    assert rt.store
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("in the way")
    work(rt, at_most=6)
    (row,) = outputs_of(rt.database, job.id)
    assert (state(rt, job.id), row.state, row.attempts) == (S.STORING, "pending", 5)
    folder.unlink()
    folder.mkdir()
    age(rt.database, job.id, 601)
    work(rt, [store_nudge(job.id, 0)])
    assert state(rt, job.id) is S.SUCCESS
    assert_stored(rt, job.id)


def test_a_result_at_an_address_that_is_not_dialled_fails(
    simulator: Simulator, database: Database, runtime: Callable[..., Runtime]
) -> None:
    """I12: the simulator's files are on the loopback interface, and nobody allowed that here."""
    rt = runtime(database, egress_allow=frozenset())
    job = sent(rt, simulator)
    work(rt)
    age(database, job.id, 91)
    sweep(rt)
    work(rt)
    row = job_row(database, job.id)
    assert (row.state, row.reason) == (S.FAIL, Reason.RESULT_INVALID)
    assert saw(simulator, "downloads") == []


def test_a_copy_that_killed_five_workers_is_given_up(rt: Runtime, simulator: Simulator) -> None:
    """I16 for files."""
    job = sent(rt, simulator)
    work(rt, at_most=1)
    alter_outputs(rt.database, job.id, executions=5)
    store(rt, job.id, 0)
    row = job_row(rt.database, job.id)
    assert (row.state, row.reason) == (S.FAIL, Reason.QUARANTINED)
    assert saw(simulator, "downloads") == []


def test_a_worker_that_stops_gives_its_copy_back(rt: Runtime, simulator: Simulator, nudges: Nudges) -> None:
    """At once due for another worker, and nothing half in storage."""
    job = sent(rt, simulator)
    work(rt, at_most=1)
    nudges.take()
    rt.stopping.set()
    assert not store(rt, job.id, 0)
    assert nudges.take() == []
    assert files(rt) == {}
    rt.stopping.clear()
    assert store(rt, job.id, 0)
    assert state(rt, job.id) is S.SUCCESS


def test_a_second_copy_writes_the_same_key_again(rt: Runtime, simulator: Simulator) -> None:
    """A worker died after the upload and before the row: no second file is left over."""
    job = sent(rt, simulator)
    work(rt)
    before = files(rt)
    alter(rt.database, job.id, state=S.STORING)
    alter_outputs(rt.database, job.id, state="pending", due_at=job.created_at)
    assert store(rt, job.id, 0)
    assert files(rt) == before


# ── losses ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_whose_every_nudge_was_lost_is_carried_through_by_the_sweeps(
    rt: Runtime, simulator: Simulator, nudges: Nudges
) -> None:
    """I2: whatever the steps publish is dropped; pump and sweep bring it to success all the same."""
    job = enqueue(rt, "[[outputs=2]]")
    for _ in range(12):
        nudges.take()
        age(rt.database, job.id, 30)
        pump(rt)
        sweep(rt)
        for one in nudges.take():
            act(rt, one)
        task_id = job_row(rt.database, job.id).provider_task_id
        if task_id:
            finish(simulator, task_id)
    assert state(rt, job.id) is S.SUCCESS
    assert len(assert_stored(rt, job.id)) == 2
    assert rest(rt, simulator)["creates"] == 1


def test_a_submit_whose_worker_died_before_the_call_is_parked_and_never_sent(
    rt: Runtime, simulator: Simulator, nudges: Nudges
) -> None:
    """Nobody can know that nothing left: unconfirmed, and no create ever."""
    job = enqueue(rt)
    with rt.database.write() as tx:
        ledger.begin(tx, job.id, "default", rt.budget("default"), deadline_s=32.0, who="a worker that dies")
    for _ in range(4):
        age(rt.database, job.id, 63)
        sweep(rt)
        pump(rt)
        work(rt, [create_nudge(job.id)])
    assert state(rt, job.id) is S.UNCONFIRMED
    assert [call.state for call in submissions_of(rt.database, job.id)] == ["unknown"]
    assert saw(simulator, "creates") == []


def test_an_outcome_that_is_reported_after_the_lapse_is_followed(rt: Runtime, simulator: Simulator) -> None:
    """The worker only slept: its task id is a fact, and the job goes on to success with one create."""
    job = enqueue(rt)
    with rt.database.write() as tx:
        intent = ledger.begin(tx, job.id, "default", rt.budget("default"), deadline_s=32.0, who="a slow worker")
    assert isinstance(intent, ledger.Intent)
    client = rt.client("default")
    assert client is not None
    outcome = client.create(family("jobs"), intent.model, intent.request)
    age(rt.database, job.id, 63)
    sweep(rt)
    assert state(rt, job.id) is S.UNCONFIRMED
    record(rt, intent, outcome)
    assert state(rt, job.id) is S.WAITING
    finish(simulator, job_row(rt.database, job.id).provider_task_id)
    work(rt)
    assert state(rt, job.id) is S.SUCCESS
    assert rest(rt, simulator)["creates"] == 1
    assert alarms_of(rt.database, job.id) == []


def test_an_answer_with_results_without_end_is_bounded(rt: Runtime, nudges: Nudges) -> None:
    """As many rows and messages as are stored, and an alarm that says what was left out."""
    job = enqueue(rt)
    with rt.database.write() as tx:
        intent = ledger.begin(tx, job.id, "default", rt.budget("default"), deadline_s=32.0, who="a worker")
    assert isinstance(intent, ledger.Intent)
    nudges.take()
    record(rt, intent, Answered(tuple(Result("result", document=str(number)) for number in range(10_000)), "{}"))
    assert len(outputs_of(rt.database, job.id)) == len(nudges.of(STORE)) == 100
    assert any("10000 results" in note for note in alarms_of(rt.database, job.id))


def test_a_look_whose_worker_died_is_taken_by_another(rt: Runtime, simulator: Simulator, nudges: Nudges) -> None:
    """The claim was taken and nothing came of it."""
    job = sent(rt, simulator)
    nudges.take()
    from kiejobs.db import looks

    assert looks.claim(rt.database, job.id, job_row(rt.database, job.id).version, claim_s=20.0)
    age(rt.database, job.id, 31)
    sweep(rt)
    work(rt)
    assert state(rt, job.id) is S.SUCCESS


def test_a_slow_kie_is_given_its_time_from_the_second_look_on(
    database: Database, runtime: Callable[..., Runtime], simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look is short, so that what dies with its worker is found soon; one that got no answer is followed by a long one."""
    asked: list[float | None] = []
    send = KieClient.send

    def slow(client: KieClient, call: Call, *, timeout_s: float | None = None, **more: Any) -> Envelope:
        asked.append(timeout_s)
        if timeout_s is not None and timeout_s < 12:
            raise KieUnavailable("no readable answer: ReadTimeout")
        return send(client, call, timeout_s=timeout_s, **more)

    rt = runtime(database, http_timeout_s=30.0)
    job = sent(rt, simulator)
    monkeypatch.setattr(KieClient, "send", slow)
    poll(rt, job.id, job_row(rt.database, job.id).version)
    assert (state(rt, job.id), job_row(rt.database, job.id).troubles) == (S.WAITING, 1)
    poll(rt, job.id, job_row(rt.database, job.id).version)
    assert state(rt, job.id) is S.STORING
    assert asked == [10.0, 30.0]


@pytest.mark.usefixtures("simulator")
def test_a_kie_that_is_slow_all_the_time_is_asked_long_until_it_is_quick(
    database: Database, runtime: Callable[..., Runtime], ticker: Ticker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every second look would be given up at ten seconds, and be a line of trouble."""
    asked: list[float | None] = []
    send = KieClient.send

    def noted(client: KieClient, call: Call, *, timeout_s: float | None = None, **more: Any) -> Envelope:
        asked.append(timeout_s)
        return send(client, call, timeout_s=timeout_s, **more)

    rt = runtime(database, http_timeout_s=30.0)
    job = enqueue(rt, "[[duration=60]]")
    submit(rt, job.id)
    monkeypatch.setattr(KieClient, "send", noted)
    for took_s, later_s in ((1.0, 0), (12.0, 0), (1.0, 599), (1.0, 2), (1.0, 0)):
        poll(rt, job.id, job_row(rt.database, job.id).version)
        rt._seen("read", "200", took_s)
        ticker.advance(later_s)
    assert asked == [10.0, 10.0, 30.0, 30.0, 10.0]


def test_looks_that_outlast_their_claims_fail_no_job(
    rt: Runtime, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that answers after half a minute: the sweep's look comes first each time, and nobody has died."""
    job = sent(rt, simulator)
    send = KieClient.send

    def overtaken(client: KieClient, call: Call, **more: Any) -> Envelope:
        monkeypatch.setattr(KieClient, "send", send)
        with rt.database.write() as tx:  # the sweep's look claims, too, and its worker is slow as well
            tx.exec_driver_sql("UPDATE jobs SET version = version + 1")
        raise KieUnavailable("no readable answer: NameResolutionError")

    for _ in range(12):
        monkeypatch.setattr(KieClient, "send", overtaken)
        assert poll(rt, job.id, job_row(rt.database, job.id).version) is None
    assert state(rt, job.id) is S.WAITING
    poll(rt, job.id, job_row(rt.database, job.id).version)
    assert state(rt, job.id) is S.STORING


def test_a_copy_whose_worker_died_is_taken_by_another(rt: Runtime, simulator: Simulator, nudges: Nudges) -> None:
    """After its lease."""
    job = sent(rt, simulator)
    work(rt, at_most=1)
    nudges.take()
    from kiejobs.db import copies

    assert copies.claim(rt.database, job.id, 0, lease_s=60.0)
    assert not store(rt, job.id, 0)
    age(rt.database, job.id, 71)
    sweep(rt)
    assert [one.task for one in nudges.sent] == [STORE]
    work(rt)
    assert state(rt, job.id) is S.SUCCESS


def test_a_broker_that_is_down_costs_no_job(rt: Runtime, simulator: Simulator, nudges: Nudges) -> None:
    """The row is committed; the pump publishes what nobody could."""
    job = enqueue(rt)
    age(rt.database, job.id, 5)
    assert pump(rt) == 1
    assert [one.task for one in nudges.sent] == [SUBMIT]
    work(rt, at_most=1)
    finish(simulator, job_row(rt.database, job.id).provider_task_id)
    work(rt)
    assert state(rt, job.id) is S.SUCCESS


def test_the_create_call_is_settled_in_the_rows_of_its_submission(rt: Runtime, simulator: Simulator) -> None:
    """The ledger knows the task that Kie knows."""
    job = enqueue(rt)
    submit(rt, job.id)
    row = job_row(rt.database, job.id)
    call = submission_row(rt.database, row.submission_id)
    (made,) = saw(simulator, "creates")
    assert call.provider_task_id == row.provider_task_id == made["taskId"]
    assert call.settled_at is not None
