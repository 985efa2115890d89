"""Real processes, real losses: whatever dies, every job ends, and nothing is bought twice."""

import signal

import pytest

from tests.acceptance.stage import BEAT, COPIES, QUICK, Stage, has_redis, kill, until
from tests.support import missing, postgresql_answers

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(params=["sqlite", "postgresql"])
def stage(request, tmp_path):
    if not has_redis():
        missing("redis-server on PATH")
    if request.param == "postgresql" and not postgresql_answers():
        missing("PostgreSQL on 127.0.0.1:5432")
    with Stage(tmp_path, database=request.param) as made:
        yield made


def _all_stored_once(stage: Stage, ids: list[str]) -> None:
    jobs = stage.ended(ids)
    assert [job.phase for job in jobs] == ["success"] * len(ids), stage.logs()
    assert len(stage.creates()) == len(ids)


def test_jobs_outlive_a_worker_killed_with_its_countdown_messages(stage):
    """A kill -9 takes the held messages with it; the sweep nudges the rows and a new worker goes on."""
    quick, _, _ = stage.start_all()
    ids = stage.enqueue(10, "[[duration=4]] [[outputs=1]]")
    until("all are being polled", lambda: all(stage.jobs.get(i).polls >= 1 for i in ids))
    kill(quick)
    stage.start(QUICK)
    _all_stored_once(stage, ids)


def test_jobs_outlive_a_flushed_broker(stage):
    """FLUSHALL again and again: messages are hints, rows are the truth."""
    stage.start_all()
    ids = stage.enqueue(15, "[[duration=3]] [[outputs=2]]")
    for _ in range(4):
        until("a moment passes", lambda: stage.redis.poll() is None)
        stage.flush_broker()
        signal.sigtimedwait([], 0.7)
    _all_stored_once(stage, ids)


def test_workers_survive_a_broker_restart_and_jobs_go_on(stage):
    """The broker dies with all messages and comes back empty; the same worker processes carry on."""
    quick, copies, beat = stage.start_all()
    ids = stage.enqueue(8, "[[duration=5]] [[outputs=1]]")
    until("all are being polled", lambda: all(stage.jobs.get(i).polls >= 1 for i in ids))
    stage.kill_broker()
    signal.sigtimedwait([], 1.0)
    stage.start_broker()
    _all_stored_once(stage, ids)
    assert [process.poll() for process in (quick, copies, beat)] == [None, None, None], stage.logs()


def test_a_worker_killed_inside_the_create_call_leaves_the_job_parked(stage):
    """Kie took the call and the only one who knew is dead: unconfirmed, never sent again."""
    quick, _, _ = stage.start_all()
    until("the worker is ready", lambda: b"ready." in (stage.folder / "worker-1.log").read_bytes())
    stage.hold_creates()
    ids = stage.enqueue(3, "[[duration=1]] [[outputs=1]]")
    until("three calls are held", lambda: stage.held_creates() == 3)
    kill(quick)
    stage.release_creates()
    stage.start(QUICK)
    jobs = stage.ended(ids, 90)
    assert [job.phase for job in jobs] == ["unconfirmed"] * 3
    assert len(stage.creates()) == 3
    assert all("may or may not" in (job.message or "") for job in jobs)


def test_a_worker_killed_while_copying_loses_no_file(stage):
    """The copy's lease lapses and another worker starts it again."""
    _, copies, _ = stage.start_all()
    ids = stage.enqueue(3, "[[duration=1]] [[outputs=1]] [[big=2]] [[drip=400000]]")
    until("copies run", lambda: all(stage.jobs.get(i).phase == "storing" for i in ids))
    signal.sigtimedwait([], 1.0)
    kill(copies)
    stage.start(COPIES)
    _all_stored_once(stage, ids)


def test_two_beats_change_nothing(stage):
    """Every sweep runs twice; every job is bought and stored once."""
    stage.start_all()
    stage.start(BEAT)
    _all_stored_once(stage, stage.enqueue(10, "[[duration=2]] [[outputs=1]]"))


def test_a_stopped_worker_that_wakes_up_changes_nothing(stage):
    """SIGSTOP across a sweep: another worker takes over, the zombie's claims are stale."""
    quick, _, _ = stage.start_all()
    ids = stage.enqueue(6, "[[duration=3]] [[outputs=1]]")
    until("all are being polled", lambda: all(stage.jobs.get(i).polls >= 1 for i in ids))
    kill(quick, signal.SIGSTOP)
    stage.start(QUICK)
    _all_stored_once(stage, ids)
    before = [(stage.jobs.get(i), len(stage.jobs.timeline(i))) for i in ids]
    kill(quick, signal.SIGCONT)
    signal.sigtimedwait([], 3.0)
    assert [(stage.jobs.get(i), len(stage.jobs.timeline(i))) for i in ids] == before
    assert len(stage.creates()) == len(ids)
