"""Adds the timelines up: each line is counted once, in one transaction with the mark of how far counting came.

So what rows tell is exact over crashes, restarts and two sweeps at once. Credits belong to create calls: each call's are
counted when its job has ended, once, however often it ends and is bought again. A line is counted when it is old enough
for the transactions of its time to have ended; one whose transaction took longer than that is not counted. Counting
begins with the first run: what was there before is history, not traffic.
"""

from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select, update

from kiejobs import counted
from kiejobs.counted import Counts
from kiejobs.db import counters, durations
from kiejobs.db.clock import clock
from kiejobs.db.inserts import insert_into
from kiejobs.db.session import Database
from kiejobs.db.tables import counters as figures
from kiejobs.db.tables import events, jobs, payloads, submissions
from kiejobs.jobs import ENDED, JobState
from kiejobs.lifecycle import Event

SETTLED_S = 15.0
"""How old a line is when it is counted."""
BATCH = 2000
"""Lines per transaction."""
_FOUND = (Event.PRODUCED, Event.ANSWERED)
_LONGEST_S = 30 * 86400.0
"""A time between Kie's clock and ours beyond this is a wrong figure, not a long one."""

_mark = (figures.c.name == "tally") & (figures.c.label == "last_event")


def tally(
    database: Database,
    named: Callable[[str], str],
    *,
    limit: int = BATCH,
    over: Callable[[list[str]], None] = lambda ids: None,
) -> int:
    """Count the next lines of the timelines and return how many; `named` says by which name a model is counted.

    `over` is told the jobs whose end was counted, once it is written down.
    """
    with database.write() as tx:
        upto = _counted_upto(tx)
        before = tx.scalar(select(clock(-SETTLED_S)))
        query = select(events.c.id, events.c.job_id, events.c.at, events.c.kind, events.c.from_state, events.c.to_state)
        rows = tx.execute(query.where(events.c.id > upto).order_by(events.c.id).limit(limit)).all()
        lines = list(takewhile(lambda row: row.at < before, rows))
        if lines:
            counts, took = _counts(tx, lines, named)
            counters.add(tx, counts.sums)
            durations.note(tx, took)
            tx.execute(update(figures).where(_mark).values(value=lines[-1].id))
    if ended := list(dict.fromkeys(line.job_id for line in lines if _is_end(line))):
        over(ended)
    return len(lines)


def _is_end(line: Any) -> bool:
    return line.to_state in ENDED and line.from_state not in ENDED


def _counted_upto(tx: Connection) -> int:
    """Read the mark and keep it locked; the first time, set it to the newest line."""
    newest = func.coalesce(select(func.max(events.c.id)).scalar_subquery(), 0)
    made = insert_into(tx, figures)
    tx.execute(made.values(name="tally", label="last_event", value=newest).on_conflict_do_nothing())
    return int(tx.scalar(select(figures.c.value).where(_mark).with_for_update()) or 0)


def _counts(
    tx: Connection, lines: Iterable[Any], named: Callable[[str], str]
) -> tuple[Counts, list[tuple[str, float]]]:
    """Count what these lines tell; beside it, how long each generation took that ended well, by model."""
    counts = Counts()
    ends = []
    for line in lines:
        counts.add(counted.EVENTS, line.kind)
        if _is_end(line):
            ends.append(line)
    ids = {end.job_id for end in ends}
    found = tx.execute(_jobs_that_ended(ids)).all() if ends else []
    ended = {job.id: job for job in found}
    took = []
    for end in ends:
        job = ended[end.job_id]
        _count_end(counts, job, end, named)
        if end.to_state == JobState.SUCCESS and (took_s := _took_s(job.record)) is not None:
            took.append((job.model, took_s))
    if ids:
        _count_credits(tx, counts, ids)
    return counts, took


def _count_credits(tx: Connection, counts: Counts, ids: set[str]) -> None:
    """Count what these jobs' create calls are known to have cost, as far as it is not counted yet."""
    more = submissions.c.credits > submissions.c.credits_counted  # never less: a counter that falls has begun anew
    columns = (submissions.c.id, submissions.c.account, submissions.c.credits, submissions.c.credits_counted)
    query = select(*columns).where(submissions.c.job_id.in_(ids), submissions.c.credits.is_not(None))
    query = query.where(or_(submissions.c.credits_counted.is_(None), more)).order_by(submissions.c.id).with_for_update()
    calls = tx.execute(query).all()
    for call in calls:
        counts.add(counted.CREDITS, call.account, by=float(call.credits - (call.credits_counted or 0)))
    if calls:
        mine = submissions.c.id.in_([call.id for call in calls])
        tx.execute(update(submissions).where(mine).values(credits_counted=submissions.c.credits))


def _jobs_that_ended(ids: set[str]) -> Any:
    found = select(func.max(events.c.at)).where(events.c.job_id == jobs.c.id, events.c.kind.in_(_FOUND))
    columns = (jobs.c.id, jobs.c.model, jobs.c.polls, jobs.c.reason, jobs.c.found_by)
    query = select(*columns, jobs.c.created_at, found.scalar_subquery().label("found_at"), payloads.c.record)
    return query.outerjoin(payloads, payloads.c.job_id == jobs.c.id).where(jobs.c.id.in_(ids))


def _count_end(counts: Counts, job: Row[Any], end: Any, named: Callable[[str], str]) -> None:
    counts.add(counted.JOBS_ENDED, end.to_state, named(job.model))
    if job.polls:
        counts.observe(counted.POLLS, job.polls)
    if job.found_by:
        counts.add(counted.FINISHED_BY, job.found_by)
    if end.to_state == JobState.FAIL:
        counts.add(counted.JOBS_FAILED, job.reason or "unknown")
    if end.to_state == JobState.SUCCESS:
        counts.observe(counted.JOB_S, (end.at - job.created_at).total_seconds())
        if job.found_at is not None:
            counts.observe(counted.FOUND_TO_STORED_S, max((end.at - job.found_at).total_seconds(), 0.0))
        took_s = _since_completed_s(end.at.timestamp(), job.record)
        if took_s is not None:
            counts.observe(counted.COMPLETED_TO_STORED_S, took_s)


def _since_completed_s(at_s: float, record: Any) -> float | None:
    """Return the time since the moment that Kie calls the task's completion; None where it names none.

    Source: https://docs.kie.ai, the record pages: `completeTime`, milliseconds since 1970.
    """
    completed_ms = _milliseconds(record, "completeTime")
    return None if completed_ms is None else _credible_s(at_s - completed_ms / 1000)


def _took_s(record: Any) -> float | None:
    """Return how long Kie worked on a task, by its own clock; None where the record does not tell."""
    began_ms, completed_ms = _milliseconds(record, "createTime"), _milliseconds(record, "completeTime")
    return None if began_ms is None or completed_ms is None else _credible_s((completed_ms - began_ms) / 1000)


def _milliseconds(record: Any, name: str) -> float | None:
    value = record.get(name) if isinstance(record, dict) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _credible_s(seconds: float) -> float | None:
    return seconds if 0 <= seconds < _LONGEST_S else None
