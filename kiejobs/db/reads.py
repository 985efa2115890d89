"""Jobs as producers see them: read-only, by tenant."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, select, true, tuple_

from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import events, in_state, jobs, one_of, outputs, payloads, submissions
from kiejobs.errors import Reason
from kiejobs.jobs import Event, Job, JobState, Output, OutputState, PublicState, public_state

READ_AT_ONCE = 500
"""Ids per statement: databases bound the number of parameters."""


def job(database: Database, job_id: str, *, tenant: str) -> Job | None:
    """Read one job with its outputs and its place in line; None where the tenant has no such job."""
    with database.read() as connection:
        return _one(connection, job_id, tenant)


def whole(database: Database, job_id: str, *, tenant: str) -> tuple[Job, list[Event]] | None:
    """Read one job like `job`, with its timeline."""
    with database.read() as connection:
        found = _one(connection, job_id, tenant)
        return (found, _timeline(connection, job_id)) if found else None


# Not the whole request: a page of long inputs would fill the memory.
_JOB = select(jobs, payloads.c.request["metadata"].label("metadata")).join(payloads, payloads.c.job_id == jobs.c.id)
_ONE = _JOB.where(jobs.c.id == bindparam("job"), jobs.c.tenant == bindparam("tenant"))
_FILES = select(outputs).where(outputs.c.job_id == bindparam("job")).order_by(outputs.c.position)


def _one(connection: Connection, job_id: str, tenant: str) -> Job | None:
    row = connection.execute(_ONE, {"job": job_id, "tenant": tenant}).first()
    if row is None:
        return None
    files = tuple(_output(file) for file in connection.execute(_FILES, {"job": job_id}))
    return replace(_job(row, files), place_in_line=_place_in_line(connection, row))


def jobs_of(database: Database, ids: list[str]) -> list[Job]:
    """Read jobs by id, in the order of the ids."""
    found: dict[str, Job] = {}
    with database.read() as connection:
        for start in range(0, len(ids), READ_AT_ONCE):
            some = ids[start : start + READ_AT_ONCE]
            found |= {job.id: job for job in _jobs(connection, jobs.c.id.in_(some), limit=len(some))}
    return [found[job_id] for job_id in ids if job_id in found]


def now(database: Database) -> datetime:
    """Read the database's clock."""
    with database.read() as connection:
        moment: datetime = connection.execute(select(clock())).scalar_one()
        return moment


def tenant_of(database: Database, job_id: str) -> str | None:
    """Read whose job this is; None where there is no such job."""
    with database.read() as connection:
        return connection.scalar(select(jobs.c.tenant).where(jobs.c.id == job_id))


