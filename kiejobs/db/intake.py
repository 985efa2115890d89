"""Accepting jobs: one row, one payload, one timeline line, one place in line, in one transaction.

The place is `max(now, the tenant's last place in this account + window / limit)`, ten minutes further back for batch:
a tenant with a thousand jobs stands beside the others, not before them, and batch moves up as time passes. Idempotent
by a unique index, so two producers at once get the same job; reuse of an earlier same generation is decided under a lock
of that generation, so two at once buy one.
"""

import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select
from sqlalchemy.exc import IntegrityError

from kiejobs.db import depth, parents
from kiejobs.db.clock import clock
from kiejobs.db.follow_ups import FollowUp, filled_in
from kiejobs.db.inserts import insert_rows
from kiejobs.db.session import Database
from kiejobs.db.tables import events, in_state, jobs, payloads
from kiejobs.errors import IdempotencyConflict, InvalidInput, Reason
from kiejobs.jobs import DEFAULT_ACCOUNT, Job, JobState, Priority

BATCH_BEHIND = timedelta(minutes=10)

Known = dict[tuple[str, str, str], tuple[str, str]]
"""(tenant, `id` or `idempotency_key`, its value) → (job, request hash)."""

KEYS_AT_ONCE = 1000
"""Idempotency keys that are looked up in one statement."""

Lane = tuple[str, str, Priority]
"""Account, tenant and priority: whose jobs stand behind one another."""


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
    parents: tuple[str, ...] = ()
    """The jobs whose outputs this one needs."""
    follow: FollowUp | None = None
    """The finished job that this one works on."""
    reuse_within_s: float | None = None
    """Where the tenant asked for the same generation at most so long ago, that job is given back."""

    def request_hash(self) -> str:
        """Return the SHA-256 of the whole request: account, model and request, in canonical JSON."""
        return _digest({"account": self.account, "model": self.model, "request": self.request})

    def input_hash(self) -> str:
        """Return the SHA-256 of what would be made, whoever pays: model and input, in canonical JSON."""
        return _digest({"model": self.model, "input": self.request.get("input")})


@dataclass(frozen=True, slots=True)
class Entered:
    """What became of a request: its job, whether it is new, and whether it should be nudged now.

    `reused` says that the job is another request's, of the same generation.
    """

    job_id: str
    created: bool
    nudge: bool
    reused: bool = False
    job: Job | None = None
    """The job, where it is new."""


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def enter(
    database: Database,
    new: list[NewJob],
    *,
    spacing_s: Callable[[str], float],
    nudge_below: int,
    queue_limit: int = 0,
) -> list[Entered]:
    """Accept requests; each is a new job, or the earlier one with the same key and request.

    `spacing_s` says how far apart an account's creates are, and so a tenant's places in its line. IdempotencyConflict
    where a key was used for another request, TooManyRequests where more than `queue_limit` jobs of a tenant would wait to
    be sent (0: no limit); then none of the list is accepted.
    """
    # In the order of their keys, so that two batches with the same keys wait for each other instead of deadlocking.
    order = sorted(range(len(new)), key=lambda at: (new[at].idempotency_key or "", new[at].id or ""))
    ordered = [new[at] for at in order]
    for _ in range(len(new) + 1):
        try:
            with database.write() as tx:
                found = _enter(tx, ordered, spacing_s, nudge_below)
                if queue_limit and any(one.created for one in found):
                    slowest_s = max(spacing_s(job.account) for job in new)
                    depth.check(tx, {job.tenant for job in new}, limit=queue_limit, spacing_s=slowest_s)
                entered = dict(zip(order, found, strict=True))
            return [entered[at] for at in range(len(new))]
        except IntegrityError:  # somebody else entered one of the keys between our look and our insert: look again
            continue
    raise IdempotencyConflict("the job's id is taken by another tenant")


