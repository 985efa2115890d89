"""How long generations took at Kie, by model: what learned pacing goes by. Of each model the latest few are kept."""

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import durations

_NOTE = insert(durations).values(at=clock())
_LATEST = (
    select(durations.c.took_s)
    .where(durations.c.model == bindparam("model"))
    .order_by(durations.c.id.desc())
    .limit(bindparam("count"))
)
_RANK = func.row_number().over(partition_by=durations.c.model, order_by=durations.c.id.desc()).label("rank")
_RANKED = select(durations.c.id, _RANK).subquery()
_FORGET = delete(durations).where(durations.c.id.in_(select(_RANKED.c.id).where(_RANKED.c.rank > bindparam("keep"))))


def note(tx: Connection, took: Iterable[tuple[str, float]]) -> None:
    """Write down (model, seconds) of generations that ended now."""
    rows = [{"model": model, "took_s": seconds} for model, seconds in took]
    if rows:
        tx.execute(_NOTE, rows)


def latest(database: Database, model: str, count: int) -> list[float]:
    """Read the latest durations of a model in seconds, at most so many."""
    with database.read() as connection:
        return list(connection.scalars(_LATEST, {"model": model, "count": count}))


def forget(database: Database, *, keep: int) -> None:
    """Forget all but the latest `keep` of each model."""
    with database.write() as tx:
        tx.execute(_FORGET, {"keep": keep})