def listed(
    database: Database,
    *,
    tenant: str | None,
    state: PublicState | None = None,
    phase: JobState | None = None,
    model: str | None = None,
    limit: int = 50,
    before: tuple[datetime, str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    unsaved: bool = False,
) -> list[Job]:
    """List a tenant's jobs (None: everybody's), newest first; `before` is the (created_at, id) of the last one seen.

    With `unsaved`, only those with a result that is not stored yet, the one whose link dies first at the top.
    """
    where: ColumnElement[bool] = true() if tenant is None else jobs.c.tenant == tenant
    if phase is not None:
        where &= jobs.c.state == phase
    if state is not None:
        where &= jobs.c.state.in_([fine for fine in JobState if public_state(fine) is state])
    if model is not None:
        where &= jobs.c.model == model
    if before is not None:
        where &= tuple_(jobs.c.created_at, jobs.c.id) < before
    if since is not None:
        where &= jobs.c.created_at >= since
    if until is not None:
        where &= jobs.c.created_at < until
    first_by: tuple[ColumnElement[Any], ...] = ()
    if unsaved:
        where &= in_state(JobState.STORING) & jobs.c.id.in_(_UNSAVED)
        first_by = (_dies_at,)
    with database.read() as connection:
        return _jobs(connection, where, limit=limit, first_by=first_by)


_PENDING = one_of(outputs.c.state, OutputState.PENDING)
_UNSAVED = select(outputs.c.job_id).where(_PENDING)
"""Found by the index of what is pending, which a healthy system has little of, however many jobs there are."""

_dies_at = (
    select(func.min(func.coalesce(outputs.c.expires_at, jobs.c.created_at)))
    .where(outputs.c.job_id == jobs.c.id, _PENDING)
    .correlate(jobs)
    .scalar_subquery()
)
"""When the first of a job's unsaved results dies; null where all are settled. What has no link is asked for first."""


def _jobs(
    connection: Connection, where: ColumnElement[bool], *, limit: int, first_by: tuple[ColumnElement[Any], ...] = ()
) -> list[Job]:
    query = _JOB.where(where).order_by(*first_by, jobs.c.created_at.desc(), jobs.c.id.desc())
    rows = connection.execute(query.limit(limit)).all()
    files: dict[str, list[Output]] = {row.id: [] for row in rows}
    if rows:
        query_files = select(outputs).where(outputs.c.job_id.in_(list(files))).order_by(outputs.c.position)
        for row in connection.execute(query_files):
            files[row.job_id].append(_output(row))
    return [_job(row, tuple(files[row.id])) for row in rows]


def _job(row: Any, files: tuple[Output, ...]) -> Job:
    return Job(
        id=row.id,
        tenant=row.tenant,
        account=row.account,
        model=row.model,
        phase=JobState(row.state),
        created_at=row.created_at,
        reason=Reason(row.reason) if row.reason else None,
        code=row.code,
        message=row.message or row.held,
        progress=row.progress,
        polls=row.polls,
        found_by=row.found_by,
        late=row.late,
        provider_task_id=row.provider_task_id,
        accepted_at=row.accepted_at,
        ended_at=row.ended_at,
        credits=row.credits,
        outputs=files,
        metadata=dict(row.metadata or {}),
    )


def _output(row: Any) -> Output:
    return Output(
        index=row.position,
        state=OutputState(row.state),
        role=row.role,
        key=row.key,
        media_type=row.media_type,
        size_bytes=row.size_bytes,
        received_bytes=row.received_bytes,
        expected_bytes=row.expected_bytes,
        sha256=row.sha256,
        error=row.error,
        expires_at=row.expires_at,
    )


def timeline(database: Database, job_id: str) -> list[Event]:
    """Read a job's timeline, oldest line first."""
    with database.read() as connection:
        return _timeline(connection, job_id)


_TIMELINE = select(events).where(events.c.job_id == bindparam("job")).order_by(events.c.id)


def _timeline(connection: Connection, job_id: str) -> list[Event]:
    rows = connection.execute(_TIMELINE, {"job": job_id}).all()
    return [Event(row.at, row.kind, row.who, row.from_state, row.to_state, row.note, row.detail or {}) for row in rows]


def request(database: Database, job_id: str) -> dict[str, Any]:
    """Read what a job asked for."""
    with database.read() as connection:
        return dict(connection.scalar(select(payloads.c.request).where(payloads.c.job_id == job_id)) or {})


def requests(database: Database, ids: list[str]) -> dict[str, dict[str, Any]]:
    """Read what some jobs asked for, by job id."""
    found: dict[str, dict[str, Any]] = {}
    with database.read() as connection:
        for start in range(0, len(ids), READ_AT_ONCE):
            mine = payloads.c.job_id.in_(ids[start : start + READ_AT_ONCE])
            rows = connection.execute(select(payloads.c.job_id, payloads.c.request).where(mine))
            found |= {row.job_id: dict(row.request) for row in rows}
    return found


def creates(database: Database, job_id: str) -> list[dict[str, Any]]:
    """Read a job's create calls, first one first."""
    query = select(submissions).where(submissions.c.job_id == job_id).order_by(submissions.c.seq)
    with database.read() as connection:
        return [dict(row._mapping) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Queue:
    """A tenant's unfinished jobs: how many are in line, held out of it, and in each later state."""

    in_line: int
    held: int
    in_flight: dict[JobState, int]


def queue(database: Database, *, tenant: str) -> Queue:
    """Count a tenant's unfinished jobs. Reads the two partial indexes of what is in line and what is due."""
    mine = jobs.c.tenant == tenant
    in_line = select(func.count()).where(mine, in_state(JobState.QUEUED), jobs.c.line_at.is_not(None))
    due = select(jobs.c.state, func.count()).where(mine, jobs.c.due_at.is_not(None)).group_by(jobs.c.state)
    with database.read() as connection:
        waiting = connection.scalar(in_line) or 0
        counted = {JobState(row[0]): int(row[1]) for row in connection.execute(due)}
    return Queue(waiting, counted.pop(JobState.QUEUED, 0), counted)


def place_in_line(database: Database, job_id: str) -> int | None:
    """Count the jobs that are sent before this one, itself included; None where it is not in line."""
    with database.read() as connection:
        row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
        return _place_in_line(connection, row) if row else None


_AHEAD = select(func.count()).where(
    jobs.c.account == bindparam("account"), in_state(JobState.QUEUED), jobs.c.line_at <= bindparam("line_at")
)


def _place_in_line(connection: Connection, job: Any) -> int | None:
    if job.state != JobState.QUEUED or job.line_at is None:
        return None
    return connection.scalar(_AHEAD, {"account": job.account, "line_at": job.line_at}) or 1


def finished_by(database: Database, since: datetime | None) -> dict[str, int]:
    """Count the jobs that ended since then (None: ever) by what brought their end to light.

    `callback`, `poll` (the lane's own looks), `sweep` (its rescues and the slow tail), `answer` (the create call itself).
    """
    query = select(jobs.c.found_by, func.count()).where(jobs.c.found_by.is_not(None)).group_by(jobs.c.found_by)
    if since is not None:
        query = query.where(jobs.c.ended_at >= since)
    with database.read() as connection:
        return {str(found_by): count for found_by, count in connection.execute(query)}
