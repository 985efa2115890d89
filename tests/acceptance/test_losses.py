"""Real processes, real losses: whatever dies, every job ends, and nothing is bought twice."""

import signal

import pytest

from kiejobs.simulator import Simulator
from tests.acceptance.stage import BEAT, COPIES, QUICK, Stage, has_redis, kill, until
from tests.support import REAL_DATABASES, missing, postgresql_answers


class Crew:
    """An installation that all of these tests use: who was killed in one is there again in the next."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.quick, self.copies, self.beat = stage.start_all()
        self.bought = 0

    def enqueue(self, count: int, prompt: str) -> list[str]:
        self.bought = len(self.stage.creates())
        return self.stage.enqueue(count, prompt)

    def all_watched(self, ids: list[str]) -> None:
        until("all are being polled", lambda: all(self.stage.jobs.get(i).polls >= 1 for i in ids))

    def all_stored_once(self, ids: list[str]) -> None:
        jobs = self.stage.ended(ids)
        assert [job.phase for job in jobs] == ["success"] * len(ids), self.stage.logs()
        assert len(self.stage.creates()) == self.bought + len(ids)

    def revive(self) -> None:
        """Start again whatever is dead, and wait until it works."""
        if self.quick.poll() is not None:
            self.quick = self.stage.start(QUICK)
        if self.copies.poll() is not None:
            self.copies = self.stage.start(COPIES)
        until("the workers are ready", lambda: all(map(self.stage.is_ready, (self.quick, self.copies))))


@pytest.fixture(scope="module", params=REAL_DATABASES)
def installation(request, tmp_path_factory):
    """A stage with its crew, for one database."""
    if not has_redis():
        missing("redis-server on PATH")
    if request.param == "postgresql" and not postgresql_answers():
        missing("PostgreSQL on 127.0.0.1:5432")
    unlimited = {"KIEJOBS_CREATE_LIMIT": "1000"}
    simulator = Simulator(duration_s=2.0, create_limit=0)
    with Stage(tmp_path_factory.mktemp("losses"), database=request.param, simulator=simulator, **unlimited) as stage:
        yield Crew(stage)


@pytest.fixture
def crew(installation):
    """The crew, whole."""
    installation.revive()
    return installation


def test_jobs_outlive_a_worker_killed_with_its_countdown_messages(crew):
    """A kill -9 takes the held messages with it; the sweep nudges the rows and a new worker goes on."""
    ids = crew.enqueue(10, "[[duration=4]] [[outputs=1]]")
    crew.all_watched(ids)
    kill(crew.quick)
    crew.revive()
    crew.all_stored_once(ids)


def test_a_worker_that_is_stopped_hands_its_looks_to_another(crew):
    """SIGTERM, as a deployment sends it: no sweep is needed, and none runs. Until then the broker holds none of them."""
    ids = crew.enqueue(6, "[[duration=6]] [[outputs=1]]")
    crew.all_watched(ids)
    until("no look lies in the broker", lambda: crew.stage.kept_messages() == 0, 4)
    crew.beat.send_signal(signal.SIGSTOP)
    try:
        leaving, crew.quick = crew.quick, crew.stage.start(QUICK)
        until("the next worker is ready", lambda: crew.stage.is_ready(crew.quick))
        kill(leaving, signal.SIGTERM)
        crew.all_stored_once(ids)
    finally:
        crew.beat.send_signal(signal.SIGCONT)


def test_jobs_outlive_a_flushed_broker(crew):
    """FLUSHALL again and again: messages are hints, rows are the truth."""
    ids = crew.enqueue(15, "[[duration=3]] [[outputs=2]]")
    for _ in range(4):
        crew.stage.flush_broker()
        signal.sigtimedwait([], 0.7)
    crew.all_stored_once(ids)


def test_workers_survive_a_broker_restart_and_jobs_go_on(crew):
    """The broker dies with all messages and comes back empty; the same worker processes carry on."""
    processes = crew.quick, crew.copies, crew.beat
    ids = crew.enqueue(8, "[[duration=5]] [[outputs=1]]")
    crew.all_watched(ids)
    crew.stage.kill_broker()
    signal.sigtimedwait([], 1.0)
    crew.stage.start_broker()
    crew.all_stored_once(ids)
    assert [process.poll() for process in processes] == [None, None, None], crew.stage.logs()


def test_a_worker_killed_inside_the_create_call_leaves_the_job_parked(crew):
    """Kie took the call and the only one who knew is dead: unconfirmed, never sent again."""
    stage = crew.stage
    stage.hold_creates()
    ids = crew.enqueue(3, "[[duration=1]] [[outputs=1]]")
    until("three calls are held", lambda: stage.held_creates() == 3)
    kill(crew.quick)
    stage.release_creates()
    crew.revive()
    jobs = stage.ended(ids, 90)
    assert [job.phase for job in jobs] == ["unconfirmed"] * 3
    assert len(stage.creates()) == crew.bought + 3
    assert all("may or may not" in (job.message or "") for job in jobs)


def test_a_worker_killed_while_copying_loses_no_file(crew):
    """The copy's lease lapses and another worker starts it again."""
    ids = crew.enqueue(3, "[[duration=1]] [[outputs=1]] [[big=2]] [[drip=400000]]")
    until("copies run", lambda: all(crew.stage.jobs.get(i).phase == "storing" for i in ids))
    signal.sigtimedwait([], 1.0)
    kill(crew.copies)
    crew.revive()
    crew.all_stored_once(ids)


def test_two_beats_change_nothing(crew):
    """Every sweep runs twice; every job is bought and stored once."""
    second = crew.stage.start(BEAT)
    crew.all_stored_once(crew.enqueue(10, "[[duration=2]] [[outputs=1]]"))
    kill(second)


def test_a_stopped_worker_that_wakes_up_changes_nothing(crew):
    """SIGSTOP across a sweep: another worker takes over, the zombie's claims are stale."""
    stage, zombie = crew.stage, crew.quick
    ids = crew.enqueue(6, "[[duration=3]] [[outputs=1]]")
    crew.all_watched(ids)
    with stage.locked(*ids):  # not while it holds a lock itself: nothing helps against a process that sleeps with one
        kill(zombie, signal.SIGSTOP)
    crew.quick = stage.start(QUICK)
    crew.all_stored_once(ids)
    before = [(stage.jobs.get(i), len(stage.jobs.timeline(i))) for i in ids]
    kill(zombie, signal.SIGCONT)
    signal.sigtimedwait([], 3.0)
    assert [(stage.jobs.get(i), len(stage.jobs.timeline(i))) for i in ids] == before
    assert len(stage.creates()) == crew.bought + len(ids)
    kill(zombie)
