"""Figures that only rise: added up over processes, kept over restarts, and of a timeline's lines each counted once."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from kiejobs import counted
from kiejobs.counted import Counts, counts_of, spreads_of
from kiejobs.db import counters, orders
from kiejobs.db.session import Database
from kiejobs.db.tables import events, jobs, payloads, submissions
from kiejobs.db.tally import tally
from kiejobs.errors import DatabaseUnavailable
from kiejobs.jobs import JobState, OutputState
from kiejobs.lifecycle import Event
from tests.factories import make_job, make_submission, race
from workers.counts import Tallies


def sums(database: Database, what: counted.Counted) -> dict[tuple[str, ...], float]:
    """A figure's sums, without those that are 0."""
    return {labels: value for labels, value in counts_of(what, counters.everything(database)).items() if value}


def let_settle(database: Database) -> None:
    """Make every line old enough to be counted."""
    with database.write() as tx:
        for row in tx.execute(select(events.c.id, events.c.at)).all():
            tx.execute(update(events).where(events.c.id == row.id).values(at=row.at - timedelta(seconds=20)))


def begun(database: Database) -> Database:
    """Counting has begun: what follows is counted."""
    assert tally(database, str) == 0
    return database


def test_what_many_processes_count_is_added_up(database):
    """Twenty at once, each with the same figures in another order."""

    def one(index: int) -> None:
        counts = Counts()
        for code in ["200", "429", "none"] if index % 2 else ["none", "429", "200"]:
            counts.add(counted.KIE_CALLS, "read", code)
        with database.write() as tx:
            counters.add(tx, counts.sums)

    assert race(*(partial(one, index) for index in range(20))).errors == []
    assert sums(database, counted.KIE_CALLS) == {("read", code): 20 for code in ("200", "429", "none")}


def test_a_figure_that_is_put_replaces_the_earlier_one(database):
    for value in (12.5, -3.0):
        with database.write() as tx:
            counters.put(tx, {(counters.DRIFT, "main"): value})
    assert counters.everything(database) == {(counters.DRIFT, "main"): -3.0}


def test_a_process_writes_down_what_it_counted_once(database):
    tallies = Tallies()
    tallies.add(counted.STORED_BYTES, by=1000)
    tallies.observe(counted.KIE_CALL_S, 0.3, "read")
    tallies.observe(counted.KIE_CALL_S, 999.0, "read")
    tallies.flush(database)
    tallies.flush(database)
    assert sums(database, counted.STORED_BYTES) == {(): 1000}
    spread = spreads_of(counted.KIE_CALL_S, counters.everything(database))[("read",)]
    assert spread.sum == pytest.approx(999.3)
    standing = dict(spread.at_most)
    assert (standing[0.25], standing[0.5], standing[120], standing[float("inf")]) == (0, 1, 1, 2)


def test_what_could_not_be_written_down_is_kept(sqlite, tmp_path):
    """Until the database answers again."""
    tallies = Tallies()
    tallies.add(counted.STALE, "poll")
    away = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailable):
        tallies.flush(away)
    tallies.add(counted.STALE, "poll")
    tallies.flush(sqlite)
    assert sums(sqlite, counted.STALE) == {("poll",): 2}


def test_a_label_never_breaks_the_others(database):
    """Whatever stands in a code."""
    counts = Counts()
    counts.add(counted.KIE_CALLS, "read", "a|b" + "x" * 500)
    with database.write() as tx:
        counters.add(tx, counts.sums)
    ((kind, code),) = sums(database, counted.KIE_CALLS)
    assert kind == "read"
    assert code.startswith("a/b")
    assert len(code) == 100


def ended(database: Database, state: JobState = JobState.SUCCESS, **given: Any) -> str:
    return make_job(database, state, **given).id


def test_counting_begins_with_the_first_run(database):
    """What was there before is history."""
    ended(database)
    let_settle(database)
    assert tally(database, str) == 0
    assert sums(database, counted.EVENTS) == {}


def test_each_line_is_counted_once(database):
    begun(database)
    ended(database, polls=4, found_by="poll", credits=12)
    ended(database, JobState.FAIL, polls=2, found_by="callback")
    let_settle(database)
    assert tally(database, str) == 9
    assert tally(database, str) == 0
    assert sums(database, counted.EVENTS)[("accepted",)] == 2
    assert sums(database, counted.JOBS_ENDED) == {("success", "z-image"): 1, ("fail", "z-image"): 1}
    assert sums(database, counted.JOBS_FAILED) == {("generation",): 1}
    assert sums(database, counted.FINISHED_BY) == {("poll",): 1, ("callback",): 1}
    assert sums(database, counted.CREDITS) == {("default",): 12}
    polls = spreads_of(counted.POLLS, counters.everything(database))[()]
    assert polls.sum == 6
    assert dict(polls.at_most)[2] == 1
    assert dict(polls.at_most)[float("inf")] == 2


