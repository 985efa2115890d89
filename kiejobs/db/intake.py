"""Accepting jobs: one row, one payload, one timeline line, one place in line, in one transaction.

The place is `max(now, the tenant's last place in this account + window / limit)`, ten minutes further back for batch:
a tenant with a thousand jobs stands beside the others, not before them, and batch moves up as time passes. Idempotent
by a unique index, so two producers at once get the same job.
"""

import hashlib
import json
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import IntegrityError

from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import events, in_state, jobs, payloads
from kiejobs.errors import IdempotencyConflict, Reason
from kiejobs.jobs import DEFAULT_ACCOUNT, JobState, Priority

BATCH_BEHIND = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class NewJob:
    """A validated request, ready to be accepted. `request` is what the family sends to Kie, plus the caller's metadata."""

    tenant: str
    account: str
    model: str
    family: str
    request: dict[str, Any]
    priority: Priority = Priority.INTERACTIVE
    callback_url: str | None = None
    idempotency_key: str | None = None
    id: str | None = None
    warnings: tuple[str, ...] = ()
    who: str = "producer"

    def request_hash(self) -> str:
        """Return the SHA-256 of what would be bought: account, model and request, in canonical JSON."""
        bought = {"account": self.account, "model": self.model, "request": self.request}
        canonical = json.dumps(bought, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Entered:
    """What became of a request: its job, whether it is new, and whether it should be nudged now."""

    job_id: str
    created: bool
    nudge: bool


def enter(database: Database, new: list[NewJob], *, spacing_s: float, nudge_below: int) -> list[Entered]:
    """Accept requests; each is a new job, or the earlier one with the same key and request.

    IdempotencyConflict where a key was used for another request; then none of the list is accepted.
    """
    # In the order of their keys, so that two batches with the same keys wait for each other instead of deadlocking.
    order = sorted(range(len(new)), key=lambda at: (new[at].idempotency_key or "", new[at].id or ""))
    ordered = [new[at] for at in order]
    for _ in range(len(new) + 1):
        try:
            with database.write() as tx:
                entered = dict(zip(order, _enter(tx, ordered, spacing_s, nudge_below), strict=True))
            return [entered[at] for at in range(len(new))]
        except IntegrityError:  # somebody else entered one of the keys between our look and our insert: look again
            continue
    raise IdempotencyConflict("the job's id is taken by another tenant")


def _enter(tx: Connection, new: list[NewJob], spacing_s: float, nudge_below: int) -> list[Entered]:
    lanes: dict[tuple[str, str, Priority], datetime] = {}
    standing = {account: _in_line(tx, account, nudge_below) for account in {job.account for job in new}}
    now: datetime = tx.scalar(select(clock()))  # type: ignore[assignment]
    entered: list[Entered] = []
    fresh: list[tuple[NewJob, dict[str, Any]]] = []
    in_this_call: dict[tuple[str, str], tuple[str, str]] = {}
    for job in new:
        digest = job.request_hash()
        earlier = _earlier(tx, job, digest, in_this_call)
        if earlier:
            entered.append(Entered(earlier, created=False, nudge=False))
            continue
        place = _place(tx, job, now, lanes, timedelta(seconds=spacing_s))
        nudge = standing[job.account] < nudge_below
        standing[job.account] += 1
        row = _row(job, digest, now, place, nudge=nudge)
        if job.idempotency_key is not None:
            in_this_call[job.tenant, job.idempotency_key] = (row["id"], digest)
        fresh.append((job, row))
        entered.append(Entered(row["id"], created=True, nudge=nudge))
    if fresh:
        _write(tx, fresh)
    return entered


def _in_line(tx: Connection, account: str, limit: int) -> int:
    line = select(jobs.c.id).where(jobs.c.account == account, in_state(JobState.QUEUED), jobs.c.line_at.is_not(None))
    return tx.scalar(select(func.count()).select_from(line.limit(limit).subquery())) or 0


def _earlier(
    tx: Connection, job: NewJob, digest: str, in_this_call: dict[tuple[str, str], tuple[str, str]]
) -> str | None:
    """Find the job that this request already is, by its id or its idempotency key."""
    if job.id is None and job.idempotency_key is None:
        return None
    same = in_this_call.get((job.tenant, job.idempotency_key or ""))
    for column, value in ((jobs.c.id, job.id), (jobs.c.idempotency_key, job.idempotency_key)):
        if same is None and value is not None:
            mine = column == value
            row = tx.execute(select(jobs.c.id, jobs.c.request_hash).where(jobs.c.tenant == job.tenant, mine)).first()
            same = (row.id, row.request_hash) if row else None
    if same and same[1] != digest:
        name = job.id or job.idempotency_key
        raise IdempotencyConflict(f"{name!r} was used before, for another request (job {same[0]})")
    return same[0] if same else None


def _place(
    tx: Connection,
    job: NewJob,
    now: datetime,
    lanes: dict[tuple[str, str, Priority], datetime],
    spacing: timedelta,
) -> datetime:
    lane = (job.account, job.tenant, job.priority)
    last = lanes.get(lane)
    if last is None:
        mine = (jobs.c.account == job.account) & (jobs.c.tenant == job.tenant) & (jobs.c.priority == job.priority)
        last = tx.scalar(
            select(func.max(jobs.c.line_at)).where(mine, in_state(JobState.QUEUED), jobs.c.line_at.is_not(None))
        )
    first = now + BATCH_BEHIND if job.priority is Priority.BATCH else now
    lanes[lane] = max(first, last + spacing) if last else first
    return lanes[lane]


def _row(job: NewJob, digest: str, now: datetime, place: datetime, *, nudge: bool) -> dict[str, Any]:
    return {
        "id": job.id or str(uuid.uuid4()),
        "tenant": job.tenant,
        "account": job.account,
        "model": job.model,
        "family": job.family,
        "priority": job.priority,
        "state": JobState.QUEUED,
        "line_at": place,
        "renudge_at": now + timedelta(seconds=2) if nudge else None,
        "created_at": now,
        "callback_url": job.callback_url,
        "idempotency_key": job.idempotency_key,
        "request_hash": digest,
    }


def _write(tx: Connection, fresh: list[tuple[NewJob, dict[str, Any]]]) -> None:
    tx.execute(insert(jobs), [row for _, row in fresh])
    tx.execute(insert(payloads), [{"job_id": row["id"], "request": job.request, "record": None} for job, row in fresh])
    lines = []
    for job, row in fresh:
        lines.append({"job_id": row["id"], "kind": "queued", "who": job.who, "note": f"accepted for {job.model}"})
        lines += [{"job_id": row["id"], "kind": "warning", "who": job.who, "note": text} for text in job.warnings]
    told = {"from_state": None, "to_state": JobState.QUEUED, "detail": None}
    tx.execute(
        insert(events), [line | (told if line["kind"] == "queued" else told | {"to_state": None}) for line in lines]
    )


def enter_refused(database: Database, *, tenant: str, job_id: str, model: str, message: str) -> str:
    """Keep a request that cannot be accepted as a failed job that says why; return its id. Safe to repeat."""
    ended = {"state": JobState.FAIL, "reason": Reason.INVALID_INPUT, "message": message, "ended_at": clock()}
    row: dict[str, Any] = {"id": job_id, "tenant": tenant, "account": DEFAULT_ACCOUNT, "model": model, "family": "jobs"}
    row |= {"priority": Priority.INTERACTIVE, "created_at": clock(), "request_hash": ""} | ended
    told = {"kind": "refused", "who": "celery", "note": message, "to_state": JobState.FAIL}
    try:
        with database.write() as tx:
            tx.execute(insert(jobs).values(**row))
            tx.execute(insert(payloads).values(job_id=job_id, request={}))
            tx.execute(insert(events).values(job_id=job_id, **told))
    except IntegrityError:
        return job_id
    return job_id
