"""Addresses that a tenant's messages go to: the one for all jobs that name none, and those that want nothing more.

An address that answered 410 Gone is sent nothing until a person enables it: what waited for it is given up with that
reason, visible and re-sendable, and so is every later message.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, ScalarSelect, bindparam, func, select, text, update

from kiejobs.db.clock import clock
from kiejobs.db.inserts import insert_into
from kiejobs.db.session import Database
from kiejobs.db.tables import deliveries, endpoints, jobs
from kiejobs.jobs import DeliveryState

DISABLED = "its address answered 410 Gone and is disabled: `kiejobs deliveries enable URL`, then send it again"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address and what is remembered of it."""

    url: str
    is_default: bool
    disabled_at: datetime | None
    gave_up: int
    """Messages to it that were given up."""


def default_of_job() -> ScalarSelect[Any]:
    """Select, in a statement on `jobs`, the address that is told of jobs which name none.

    Not for a RETURNING: on SQLite columns stand there without their table, and any tenant's address would do.
    """
    mine = (endpoints.c.tenant == jobs.c.tenant) & endpoints.c.is_default
    return select(endpoints.c.url).where(mine).limit(1).correlate(jobs).scalar_subquery()


def default_of(tx: Connection, tenant: str) -> str | None:
    """Read the address that is told of a tenant's jobs which name none."""
    return tx.scalar(_DEFAULT, {"tenant": tenant})


_DEFAULT = select(endpoints.c.url).where(endpoints.c.tenant == bindparam("tenant"), endpoints.c.is_default).limit(1)


def is_disabled(tx: Connection, tenant: str, url: str) -> bool:
    """Say whether an address wants nothing more."""
    return tx.scalar(_DISABLED_AT, {"tenant": tenant, "url": url}) is not None


_DISABLED_AT = select(endpoints.c.disabled_at).where(
    endpoints.c.tenant == bindparam("tenant"), endpoints.c.url == bindparam("url")
)


def disable(tx: Connection, tenant: str, url: str) -> None:
    """Send an address nothing more, and give up what waits for it."""
    _note(tx, tenant, url, disabled_at=clock())
    owner = select(jobs.c.id).where(jobs.c.id == deliveries.c.job_id, jobs.c.tenant == tenant).exists()
    waiting = (deliveries.c.url == url) & (deliveries.c.state == DeliveryState.PENDING) & owner
    given_up = {"state": DeliveryState.GAVE_UP, "due_at": None, "error": DISABLED}
    tx.execute(update(deliveries).where(waiting).values(version=deliveries.c.version + 1, **given_up))


def enable(database: Database, tenant: str, url: str) -> bool:
    """Send to an address again from now on; False where it was not disabled. What was given up stays so."""
    mine = (endpoints.c.tenant == tenant) & (endpoints.c.url == url) & endpoints.c.disabled_at.is_not(None)
    with database.write() as tx:
        return bool(tx.execute(update(endpoints).where(mine).values(disabled_at=None)).rowcount)


def set_default(database: Database, tenant: str, url: str | None) -> None:
    """Tell this address of every job that names none; None: tell nobody."""
    with database.write() as tx:
        if tx.dialect.name == "postgresql":  # of two at once, the second takes the first one's away
            tx.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:tenant, 7136))"), {"tenant": tenant})
        tx.execute(update(endpoints).where(endpoints.c.tenant == tenant).values(is_default=False))
        if url is not None:
            _note(tx, tenant, url, is_default=True)


def listed(database: Database, tenant: str) -> list[Endpoint]:
    """List a tenant's addresses of which there is something to say, the default one first."""
    lost = (deliveries.c.url == endpoints.c.url) & (deliveries.c.state == DeliveryState.GAVE_UP)
    owner = (jobs.c.id == deliveries.c.job_id) & (jobs.c.tenant == endpoints.c.tenant)
    gave_up = select(func.count()).select_from(deliveries.join(jobs, owner)).where(lost).correlate(endpoints)
    known = endpoints.c.is_default | endpoints.c.disabled_at.is_not(None)
    query = select(endpoints, gave_up.scalar_subquery().label("gave_up")).where(endpoints.c.tenant == tenant, known)
    with database.read() as connection:
        rows = connection.execute(query.order_by(endpoints.c.is_default.desc(), endpoints.c.url)).all()
    return [Endpoint(row.url, row.is_default, row.disabled_at, row.gave_up) for row in rows]


def _note(tx: Connection, tenant: str, url: str, **values: Any) -> None:
    fresh = {"tenant": tenant, "url": url, "is_default": False}
    made = insert_into(tx, endpoints).values(**(fresh | values))
    tx.execute(made.on_conflict_do_update(index_elements=[endpoints.c.tenant, endpoints.c.url], set_=values))
