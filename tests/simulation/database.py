"""The real repository on a real SQLite, whose clock is the world's and whose every transaction is an effect.

SQLite takes the write lock when a transaction begins, so a transaction is atomic here as it is there: actors give way
before one and after its commit, never inside. An outside call inside a transaction is a violation.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import StaticPool

from kiejobs.db import session
from kiejobs.db.migrate import migrate
from kiejobs.db.session import Database
from kiejobs.db.tables import metadata
from kiejobs.errors import DatabaseUnavailable
from tests.simulation.world import Violation, World


def _away() -> Exception:
    return DatabaseUnavailable("the database does not answer (simulated)")


def _offset_s(modifier: str) -> float:
    return float(modifier.removesuffix(" seconds"))


class SimulatedDatabase(Database):
    """One in-memory database for all runs of a process; `reset` empties it and hands it to a world."""

    def __init__(self) -> None:
        self.sqlite = True
        self.world: World | None = None
        self._inside = False
        self.engine = create_engine("sqlite://", poolclass=StaticPool)
        event.listen(self.engine, "connect", session._prepare_sqlite)
        event.listen(self.engine, "connect", self._follow_the_world)
        self._tables = [f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)]
        migrate(self)
        self.raw: Any = self.engine.raw_connection().driver_connection

    def _follow_the_world(self, connection: Any, _record: Any) -> None:
        connection.create_function("strftime", -1, self._strftime)

    def _strftime(self, _format: str, _now: str, *modifiers: str | None) -> str | None:
        if None in modifiers:
            return None  # as SQLite does
        if self.world is None:
            return "2026-01-05 00:00:00.000"
        moment = self.world.moment + timedelta(seconds=sum(_offset_s(one) for one in modifiers if one))
        return moment.isoformat(" ", "milliseconds")

    def reset(self, world: World) -> None:
        """Empty every table and follow another world's time."""
        self.world = world
        for statement in self._tables:
            self.raw.execute(statement)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """As the real one, with an effect's dangers around it."""
        with self._dangerous("write", super().write) as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """As the real one, with an effect's dangers around it."""
        with self._dangerous("read", super().read) as connection:
            yield connection

    @contextmanager
    def single(self) -> Iterator[Connection]:
        """As the real one, with an effect's dangers around it."""
        with self._dangerous("single", super().single) as connection:
            yield connection

    @contextmanager
    def _dangerous(self, kind: str, opened: Callable[[], AbstractContextManager[Connection]]) -> Iterator[Connection]:
        world = self.world
        if world is None or world.current is None:
            with opened() as connection:
                yield connection
            return
        if self._inside:
            raise Violation("I2 a transaction begins inside another one: with one connection this never ends")
        fault = world.begin(kind, _away, 0.01)
        self._inside = True
        try:
            with opened() as connection:
                yield connection
                if world.chance(world.traits.rate / 20):
                    world.note(f"{kind}: the database went away before the commit")
                    raise _away()
        finally:
            self._inside = False
        world.end(kind, fault, _away)

    def refuse_inside(self, what: str) -> None:
        """Insist that no transaction is open while something outside is done."""
        if self._inside:
            raise Violation(f"I2 {what} while a transaction is open")
