"""Figures that only rise, kept over restarts and added up over all processes. What they mean is in `kiejobs.counted`.

A process adds what it counted since the last time; rows are taken in the order of their keys, so that two that add at
once wait for each other and never deadlock. `put` sets a figure that may also fall.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from kiejobs.counted import Key
from kiejobs.db.inserts import insert_into
from kiejobs.db.session import Database
from kiejobs.db.tables import counters

DRIFT = "credits_drift"
"""Set by whoever read a balance: credits that left it and that no known submission explains, by account."""


def add(tx: Connection, sums: Mapping[Key, float]) -> None:
    """Add figures to those that are kept."""
    _write(tx, sums, lambda made: counters.c.value + made.excluded.value)


def put(tx: Connection, values: Mapping[Key, float]) -> None:
    """Set figures, whatever they were."""
    _write(tx, values, lambda made: made.excluded.value)


def _write(tx: Connection, values: Mapping[Key, float], becomes: Any) -> None:
    rows = [{"name": name, "label": label, "value": values[name, label]} for name, label in sorted(values)]
    if rows:
        made = insert_into(tx, counters).values(rows)
        keys = [counters.c.name, counters.c.label]
        tx.execute(made.on_conflict_do_update(index_elements=keys, set_={"value": becomes(made)}))


def everything(database: Database) -> dict[Key, float]:
    """Read all figures."""
    with database.read() as connection:
        return {(row.name, row.label): row.value for row in connection.execute(select(counters))}
