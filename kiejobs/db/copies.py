"""Copies of result files: claiming one with a lease, and closing it under the job's lock.

An output's `due_at` is its next try and, while a copy runs, the end of its lease: whoever finds it due may claim it. The
closing transaction locks the job row first, so that of two last outputs one sees the other.
"""

from typing import Any

from sqlalchemy import Connection, select, update

from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import jobs, outputs
from kiejobs.db.timeline import write_change, write_event
from kiejobs.decisions import MAX_EXECUTIONS, settle
from kiejobs.errors import Reason
from kiejobs.jobs import JobState, OutputClaim, OutputState


def claim(database: Database, job_id: str, index: int, *, lease_s: float) -> OutputClaim | None:
    """Take a pending output for `lease_s` seconds; None where it is stored, failed, waiting or being copied."""
    due = (outputs.c.state == OutputState.PENDING) & (outputs.c.due_at <= clock())
    statement = (
        update(outputs)
        .where(outputs.c.job_id == job_id, outputs.c.position == index, due)
        .values(
            version=outputs.c.version + 1,
            attempts=outputs.c.attempts + 1,
            executions=outputs.c.executions + 1,
            nudges=0,
            renudge_at=None,
            received_bytes=0,
            due_at=clock(lease_s),
        )
        .returning(outputs, clock().label("now"))
    )
    with database.write() as tx:
        row = tx.execute(statement).first()
        job = row and tx.execute(select(*_JOB).where(jobs.c.id == job_id, jobs.c.state == JobState.STORING)).first()
    return _claimed(row, job) if row and job else None


_JOB = (
    jobs.c.tenant,
    jobs.c.account,
    jobs.c.model,
    jobs.c.family,
    jobs.c.provider_task_id,
    jobs.c.created_at,
    jobs.c.accepted_at,
)


def _claimed(row: Any, job: Any) -> OutputClaim:
    return OutputClaim(
        job_id=row.job_id,
        index=row.position,
        role=row.role,
        version=row.version,
        url=row.url,
        document=row.document,
        link_expired=row.link_expired,
        attempts=row.attempts,
        refusals=row.refusals,
        tenant=job.tenant,
        account=job.account,
        model=job.model,
        family=job.family,
        task_id=job.provider_task_id,
        created_at=job.created_at,
        age_s=(row.now - job.accepted_at).total_seconds() if job.accepted_at else 0.0,
        executions=row.executions,
    )


def is_poison(claim: OutputClaim) -> bool:
    """Say whether this claim is one too many."""
    return claim.executions > MAX_EXECUTIONS


def renew(database: Database, claim: OutputClaim, *, lease_s: float, received_bytes: int) -> bool:
    """Keep a running copy's lease; False where somebody else holds it now."""
    values = {"due_at": clock(lease_s), "received_bytes": received_bytes}
    with database.single() as connection:
        return bool(connection.execute(update(outputs).where(_held(claim)).values(**values)).rowcount)


def _held(claim: OutputClaim) -> Any:
    mine = (outputs.c.job_id == claim.job_id) & (outputs.c.position == claim.index)
    return mine & (outputs.c.version == claim.version) & (outputs.c.state == OutputState.PENDING)


def close_stored(
    database: Database, claim: OutputClaim, *, key: str, media_type: str, size_bytes: int, sha256: str, who: str
) -> bool:
    """Mark an output stored and, when it was the last one, the job `success`. False where the claim was overtaken."""
    values = {"state": OutputState.STORED, "key": key, "media_type": media_type, "size_bytes": size_bytes}
    values |= {"sha256": sha256, "stored_at": clock(), "received_bytes": size_bytes, "reason": None, "error": None}
    return _close(database, claim, values, f"output {claim.index} stored: {size_bytes} bytes as {key}", who)


def close_failed(database: Database, claim: OutputClaim, *, reason: Reason, error: str, who: str) -> bool:
    """Mark an output as never to be stored; the job fails when its other outputs are settled."""
    values = {"state": OutputState.FAILED, "reason": reason, "error": error}
    return _close(database, claim, values, f"output {claim.index} cannot be stored: {error}", who)


def _close(database: Database, claim: OutputClaim, values: dict[str, Any], note: str, who: str) -> bool:
    with database.write() as tx:
        lock_job(tx, claim.job_id)
        finished = values | {"due_at": None, "executions": 0, "document": None}
        if not tx.execute(update(outputs).where(_held(claim)).values(**finished)).rowcount:
            return False
        write_event(tx, claim.job_id, f"output_{values['state']}", note, who=who)
        settle_job(tx, claim.job_id, who=who)
    return True


def postpone(
    database: Database,
    claim: OutputClaim,
    *,
    wait_s: float,
    error: str,
    who: str,
    link_expired: bool = False,
    refused: bool = False,
) -> bool:
    """Put a copy off: what went wrong, when it is tried again, and whether the next try needs a fresh link."""
    values: dict[str, Any] = {"due_at": clock(wait_s), "executions": 0, "error": error, "link_expired": link_expired}
    if refused:
        values["refusals"] = outputs.c.refusals + 1
    with database.write() as tx:
        if not tx.execute(update(outputs).where(_held(claim)).values(**values)).rowcount:
            return False
        if claim.attempts == 1 or link_expired:
            write_event(tx, claim.job_id, "output_postponed", f"output {claim.index}: {error}", who=who)
    return True


def lock_job(tx: Connection, job_id: str) -> JobState | None:
    """Lock the job's row for this transaction and return its state."""
    state = tx.scalar(select(jobs.c.state).where(jobs.c.id == job_id).with_for_update())
    return JobState(state) if state else None


def settle_job(tx: Connection, job_id: str, *, who: str) -> bool:
    """Move a `storing` job on if all its outputs are settled. The caller holds the job's lock."""
    state = tx.scalar(select(jobs.c.state).where(jobs.c.id == job_id))
    if state != JobState.STORING:
        return False
    rows = tx.execute(
        select(outputs.c.state, outputs.c.reason, outputs.c.error)
        .where(outputs.c.job_id == job_id)
        .order_by(outputs.c.position)
    ).all()
    change = settle([(OutputState(r.state), Reason(r.reason) if r.reason else None, r.error) for r in rows])
    return change is not None and write_change(tx, job_id, JobState.STORING, change, who=who)
