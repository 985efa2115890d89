"""Learned pacing from end to end: what finished jobs took decides when the next one is looked at."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from kiejobs.db import durations
from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import events, payloads
from kiejobs.jobs import JobState
from kiejobs.learned import AT_MOST
from tests.factories import Ticker, job_row, make_job
from workers.runtime import Runtime
from workers.schedules import LEARN_EVERY_S
from workers.steps.poll import poll
from workers.sweeps.prune import prune
from workers.sweeps.tally import tally

MODEL = "z-image"


def finished(database: Database, took_s: float, **record: Any) -> None:
    """A job that ended well, of which Kie says how long it took."""
    made = make_job(database, JobState.SUCCESS, model=MODEL)
    told = {"createTime": 1_700_000_000_000, "completeTime": 1_700_000_000_000 + round(took_s * 1000)} | record
    with database.write() as tx:
        tx.execute(update(payloads).where(payloads.c.job_id == made.id).values(record=told))
        tx.execute(update(events).where(events.c.job_id == made.id).values(at=clock(-60)))


@pytest.fixture
def learned(database: Database, runtime: Callable[..., Runtime]) -> Runtime:
    """A runtime that has counted thirty generations of 40 to 43 seconds."""
    rt = runtime(database, pacing="learned")
    tally(rt)  # counting begins here
    for number in range(30):
        finished(database, 40 + number / 10)
    tally(rt)
    return rt


def test_the_next_look_comes_when_such_jobs_end(learned: Runtime, ticker: Ticker) -> None:
    """Not after two seconds; another model's jobs are looked at by the ladder."""
    assert sorted(durations.latest(learned.database, MODEL, 99)) == [40 + number / 10 for number in range(30)]
    schedule = learned.pace("default", MODEL).schedule
    assert schedule is not None
    assert 38 < schedule.looks_s[0] < 43
    assert learned.pace("default", "another").schedule is None


def test_a_look_waits_for_the_schedules_next_one(learned: Runtime) -> None:
    """What is written into the row, and said by the next message."""
    made = make_job(learned.database, JobState.WAITING, model=MODEL, elapsed_s=1.0)
    change = poll(learned, made.id, made.version)  # no Kie answers: one trouble, which doubles the wait
    assert change is not None
    assert change.due_in_s == 60.0
    assert job_row(learned.database, made.id).troubles == 1


def test_the_ladder_stays_where_learning_is_off(database: Database, runtime: Callable[..., Runtime]) -> None:
    """The default; what was learned is not even read."""
    rt = runtime(database)
    assert rt.pace("default", MODEL).schedule is None
    assert "schedules" not in rt.__dict__


def test_what_is_known_is_read_again_every_ten_minutes(learned: Runtime, ticker: Ticker) -> None:
    """Not at every look."""
    before = learned.schedules.of(MODEL)
    for number in range(200):
        finished(learned.database, 10 + number / 100)
    tally(learned)
    assert learned.schedules.of(MODEL) is before
    ticker.advance(LEARN_EVERY_S)
    after = learned.schedules.of(MODEL)
    assert before is not None
    assert after is not None
    assert after.looks_s[0] < before.looks_s[0]


def test_only_the_latest_durations_are_kept(learned: Runtime) -> None:
    """As many of each model as are learned from."""
    with learned.database.write() as tx:
        durations.note(tx, [(model, float(n + 1)) for model in ("a", "b") for n in range(AT_MOST + 20)])
    prune(learned)
    assert len(durations.latest(learned.database, "a", 9999)) == AT_MOST
    assert durations.latest(learned.database, "b", 1) == [AT_MOST + 20.0]
    assert len(durations.latest(learned.database, MODEL, 9999)) == 30


@pytest.mark.parametrize(
    "record", [{"completeTime": None}, {"createTime": "soon"}, {"completeTime": 5}, {"createTime": True}]
)
def test_a_record_that_tells_no_times_teaches_nothing(
    database: Database, runtime: Callable[..., Runtime], record: dict[str, Any]
) -> None:
    """Nor one whose times cannot be."""
    rt = runtime(database)
    tally(rt)
    finished(database, 40.0, **record)
    tally(rt)
    assert durations.latest(database, MODEL, 9) == []


def test_slow_models_are_called_late_later(learned: Runtime) -> None:
    """1.5 times the slowest that is known, never before the setting."""
    assert learned.pace("default", MODEL).timeout_s == learned.settings.poll_timeout_s
    with learned.database.write() as tx:
        durations.note(tx, [("slow", 900.0 + n) for n in range(50)])
    assert learned.pace("default", "slow").timeout_s == pytest.approx(1.5 * 949)
