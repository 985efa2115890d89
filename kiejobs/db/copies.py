"""Copies of result files: claiming one with a lease, and closing it under the job's lock.

An output's `due_at` is its next try and, while a copy runs, the end of its lease: whoever finds it due may claim it. The
closing transaction locks the job row first, so that of two last outputs one sees the other.
"""

from typing import Any

from sqlalchemy import Boolean, Connection, Integer, bindparam, case, select, update

from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import in_state, jobs, one_of, outputs
from kiejobs.db.timeline import write_change, write_event
from kiejobs.decisions import MAX_EXECUTIONS, Settled, settle
from kiejobs.errors import Reason
from kiejobs.jobs import BY_PRODUCTS, JobState, OutputClaim, OutputState
from kiejobs.setbacks import Fault, Setback

_OUTPUT = (outputs.c.job_id == bindparam("job")) & (outputs.c.position == bindparam("index"))
_PENDING = one_of(outputs.c.state, OutputState.PENDING)
_DUE = _PENDING & (outputs.c.due_at <= clock())
_HELD = _OUTPUT & (outputs.c.version == bindparam("of_version")) & _PENDING
"""Whether the claim that these parameters describe is the newest."""

_CLAIM = (
    update(outputs)
    .where(_OUTPUT, _DUE)
    .values(
        version=outputs.c.version + 1,
        attempts=outputs.c.attempts + 1,
        executions=outputs.c.executions + 1,
        nudges=0,
        renudge_at=None,
        received_bytes=0,
        expected_bytes=None,
        due_at=clock("lease_s"),
    )
    .returning(outputs, clock().label("now"))
)


def claim(database: Database, job_id: str, index: int, *, lease_s: float) -> OutputClaim | None:
    """Take a pending output for `lease_s` seconds; None where it is stored, failed, waiting or being copied."""
    with database.write() as tx:
        row = tx.execute(_CLAIM, {"job": job_id, "index": index, "lease_s": lease_s}).first()
        job = row and tx.execute(_JOB, {"job": job_id}).first()
    return _claimed(row, job) if row and job else None


_JOB = select(
    jobs.c.tenant,
    jobs.c.account,
    jobs.c.model,
    jobs.c.family,
    jobs.c.provider_task_id,
    jobs.c.created_at,
    jobs.c.accepted_at,
).where(jobs.c.id == bindparam("job"), in_state(JobState.STORING))


def _claimed(row: Any, job: Any) -> OutputClaim:
    return OutputClaim(
        job_id=row.job_id,
        index=row.position,
        role=row.role,
        version=row.version,
        url=row.url,
        document=row.document,
        link_expired=row.link_expired,
        refused_url=row.refused_url,
        attempts=row.attempts,
        storage_troubles=row.storage_troubles,
        refusals=row.refusals,
        tenant=job.tenant,
        account=job.account,
        model=job.model,
        family=job.family,
        task_id=job.provider_task_id,
        created_at=job.created_at,
        age_s=(row.now - job.accepted_at).total_seconds() if job.accepted_at else 0.0,
        executions=row.executions,
        dies_in_s=(row.expires_at - row.now).total_seconds() if row.expires_at else None,
    )


# As subqueries, which PostgreSQL asks once: it compares no index with a function that may change from row to row.
_NOW, _SOON = (select(moment).scalar_subquery() for moment in (clock(), clock("within_s")))
_MOST_URGENT = (
    select(outputs.c.job_id, outputs.c.position)
    .where(_DUE, outputs.c.expires_at > _NOW, outputs.c.expires_at < _SOON)
    .order_by(outputs.c.expires_at)
    .limit(1)
)


def most_urgent(database: Database, *, within_s: float) -> tuple[str, int] | None:
    """Name the output that is to be copied now because its link dies first, within so many seconds; or None."""
    with database.read() as connection:
        row = connection.execute(_MOST_URGENT, {"within_s": within_s}).first()
    return (row.job_id, row.position) if row else None


def is_poison(claim: OutputClaim) -> bool:
    """Say whether this claim is one too many."""
    return claim.executions > MAX_EXECUTIONS


def renew(
    database: Database, claim: OutputClaim, *, lease_s: float, received_bytes: int, expected_bytes: int | None = None
) -> bool:
    """Keep a running copy's lease and say how far it is; False where somebody else holds it now."""
    progress = {"lease_s": lease_s, "received_bytes": received_bytes, "expected_bytes": expected_bytes}
    with database.single() as connection:
        return bool(connection.execute(_LEASE, _held(claim) | progress).rowcount)


_LEASE = update(outputs).where(_HELD).values(due_at=clock("lease_s"))


