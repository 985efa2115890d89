"""Messages to producers: written in the transaction of the change they tell, sent later, each with a life of its own.

A delivery has a stable id and a sequence that rises per job, so that a receiver can drop repeats and ignore older news.
Its retries never touch the job.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, or_, select, update

from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import deliveries, jobs, outputs
from kiejobs.jobs import DeliveryState, JobState, public_state
from kiejobs.pacing import renudge_s

TELLS: dict[JobState, str] = {
    JobState.SUCCESS: "generation.succeeded",
    JobState.FAIL: "generation.failed",
    JobState.TIMEOUT: "generation.timed_out",
    JobState.CANCELED: "generation.canceled",
    JobState.UNCONFIRMED: "generation.unconfirmed",
}
"""States that a producer is told of, and the words for it."""


@dataclass(frozen=True, slots=True)
class DeliveryClaim:
    """The right to send one message once. `version` fences what is written afterwards."""

    id: str
    job_id: str
    version: int
    attempts: int
    url: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as a person sees it."""

    id: str
    job_id: str
    sequence: int
    kind: str
    state: DeliveryState
    attempts: int
    due_at: datetime | None
    error: str | None
    created_at: datetime
    delivered_at: datetime | None


def tell(tx: Connection, job_id: str, state: JobState) -> None:
    """Write the message about a job's new state, where its producer gave an address and the state is news."""
    if state not in TELLS:
        return
    wanted = (jobs.c.id == job_id) & jobs.c.callback_url.is_not(None)
    rise = update(jobs).where(wanted).values(sequence=jobs.c.sequence + 1).returning(jobs, clock().label("now"))
    row = tx.execute(rise).first()
    if row is None:
        return
    body = {"type": TELLS[state], "timestamp": row.now.isoformat(), "data": _data(tx, row, state)}
    tx.execute(
        insert(deliveries).values(
            id=str(uuid.uuid4()),
            job_id=job_id,
            sequence=row.sequence,
            kind=TELLS[state],
            url=row.callback_url,
            state=DeliveryState.PENDING,
            due_at=clock(),
            created_at=clock(),
            body=body,
        )
    )


def _data(tx: Connection, row: Any, state: JobState) -> dict[str, Any]:
    columns = (outputs.c.position, outputs.c.key, outputs.c.media_type, outputs.c.size_bytes, outputs.c.sha256)
    files = tx.execute(select(*columns).where(outputs.c.job_id == row.id).order_by(outputs.c.position)).all()
    return {
        "generationId": row.id,
        "sequence": row.sequence,
        "state": public_state(state),
        "phase": state,
        "model": row.model,
        "late": row.late,
        "credits": None if row.credits is None else float(row.credits),
        "error": {"code": row.code, "reason": row.reason, "message": row.message}
        if row.reason or row.message
        else None,
        "outputs": [
            {
                "index": f.position,
                "key": f.key,
                "mediaType": f.media_type,
                "sizeBytes": f.size_bytes,
                "sha256": f.sha256,
            }
            for f in files
        ],
    }


def due_of(database: Database, job_id: str) -> list[str]:
    """List the job's messages that are due to be sent."""
    due = (deliveries.c.job_id == job_id) & (deliveries.c.state == DeliveryState.PENDING) & (deliveries.c.attempts == 0)
    with database.read() as connection:
        return list(connection.scalars(select(deliveries.c.id).where(due).order_by(deliveries.c.sequence)))


def take_overdue(database: Database, *, grace_s: float, limit: int = 500) -> list[tuple[str, str]]:
    """List (job, message) of messages past due by more than the grace, and remember that they are nudged now.

    Each rescue of a message doubles the gap to the next one; of two sweeps at once, one takes it.
    """
    late = (deliveries.c.due_at < clock(-grace_s)) & (deliveries.c.state == DeliveryState.PENDING)
    late &= or_(deliveries.c.renudge_at.is_(None), deliveries.c.renudge_at < clock())
    query = select(deliveries.c.id, deliveries.c.job_id, deliveries.c.nudges).where(late).order_by(deliveries.c.due_at)
    with database.write() as tx:
        return [(row.job_id, row.id) for row in tx.execute(query.limit(limit)).all() if _mark(tx, row)]


def _mark(tx: Connection, row: Any) -> bool:
    unchanged = (deliveries.c.id == row.id) & (deliveries.c.nudges == row.nudges)
    values = {"nudges": deliveries.c.nudges + 1, "renudge_at": clock(renudge_s(row.nudges))}
    return bool(tx.execute(update(deliveries).where(unchanged).values(**values)).rowcount)


def claim(database: Database, delivery_id: str, *, claim_s: float) -> DeliveryClaim | None:
    """Take a due message for `claim_s` seconds; None where it was sent, given up, or is being sent."""
    due = (deliveries.c.state == DeliveryState.PENDING) & (deliveries.c.due_at <= clock())
    values: dict[str, Any] = {
        "version": deliveries.c.version + 1,
        "attempts": deliveries.c.attempts + 1,
        "due_at": clock(claim_s),
    }
    values |= {"nudges": 0, "renudge_at": None}
    statement = update(deliveries).where(deliveries.c.id == delivery_id, due).values(**values)
    with database.single() as connection:
        row = connection.execute(statement.returning(deliveries)).first()
    return DeliveryClaim(row.id, row.job_id, row.version, row.attempts, row.url, row.body) if row else None


def close(
    database: Database, claim: DeliveryClaim, state: DeliveryState, *, wait_s: float | None, error: str | None
) -> bool:
    """Write what became of a message: delivered, given up, or tried again in `wait_s` seconds."""
    mine = (deliveries.c.id == claim.id) & (deliveries.c.version == claim.version)
    values: dict[str, Any] = {"state": state, "error": error, "due_at": None if wait_s is None else clock(wait_s)}
    if state is DeliveryState.DELIVERED:
        values["delivered_at"] = clock()
    with database.single() as connection:
        return bool(connection.execute(update(deliveries).where(mine).values(**values)).rowcount)


def send_again(database: Database, delivery_id: str, *, tenant: str) -> bool:
    """Make a message due once more from the beginning of its schedule; False where the tenant has no such message."""
    mine = select(jobs.c.id).where(jobs.c.id == deliveries.c.job_id, jobs.c.tenant == tenant).exists()
    again = {"state": DeliveryState.PENDING, "attempts": 0, "due_at": clock(), "error": None}
    again |= {"version": deliveries.c.version + 1}
    with database.write() as tx:
        return bool(tx.execute(update(deliveries).where(deliveries.c.id == delivery_id, mine).values(**again)).rowcount)


def listed(database: Database, *, tenant: str, state: DeliveryState | None = None, limit: int = 50) -> list[Delivery]:
    """List a tenant's messages, newest first."""
    query = select(deliveries).join(jobs, jobs.c.id == deliveries.c.job_id).where(jobs.c.tenant == tenant)
    if state is not None:
        query = query.where(deliveries.c.state == state)
    with database.read() as connection:
        rows = connection.execute(
            query.order_by(deliveries.c.created_at.desc(), deliveries.c.sequence.desc()).limit(limit)
        )
        return [
            Delivery(
                id=row.id,
                job_id=row.job_id,
                sequence=row.sequence,
                kind=row.kind,
                state=DeliveryState(row.state),
                attempts=row.attempts,
                due_at=row.due_at,
                error=row.error,
                created_at=row.created_at,
                delivered_at=row.delivered_at,
            )
            for row in rows
        ]
