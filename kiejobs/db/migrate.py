"""The schema's history, applied. Alembic does the work; this module only knows where the history lies."""

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from kiejobs.db.session import Database
from kiejobs.db.tables import Base

_HISTORY = Path(__file__).parent / "migrations"
_LOCK = 7_134_215_004  # any number of our own: two migrations at once wait for each other


def config() -> Config:
    """Return Alembic's configuration, without any file in the working directory."""
    made = Config()
    made.set_main_option("script_location", str(_HISTORY))
    return made


def migrate(database: Database) -> tuple[str | None, str]:
    """Create or upgrade the schema; return the revisions before and after. Safe to run twice, also at once."""
    with database.write() as connection:
        if not database.sqlite:
            connection.execute(text("SET LOCAL lock_timeout = '10s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        before = MigrationContext.configure(connection).get_current_revision()
        settings = config()
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
        after = MigrationContext.configure(connection).get_current_revision()
    return before, str(after)


def head() -> str:
    """Return the newest revision of the history."""
    return str(ScriptDirectory.from_config(config()).get_current_head())


def current(database: Database) -> str | None:
    """Return the database's revision; None where there is no schema."""
    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def differences(database: Database) -> list[object]:
    """List what the tables in code have and the migrated database has not, and the other way round."""
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))
