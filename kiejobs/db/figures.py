"""How things stand at this moment, for a reader that comes every few seconds: what `/metrics` says beside the counters.

Every query reads an index of what is unfinished, or one row per account, so the cost does not grow with the jobs that
have ended. Counts are rows, ages seconds by the database's clock. All tenants together; nothing here names one.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, case, func, select

from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import accounts, deliveries, in_state, jobs, one_of, outputs, pulses, submissions
from kiejobs.jobs import DeliveryState, JobState

LATE_S = 30.0
"""How overdue a row is when it is late: looks that only the sweep takes up are up to 20 s late by design."""
HELD = "held"
"""What a queued job is counted as that is out of the line."""
OTHER = "other"
"""Under which name jobs in line are counted whose account is a word of their producer's alone: no process that was here
ever had a key for it."""


@dataclass(frozen=True, slots=True)
class AccountFigures:
    """One Kie account."""

    paused: bool
    """Whether its creates are: until a time, or until one create has passed on probation."""
    models_paused: int
    credits: float | None
    checked_s: float | None
    """Since the balance was read; None where it never was."""
    creates: int
    """Create calls within the window that ends now."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What there is."""

    at: datetime
    """The database's time that it belongs to."""
    in_line: dict[tuple[str, str, str], int]
    """Jobs in line by account, model and priority."""
    first_in_line_s: dict[str, float]
    """By account, how long the job waits that is sent next."""
    unfinished: dict[tuple[str, str], int]
    """Jobs behind the line by state and model; those held out of the line as `held`."""
    lag_s: dict[str, float]
    """By how much the most overdue job, output and message is late; 0 where none is."""
    unsaved: int
    """Result files that are known and not in the storage yet."""
    unsaved_dies_in_s: float | None
    """Until the first of their links dies at Kie, negative if it is over."""
    messages_pending: int
    messages_gave_up: int
    runs_s: dict[str, float]
    """Seconds since each periodic task last ran."""
    accounts: dict[str, AccountFigures]


def figures(database: Database, names: Collection[str], *, window_s: float) -> Figures:
    """Read the figures; `names` are the accounts that are set up, whether they have a row or not.

    Jobs in line for an account that is neither set up nor has a row are told as those of one account, `other`.
    """
    with database.read() as connection:
        now = _now(connection)
        unsaved, dies_at = connection.execute(_UNSAVED).one()
        found = {row.name: row for row in connection.execute(select(accounts))}
        pending = select(func.count()).where(deliveries.c.due_at.is_not(None))
        given_up = select(func.count()).where(one_of(deliveries.c.state, DeliveryState.GAVE_UP))
        known = {*names, *found}
        in_line: Counter[tuple[str, str, str]] = Counter()
        for account, model, priority, count in connection.execute(_IN_LINE):
            in_line[account if account in known else OTHER, model, priority] += count
        everyone = sorted(known | {account for account, _, _ in in_line})
        return Figures(
            at=now,
            in_line=dict(in_line),
            first_in_line_s={name: _first_in_line_s(connection, now, name, known) for name in everyone},
            unfinished={(_state(row[0]), row[1]): row[2] for row in connection.execute(_UNFINISHED)},
            lag_s={table.name: _lag_s(connection, now, table.c.due_at) for table in (jobs, outputs, deliveries)},
            unsaved=unsaved,
            unsaved_dies_in_s=(dies_at - now).total_seconds() if dies_at else None,
            messages_pending=connection.scalar(pending) or 0,
            messages_gave_up=connection.scalar(given_up) or 0,
            runs_s={row.name: (now - row.at).total_seconds() for row in connection.execute(select(pulses))},
            accounts={name: _account(connection, now, name, found.get(name), window_s) for name in everyone},
        )


