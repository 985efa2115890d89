"""The schema's history, applied. Alembic does the work; this module only knows where the history lies.

Alembic is imported only where there is something to do, because every producer opens the database. Migrations first add,
and take away a version later what nobody uses any more; so a process runs on the schema of the next version, too.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from kiejobs.db.session import Database
from kiejobs.db.tables import metadata
from kiejobs.errors import DatabaseNotMigrated, DatabaseUnavailable, SettingsError

if TYPE_CHECKING:
    from alembic.config import Config

log = logging.getLogger(__name__)

LOCK_WAIT_S, LOCK_TRIES, LOCK_PAUSE_S = 2, 5, 1.0
_LOCK_NOT_AVAILABLE = "55P03"
_pause = threading.Event().wait  # nobody sets this event
_HISTORY = Path(__file__).parent / "migrations"
_LOCK = 7_134_215_004  # any number of our own: two migrations at once wait for each other


def ready(database: Database) -> Database:
    """Return the database if its schema will do. An older SQLite is brought up; PostgreSQL is a person's decision.

    A newer one will do: it is there while a version is being replaced by the next one, or taken back.
    """
    try:
        found = current(database)
    except DatabaseNotMigrated:
        found = None
    if found is not None and found > head():
        log.warning("the database's schema is %s, of a later version than this one, which knows %s", found, head())
    elif found != head():
        if not database.sqlite:
            raise DatabaseNotMigrated(f"the database's schema is {found or 'missing'}, this version needs {head()}")
        migrate(database)
    return database


def migrate(database: Database) -> tuple[str | None, str]:
    """Create or upgrade the schema; return the revisions before and after. Safe to run twice, also at once.

    A schema of a later version is left as it is. Who waits for a table's lock holds up all who come after: so it is waited
    for briefly, and several times. DatabaseUnavailable where it was never free; then nothing has changed.
    """
    for _ in range(LOCK_TRIES - 1):
        with suppress(_Locked):
            return _migrate(database)
        log.info("a table that the migration changes is in use; tried again in %g s", LOCK_PAUSE_S)
        _pause(LOCK_PAUSE_S)
    return _migrate(database)


def _migrate(database: Database) -> tuple[str | None, str]:
    from alembic import command
    from alembic.migration import MigrationContext

    with database.write() as connection, _telling_locks():
        if not database.sqlite:
            _check_encoding(connection)
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        before = MigrationContext.configure(connection).get_current_revision()
        if before is not None and before > head():
            return before, before
        settings = config()
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
        after = MigrationContext.configure(connection).get_current_revision()
    return before, str(after)


class _Locked(DatabaseUnavailable):
    """A lock that the migration needs is held."""

    remedy = "Nothing has changed. See who holds it in pg_stat_activity, then run `kiejobs migrate` again."


@contextmanager
def _telling_locks() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            raise _Locked(f"a table that the migration changes stayed in use for {LOCK_WAIT_S} s") from None
        raise


def _check_encoding(connection: Connection) -> None:
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise SettingsError(
            f"the database's encoding is {encoding}, which cannot hold what people and Kie write",
            remedy="Make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.",
        )


def config() -> "Config":
    """Return Alembic's configuration, without any file in the working directory."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(_HISTORY))
    return made


def head() -> str:
    """Return the newest revision of the history; its files begin with their revision."""
    return max(path.name.split("_")[0] for path in (_HISTORY / "versions").glob("[0-9]*.py"))


def current(database: Database) -> str | None:
    """Return the database's revision; DatabaseNotMigrated where there is no schema at all."""
    with database.read() as connection:
        found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return str(found) if found else None


def differences(database: Database) -> list[object]:
    """List what the tables in code have and the migrated database has not, and the other way round."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))
