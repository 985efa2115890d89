"""Messages to producers: written in the transaction of the change they tell, sent later, each with a life of its own.

A delivery has a stable id and a sequence that rises per job, so that a receiver can drop repeats and ignore older news.
Its retries never touch the job.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Connection, bindparam, case, func, insert, or_, select, tuple_, update

from kiejobs.advice import advice_on
from kiejobs.db import endpoints
from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import deliveries, jobs, one_of, outputs, payloads
from kiejobs.errors import NotPossible, Reason
from kiejobs.jobs import UNWELL, DeliveryState, JobState, public_state
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
    metadata: dict[str, Any]
    """The job's, given back with every message; it is kept once, with the job."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as a person sees it."""

    id: str
    job_id: str
    tenant: str
    sequence: int
    kind: str
    state: DeliveryState
    attempts: int
    due_at: datetime | None
    url: str
    error: str | None
    created_at: datetime
    delivered_at: datetime | None


def tell(tx: Connection, job_id: str, state: JobState) -> None:
    """Write the message about a job's new state, where its producer gave an address and the state is news."""
    if state not in TELLS:
        return
    row = tx.execute(_RISE, {"job": job_id}).first()
    if row is None:
        return
    address = row.callback_url or endpoints.default_of(tx, row.tenant)
    if address is None:  # it was taken away meanwhile
        return
    body = {"type": TELLS[state], "timestamp": row.now.isoformat(), "data": _data(tx, row, state)}
    message = {"id": str(uuid.uuid4()), "job_id": job_id, "sequence": row.sequence, "kind": TELLS[state], "body": body}
    fate: dict[str, Any] = {"state": DeliveryState.PENDING, "due_in_s": 0.0}
    if endpoints.is_disabled(tx, row.tenant, address):
        fate = {"state": DeliveryState.GAVE_UP, "error": endpoints.DISABLED, "due_in_s": None}
    tx.execute(_MESSAGE, message | fate | {"url": address})


_ADDRESS = func.coalesce(jobs.c.callback_url, endpoints.default_of_job())
_RISE = (
    update(jobs)
    .where(jobs.c.id == bindparam("job"), _ADDRESS.is_not(None))
    .values(sequence=jobs.c.sequence + 1)
    .returning(jobs, clock().label("now"))
)
_MESSAGE = insert(deliveries).values(due_at=clock("due_in_s"), created_at=clock())
_FILES = (
    select(outputs.c.position, outputs.c.key, outputs.c.media_type, outputs.c.size_bytes, outputs.c.sha256)
    .where(outputs.c.job_id == bindparam("job"))
    .order_by(outputs.c.position)
)


def _data(tx: Connection, row: Any, state: JobState) -> dict[str, Any]:
    files = tx.execute(_FILES, {"job": row.id}).all()
    return {
        "generationId": row.id,
        "sequence": row.sequence,
        "state": public_state(state),
        "phase": state,
        "model": row.model,
        "late": row.late,
        "credits": None if row.credits is None else float(row.credits),
        "createdAt": row.created_at.isoformat(),
        "message": row.message,
        "error": _error(row, state),
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


def _error(row: Any, state: JobState) -> dict[str, Any] | None:
    if state not in UNWELL and row.reason is None:
        return None
    action = advice_on(state, Reason(row.reason) if row.reason else None, row.id)
    return {"code": row.code, "reason": row.reason, "message": row.message, "action": action}


def due_of(database: Database, job_id: str) -> list[str]:
    """List the job's messages that are due to be sent."""
    with database.read() as connection:
        return list(connection.scalars(_DUE_OF_JOB, {"job": job_id}))


_PENDING = one_of(deliveries.c.state, DeliveryState.PENDING)
_DUE_OF_JOB = (
    select(deliveries.c.id)
    .where(deliveries.c.job_id == bindparam("job"), _PENDING, deliveries.c.attempts == 0)
    .order_by(deliveries.c.sequence)
)


def take_overdue(database: Database, *, grace_s: float, limit: int = 500) -> list[tuple[str, str]]:
    """List (job, message) of messages past due by more than the grace, and remember that they are nudged now.

    Each rescue of a message doubles the gap to the next one; of two sweeps at once, one takes it.
    """
    with database.write() as tx:
        late = tx.execute(_OVERDUE, {"ago_s": -grace_s, "limit": limit}).all()
        return [(row.job_id, row.id) for row in late if _mark(tx, row)]


_OVERDUE = (
    select(deliveries.c.id, deliveries.c.job_id, deliveries.c.nudges)
    .where(deliveries.c.due_at < clock("ago_s"), _PENDING)
    .where(or_(deliveries.c.renudge_at.is_(None), deliveries.c.renudge_at < clock()))
    .order_by(deliveries.c.due_at)
    .limit(bindparam("limit"))
)
_MARK = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("delivery"), deliveries.c.nudges == bindparam("of_nudges"))
    .values(nudges=deliveries.c.nudges + 1, renudge_at=clock("again_in_s"))
)


def _mark(tx: Connection, row: Any) -> bool:
    mark = {"delivery": row.id, "of_nudges": row.nudges, "again_in_s": renudge_s(row.nudges)}
    return bool(tx.execute(_MARK, mark).rowcount)


_METADATA = select(payloads.c.request["metadata"]).where(payloads.c.job_id == bindparam("job"))
_CLAIM = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("delivery"), _PENDING, deliveries.c.due_at <= clock())
    .values(
        version=deliveries.c.version + 1,
        attempts=deliveries.c.attempts + 1,
        due_at=clock("claim_s"),
        nudges=0,
        renudge_at=None,
    )
    .returning(deliveries)
)