def _enter(tx: Connection, new: list[NewJob], spacing_s: Callable[[str], float], nudge_below: int) -> list[Entered]:
    _lock_generations(tx, [job for job in new if job.reuse_within_s is not None])
    new = [_filled_in(tx, job) for job in new]
    families = parents.lock(tx, {one for job in new for one in job.parents}, {job.tenant for job in new})
    now, standing, lanes = _situation(tx, new, nudge_below)
    spacing = {account: timedelta(seconds=spacing_s(account)) for account in {job.account for job in new}}
    entered: list[Entered] = []
    fresh: list[tuple[NewJob, dict[str, Any]]] = []
    known = _known(tx, new)
    generations: dict[tuple[str, str], str] = {}
    for job in new:
        digest = job.request_hash()
        earlier = _earlier(job, digest, known)
        same = None if earlier else _same_generation(tx, job, generations)
        if earlier or same:
            entered.append(Entered(earlier or same or "", created=False, nudge=False, reused=same is not None))
            continue
        waits_for = _waits_for(job, families)
        place = None if waits_for else _place(job, now, lanes, spacing[job.account])
        nudge = place is not None and standing[job.account] < nudge_below
        standing[job.account] += place is not None
        row = _row(job, digest, now, place, nudge=nudge, waits_for=waits_for)
        generations[job.tenant, row["input_hash"]] = row["id"]
        if job.idempotency_key is not None:
            known[job.tenant, "idempotency_key", job.idempotency_key] = (row["id"], digest)
        fresh.append((job, row))
        entered.append(Entered(row["id"], created=True, nudge=nudge, job=_job(job, row)))
    _write(tx, fresh, reused=[one.job_id for one in entered if one.reused], who=new[0].who)
    return entered


def _filled_in(tx: Connection, job: NewJob) -> NewJob:
    """Fill in Kie's ids of the job that this one works on."""
    if job.follow is None:
        return job
    account, given = filled_in(tx, job.follow, dict(job.request["input"]), tenant=job.tenant)
    request = job.request | {"input": given}
    if "choices" in request:
        request["choices"] = [request["choices"][0] | {"input": given}, *request["choices"][1:]]
    return replace(job, account=account, request=request)


def _waits_for(job: NewJob, found: dict[str, Any]) -> str | None:
    """Return the parent, of those locked, that is not finished yet; None where all are. One that failed is refused."""
    if not job.parents:
        return None
    for one in job.parents:
        if one not in found or found[one].tenant != job.tenant:
            raise InvalidInput(f"there is no job {one}", field="input", given=one, allowed="one of your jobs")
    standing = parents.standing({one: found[one].state for one in job.parents})
    if standing.failed:
        said = f"job {standing.failed} ended as {found[standing.failed].state}, it has no output"
        raise InvalidInput(said, field="input", given=standing.failed, allowed="a job that runs or ended with success")
    return standing.waits_for


def _situation(
    tx: Connection, new: list[NewJob], nudge_below: int
) -> tuple[datetime, dict[str, int], dict[Lane, datetime | None]]:
    """Read the time, how many stand in line per account, and the last place in each lane: a statement per lane."""
    lanes = sorted({_lane(job) for job in new})
    rows = [tx.execute(_LANE, {**dict(zip(_NAMES, lane, strict=True)), "limit": nudge_below}).one() for lane in lanes]
    standing = {lane[0]: row.standing for lane, row in zip(lanes, rows, strict=True)}
    return rows[0].now, standing, {lane: row.last for lane, row in zip(lanes, rows, strict=True)}


def _lane(job: NewJob) -> Lane:
    return job.account, job.tenant, job.priority


_NAMES = ("account", "tenant", "priority")
_IN_LINE = in_state(JobState.QUEUED) & jobs.c.line_at.is_not(None)
_OF_ACCOUNT = select(jobs.c.id).where(jobs.c.account == bindparam("account"), _IN_LINE).limit(bindparam("limit"))
_STANDING = select(func.count()).select_from(_OF_ACCOUNT.subquery()).scalar_subquery()
_MINE = [jobs.c[name] == bindparam(name) for name in _NAMES]
_LAST = select(jobs.c.line_at).where(*_MINE, in_state(JobState.QUEUED), jobs.c.due_at.is_(None))
_LAST = _LAST.order_by(jobs.c.line_at.desc()).limit(1)
"""Who stands in line has no `due_at`; said like this, only the index of lanes can be used. With `line_at IS NOT NULL`,
PostgreSQL reads the whole line of the account as long as its statistics know of no queue, once for every job that enters."""
_LANE = select(clock().label("now"), _STANDING.label("standing"), _LAST.scalar_subquery().label("last"))


def _known(tx: Connection, new: list[NewJob]) -> Known:
    """Read the jobs that these requests may already be."""
    found: Known = {}
    for tenant in {job.tenant for job in new}:
        mine = [job for job in new if job.tenant == tenant]
        for column, named in (
            (jobs.c.id, [job.id for job in mine if job.id]),
            (jobs.c.idempotency_key, [job.idempotency_key for job in mine if job.idempotency_key]),
        ):
            for start in range(0, len(named), KEYS_AT_ONCE):
                same = (jobs.c.tenant == tenant) & column.in_(named[start : start + KEYS_AT_ONCE])
                rows = tx.execute(select(column.label("name"), jobs.c.id, jobs.c.request_hash).where(same))
                found |= {(tenant, column.name, row.name): (row.id, row.request_hash) for row in rows}
    return found


