"""How the installation is doing, in figures, read in one transaction for whoever shows them.

Durations are seconds by the database's clock, counts are rows. Everything but what the last day brought comes from the
indexes of what is unfinished, so it costs the same however many jobs have ended. With a tenant, only that tenant's rows
are counted; creates and queries belong to accounts, which tenants share, and are left out by whoever asks for one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, case, func, select

from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import deliveries, in_state, jobs, one_of, outputs, pulses, submissions
from kiejobs.jobs import DeliveryState, JobState, OutputState
from kiejobs.pacing import LADDER

FINISHED_WITHIN_S = 86400.0
"""How far back `finished_by` counts."""


class Work(StrEnum):
    """What a row can wait for."""

    CREATE = "create"
    """A create call; the job is in line."""
    HELD = "held"
    """A place in line: a cap, a paused model or a parent keeps it out."""
    LOOK = "look"
    """A look at Kie's record."""
    STORE = "store"
    """A copy into the storage; one row per file."""
    NOTIFY = "notify"
    """A message to its producer."""


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits for one kind of work."""

    waiting: int
    """Rows, due or not."""
    due: int
    """Those of them whose time has come."""
    lag_s: float
    """By how much the most overdue of them is late; 0 where none is."""
    oldest_s: float | None
    """Since when the oldest waits: its job's acceptance at Kie, before that its arrival here. None where none waits."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one account may ask of Kie: creates per window (its margin included), queries per second."""

    creates: int
    window_s: float
    queries_per_s: float


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of its allowance an account uses now."""

    account: str
    allowance: Allowance
    creates: int
    """Create calls within the window that ends now."""
    queries_per_s: float
    """Looks per second that the waiting jobs' ladders ask for; above the allowance, workers stretch their waits."""


@dataclass(frozen=True, slots=True)
class Health:
    """The figures."""

    at: datetime
    """The database's time that they belong to, aware UTC."""
    queues: dict[Work, Queue]
    usage: tuple[Usage, ...]
    """By account; those that were asked for."""
    unsaved: int
    """Result files that are known and not in the storage yet."""
    unsaved_dies_in_s: float | None
    """Until the first of their links dies at Kie, negative if it is over; None where none is known to."""
    unconfirmed: int
    """Jobs whose create call has an unknown outcome."""
    unconfirmed_oldest_s: float | None
    """Since when the oldest of those calls is."""
    finished_by: dict[str, int]
    """Jobs that ended within `FINISHED_WITHIN_S`, by what brought their end to light."""
    gave_up: int
    """Messages to producers that were given up."""
    last_sweep_s: float | None
    """Since the sweep last ran; None where it never did."""
    last_watch_s: float | None
    """Since a worker last read the balances of its accounts; None where none ever did."""


def health(database: Database, *, tenant: str | None = None, allowances: Mapping[str, Allowance]) -> Health:
    """Read the figures, of the whole installation or of one tenant; `usage` for the accounts in `allowances`."""
    mine = (jobs.c.tenant == tenant,) if tenant is not None else ()
    with database.read() as connection:
        now: datetime = connection.execute(select(clock())).scalar_one()
        ask = _Asker(connection, now, mine)
        unsaved, dies_at = ask.unsaved()
        unconfirmed, sent_at = ask.unconfirmed()
        return Health(
            at=now,
            queues={work: ask.queue(*_waits_for(work)) for work in Work},
            usage=tuple(ask.usage(name, allowance) for name, allowance in sorted(allowances.items())),
            unsaved=unsaved,
            unsaved_dies_in_s=(dies_at - now).total_seconds() if dies_at else None,
            unconfirmed=unconfirmed,
            unconfirmed_oldest_s=ask.age_s(sent_at),
            finished_by=ask.finished_by(),
            gave_up=ask.gave_up(),
            last_sweep_s=ask.last_run_s("sweep"),
            last_watch_s=ask.last_run_s("watch"),
        )


_Waits = tuple[ColumnElement[Any], ColumnElement[Any], FromClause, ColumnElement[bool]]
"""When a row is due, since when it waits, where it stands, and which rows are meant."""

_LOOKED_AT = (JobState.SUBMITTING, JobState.UNCONFIRMED, JobState.WAITING, JobState.TIMEOUT)
_began = func.coalesce(jobs.c.accepted_at, jobs.c.created_at)


