"""What the gateway's routes use: built once per process, handed to each route, closed at the end.

Nothing here is made at import. Publishing never makes a request wait: nudges go to a thread of their own, and one that
is lost costs a moment, because the pump publishes what stands in line.
"""

import logging
import queue
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from kiejobs import nudge
from kiejobs.db import migrate
from kiejobs.db.session import Database
from kiejobs.gateway.limits import Limits, Room
from kiejobs.kie import catalogue
from kiejobs.nudge import Nudge, Publish
from kiejobs.producer import KieJobs
from kiejobs.settings import Settings

if TYPE_CHECKING:
    from kiejobs.gateway.callbacks import Receiver
    from kiejobs.gateway.health import Readiness
    from kiejobs.gateway.metrics import Metrics
    from kiejobs.storage.store import Store

log = logging.getLogger(__name__)

_HELD_BACK = 10_000
"""Nudges that wait for a slow broker; what is beyond is the pump's."""
_LAST_ONES_S = 3.0

CONNECTED = 8
"""Connections to the database that there are from the start: as many as take callbacks at once."""


class Courier:
    """Publishes on a thread of its own, so that a broker that hangs holds no request up."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._waiting: queue.Queue[list[Nudge] | None] = queue.Queue(_HELD_BACK)
        self._thread = threading.Thread(target=self._run, name="gateway-courier", daemon=True)
        self._thread.start()

    def __call__(self, nudges: Iterable[Nudge]) -> None:
        """Take nudges; returns at once."""
        some = list(nudges)
        try:
            if some:
                self._waiting.put_nowait(some)
        except queue.Full:
            log.warning("%d nudges not published: the broker is too slow, the sweep publishes them", len(some))

    def _run(self) -> None:
        while (some := self._waiting.get()) is not None:
            try:
                self._publish(some)
            except Exception:
                log.exception("%d nudges not published, the sweep will", len(some))

    def close(self) -> None:
        """Publish what waits, for a few seconds at most."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(_LAST_ONES_S)


@dataclass(frozen=True)
class Services:
    """The settings, the database, the way to the broker, and what is made of them."""

    settings: Settings
    database: Database
    publish: Publish
    limits: Limits = field(default_factory=Limits)

    def jobs_of(self, tenant: str, who: str = "http") -> KieJobs:
        """Return the producer's interface for one tenant; `who` is what timelines say of orders given through it."""
        return KieJobs(self.settings, tenant=tenant, database=self.database, publish=self.publish, who=who)

    @cached_property
    def store(self) -> "Store":
        """The storage, opened when it is first asked for."""
        from kiejobs.storage.store import Store

        return Store.of(self.settings)

    @cached_property
    def room(self) -> Room:
        """Where files lie while they are received."""
        return Room(self.limits.files_bytes)

    @cached_property
    def callbacks(self) -> "Receiver":
        """What takes Kie's callbacks."""
        from kiejobs.gateway.callbacks import Receiver

        return Receiver(self)

    @cached_property
    def readiness(self) -> "Readiness":
        """Whether what the gateway stands on answers."""
        from kiejobs.gateway.health import Readiness

        return Readiness(self)

    @cached_property
    def metrics(self) -> "Metrics":
        """The figures for Prometheus."""
        from kiejobs.gateway.metrics import Metrics

        return Metrics(self.settings, self.database)

    def close(self) -> None:
        """Publish what waits and give the connections back."""
        if isinstance(self.publish, Courier):
            self.publish.close()
        self.database.close()


def open_services(
    settings: Settings,
    *,
    database: Database | None = None,
    publish: Publish | None = None,
    limits: Limits | None = None,
) -> Services:
    """Build what the routes use. DatabaseNotMigrated where the schema is missing; the broker may be down.

    What the first requests would have to wait for is loaded and connected here.
    """
    limits = limits or Limits()
    catalogue.use(settings.catalogue)
    return Services(
        settings=settings,
        database=database or _connected(Database(settings.database, pool_size=limits.threads)),
        publish=publish or Courier(_publisher(settings)),
        limits=limits,
    )


def _connected(database: Database) -> Database:
    migrate.ready(database).connect(CONNECTED)
    return database


def _publisher(settings: Settings) -> Publish:
    if settings.broker is None:
        return lambda nudges: None  # the pump of whatever workers there are finds the rows
    app = nudge.producer_app(settings.broker)
    nudge.load(app)
    return nudge.publisher(app)


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Uses = Annotated[Services, Depends(_services)]
"""A route's parameter: what it uses."""