def claim(database: Database, delivery_id: str, *, claim_s: float) -> DeliveryClaim | None:
    """Take a due message for `claim_s` seconds; None where it was sent, given up, or is being sent."""
    with database.write() as tx:  # together: what cannot be read was no try
        row = tx.execute(_CLAIM, {"delivery": delivery_id, "claim_s": claim_s}).first()
        if row is None:
            return None
        metadata = tx.scalar(_METADATA, {"job": row.job_id}) or {}
    return DeliveryClaim(row.id, row.job_id, row.version, row.attempts, row.url, row.body, metadata)


def close(
    database: Database, claim: DeliveryClaim, state: DeliveryState, *, wait_s: float | None, error: str | None
) -> bool:
    """Write what became of a message: delivered, given up, or tried again in `wait_s` seconds."""
    fate = {"state": state, "error": error, "due_in_s": wait_s, "delivered": state is DeliveryState.DELIVERED}
    with database.single() as connection:
        mine = {"delivery": claim.id, "of_version": claim.version}
        return bool(connection.execute(_CLOSE, mine | fate).rowcount)


_DELIVERED = case((bindparam("delivered", type_=Boolean()), clock()), else_=deliveries.c.delivered_at)
_CLOSE = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("delivery"), deliveries.c.version == bindparam("of_version"))
    .values(due_at=clock("due_in_s"), delivered_at=_DELIVERED)
)


def postpone(database: Database, claim: DeliveryClaim, *, wait_s: float) -> None:
    """Give a claim back unused: the message was not sent, and is due again in `wait_s` seconds."""
    with database.single() as connection:
        connection.execute(_POSTPONE, {"delivery": claim.id, "of_version": claim.version, "due_in_s": wait_s})


_POSTPONE = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("delivery"), deliveries.c.version == bindparam("of_version"), _PENDING)
    .values(due_at=clock("due_in_s"), attempts=deliveries.c.attempts - 1)
)


def explain(database: Database, delivery_id: str, why: str) -> None:
    """Note why a message that is due is not sent, which counts as no try."""
    with database.single() as connection:
        connection.execute(_EXPLAIN, {"delivery": delivery_id, "why": why})


_EXPLAIN = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("delivery"), _PENDING, deliveries.c.error.is_distinct_from(bindparam("why")))
    .values(error=bindparam("why"))
)


def close_gone(database: Database, claim: DeliveryClaim, *, error: str) -> None:
    """Give a message up whose address wants nothing more, and disable the address."""
    with database.write() as tx:
        tenant = tx.scalar(select(jobs.c.tenant).where(jobs.c.id == claim.job_id))
        if tenant is not None:
            endpoints.disable(tx, tenant, claim.url)
        mine = (deliveries.c.id == claim.id) & (deliveries.c.state == DeliveryState.GAVE_UP)
        tx.execute(update(deliveries).where(mine).values(error=f"{error}; {endpoints.DISABLED}"))


def tenant_of(database: Database, delivery_id: str) -> str | None:
    """Return whose message it is; None where there is none."""
    query = select(jobs.c.tenant).join(deliveries).where(deliveries.c.id == delivery_id)
    with database.read() as connection:
        return connection.scalar(query)


def send_again(database: Database, delivery_id: str, *, tenant: str) -> str | None:
    """Make a message due once more from the beginning of its schedule; return its job's id.

    None where the tenant has no such message, NotPossible where its address is disabled.
    """
    mine = (deliveries.c.id == delivery_id) & (jobs.c.tenant == tenant)
    again = {"state": DeliveryState.PENDING, "attempts": 0, "due_at": clock(), "error": None}
    again |= {"version": deliveries.c.version + 1, "nudges": 0, "renudge_at": None}
    with database.write() as tx:
        found = tx.execute(select(deliveries.c.url, deliveries.c.job_id).join(jobs).where(mine)).first()
        if found is None:
            return None
        if endpoints.is_disabled(tx, tenant, found.url):
            raise NotPossible(f"the address {found.url} answered 410 Gone and is disabled", remedy="Enable it first.")
        tx.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(**again))
        return str(found.job_id)


def listed(
    database: Database,
    *,
    tenant: str | None,
    state: DeliveryState | None = None,
    job_id: str | None = None,
    limit: int = 50,
    before: tuple[datetime, str] | None = None,
) -> list[Delivery]:
    """List a tenant's messages (None: everybody's), newest first; `before` is the (created_at, id) of the last one seen."""
    query = select(deliveries, jobs.c.tenant).join(jobs, jobs.c.id == deliveries.c.job_id)
    if tenant is not None:
        query = query.where(jobs.c.tenant == tenant)
    if state is not None:
        query = query.where(one_of(deliveries.c.state, state))
    if job_id is not None:
        query = query.where(deliveries.c.job_id == job_id)
    if before is not None:
        query = query.where(tuple_(deliveries.c.created_at, deliveries.c.id) < before)
    with database.read() as connection:
        rows = connection.execute(query.order_by(deliveries.c.created_at.desc(), deliveries.c.id.desc()).limit(limit))
        return [
            Delivery(
                id=row.id,
                job_id=row.job_id,
                tenant=row.tenant,
                sequence=row.sequence,
                kind=row.kind,
                state=DeliveryState(row.state),
                attempts=row.attempts,
                due_at=row.due_at,
                url=row.url,
                error=row.error,
                created_at=row.created_at,
                delivered_at=row.delivered_at,
            )
            for row in rows
        ]