_IN_LINE = (
    select(jobs.c.account, jobs.c.model, jobs.c.priority, func.count())
    .where(in_state(JobState.QUEUED), jobs.c.line_at.is_not(None))
    .group_by(jobs.c.account, jobs.c.model, jobs.c.priority)
)
_UNFINISHED = (
    select(jobs.c.state, jobs.c.model, func.count())
    .where(jobs.c.due_at.is_not(None))
    .group_by(jobs.c.state, jobs.c.model)
)
_UNSAVED = select(func.count(), func.min(outputs.c.expires_at)).where(outputs.c.due_at.is_not(None))


@dataclass(frozen=True, slots=True)
class InFlight:
    """One job behind the line."""

    id: str
    tenant: str
    model: str
    state: str
    age_s: float
    """Since it was accepted from its producer."""
    polls: int
    progress: float | None
    """What Kie says of it, from 0 to 1."""
    due_in_s: float
    """Until its next look; negative if it is late."""
    received_bytes: int
    """Of its results, as of the last heartbeat."""


def in_flight(database: Database, *, limit: int) -> list[InFlight]:
    """List jobs behind the line: first those that are parked, then those that are late, then the others, newest first."""
    received = select(func.coalesce(func.sum(outputs.c.received_bytes), 0)).where(outputs.c.job_id == jobs.c.id)
    columns = (jobs.c.id, jobs.c.tenant, jobs.c.model, jobs.c.state, jobs.c.created_at, jobs.c.polls, jobs.c.progress)
    query = select(*columns, jobs.c.due_at, received.scalar_subquery().label("received"))
    behind = jobs.c.due_at.is_not(None) & (jobs.c.state != JobState.QUEUED)
    with database.read() as connection:
        now = _now(connection)
        late = jobs.c.due_at < now - timedelta(seconds=LATE_S)
        urgency = case(
            (jobs.c.state == JobState.UNCONFIRMED, 0), (late, 1), (jobs.c.state == JobState.TIMEOUT, 2), else_=3
        )
        order = (urgency, jobs.c.created_at.desc(), jobs.c.id)
        rows = connection.execute(query.where(behind).order_by(*order).limit(limit)).all()
    return [
        InFlight(
            id=row.id,
            tenant=row.tenant,
            model=row.model,
            state=row.state,
            age_s=(now - row.created_at).total_seconds(),
            polls=row.polls,
            progress=row.progress,
            due_in_s=(row.due_at - now).total_seconds(),
            received_bytes=int(row.received),
        )
        for row in rows
    ]


def _now(connection: Connection) -> datetime:
    return connection.execute(select(clock())).scalar_one()


def _state(state: str) -> str:
    return HELD if state == JobState.QUEUED else state


def _first_in_line_s(connection: Connection, now: datetime, name: str, known: Collection[str]) -> float:
    mine = jobs.c.account == name if name in known else jobs.c.account.not_in(known)
    first = select(jobs.c.created_at).where(in_state(JobState.QUEUED), jobs.c.line_at.is_not(None), mine)
    at = connection.scalar(first.order_by(jobs.c.line_at, jobs.c.id).limit(1))
    return (now - at).total_seconds() if at else 0.0


def _lag_s(connection: Connection, now: datetime, due_at: Column[Any]) -> float:
    first = connection.scalar(select(func.min(due_at)).where(due_at.is_not(None)))
    return max((now - first).total_seconds(), 0.0) if first else 0.0


def _account(connection: Connection, now: datetime, name: str, row: Any, window_s: float) -> AccountFigures:
    recent = submissions.c.sending_at > now - timedelta(seconds=window_s)
    creates = connection.scalar(select(func.count()).where(submissions.c.account == name, recent)) or 0
    if row is None:
        return AccountFigures(paused=False, models_paused=0, credits=None, checked_s=None, creates=creates)
    return AccountFigures(
        paused=row.pause_code is not None,
        models_paused=len(row.models_paused or {}),
        credits=None if row.credits is None else float(row.credits),
        checked_s=(now - row.checked_at).total_seconds() if row.checked_at else None,
        creates=creates,
    )
