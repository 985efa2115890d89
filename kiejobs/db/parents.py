"""Which jobs wait for which: rows only, no decisions.

A child is entered while its parents are locked, so a parent that ends at the same moment either is seen as ended or sees
its child. Parents exist before their children, so there are no cycles; and whoever locks several jobs of a family takes
the oldest first, so that nobody waits in a circle.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from kiejobs.db.tables import in_state, jobs, outputs, parents, payloads
from kiejobs.jobs import ENDED, JobState, OutputState

LOOK_S = 600.0
"""How often a waiting child is looked at, should the word of its parent's end be lost."""


AGE = (jobs.c.created_at, jobs.c.id)
"""The order in which jobs are locked."""

_WAITING = in_state(JobState.QUEUED) & jobs.c.line_at.is_(None)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a job's parents allow: `failed` names one that ended without success, `waits_for` one that still runs."""

    waits_for: str | None = None
    failed: str | None = None


def lock(tx: Connection, ids: set[str], tenants: set[str]) -> dict[str, Any]:
    """Lock these jobs of these tenants against ending, the oldest first, and return their rows by id."""
    if not ids:
        return {}
    query = select(jobs).where(jobs.c.id.in_(ids), jobs.c.tenant.in_(tenants)).order_by(*AGE)
    return {row.id: row for row in tx.execute(query.with_for_update(read=True)).all()}


def standing(states: dict[str, str]) -> Standing:
    """Say what these parents' states, by id, mean for their child."""
    failed = next((one for one, state in states.items() if state in ENDED and state != JobState.SUCCESS), None)
    waits_for = next((one for one, state in states.items() if state != JobState.SUCCESS), None)
    return Standing(None if failed else waits_for, failed)


def expect(tx: Connection, rows: list[tuple[str, str]]) -> None:
    """Note (child, parent) pairs."""
    if rows:
        tx.execute(insert(parents), [{"job_id": child, "parent_id": parent} for child, parent in rows])


def standing_of(tx: Connection, job_id: str) -> Standing:
    """Read what a job's parents allow. A parent that was forgotten long ago counts as failed."""
    query = select(parents.c.parent_id, jobs.c.state).join(jobs, jobs.c.id == parents.c.parent_id, isouter=True)
    rows = tx.execute(query.where(parents.c.job_id == job_id)).all()
    return standing({row.parent_id: row.state or JobState.FAIL for row in rows})


_CHILDREN = select(*AGE).where(
    jobs.c.id.in_(select(parents.c.job_id).where(parents.c.parent_id == bindparam("parent"))), _WAITING
)


def waiting_children(tx: Connection, parent_id: str) -> list[tuple[datetime, str]]:
    """List the jobs that wait out of the line for this one, by age and id. Without locks."""
    return [(row.created_at, row.id) for row in tx.execute(_CHILDREN, {"parent": parent_id}).all()]


def lock_waiting(tx: Connection, job_id: str) -> bool:
    """Lock a job that waits out of the line; False where it does so no more."""
    return tx.scalar(select(jobs.c.id).where(jobs.c.id == job_id, _WAITING).with_for_update()) is not None


def stored_outputs(tx: Connection, job_id: str) -> list[Any]:
    """Read a job's stored outputs in order, with the URL each came from and when that dies."""
    mine = (outputs.c.job_id == job_id) & (outputs.c.state == OutputState.STORED)
    return list(tx.execute(select(outputs).where(mine).order_by(outputs.c.position)).all())


_REQUEST = select(payloads.c.request, payloads.c.prepared).where(payloads.c.job_id == bindparam("job"))


def request_of(tx: Connection, job_id: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Read what a job asked for, and its input as it was last made ready."""
    row = tx.execute(_REQUEST, {"job": job_id}).first()
    return (dict(row.request), row.prepared) if row else ({}, None)
