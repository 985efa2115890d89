"""Connections and transactions.

`write()` is a transaction that may change rows (on SQLite it takes the write lock at once, so that what it read stays
true until it commits); `read()` only looks; `single()` carries exactly one statement without the cost of a transaction.
No outside call is ever made inside any of them. Failures of the database leave here as `DatabaseUnavailable`, a missing
schema as `DatabaseNotMigrated`.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidatePoolError, NoSuchModuleError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from kiejobs.errors import DatabaseNotMigrated, DatabaseUnavailable, SettingsError

IDLE_S = 1.0
"""A connection that was not used for so long is asked whether it lives, before it is used again."""

_NOTICES_SILENCE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}
"""A server that is cut off without a word is given up after some 25 s; by itself the kernel would take a quarter of an
hour, and every thread would wait. https://www.postgresql.org/docs/current/libpq-connect.html"""

_POSTGRESQL_UNDEFINED = ("42P01", "42703")  # undefined table, undefined column


class Database:
    """One process's connections to the one database."""

    def __init__(self, url: str, *, pool_size: int = 20) -> None:
        self.url = _parsed(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        if self.sqlite and self.url.database:
            _make_folder(Path(self.url.database).parent)
        self.engine = create_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=10,
            hide_parameters=True,  # an error's text goes to logs and Flower; parameters hold prompts
            **self._options(),
        )
        if self.sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
        else:
            event.listen(self.engine, "checkout", self._check_if_idle)
            event.listen(self.engine, "checkin", _note_use)

    def _options(self) -> dict[str, Any]:
        if self.sqlite:
            return {"connect_args": {"timeout": 30.0}}
        given = {"connect_timeout": 5, "application_name": "kiejobs", **_NOTICES_SILENCE}
        return {"connect_args": given, "isolation_level": "AUTOCOMMIT"}  # this module begins transactions

    def write(self) -> AbstractContextManager[Connection]:
        """Open a transaction that may change rows; commits at the end, rolls back on any exception."""
        return self._transaction("BEGIN IMMEDIATE" if self.sqlite else "BEGIN")

    def read(self) -> AbstractContextManager[Connection]:
        """Open a connection that only looks; on SQLite, at one moment.

        On PostgreSQL a transaction would bring nothing: each statement in it sees what was committed before it.
        """
        return self._transaction("BEGIN") if self.sqlite else self._connection()

    def single(self) -> AbstractContextManager[Connection]:
        """Open a connection for exactly one statement, which on PostgreSQL commits by itself."""
        return self._transaction("BEGIN IMMEDIATE") if self.sqlite else self._connection()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        with _translated(), self.engine.begin() as connection:
            connection.exec_driver_sql(begin)
            yield connection

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with _translated(), self.engine.connect() as connection:
            yield connection

    def _check_if_idle(self, connection: Any, record: Any, _: Any) -> None:
        """Ask a connection that lay idle whether it still lives: a server's restart should be no caller's error."""
        if time.monotonic() - record.info.get("used_s", 0.0) < IDLE_S:
            return
        try:
            self.engine.dialect.do_ping(connection)
        except Exception as error:
            raise InvalidatePoolError("the connection died while it lay idle") from error

    def connect(self, count: int) -> None:
        """Make so many connections now, which the first callers would have to wait for."""
        with _translated(), ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(self.engine.connect())

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


def _note_use(_: Any, record: Any) -> None:
    record.info["used_s"] = time.monotonic()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"the folder {folder} cannot be made: {error.strerror}",
            remedy="Set KIEJOBS_DATA_DIR to one that can be written.",
        ) from None


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError):
        raise SettingsError(
            "KIEJOBS_DATABASE_URL is no address of a database",
            remedy="Write it like postgresql+psycopg://user:password@host:5432/name, or sqlite:////path/kiejobs.db.",
        ) from None
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise SettingsError(
            "KIEJOBS_DATABASE_URL names a database in memory, which no other process can see",
            remedy="Write it like sqlite:////path/kiejobs.db.",
        )
    if parsed.get_backend_name() not in ("postgresql", "sqlite"):
        raise SettingsError(
            f"KIEJOBS_DATABASE_URL names {parsed.get_backend_name()}, which kiejobs does not run on",
            remedy="Use PostgreSQL (postgresql+psycopg://…) or SQLite.",
        )
    return parsed


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # this module begins transactions, not the driver
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PoolTimeout:
        raise DatabaseUnavailable("no free connection to the database within 30 s") from None
    except DBAPIError as error:
        if _schema_is_missing(error):
            raise DatabaseNotMigrated("the database has no kiejobs schema, or an older one") from None
        if error.connection_invalidated or (not isinstance(error, ProgrammingError) and _is_operational(error)):
            raise DatabaseUnavailable(f"the database does not answer: {_first_line(error)}") from None
        raise


def _schema_is_missing(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    text = str(error.orig)
    return state in _POSTGRESQL_UNDEFINED or text.startswith(("no such table", "no such column"))


def _is_operational(error: DBAPIError) -> bool:
    return type(error).__name__ in ("OperationalError", "InterfaceError", "InternalError")


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
