"""Writing a job's changes: the guarded update and the timeline line, in one transaction.

`write_change` is the only place that changes a job's state. With a version it is a command and changes nothing where
the row has moved on; without one the caller holds the row's lock and merges a fact.
"""

from functools import cache
from heapq import heapify, heappop, heappush
from typing import Any

from sqlalchemy import Boolean, Connection, Executable, bindparam, case, insert, select, update

from kiejobs.db import deliveries, parents
from kiejobs.db.clock import clock
from kiejobs.db.tables import events, jobs, outputs
from kiejobs.decisions import Change, orphaned
from kiejobs.jobs import ENDED, JobState, OutputState
from kiejobs.lifecycle import Event
from kiejobs.writable import writable_credits


def write_event(
    tx: Connection,
    job_id: str,
    kind: str,
    note: str,
    *,
    who: str,
    before: JobState | None = None,
    after: JobState | None = None,
    detail: dict[str, Any] | None = None,
    unless_said: bool = False,
) -> None:
    """Append one line to a job's timeline; with `unless_said` only where its last line of this kind says something else."""
    if unless_said and tx.scalar(_LAST_NOTE, {"job": job_id, "kind": kind}) == note:
        return
    values = {"job_id": job_id, "kind": kind, "who": who, "note": note, "detail": detail}
    tx.execute(_EVENT, values | {"from_state": before, "to_state": after})


_EVENT = insert(events)
_LAST_NOTE = (
    select(events.c.note)
    .where(events.c.job_id == bindparam("job"), events.c.kind == bindparam("kind"))
    .order_by(events.c.id.desc())
    .limit(1)
)


def write_change(
    tx: Connection,
    job_id: str,
    before: JobState,
    change: Change,
    *,
    who: str,
    version: int | None = None,
    now: tuple[str, ...] = (),
    **extra: Any,
) -> bool:
    """Write one change; return False, with nothing changed, where `version` is not the row's any more.

    `extra` are further columns that belong to the change, such as the task id of an acceptance, `now` those that are set
    to the moment at which it is written. A job that ends puts the jobs that waited for it in line, or ends them too.
    """
    if not _write(tx, job_id, before, change, who=who, version=version, now=now, **extra):
        return False
    if change.state in ENDED and before not in ENDED:
        _tell_children(tx, job_id, change.state, who)
    return True


def _tell_children(tx: Connection, ended: str, state: JobState, who: str) -> None:
    """Put what waited for this job in line, or end it and what waits for that; in the order of age: see `parents`."""
    waiting = [(*child, ended, state) for child in parents.waiting_children(tx, ended)]
    heapify(waiting)
    while waiting:
        _, child, parent, state = heappop(waiting)
        if not parents.lock_waiting(tx, child):
            continue
        if state is not JobState.SUCCESS:
            _write(tx, child, JobState.QUEUED, orphaned(parent, state), who=who)
            for grandchild in parents.waiting_children(tx, child):
                heappush(waiting, (*grandchild, child, JobState.FAIL))
        elif parents.standing_of(tx, child) == parents.Standing():
            tx.execute(update(jobs).where(jobs.c.id == child).values(line_at=clock(), due_at=None, held=None))


def _write(
    tx: Connection,
    job_id: str,
    before: JobState,
    change: Change,
    *,
    who: str,
    version: int | None = None,
    now: tuple[str, ...] = (),
    **extra: Any,
) -> bool:
    given = _columns(before, change) | extra
    fence = {} if version is None else {"of_version": version, "in_state": before}
    statement = _change(moves=change.state is not before, fenced=version is not None, now=now)
    if not tx.execute(statement, given | fence | _parameters(job_id, change)).rowcount:
        return False
    if change.results:
        _write_outputs(tx, job_id, change)
    write_event(tx, job_id, change.event, change.note, who=who, before=before, after=change.state)
    if change.alarm:
        write_event(tx, job_id, "alarm", change.alarm, who=who)
    if change.state is not before:
        deliveries.tell(tx, job_id, change.state)
    return True


def write_look(tx: Connection, job_id: str, change: Change, *, version: int) -> bool:
    """Write a look that changed nothing but the time of the next one: one statement, no line in the timeline."""
    fence = {"of_version": version, "in_state": change.state}
    given = _columns(change.state, change) | fence | _parameters(job_id, change)
    return bool(tx.execute(_change(moves=False, fenced=True), given).rowcount)


@cache
def _change(*, moves: bool, fenced: bool, now: tuple[str, ...] = ()) -> Executable:
    """Make the statement that writes a change; plain columns come to it as parameters of their own names."""
    statement = update(jobs).where(jobs.c.id == bindparam("job"))
    if fenced:
        statement = statement.where(jobs.c.version == bindparam("of_version"), jobs.c.state == bindparam("in_state"))
    if moves:
        ended = case((bindparam("ended", type_=Boolean()), clock()))
        statement = statement.values(version=jobs.c.version + 1, nudges=0, renudge_at=None, ended_at=ended)
    trouble, fine = bindparam("trouble", type_=Boolean()), bindparam("fine", type_=Boolean())
    return statement.values(
        due_at=clock("due_in_s"),
        troubles=case((trouble, jobs.c.troubles + 1), (fine, 0), else_=jobs.c.troubles),
        empty_looks=case((bindparam("anew", type_=Boolean()), 0), else_=jobs.c.empty_looks + bindparam("empty")),
        **dict.fromkeys(now, clock()),
    )


_ANEW = (Event.BOUGHT_AGAIN, Event.RESEND_APPROVED)
"""After these, nothing that was seen of an earlier generation counts."""
_FRESH = (Event.SEEN, Event.TIMED_OUT, *_ANEW)
"""After these, looks without an answer are counted anew, unless this was one."""


def _parameters(job_id: str, change: Change) -> dict[str, Any]:
    ended = change.state in ENDED
    told = {"ended": ended, "trouble": change.trouble, "fine": change.event in _FRESH and not change.trouble}
    told["anew"] = change.event in _ANEW
    return {"job": job_id, "due_in_s": None if ended else change.due_in_s, "empty": int(change.empty)} | told


def _columns(before: JobState, change: Change) -> dict[str, Any]:
    columns: dict[str, Any] = {"state": change.state, "executions": 0}
    if change.state is not before:
        columns |= {"message": change.message, "reason": change.reason, "code": change.code}
    if change.word is not None:
        columns["word"] = change.word
    if change.progress is not None:
        columns["progress"] = change.progress
    if change.credits is not None:
        columns["credits"] = writable_credits(change.credits)
    if change.late:
        columns["late"] = True
    if change.state is JobState.QUEUED and not change.in_line:
        columns |= {"line_at": None, "held": change.note}
    return columns


def _write_outputs(tx: Connection, job_id: str, change: Change) -> None:
    rows = [
        {
            "of_job": job_id,
            "job_id": job_id,
            "position": index,
            "role": result.role,
            "state": OutputState.PENDING,
            "url": result.url,
            "document": result.document,
            "ref": result.ref,
            "lives_s": result.lives_s if result.url else None,
        }
        for index, result in enumerate(change.results)
    ]
    tx.execute(_OUTPUT, rows)


# Not from zero: a copy of an earlier generation that is still running must not close one of this one's.
_VERSION_OF_JOB = select(jobs.c.version).where(jobs.c.id == bindparam("of_job")).scalar_subquery()
_OUTPUT = insert(outputs).values(due_at=clock(), expires_at=clock("lives_s"), version=_VERSION_OF_JOB)