def _held(claim: OutputClaim) -> dict[str, Any]:
    return {"job": claim.job_id, "index": claim.index, "of_version": claim.version}


def close_stored(
    database: Database, claim: OutputClaim, *, key: str, media_type: str, size_bytes: int, sha256: str, who: str
) -> bool:
    """Mark an output stored and, when it was the last one, the job `success`. False where the claim was overtaken."""
    values = {"state": OutputState.STORED, "key": key, "media_type": media_type, "size_bytes": size_bytes}
    values |= {"sha256": sha256, "received_bytes": size_bytes, "reason": None, "error": None, "document": None}
    return _close(database, claim, values, f"output {claim.index} stored: {size_bytes} bytes as {key}", who)


def close_failed(database: Database, claim: OutputClaim, *, reason: Reason, error: str, who: str) -> bool:
    """Mark an output as never to be stored. When the other outputs are settled, its job fails, or does without it."""
    values = {"state": OutputState.FAILED, "reason": reason, "error": error}
    if claim.role in BY_PRODUCTS:
        return _close(database, claim, values, f"output {claim.index}, a by-product, is given up: {error}", who)
    alert = f"output {claim.index} is lost: {_LOST[reason]}" if reason in _LOST else None
    return _close(database, claim, values, f"output {claim.index} cannot be stored: {error}", who, alert=alert)


_LOST = {
    Reason.RESULT_EXPIRED: "its link died before it was stored",
    Reason.STORAGE: "a fault on our side kept it from being stored for as long as Kie had it",
}
"""What was paid for and made is gone: somebody should look, whatever the producer makes of it."""


_CLOSE = update(outputs).where(_HELD).values(stored_at=case((bindparam("stored", type_=Boolean()), clock())))


def _close(
    database: Database, claim: OutputClaim, values: dict[str, Any], note: str, who: str, *, alert: str | None = None
) -> bool:
    with database.write() as tx:
        state = lock_job(tx, claim.job_id)
        finished = values | {"due_at": None, "executions": 0, "stored": values["state"] == OutputState.STORED}
        if not tx.execute(_CLOSE, _held(claim) | finished).rowcount:
            return False
        write_event(tx, claim.job_id, f"output_{values['state']}", note, who=who)
        if alert:
            write_event(tx, claim.job_id, "alert", alert, who=who)
        if state is JobState.STORING:
            settle_job(tx, claim.job_id, who=who)
    return True


_POSTPONE = (
    update(outputs)
    .where(_HELD)
    .values(
        due_at=clock("wait_s"),
        refusals=outputs.c.refusals + bindparam("costs", type_=Integer()),
        storage_troubles=outputs.c.storage_troubles + bindparam("not_stored", type_=Integer()),
    )
)


def postpone(database: Database, claim: OutputClaim, setback: Setback, *, error: str, who: str) -> bool:
    """Put a copy off: what went wrong, when it is tried again and how. False where the claim was overtaken."""
    values = {"wait_s": setback.wait_s, "executions": 0, "error": error}
    values |= {"link_expired": setback.renew, "refused_url": setback.refused_url}
    values |= {"costs": setback.costs, "not_stored": setback.fault is Fault.STORAGE}
    with database.write() as tx:
        if not tx.execute(_POSTPONE, _held(claim) | values).rowcount:
            return False
        if setback.told:
            write_event(tx, claim.job_id, "output_postponed", f"output {claim.index}: {error}", who=who)
        if setback.alert:
            write_event(tx, claim.job_id, "alert", setback.alert, who=who, unless_said=True)
    return True


_LOCK = select(jobs.c.state).where(jobs.c.id == bindparam("job")).with_for_update()


def lock_job(tx: Connection, job_id: str) -> JobState | None:
    """Lock the job's row for this transaction and return its state."""
    state = tx.scalar(_LOCK, {"job": job_id})
    return JobState(state) if state else None


_SETTLED = (
    select(outputs.c.role, outputs.c.state, outputs.c.reason, outputs.c.error)
    .where(outputs.c.job_id == bindparam("job"))
    .order_by(outputs.c.position)
)


def settle_job(tx: Connection, job_id: str, *, who: str) -> bool:
    """Move a job on if all its outputs are settled. The caller has locked it and seen that it is `storing`."""
    rows = tx.execute(_SETTLED, {"job": job_id}).all()
    change = settle(
        [Settled(r.role, OutputState(r.state), Reason(r.reason) if r.reason else None, r.error) for r in rows]
    )
    return change is not None and write_change(tx, job_id, JobState.STORING, change, who=who)