def _waits_for(work: Work) -> _Waits:
    queued, is_due = in_state(JobState.QUEUED), jobs.c.due_at.is_not(None)
    match work:
        case Work.CREATE:
            return jobs.c.line_at, jobs.c.created_at, jobs, queued & jobs.c.line_at.is_not(None)
        case Work.HELD:
            return jobs.c.due_at, jobs.c.created_at, jobs, is_due & queued
        case Work.LOOK:
            return jobs.c.due_at, _began, jobs, is_due & jobs.c.state.in_(_LOOKED_AT)
        case Work.STORE:
            where = outputs.c.due_at.is_not(None) & (outputs.c.state == OutputState.PENDING)
            return outputs.c.due_at, _began, outputs.join(jobs), where
        case Work.NOTIFY:
            where = deliveries.c.due_at.is_not(None) & (deliveries.c.state == DeliveryState.PENDING)
            return deliveries.c.due_at, deliveries.c.created_at, deliveries.join(jobs), where


class _Asker:
    """One transaction's view, at one moment, of one tenant's rows or of all."""

    def __init__(self, connection: Connection, now: datetime, mine: tuple[ColumnElement[bool], ...]) -> None:
        self._connection, self._now, self._mine = connection, now, mine

    def queue(
        self, due: ColumnElement[Any], since: ColumnElement[Any], source: FromClause, where: ColumnElement[bool]
    ) -> Queue:
        """Count what waits."""
        come = func.coalesce(func.sum(case((due <= self._now, 1), else_=0)), 0)
        query = select(func.count(), come, func.min(due), func.min(since)).select_from(source)
        waiting, due_now, first_due, first = self._one(query.where(where))
        lag_s = self.age_s(first_due) or 0.0
        return Queue(waiting, int(due_now), max(lag_s, 0.0), self.age_s(first))

    def usage(self, account: str, allowance: Allowance) -> Usage:
        """Count an account's create calls in its window, and the looks that its waiting jobs ask for."""
        recent = submissions.c.sending_at > self._ago(allowance.window_s)
        creates = select(func.count()).where(submissions.c.account == account, recent)
        *rungs, (_, last_s) = LADDER
        per_s = case(
            *((jobs.c.accepted_at > self._ago(until_s), 1 / wait_s) for until_s, wait_s in rungs), else_=1 / last_s
        )
        looks = select(func.sum(per_s)).where(in_state(JobState.WAITING), jobs.c.account == account)
        made, looks_per_s = self._connection.scalar(creates), self._connection.scalar(looks)
        return Usage(account, allowance, int(made or 0), float(looks_per_s or 0.0))

    def unsaved(self) -> tuple[int, datetime | None]:
        """Count the files that are not stored, and say when the first link dies."""
        where = (outputs.c.state == OutputState.PENDING) & outputs.c.due_at.is_not(None)
        query = select(func.count(), func.min(outputs.c.expires_at)).select_from(outputs.join(jobs))
        count, dies_at = self._one(query.where(where, jobs.c.state == JobState.STORING))
        return int(count), dies_at

    def unconfirmed(self) -> tuple[int, datetime | None]:
        """Count the jobs that are parked, and say when the first of their create calls was sent."""
        source = jobs.outerjoin(submissions, submissions.c.id == jobs.c.submission_id)
        parked = jobs.c.due_at.is_not(None) & (jobs.c.state == JobState.UNCONFIRMED)
        count, sent_at = self._one(
            select(func.count(), func.min(submissions.c.sending_at)).select_from(source).where(parked)
        )
        return int(count), sent_at

    def finished_by(self) -> dict[str, int]:
        """Count what ended lately by what brought it to light."""
        lately = jobs.c.ended_at >= self._ago(FINISHED_WITHIN_S)
        query = select(jobs.c.found_by, func.count()).where(lately, jobs.c.found_by.is_not(None), *self._mine)
        return {str(by): int(count) for by, count in self._connection.execute(query.group_by(jobs.c.found_by))}

    def gave_up(self) -> int:
        """Count the messages that never arrived."""
        query = select(func.count()).select_from(deliveries.join(jobs))
        return int(self._one(query.where(one_of(deliveries.c.state, DeliveryState.GAVE_UP)))[0])

    def last_run_s(self, task: str) -> float | None:
        """Say how long ago a periodic task ran."""
        return self.age_s(self._connection.scalar(select(pulses.c.at).where(pulses.c.name == task)))

    def age_s(self, at: datetime | None) -> float | None:
        """Say how long ago a moment was."""
        return (self._now - at).total_seconds() if at is not None else None

    def _ago(self, seconds: float) -> datetime:
        # A value, not `clock()`: PostgreSQL uses no index for what may change from row to row.
        return self._now - timedelta(seconds=seconds)

    def _one(self, query: Select[*tuple[Any, ...]]) -> Any:
        return self._connection.execute(query.where(*self._mine)).one()
