"""Inserts that SQLAlchemy has for each database apart. Loaded is the dialect in use alone."""

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    Insert,
    Table,
    Text,
    bindparam,
    cast,
    column,
    func,
    insert,
    literal_column,
    select,
)

from kiejobs.writable import writable


def insert_into(tx: Connection, table: Table) -> Any:
    """Return an insert that has `on_conflict_do_nothing` and `on_conflict_do_update`."""
    if tx.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    return insert(table)


def insert_rows(tx: Connection, rows: Mapping[Table, list[dict[str, Any]]]) -> None:
    """Insert rows of several tables, in their order; those of one table have the same columns.

    PostgreSQL takes them all as JSON in one statement: what costs there is a statement, hardly a row. Where they are too
    much for one, each table has its own.
    """
    given = {table: of_table for table, of_table in rows.items() if of_table}
    if tx.dialect.name == "sqlite":
        for table, of_table in given.items():
            tx.execute(insert(table), of_table)
        return
    columns = {table: tuple(of_table[0]) for table, of_table in given.items()}
    parts = {table: _parts(of_table) for table, of_table in given.items()}
    if given and all(len(cut) == 1 for cut in parts.values()):
        tx.execute(_at_once(tuple(columns.items())), {table.name: cut[0] for table, cut in parts.items()})
        return
    for table, cut in parts.items():
        for part in cut:
            tx.execute(_at_once(((table, columns[table]),)), {table.name: part})


PART = 16 * 1024 * 1024
"""Characters of JSON in one parameter, if more than one row is in it: the server needs several times as much memory."""


def _parts(rows: list[dict[str, Any]]) -> list[str]:
    parts: list[list[str]] = []
    length = PART
    for row in rows:
        text = _as_json(row)
        if length + len(text) > PART:
            parts.append([])
            length = 0
        parts[-1].append(text)
        length += len(text)
    return [f"[{','.join(part)}]" for part in parts]


_encoded = json.JSONEncoder(ensure_ascii=False, default=datetime.isoformat).encode
_SUSPECT = ("\\u0000", "NaN", "Infinity")
"""How JSON spells what `writable` takes out. What looks like it and is not is looked at in vain."""


def _as_json(row: dict[str, Any]) -> str:
    text = _encoded(row)
    if any(one in text for one in _SUSPECT) or not (text.isascii() or _is_unicode(text)):
        return _encoded(writable(row))
    return text


def _is_unicode(text: str) -> bool:
    """Say whether there is no half of a surrogate pair in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@cache
def _at_once(shape: tuple[tuple[Table, tuple[str, ...]], ...]) -> Insert:
    """Make one statement of the inserts: all but the last stand before it, in a `WITH`."""
    *others, last = [_from_json(table, names) for table, names in shape]
    return last.add_cte(*[one.cte(f"new_{one.table.name}") for one in others])


def _from_json(table: Table, names: tuple[str, ...]) -> Insert:
    listed = func.json_to_recordset(cast(bindparam(table.name, type_=Text()), JSON))
    row = listed.table_valued(*[column(name, table.c[name].type) for name in names]).render_derived(with_types=True)
    defaults: dict[str, Any] = {
        one.name: one.default for one in table.c if one.default is not None and one.name not in names
    }
    filled = [one.arg if one.is_clause_element else literal_column(str(one.arg)) for one in defaults.values()]
    return insert(table).from_select([*names, *defaults], select(*row.c, *filled), include_defaults=False)