def test_credits_are_counted_once_for_each_create_call(database):
    """Not again when the job is stored again and ends anew; and those of an earlier call, though the job forgot them."""
    begun(database)
    path = (Event.SENT, Event.ACCEPTED, Event.PRODUCED, Event.UNSTORABLE)
    job_id = ended(database, JobState.FAIL, path=path, outputs_state=OutputState.FAILED, reason="storage", credits=12)
    let_settle(database)
    tally(database, str)
    assert sums(database, counted.CREDITS) == {("default",): 12}

    orders.retry(database, job_id, tenant="default", pay=False, who="ada", why="free")
    _end(database, job_id, JobState.STORING)
    assert sums(database, counted.CREDITS) == {("default",): 12}
    assert sums(database, counted.JOBS_ENDED)[("fail", "z-image")] == 2

    second = make_submission(database, job_id, account="studio", task_id="again")
    with database.write() as tx:
        tx.execute(update(submissions).where(submissions.c.id == second).values(credits=5))
        tx.execute(update(jobs).where(jobs.c.id == job_id).values(state=JobState.WAITING, credits=None))
    _end(database, job_id, JobState.WAITING)
    assert sums(database, counted.CREDITS) == {("default",): 12, ("studio",): 5}


def _end(database: Database, job_id: str, before: JobState) -> None:
    with database.write() as tx:
        row = {"job_id": job_id, "kind": "failed", "who": "poll", "from_state": before, "to_state": JobState.FAIL}
        tx.execute(insert(events).values(**row, note="again"))
    let_settle(database)
    tally(database, str)


def test_a_young_line_waits_and_holds_back_what_follows_it(database):
    """Its neighbours' transactions may not have ended yet."""
    begun(database)
    ended(database)
    assert tally(database, str) == 0
    let_settle(database)
    ended(database)
    assert tally(database, str) == 5
    let_settle(database)
    assert tally(database, str) == 5


def test_counting_goes_on_where_a_batch_ended(database):
    begun(database)
    for _ in range(3):
        ended(database)
    let_settle(database)
    assert [tally(database, str, limit=6) for _ in range(4)] == [6, 6, 3, 0]
    assert sums(database, counted.JOBS_ENDED) == {("success", "z-image"): 3}


def test_two_sweeps_at_once_count_a_line_once(database):
    begun(database)
    for _ in range(5):
        ended(database)
    let_settle(database)
    done = race(*[lambda: tally(database, str)] * 4)
    assert done.errors == []
    assert sorted(done.results) == [0, 0, 0, 25]
    assert sums(database, counted.JOBS_ENDED) == {("success", "z-image"): 5}


def test_a_model_is_counted_by_the_name_that_is_given(database):
    begun(database)
    ended(database, model="somebody's/own")
    let_settle(database)
    tally(database, lambda model: "other")
    assert sums(database, counted.JOBS_ENDED) == {("success", "other"): 1}


def test_the_way_into_the_storage_is_measured_from_the_look_and_by_kies_clock(database):
    """A wrong clock at Kie counts for nothing."""
    begun(database)
    for completed_s_ago in (60.0, -100.0, 90 * 86400.0):
        job_id = ended(database)
        with database.write() as tx:
            at = {
                row.kind: row.at
                for row in tx.execute(select(events.c.kind, events.c.at).where(events.c.job_id == job_id))
            }
            found = update(events).where(events.c.job_id == job_id, events.c.kind == "produced")
            tx.execute(found.values(at=at["stored"] - timedelta(seconds=30)))
            record = {"completeTime": round((at["stored"].timestamp() - completed_s_ago) * 1000)}
            tx.execute(update(payloads).where(payloads.c.job_id == job_id).values(record=record))
    let_settle(database)
    tally(database, str)
    everything = counters.everything(database)
    looked = spreads_of(counted.FOUND_TO_STORED_S, everything)[()]
    assert looked.sum == pytest.approx(90, abs=0.1)
    assert dict(looked.at_most)[float("inf")] == 3
    by_kie = spreads_of(counted.COMPLETED_TO_STORED_S, everything)[()]
    assert by_kie.sum == pytest.approx(40, abs=0.1)  # `let_settle` moved the end by 20 s
    assert dict(by_kie.at_most)[float("inf")] == 1


def test_a_job_that_was_bought_again_ends_twice(database):
    """Each end is one; a change that ends nothing new is none."""
    begun(database)
    job_id = ended(database, JobState.FAIL)
    with database.write() as tx:
        again = {"job_id": job_id, "who": "test", "note": ""}
        tx.execute(events.insert().values(kind="bought_again", from_state="fail", to_state="queued", **again))
        tx.execute(events.insert().values(kind="broke", from_state="waiting", to_state="fail", **again))
        tx.execute(events.insert().values(kind="noted", from_state="fail", to_state="fail", **again))
    let_settle(database)
    tally(database, str)
    assert sums(database, counted.JOBS_ENDED) == {("fail", "z-image"): 2}
