"""Making a job's inputs ready: who does it, until when, and what came of it.

It may take minutes, so the job leaves the line meanwhile, `due_at` being the lease: nobody else does the same at the same
time, and a job whose worker died is put back in line by the sweep. Each claim counts as an execution, so inputs that kill
their worker again and again end as poison. Everything written later is fenced by the claim.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from kiejobs.db.clock import clock
from kiejobs.db.parents import request_of
from kiejobs.db.session import Database
from kiejobs.db.tables import in_state, jobs, payloads
from kiejobs.db.timeline import write_change, write_event
from kiejobs.decisions import Change
from kiejobs.jobs import JobState

PREPARING = "its inputs are being made ready"


@dataclass(frozen=True, slots=True)
class Preparing:
    """The right to make one job's inputs ready. `line_at` is the place in line that it gets back."""

    job_id: str
    account: str
    version: int
    line_at: datetime
    now: datetime
    input: dict[str, Any]


def claim(database: Database, job_id: str, *, lease_s: float, version: int | None = None) -> Preparing | None:
    """Take a job out of the line to make its inputs ready; None where somebody else does, or it is not in line.

    With `version` also None where somebody else has done it since that was read.
    """
    queued = (jobs.c.id == job_id) & in_state(JobState.QUEUED) & jobs.c.line_at.is_not(None)
    if version is not None:
        queued &= jobs.c.version == version
    with database.write() as tx:
        row = tx.execute(select(jobs, clock().label("now")).where(queued).with_for_update()).first()
        if row is None:
            return None
        taken = {"version": row.version + 1, "executions": row.executions + 1, "line_at": None, "held": PREPARING}
        tx.execute(update(jobs).where(jobs.c.id == job_id).values(**taken, due_at=clock(lease_s), renudge_at=None))
        request, _ = request_of(tx, job_id)
    given = dict(request.get("input") or {})
    return Preparing(job_id, row.account, row.version + 1, row.line_at, row.now, given)


def keep(database: Database, claim: Preparing, *, lease_s: float) -> bool:
    """Renew the lease; False where the job is somebody else's by now, canceled, or looked at for a named task."""
    with database.single() as connection:
        statement = update(jobs).where(_held(claim)).values(due_at=clock(lease_s))
        return bool(connection.execute(statement).rowcount)


def give_back(tx: Connection, claim: Preparing) -> bool:
    """Put the job back where it stood in line; False where it was overtaken."""
    back = {"line_at": claim.line_at, "due_at": None, "held": None, "executions": 0}
    return bool(tx.execute(update(jobs).where(_held(claim)).values(**back)).rowcount)


def finish(tx: Connection, claim: Preparing, prepared: dict[str, Any], note: str, who: str) -> bool:
    """Write the input as it goes to Kie, and put the job back in line; False, with nothing changed, if overtaken."""
    if not give_back(tx, claim):
        return False
    tx.execute(update(payloads).where(payloads.c.job_id == claim.job_id).values(prepared=prepared))
    write_event(tx, claim.job_id, "prepared", note, who=who)
    return True


def put_off(tx: Connection, claim: Preparing, why: str, look_s: float, who: str) -> None:
    """Leave the job out of the line until the next try; the timeline hears of it where `why` is news."""
    later = {"due_at": clock(look_s), "held": why, "executions": 0}
    if tx.execute(update(jobs).where(_held(claim)).values(**later)).rowcount:
        write_event(tx, claim.job_id, "held", why, who=who, unless_said=True)


def end(tx: Connection, claim: Preparing, change: Change, *, who: str) -> bool:
    """End the job, whose input can never be sent; False, with nothing changed, if overtaken."""
    if tx.scalar(select(jobs.c.id).where(_held(claim)).with_for_update()) is None:
        return False
    return write_change(tx, claim.job_id, JobState.QUEUED, change, who=who, version=claim.version)


def _held(claim: Preparing) -> Any:
    return (jobs.c.id == claim.job_id) & (jobs.c.version == claim.version) & (jobs.c.held == PREPARING)
