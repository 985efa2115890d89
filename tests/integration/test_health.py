"""The figures of the health page and of the metrics, read from rows on both databases."""

import pytest
from sqlalchemy import insert, update

from kiejobs.db import rescue
from kiejobs.db.clock import clock
from kiejobs.db.health import Allowance, Work, health
from kiejobs.db.tables import deliveries, outputs
from kiejobs.jobs import DeliveryState, JobState
from tests.factories import make_job, make_submission

ALLOWED = {"default": Allowance(creates=20, window_s=10.5, queries_per_s=10.0)}


def make_delivery(database, job_id, state, *, due_in_s=None, sequence=1):
    """Write one message of a job."""
    row = {"id": job_id, "job_id": job_id, "sequence": sequence, "kind": "generation.failed", "body": {}}
    row |= {"url": "https://example.com/hook", "state": state, "created_at": clock(-90)}
    due = None if due_in_s is None else clock(due_in_s)
    with database.write() as tx:
        tx.execute(insert(deliveries).values(**row, due_at=due))


def test_an_empty_installation_has_nothing_to_tell(database):
    """Zeros and Nones, never an error: this is what a fresh installation shows."""
    found = health(database, allowances=ALLOWED)
    assert all((q.waiting, q.due, q.lag_s, q.oldest_s) == (0, 0, 0.0, None) for q in found.queues.values())
    assert (found.unsaved, found.unsaved_dies_in_s, found.unconfirmed, found.gave_up) == (0, None, 0, 0)
    assert (found.finished_by, found.last_sweep_s) == ({}, None)
    assert (found.usage[0].creates, found.usage[0].queries_per_s) == (0, 0.0)


def test_each_queue_counts_its_own_rows_and_says_how_late_the_first_is(database):
    """In line, held, looked at, copied, told: by row, with the lag of the most overdue and the age of the oldest."""
    make_job(database, line_at=clock(-4000), created_at=clock(-5000))
    make_job(database, line_at=clock(6000), created_at=clock(-500), priority="batch")
    make_job(database, line_at=None, due_at=clock(-300), held="a cap", created_at=clock(-2000))
    make_job(database, JobState.WAITING, elapsed_s=1000, due_at=clock(-700))
    make_job(database, JobState.TIMEOUT, elapsed_s=7000, due_at=clock(5000))
    make_job(database, JobState.STORING, elapsed_s=3000, urls=("https://x/0", "https://x/1"))
    ended = make_job(database, JobState.FAIL)
    make_delivery(database, ended.id, DeliveryState.PENDING, due_in_s=-1200)

    found = health(database, allowances={}).queues
    assert {work: (queue.waiting, queue.due) for work, queue in found.items()} == {
        Work.CREATE: (2, 1),
        Work.HELD: (1, 1),
        Work.LOOK: (2, 1),
        Work.STORE: (2, 2),
        Work.NOTIFY: (1, 1),
    }
    late = {work: found[work].lag_s for work in (Work.CREATE, Work.HELD, Work.LOOK, Work.NOTIFY)}
    assert late == about({Work.CREATE: 4000, Work.HELD: 300, Work.LOOK: 700, Work.NOTIFY: 1200})
    oldest = {work: queue.oldest_s for work, queue in found.items()}
    assert oldest == about({Work.CREATE: 5000, Work.HELD: 2000, Work.LOOK: 7000, Work.STORE: 3000, Work.NOTIFY: 90})


def about(seconds: dict[Work, float]) -> object:
    """Ages as they may be when a slow machine comes to asking for them."""
    return pytest.approx(seconds, abs=60)


def test_usage_counts_the_window_and_what_the_ladders_ask_for(database):
    """Creates older than the window are free again; a job asks for a look every 2, 5 or 15 s by its age."""
    job = make_job(database, JobState.WAITING, elapsed_s=10)
    make_job(database, JobState.WAITING, elapsed_s=60)
    make_job(database, JobState.WAITING, elapsed_s=300)
    make_job(database, JobState.WAITING, elapsed_s=10, account="other")
    make_submission(database, job.id, ago_s=1)
    (usage,) = health(database, allowances=ALLOWED).usage
    assert usage.creates == 2  # the first job's, sent 10 s ago, and the one beside it
    assert usage.queries_per_s == pytest.approx(1 / 2 + 1 / 5 + 1 / 15)


def test_what_is_unsafe_is_counted_with_how_long_it_has(database):
    """Unsaved files and when the first link dies, parked creates and since when, messages that were given up."""
    storing = make_job(database, JobState.STORING, urls=("https://x/0", "https://x/1"))
    with database.write() as tx:
        first = (outputs.c.job_id == storing.id) & (outputs.c.position == 0)
        tx.execute(update(outputs).where(first).values(expires_at=clock(3600)))
    make_job(database, JobState.UNCONFIRMED)
    make_delivery(database, make_job(database, JobState.FAIL).id, DeliveryState.GAVE_UP)
    found = health(database, allowances={})
    assert (found.unsaved, found.unconfirmed, found.gave_up) == (2, 1, 1)
    assert found.unsaved_dies_in_s == pytest.approx(3600, abs=5)
    assert found.unconfirmed_oldest_s == pytest.approx(0, abs=5)


def test_ends_are_counted_for_a_day_by_what_found_them(database):
    """A job that ended two days ago is history."""
    make_job(database, JobState.SUCCESS, found_by="poll")
    make_job(database, JobState.SUCCESS, found_by="callback")
    make_job(database, JobState.FAIL, found_by="poll")
    make_job(database, JobState.SUCCESS, found_by="sweep", ended_at=clock(-2 * 86400))
    rescue.beat(database, "sweep")
    found = health(database, allowances={})
    assert found.finished_by == {"poll": 2, "callback": 1}
    assert found.last_sweep_s == pytest.approx(0, abs=5)


def test_a_tenant_counts_its_own_rows_alone(database):
    """Nothing of another tenant shows in any figure."""
    for state in (JobState.QUEUED, JobState.WAITING, JobState.STORING, JobState.UNCONFIRMED):
        make_job(database, state, tenant="b")
    other = make_job(database, JobState.SUCCESS, tenant="b", found_by="poll")
    make_delivery(database, other.id, DeliveryState.GAVE_UP)
    found, all_of_it = health(database, tenant="a", allowances={}), health(database, allowances={})
    assert not any(queue.waiting for queue in found.queues.values())
    assert (found.unsaved, found.unconfirmed, found.gave_up, found.finished_by) == (0, 0, 0, {})
    assert (all_of_it.unsaved, all_of_it.unconfirmed, all_of_it.gave_up, all_of_it.finished_by) == (
        1,
        1,
        1,
        {"poll": 1},
    )
