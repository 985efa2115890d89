"""Writing a job's changes: the guarded update and the timeline line, in one transaction.

`write_change` is the only place that changes a job's state. With a version it is a command and changes nothing where
the row has moved on; without one the caller holds the row's lock and merges a fact.
"""

from typing import Any

from sqlalchemy import Connection, insert, select, update

from kiejobs.db import deliveries
from kiejobs.db.clock import clock
from kiejobs.db.tables import events, jobs, outputs
from kiejobs.decisions import Change
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
) -> None:
    """Append one line to a job's timeline."""
    values = {"job_id": job_id, "kind": kind, "who": who, "note": note, "detail": detail}
    tx.execute(insert(events).values(from_state=before, to_state=after, **values))


def write_change(
    tx: Connection,
    job_id: str,
    before: JobState,
    change: Change,
    *,
    who: str,
    version: int | None = None,
    **extra: Any,
) -> bool:
    """Write one change; return False, with nothing changed, where `version` is not the row's any more.

    `extra` are further columns that belong to the change, such as the task id of an acceptance.
    """
    guard = jobs.c.id == job_id
    if version is not None:
        guard &= (jobs.c.version == version) & (jobs.c.state == before)
    if not tx.execute(update(jobs).where(guard).values(**_columns(before, change), **extra)).rowcount:
        return False
    if change.results:
        _write_outputs(tx, job_id, change)
    write_event(tx, job_id, change.event, change.note, who=who, before=before, after=change.state)
    if change.state is not before:
        deliveries.tell(tx, job_id, change.state)
    return True


def write_look(tx: Connection, job_id: str, change: Change, *, version: int) -> bool:
    """Write a look that changed nothing but the time of the next one: one statement, no line in the timeline."""
    guard = (jobs.c.id == job_id) & (jobs.c.version == version)
    return bool(tx.execute(update(jobs).where(guard).values(**_columns(change.state, change))).rowcount)


def _columns(before: JobState, change: Change) -> dict[str, Any]:
    ended = change.state in ENDED
    due = None if ended or change.due_in_s is None else clock(change.due_in_s)
    columns: dict[str, Any] = {"state": change.state, "due_at": due, "executions": 0}
    if change.state is not before:
        columns |= {"version": jobs.c.version + 1, "nudges": 0, "renudge_at": None, "message": change.message}
        columns |= {"reason": change.reason, "code": change.code, "ended_at": clock() if ended else None}
    if change.event in (Event.SEEN, Event.TIMED_OUT):
        columns["troubles"] = jobs.c.troubles + 1 if change.trouble else 0
    if change.empty:
        columns["empty_looks"] = jobs.c.empty_looks + 1
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
            "job_id": job_id,
            "position": index,
            "role": result.role,
            "state": OutputState.PENDING,
            "url": result.url,
            "document": result.document,
        }
        for index, result in enumerate(change.results)
    ]
    # Not from zero: a copy of an earlier generation that is still running must not close one of this one's.
    version = select(jobs.c.version).where(jobs.c.id == job_id).scalar_subquery()
    tx.execute(insert(outputs).values(due_at=clock(), version=version), rows)
