"""Connections and transactions.

`write()` is a transaction that may change rows (on SQLite it takes the write lock at once, so that what it read stays
true until it commits); `read()` only looks; `single()` carries exactly one statement without the cost of a transaction.
No outside call is ever made inside any of them. Failures of the database leave here as `DatabaseUnavailable`, a missing
schema as `DatabaseNotMigrated`, a file that is no database as `SettingsError`.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL, Dialect, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InvalidatePoolError,
    InvalidRequestError,
    NoSuchModuleError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from kiejobs.errors import DatabaseNotMigrated, DatabaseUnavailable, SettingsError

IDLE_S = 1.0
"""A connection that was not used for so long is asked whether it lives, before it is used again."""

SQLITE_WAIT_S = 30.0
"""So long a process waits for another one that holds the file."""

SILENT_MS = 60_000
"""PostgreSQL ends a transaction whose process has said nothing for so long, and frees what it has locked. A frozen worker,
or one whose machine is gone without a word, would keep it for hours, and with an account's row every create.
https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-IDLE-IN-TRANSACTION-SESSION-TIMEOUT"""

_NOTICES_SILENCE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}
"""A server that is cut off without a word is given up after some 25 s; by itself the kernel would take a quarter of an
hour, and every thread would wait. https://www.postgresql.org/docs/current/libpq-connect.html"""

_WRITTEN = "Write it like postgresql+psycopg://user:password@host:5432/name, or sqlite:////path/kiejobs.db."
_FILE_REMEDY = "Check KIEJOBS_DATABASE_URL and KIEJOBS_DATA_DIR: the file and its folder must be readable and writable."

_DIED_AT_ONCE = "This connection is closed"
"""What SQLAlchemy's pool says when the connection that it made in a dead one's place is dead, too: `InvalidRequestError`
with these words and no cause. A pooler takes connections while the server behind it is away."""

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
            return {"connect_args": {"timeout": SQLITE_WAIT_S}}
        given = {"connect_timeout": 5, "application_name": "kiejobs", **_NOTICES_SILENCE}
        return {"connect_args": given, "isolation_level": "AUTOCOMMIT"}  # this module begins transactions

    def write(self) -> AbstractContextManager[Connection]:
        """Open a transaction that may change rows; commits at the end, rolls back on any exception."""
        if self.sqlite:
            return self._transaction("BEGIN IMMEDIATE")
        return self._transaction(f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = {SILENT_MS}")

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
        with _translated(self.engine.url), self.engine.begin() as connection:
            connection.exec_driver_sql(begin)
            yield connection

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with _translated(self.engine.url), self.engine.connect() as connection:
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
        with _translated(self.engine.url), ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(self.engine.connect())

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


def sqlite_file(url: str) -> Path | None:
    """Return the file of an SQLite address, None for a server's; SettingsError for what cannot be used."""
    parsed = _parsed(url)
    return Path(str(parsed.database)).absolute() if parsed.get_backend_name() == "sqlite" else None


def _note_use(_: Any, record: Any) -> None:
    record.info["used_s"] = time.monotonic()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"the folder {folder} cannot be made: {error.strerror}",
            remedy="Set KIEJOBS_DATA_DIR or KIEJOBS_DATABASE_URL to one that can be written.",
        ) from None


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        dialect = parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):  # the last one for a port that is no number
        raise SettingsError("KIEJOBS_DATABASE_URL is no address of a database", remedy=_WRITTEN) from None
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
    if "@" in (parsed.host or ""):  # an error of the driver would show the password's end as the host
        raise SettingsError(
            "KIEJOBS_DATABASE_URL has more than one @", remedy="Write the one in the user or password as %40."
        )
    _check_driver(parsed.drivername, dialect)
    return parsed


def _check_driver(name: str, dialect: type[Dialect]) -> None:
    """Refuse a driver that is not installed, and one for asyncio, which nothing here waits for."""
    try:
        dialect.import_dbapi()
    except ImportError:
        usable = False
    else:
        usable = not dialect.is_async
    if not usable:
        raise SettingsError(f"KIEJOBS_DATABASE_URL names {name}, which cannot be used here", remedy=_WRITTEN)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # this module begins transactions, not the driver
    _turn_to_wal(connection)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _turn_to_wal(connection: Any) -> None:
    """Turn the file to write-ahead logging, where readers and the writer do not wait for each other.

    Of several that open a new file at once, SQLite tells all but one at once that it is locked, whatever their timeout:
    https://www.sqlite.org/c3ref/busy_handler.html ("the presence of a busy handler does not guarantee …").
    """
    from sqlite3 import SQLITE_BUSY, OperationalError  # not loaded where PostgreSQL is used

    deadline = time.monotonic() + SQLITE_WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except OperationalError as error:
            if error.sqlite_errorcode != SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)  # noqa: TID251 - SQLite does not wait here by itself


@contextmanager
def _translated(url: URL) -> Iterator[None]:
    try:
        yield
    except PoolTimeout:
        raise DatabaseUnavailable("no free connection to the database within 30 s") from None
    except InvalidRequestError as error:
        if str(error) != _DIED_AT_ONCE:
            raise
        raise DatabaseUnavailable("the database does not answer: new connections to it die at once") from None
    except DBAPIError as error:
        if _schema_is_missing(error):
            raise DatabaseNotMigrated("the database has no kiejobs schema, or an older one") from None
        if error.connection_invalidated or (not isinstance(error, ProgrammingError) and _is_operational(error)):
            raise _no_answer(error, url) from None
        if url.get_backend_name() == "sqlite" and str(error.orig) == "file is not a database":
            raise SettingsError(
                f"{url.database} is not an SQLite database",
                remedy="Set KIEJOBS_DATABASE_URL or KIEJOBS_DATA_DIR to another place, or move that file away.",
            ) from None
        raise


def _no_answer(error: DBAPIError, url: URL) -> DatabaseUnavailable:
    said = f"the database does not answer: {_first_line(error)}"
    if url.get_backend_name() == "sqlite":
        return DatabaseUnavailable(f"{said} ({url.database})", remedy=_FILE_REMEDY)
    return DatabaseUnavailable(said)


def _schema_is_missing(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    text = str(error.orig)
    return state in _POSTGRESQL_UNDEFINED or text.startswith(("no such table", "no such column"))


def _is_operational(error: DBAPIError) -> bool:
    return type(error).__name__ in ("OperationalError", "InterfaceError", "InternalError")


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
