"""What tests are given: an environment that can buy nothing, both databases, a simulated Kie, settings."""

import os
import secrets
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import requests
from sqlalchemy import event
from sqlalchemy.engine import make_url

from kiejobs.db import tables
from kiejobs.db.migrate import migrate
from kiejobs.db.session import Database
from kiejobs.settings import Settings
from kiejobs.simulator import Simulator
from tests.factories import Nudges, Ticker, make_runtime, make_settings
from tests.support import missing, postgresql_answers
from workers.runtime import Runtime

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background by a shell: our own processes would inherit that they hear no Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

POSTGRESQL = "postgresql+psycopg://postgres@127.0.0.1:5432"
OURS = ("KIE_", "KIEJOBS_", "AWS_", "OTEL_")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was skipped, by reason: what this machine lacks, and how many tests that cost."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if reasons:
        terminalreporter.section("skipped, because this machine has")
        for reason, count in reasons.most_common():
            terminalreporter.line(f"{count:5}  {reason}")


@pytest.fixture(scope="session", autouse=True)
def nobody_buys_by_accident(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Take every key and every setting out of the environment, and stand where no `.env` lies."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.upper().startswith(OURS)]:
            patch.delenv(name)
        if Path(".env").exists():
            patch.chdir(tmp_path_factory.mktemp("no-dotenv"))
        yield


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file; each test gets a copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    made = Database(f"sqlite:///{path}")
    migrate(made)
    made.close()
    return path


@pytest.fixture(scope="session")
def _postgresql_url() -> Iterator[str]:
    """A migrated PostgreSQL database of this process's own, emptied before each test, dropped at the end."""
    if not postgresql_answers():
        missing("PostgreSQL on 127.0.0.1:5432")
    with temporary_postgresql() as url:
        made = Database(url)
        migrate(made)
        made.close()
        yield url


class temporary_postgresql:  # noqa: N801 - used as a function
    """An empty PostgreSQL database with a random name, for the time of a `with` block."""

    def __init__(self, options: str = "") -> None:
        self.options = options

    def __enter__(self) -> str:
        self.name = f"kiejobs_test_{secrets.token_hex(6)}"
        self._run(f"CREATE DATABASE {self.name} {self.options}")
        self._run(f"ALTER DATABASE {self.name} SET synchronous_commit = off")  # nothing here outlives a crash
        return f"{POSTGRESQL}/{self.name}"

    def __exit__(self, *_: object) -> None:
        self._run(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        address = "host=127.0.0.1 port=5432 user=postgres dbname=postgres connect_timeout=5"
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def _on_postgresql(_postgresql_url: str) -> Database:
    """One for all tests of this process: what SQLAlchemy makes of a statement once is kept with its engine."""
    return Database(_postgresql_url)


@pytest.fixture(scope="session")
def _on_sqlite(_sqlite_template: Path) -> Database:
    """Likewise; it connects to the file that its `url` names, which each test sets to one of its own."""
    made = Database(f"sqlite:///{_sqlite_template}")

    def connect(_dialect: object, _record: object, positional: list[str], _named: object) -> None:
        positional[0] = str(made.url.database)

    event.listen(made.engine, "do_connect", connect)
    return made


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty, migrated database: a file, and a server's."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite")
        return
    made: Database = request.getfixturevalue("_on_postgresql")
    _empty(made)
    yield made
    made.close()


@pytest.fixture
def sqlite(tmp_path: Path, _sqlite_template: Path, _on_sqlite: Database) -> Iterator[Database]:
    """An empty, migrated SQLite database, for what does not depend on the database."""
    file = shutil.copy(_sqlite_template, tmp_path / "kiejobs.db")
    _on_sqlite.url = make_url(f"sqlite:///{file}")
    yield _on_sqlite
    _on_sqlite.close()


def _empty(database: Database) -> None:
    emptied = [f"DELETE FROM {table.name}" for table in reversed(tables.metadata.sorted_tables)]
    with database.write() as tx:
        tx.exec_driver_sql("; ".join(["SET LOCAL lock_timeout = '10s'", *emptied]))


@pytest.fixture(scope="session")
def _running_simulator() -> Iterator[Simulator]:
    with Simulator(duration_s=30.0) as running:
        yield running


@pytest.fixture
def simulator(_running_simulator: Simulator) -> Simulator:
    """A simulated Kie that has seen nothing yet. Generations last until `finish` ends them."""
    requests.post(f"{_running_simulator.base_url}/simulator/reset", timeout=5).raise_for_status()
    return _running_simulator


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings whose files lie in the test's folder; they lead to the simulator where the test has one."""
    if "simulator" not in request.fixturenames:
        return make_settings(tmp_path)
    kie: Simulator = request.getfixturevalue("simulator")
    host, _, port = kie.files_host_port.rpartition(":")
    return make_settings(tmp_path, base_url=kie.base_url, egress_allow=frozenset({(host, int(port))}))


@pytest.fixture
def nudges() -> Nudges:
    """A publisher that remembers."""
    return Nudges()


@pytest.fixture
def ticker() -> Ticker:
    """A monotonic clock that stands still."""
    return Ticker()


@pytest.fixture
def runtime(settings: Settings, nudges: Nudges, ticker: Ticker) -> Callable[..., Runtime]:
    """Makes a runtime: `runtime(database, **changed_settings)`; its messages are in `nudges`."""

    def make(database: Database, **changed: object) -> Runtime:
        mixed = Settings(_env_file=None, **(settings.model_dump() | changed))
        return make_runtime(mixed, database, nudges, monotonic=ticker)

    return make