def _earlier(job: NewJob, digest: str, known: Known) -> str | None:
    """Find the job that this request already is, by its id or its idempotency key."""
    names = (("id", job.id), ("idempotency_key", job.idempotency_key))
    found = [known[job.tenant, kind, name] for kind, name in names if name and (job.tenant, kind, name) in known]
    same = found[0] if found else None
    if same and same[1] != digest:
        name = job.id or job.idempotency_key
        raise IdempotencyConflict(f"{name!r} was used before, for another request (job {same[0]})")
    return same[0] if same else None


def _place(job: NewJob, now: datetime, lanes: dict[Lane, datetime | None], spacing: timedelta) -> datetime:
    last = lanes[_lane(job)]
    first = now + BATCH_BEHIND if job.priority is Priority.BATCH else now
    place = lanes[_lane(job)] = max(first, last + spacing) if last else first
    return place


def _row(
    job: NewJob, digest: str, now: datetime, place: datetime | None, *, nudge: bool, waits_for: str | None
) -> dict[str, Any]:
    return {
        "id": job.id or str(uuid.uuid4()),
        "tenant": job.tenant,
        "account": job.account,
        "model": job.model,
        "family": job.family,
        "priority": job.priority,
        "state": JobState.QUEUED,
        "line_at": place,
        "due_at": now + timedelta(seconds=parents.LOOK_S) if waits_for else None,
        "held": f"waits for job {waits_for}" if waits_for else None,
        "renudge_at": now + timedelta(seconds=2) if nudge else None,
        "created_at": now,
        "callback_url": job.callback_url,
        "idempotency_key": job.idempotency_key,
        "request_hash": digest,
        "input_hash": job.input_hash(),
    }


def _job(new: NewJob, row: dict[str, Any]) -> Job:
    """Show the job as it was just written."""
    return Job(
        id=row["id"],
        tenant=new.tenant,
        account=new.account,
        model=new.model,
        phase=JobState.QUEUED,
        created_at=row["created_at"],
        message=row["held"],
        metadata=dict(new.request.get("metadata") or {}),
    )


def _lock_generations(tx: Connection, new: list[NewJob]) -> None:
    """Let nobody else decide about these generations before this transaction ends.

    SQLite has one writer anyway. All locks are taken before any row is written, in one order, so nobody deadlocks.
    """
    if tx.dialect.name == "sqlite":
        return
    for lock in sorted({int(_digest({job.tenant: job.input_hash()})[:15], 16) for job in new}):
        tx.execute(select(func.pg_advisory_xact_lock(lock)))


def _same_generation(tx: Connection, job: NewJob, in_this_call: dict[tuple[str, str], str]) -> str | None:
    """Find the tenant's latest job of the same generation, neither failed nor given up, if the request allows its reuse."""
    if job.reuse_within_s is None:
        return None
    digest = job.input_hash()
    if (job.tenant, digest) in in_this_call:
        return in_this_call[job.tenant, digest]
    same = (jobs.c.tenant == job.tenant) & (jobs.c.input_hash == digest)
    since = tx.scalar(select(clock(-job.reuse_within_s)))  # a value, so that PostgreSQL uses the index
    recent = (jobs.c.created_at >= since) & jobs.c.state.not_in([JobState.FAIL, JobState.CANCELED])
    found = select(jobs.c.id).where(same, recent).order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(1)
    return tx.scalar(found)


def _write(tx: Connection, fresh: list[tuple[NewJob, dict[str, Any]]], *, reused: list[str], who: str) -> None:
    given_back = "given back to another request for the same generation"
    lines = [_line(job_id, "reused", who, given_back) for job_id in reused]
    lines += [line for job, row in fresh for line in _lines(job, row["id"])]
    asked = [{"job_id": row["id"], "request": job.request} for job, row in fresh]
    insert_rows(tx, {jobs: [row for _, row in fresh], payloads: asked, events: lines})
    parents.expect(tx, [(row["id"], parent) for job, row in fresh for parent in dict.fromkeys(job.parents)])


def _lines(job: NewJob, job_id: str) -> list[dict[str, Any]]:
    queued = _line(job_id, "queued", job.who, f"accepted for {job.model}", to_state=JobState.QUEUED)
    return [queued, *(_line(job_id, "warning", job.who, text) for text in job.warnings)]


def _line(job_id: str, kind: str, who: str, note: str, *, to_state: JobState | None = None) -> dict[str, Any]:
    return {"job_id": job_id, "kind": kind, "who": who, "note": note, "to_state": to_state}


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
