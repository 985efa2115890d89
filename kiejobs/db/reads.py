"""Jobs as producers see them: read-only, by tenant."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, tuple_

from kiejobs.db.session import Database
from kiejobs.db.tables import events, in_state, jobs, outputs, payloads, submissions
from kiejobs.errors import Reason
from kiejobs.jobs import Event, Job, JobState, Output, OutputState, PublicState, public_state

READ_AT_ONCE = 500
"""Ids per statement: databases bound the number of parameters."""


def job(database: Database, job_id: str, *, tenant: str) -> Job | None:
    """Read one job with its outputs; None where the tenant has no such job."""
    with database.read() as connection:
        found = _jobs(connection, (jobs.c.id == job_id) & (jobs.c.tenant == tenant), limit=1)
    return found[0] if found else None


def jobs_of(database: Database, ids: list[str]) -> list[Job]:
    """Read jobs by id, in the order of the ids."""
    found: dict[str, Job] = {}
    with database.read() as connection:
        for start in range(0, len(ids), READ_AT_ONCE):
            some = ids[start : start + READ_AT_ONCE]
            found |= {job.id: job for job in _jobs(connection, jobs.c.id.in_(some), limit=len(some))}
    return [found[job_id] for job_id in ids if job_id in found]


def listed(
    database: Database,
    *,
    tenant: str,
    state: PublicState | None = None,
    phase: JobState | None = None,
    model: str | None = None,
    limit: int = 50,
    before: tuple[datetime, str] | None = None,
) -> list[Job]:
    """List a tenant's jobs, newest first; `before` is the (created_at, id) of the last one seen."""
    where = jobs.c.tenant == tenant
    if phase is not None:
        where &= jobs.c.state == phase
    if state is not None:
        where &= jobs.c.state.in_([fine for fine in JobState if public_state(fine) is state])
    if model is not None:
        where &= jobs.c.model == model
    if before is not None:
        where &= tuple_(jobs.c.created_at, jobs.c.id) < before
    with database.read() as connection:
        return _jobs(connection, where, limit=limit)


def _jobs(connection: Connection, where: ColumnElement[bool], *, limit: int) -> list[Job]:
    query = (
        select(jobs, payloads.c.request)
        .join(payloads, payloads.c.job_id == jobs.c.id)
        .where(where)
        .order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
    )
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
        late=row.late,
        provider_task_id=row.provider_task_id,
        accepted_at=row.accepted_at,
        ended_at=row.ended_at,
        credits=row.credits,
        outputs=files,
        metadata=dict(row.request.get("metadata") or {}),
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
        sha256=row.sha256,
        error=row.error,
    )


def timeline(database: Database, job_id: str) -> list[Event]:
    """Read a job's timeline, oldest line first."""
    with database.read() as connection:
        rows = connection.execute(select(events).where(events.c.job_id == job_id).order_by(events.c.id)).all()
    return [Event(row.at, row.kind, row.who, row.from_state, row.to_state, row.note, row.detail or {}) for row in rows]


def request(database: Database, job_id: str) -> dict[str, Any]:
    """Read what a job asked for."""
    with database.read() as connection:
        return dict(connection.scalar(select(payloads.c.request).where(payloads.c.job_id == job_id)) or {})


def creates(database: Database, job_id: str) -> list[dict[str, Any]]:
    """Read a job's create calls, first one first."""
    query = select(submissions).where(submissions.c.job_id == job_id).order_by(submissions.c.seq)
    with database.read() as connection:
        return [dict(row._mapping) for row in connection.execute(query)]


def place_in_line(database: Database, job_id: str) -> int | None:
    """Count the jobs that are sent before this one, itself included; None where it is not in line."""
    with database.read() as connection:
        mine = connection.execute(
            select(jobs.c.account, jobs.c.line_at).where(jobs.c.id == job_id, in_state(JobState.QUEUED))
        ).first()
        if mine is None or mine.line_at is None:
            return None
        line = (jobs.c.account == mine.account) & in_state(JobState.QUEUED) & (jobs.c.line_at <= mine.line_at)
        return connection.scalar(select(func.count()).where(line)) or 1
