"""A version runs beside the next one: migrations add first, and processes of the earlier version go on."""

import ast
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import text

from kiejobs import KieJobs
from kiejobs.db import migrate
from kiejobs.db.session import Database
from tests.conftest import temporary_postgresql
from tests.support import missing, postgresql_answers

HISTORY = Path(migrate.__file__).parent / "migrations" / "versions"
LATER = [path for path in sorted(HISTORY.glob("[0-9]*.py")) if not path.name.startswith("0001")]
TAKES_AWAY = {"drop_table", "drop_column", "alter_column", "drop_constraint", "rename_table"}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path: Path) -> Iterator[Database]:
    """A migrated database of the test's own: its schema is changed."""
    with ExitStack() as stack:
        if request.param == "postgresql":
            if not postgresql_answers():
                missing("PostgreSQL on 127.0.0.1:5432")
            url = stack.enter_context(temporary_postgresql())
        else:
            url = f"sqlite:///{tmp_path / 'kiejobs.db'}"
        made = Database(url)
        migrate.migrate(made)
        yield made
        made.close()


def _advance(database: Database) -> str:
    """Bring the database to the schema of a version that does not exist yet, as its migration would."""
    newer = f"{int(migrate.head()) + 1:04}"
    with database.write() as tx:
        tx.execute(text("ALTER TABLE jobs ADD COLUMN of_the_next_version TEXT"))
        tx.execute(text("CREATE TABLE of_the_next_version (id INTEGER PRIMARY KEY)"))
        tx.execute(text("UPDATE alembic_version SET version_num = :newer"), {"newer": newer})
    return newer


def test_an_earlier_version_goes_on_with_the_next_ones_schema(database, settings, nudges, caplog):
    """A worker that is started again meanwhile, or a version that is taken back, must not stand still."""
    newer = _advance(database)
    assert migrate.ready(database) is database
    assert newer in caplog.text
    jobs = KieJobs(settings, database=database, publish=nudges)
    job = jobs.enqueue("grok-imagine/text-to-image", {"prompt": "a red door"})
    assert jobs.get(job.id).phase == "queued"


def test_migrate_of_an_earlier_version_leaves_the_next_ones_schema_alone(database):
    """A deployment that is rolled back runs its own migration, too."""
    newer = _advance(database)
    assert migrate.migrate(database) == (newer, newer)
    assert migrate.current(database) == newer


@pytest.mark.parametrize("path", LATER, ids=lambda path: path.stem)
def test_a_migration_takes_nothing_away_that_the_version_before_uses(path):
    """New columns may be empty or have a default: the earlier version writes rows without them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (upgrade,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "upgrade"]
    calls = [node for node in ast.walk(upgrade) if isinstance(node, ast.Call)]
    named = {call.func.attr for call in calls if isinstance(call.func, ast.Attribute)}
    assert named & TAKES_AWAY == set()
    for call in calls:
        if isinstance(call.func, ast.Attribute) and call.func.attr == "add_column":
            told = ast.unparse(call)
            assert "nullable=True" in told or "server_default=" in told, told
