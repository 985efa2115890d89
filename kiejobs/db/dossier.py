"""All that is kept about one job beside its own row and its timeline: for a person who wants to know what happened.

Read in one transaction. Whether the reader may know of the job is for the caller to have found out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, func, select

from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import callbacks, candidates, deliveries, payloads, submissions
from kiejobs.jobs import CandidateState, DeliveryState, SubmissionState


@dataclass(frozen=True, slots=True)
class Create:
    """One create call and what became of it."""

    seq: int
    state: SubmissionState
    account: str
    model: str
    sending_at: datetime
    settled_at: datetime | None
    task_id: str | None
    code: str | None
    message: str | None
    credits: Decimal | None
    approved_by: str | None
    approved_why: str | None


@dataclass(frozen=True, slots=True)
class Named:
    """A task id that somebody named for one of the create calls."""

    at: datetime
    task_id: str
    source: str
    state: CandidateState
    note: str | None


@dataclass(frozen=True, slots=True)
class Callback:
    """A call of Kie's, and what was made of it."""

    at: datetime
    task_id: str | None
    verdict: str
    size: int
    """Characters of its body, as far as it is kept."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message to the producer."""

    id: str
    created_at: datetime
    kind: str
    state: DeliveryState
    attempts: int
    due_at: datetime | None
    delivered_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Dossier:
    """What is kept about a job. Lists are in the order in which things happened."""

    at: datetime
    """The database's time when it was read."""
    request: dict[str, Any]
    creates: tuple[Create, ...]
    named: tuple[Named, ...]
    callbacks: tuple[Callback, ...]
    messages: tuple[Message, ...]


def dossier(database: Database, job_id: str) -> Dossier:
    """Read what is kept about a job."""
    with database.read() as connection:
        calls = connection.execute(
            select(submissions).where(submissions.c.job_id == job_id).order_by(submissions.c.seq)
        ).all()
        ids = [row.id for row in calls]
        return Dossier(
            at=connection.execute(select(clock())).scalar_one(),
            request=dict(connection.scalar(select(payloads.c.request).where(payloads.c.job_id == job_id)) or {}),
            creates=tuple(_create(row) for row in calls),
            named=_named(connection, ids),
            callbacks=_callbacks(connection, ids),
            messages=_messages(connection, job_id),
        )


def _create(row: Any) -> Create:
    return Create(
        seq=row.seq,
        state=SubmissionState(row.state),
        account=row.account,
        model=row.model,
        sending_at=row.sending_at,
        settled_at=row.settled_at,
        task_id=row.provider_task_id,
        code=row.code,
        message=row.message,
        credits=row.credits,
        approved_by=row.approved_by,
        approved_why=row.approved_why,
    )


def _named(connection: Connection, ids: Sequence[str]) -> tuple[Named, ...]:
    query = select(candidates).where(candidates.c.submission_id.in_(ids)).order_by(candidates.c.created_at)
    return tuple(
        Named(row.created_at, row.task_id, row.source, CandidateState(row.state), row.note)
        for row in connection.execute(query)
    )


def _callbacks(connection: Connection, ids: Sequence[str]) -> tuple[Callback, ...]:
    columns = (callbacks.c.at, callbacks.c.task_id, callbacks.c.verdict, func.length(callbacks.c.body).label("size"))
    query = select(*columns).where(callbacks.c.submission_id.in_(ids)).order_by(callbacks.c.id)
    return tuple(Callback(row.at, row.task_id, row.verdict or "", row.size) for row in connection.execute(query))


def _messages(connection: Connection, job_id: str) -> tuple[Message, ...]:
    query = select(deliveries).where(deliveries.c.job_id == job_id).order_by(deliveries.c.sequence)
    return tuple(
        Message(
            id=row.id,
            created_at=row.created_at,
            kind=row.kind,
            state=DeliveryState(row.state),
            attempts=row.attempts,
            due_at=row.due_at,
            delivered_at=row.delivered_at,
            error=row.error,
        )
        for row in connection.execute(query)
    )
