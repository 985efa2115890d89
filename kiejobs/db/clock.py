"""The database's clock, the only clock that leases, due times and budgets go by.

`clock(offset_s)` is one SQL expression for "now, plus so many seconds", given as a number or by a parameter's name.
PostgreSQL: `clock_timestamp()`, because `now()` is the transaction's start and lags behind a wait for a lock. SQLite: UTC
text of fixed width, so that it sorts.
`UtcTime` is the one column type for times: aware UTC in Python, whatever the database.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Float, String
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import expression
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeDecorator

_SQLITE_FORMAT = "%Y-%m-%d %H:%M:%f"


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC: `timestamptz` on PostgreSQL, fixed-width text with milliseconds on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """Choose text for SQLite, so that stored times and `clock()` compare as strings."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(23))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Write an aware time; a naive one is a bug."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.") + f"{value.microsecond // 1000:03d}"

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Read an aware time."""
        if value is None:
            return None
        if isinstance(value, str):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        moment: datetime = value
        return moment.astimezone(UTC)


class clock(expression.FunctionElement[datetime]):  # noqa: N801 - reads as a SQL function
    """The database's time now, or so many seconds from now.

    `offset_s` is a number, the name of a parameter that brings one when the statement is executed (NULL makes the time
    NULL), or a SQL expression of one.
    """

    type = UtcTime()
    inherit_cache = True

    def __init__(self, offset_s: Any = None) -> None:
        if isinstance(offset_s, str):
            offset_s = expression.bindparam(offset_s, type_=Float())
        elif isinstance(offset_s, int | float):
            offset_s = expression.literal(float(offset_s))
        super().__init__(*(() if offset_s is None else (offset_s,)))


@compiles(clock, "postgresql")
def _postgresql(element: clock, compiler: SQLCompiler, **kw: Any) -> str:
    if not len(element.clauses):
        return "clock_timestamp()"
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"


@compiles(clock, "sqlite")
def _sqlite(element: clock, compiler: SQLCompiler, **kw: Any) -> str:
    if not len(element.clauses):
        return f"strftime('{_SQLITE_FORMAT}', 'now')"
    offset = compiler.process(element.clauses, **kw)
    return f"strftime('{_SQLITE_FORMAT}', 'now', ({offset}) || ' seconds')"
