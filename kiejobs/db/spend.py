"""Money: what create calls cost, what nobody knows yet, and the daily caps of tenants.

A cap counts what today's submissions are known to have cost plus what is set aside for those that are not known yet, so
concurrent creates cannot pass it together. What is set aside is the most that the model was ever seen to cost; of a model
that was never seen, one create at a time is let through to learn it. Null credits are never taken for zero.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, String, and_, bindparam, cast, exists, func, or_, select, text, update

from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import jobs, submissions
from kiejobs.jobs import ENDED, SubmissionState
from kiejobs.writable import writable_credits

LEARNING_LOOK_S = 10.0
CAP_LOOK_S = 600.0
_Seen = submissions.alias("seen")
MAY_COST = (SubmissionState.SENDING, SubmissionState.ACCEPTED, SubmissionState.UNKNOWN, SubmissionState.WRITTEN_OFF)


@dataclass(frozen=True, slots=True)
class Held:
    """No create for this tenant now: why, and when to look again."""

    why: str
    look_s: float


@dataclass(frozen=True, slots=True)
class Spend:
    """What one tenant spent on one model on one day (UTC)."""

    day: str
    tenant: str
    model: str
    creates: int
    credits: Decimal
    """The sum of what is known."""
    unknown: int
    """Creates whose cost nobody knows (yet)."""


@dataclass(frozen=True, slots=True)
class UnknownSpend:
    """A submission that may have cost something, with nobody knowing what."""

    submission_id: str
    job_id: str
    tenant: str
    model: str
    state: str
    sending_at: datetime
    task_id: str | None


def reserve(tx: Connection, tenant: str, model: str, cap: float) -> Decimal | Held:
    """Return the credits to set aside for one more create, or why it must wait. Serialised per tenant."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:tenant, 7134))"), {"tenant": tenant})
    now: datetime = tx.scalar(select(clock()))  # type: ignore[assignment]
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    today = (submissions.c.tenant == tenant) & (submissions.c.sending_at >= midnight)
    counted = func.coalesce(submissions.c.credits, submissions.c.estimate, 0)
    used = tx.scalar(select(func.sum(counted)).where(today, submissions.c.state.in_(MAY_COST))) or Decimal(0)
    room = Decimal(str(cap)) - Decimal(str(used))
    price = tx.scalar(select(func.max(submissions.c.credits)).where(submissions.c.model == model))
    to_midnight_s = (midnight + timedelta(days=1) - now).total_seconds()
    if price is not None and price <= room:
        return Decimal(str(price))
    if _is_learning(tx, today):
        return Held("one create whose price nobody knows yet is let through alone", LEARNING_LOOK_S)
    if price is None and room > 0:
        return room  # nothing else may be bought beside a create whose price nobody knows
    cost = "" if price is None else f", and this model may cost {price:g}"
    return Held(f"the tenant's cap of {cap:g} credits a day leaves {room:g}{cost}", min(CAP_LOOK_S, to_midnight_s + 1))


def _is_learning(tx: Connection, today: Any) -> bool:
    """Say whether a create is under way for which all the room was set aside, because its model was never seen."""
    unpriced = today & submissions.c.credits.is_(None) & submissions.c.state.in_(MAY_COST)
    known = exists().where(_Seen.c.model == submissions.c.model, _Seen.c.credits.is_not(None))
    return tx.scalar(select(submissions.c.id).where(unpriced, ~known).limit(1)) is not None


def learned(tx: Connection, job_id: str, credits: Decimal) -> None:
    """Write down what Kie says the job's task cost."""
    tx.execute(_LEARNED, {"job": job_id, "credits": writable_credits(credits)})


_FOLLOWED = select(jobs.c.submission_id).where(jobs.c.id == bindparam("job")).scalar_subquery()
_LEARNED = update(submissions).where(submissions.c.id == _FOLLOWED)


def totals(database: Database, *, tenant: str | None = None, days: int = 30) -> list[Spend]:
    """Sum up credits per day, tenant and model, newest day first."""
    sent = submissions.c.sending_at if database.sqlite else func.timezone("UTC", submissions.c.sending_at)
    day = func.substr(cast(sent, String), 1, 10)
    where = [submissions.c.sending_at >= clock(-86400.0 * days), submissions.c.state.in_(MAY_COST)]
    if tenant is not None:
        where.append(submissions.c.tenant == tenant)
    query = (
        select(
            day.label("day"),
            submissions.c.tenant,
            submissions.c.model,
            func.count().label("creates"),
            func.coalesce(func.sum(submissions.c.credits), 0).label("credits"),
            (func.count() - func.count(submissions.c.credits)).label("unknown"),
        )
        .where(*where)
        .group_by(day, submissions.c.tenant, submissions.c.model)
        .order_by(day.desc(), submissions.c.tenant, submissions.c.model)
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    return [Spend(r.day, r.tenant, r.model, r.creates, Decimal(str(r.credits)), r.unknown) for r in rows]


def unknown(database: Database, *, tenant: str | None = None, limit: int = 500) -> list[UnknownSpend]:
    """List what may have cost something nobody knows: unknown creates, and ended jobs without a figure."""
    columns = (submissions.c.id, submissions.c.job_id, submissions.c.tenant, submissions.c.model, submissions.c.state)
    doubtful = submissions.c.state.in_((SubmissionState.UNKNOWN, SubmissionState.WRITTEN_OFF))
    followed = jobs.c.submission_id == submissions.c.id
    over = and_(submissions.c.state == SubmissionState.ACCEPTED, or_(jobs.c.state.in_(ENDED), ~followed))
    query = (
        select(*columns, submissions.c.sending_at, submissions.c.provider_task_id)
        .join(jobs, jobs.c.id == submissions.c.job_id)
        .where(submissions.c.credits.is_(None), or_(doubtful, over))
        .order_by(submissions.c.sending_at.desc())
    )
    if tenant is not None:
        query = query.where(submissions.c.tenant == tenant)
    with database.read() as connection:
        return [UnknownSpend(*row) for row in connection.execute(query.limit(limit))]
