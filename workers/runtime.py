"""What a worker process has: one of each, built once in the process that uses it, nothing at import.

Steps get a `Runtime` and nothing else; they can be run as functions with one made for a test. It holds no state of jobs.
"""

import logging
import random
import socket
import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from kiejobs import counted
from kiejobs.db import deliveries, durations, looks, migrate
from kiejobs.db.accounts import Budget
from kiejobs.db.session import Database
from kiejobs.decisions import Pace
from kiejobs.kie.callbacks import callback_url
from kiejobs.kie.client import NO_ANSWER, KieClient
from kiejobs.learned import AT_MOST
from kiejobs.nudge import Publish, notify_nudge, poll_nudge
from kiejobs.pacing import LOOK_S, MAX_WAIT_S, look_timeout_s
from kiejobs.settings import Settings
from kiejobs.storage.egress import GuardedSession, guarded_session
from kiejobs.storage.store import Store
from workers.aside import Aside
from workers.counts import Tallies
from workers.crowd import Crowd
from workers.leases import Leases
from workers.receivers import Receivers
from workers.schedules import Schedules

if TYPE_CHECKING:
    from kiejobs.traces import Traces

RESEND_AFTER_S = 1800.0
"""How long the policy `resubmit` waits for a callback to name the task."""

SLOW_FOR_S = 600.0
"""How long Kie is taken to be slow after a read that took more than half a look's time."""

log = logging.getLogger(__name__)


class Runtime:
    """One process's database, clients, store and publisher."""

    def __init__(
        self,
        settings: Settings,
        publish: Publish,
        *,
        database: Database | None = None,
        store: Store | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = lambda: random.uniform(-1, 1),
        aside: Aside | None = None,
    ) -> None:
        self.settings = settings
        self.publish = publish
        self.monotonic = monotonic
        self.jitter = jitter
        self.aside = aside
        """Where calls that take minutes are made; None: where they are asked for."""
        self.who = f"worker {socket.gethostname()}"
        self.stopping = threading.Event()
        self.counts = Tallies()
        self.receivers = Receivers()
        self._database = database
        self._store = store
        self._clients: dict[str, KieClient] = {}
        self._uploaders: dict[str, KieClient] = {}
        self._crowds: dict[str, Crowd] = {}
        self._lock = threading.Lock()
        self._slow_until = float("-inf")

    @cached_property
    def database(self) -> Database:
        """The database, its schema checked once."""
        return self._database or migrate.ready(Database(self.settings.database))

    @cached_property
    def traces(self) -> "Traces | None":
        """Where traces go; None where they are not wanted, or the extra is not installed."""
        if not self.settings.traces_endpoint:
            return None
        try:
            from kiejobs.traces import otlp
        except ImportError:
            log.warning('no traces: OTEL_EXPORTER_OTLP_ENDPOINT is set, but not: pip install "kiejobs[otel]"')
            return None
        return otlp(self.settings.traces_endpoint)

    @cached_property
    def store(self) -> Store:
        """Where results are kept."""
        return self._store or Store.of(self.settings)

    @cached_property
    def downloads(self) -> GuardedSession:
        """The session for URLs that came from Kie: it dials public addresses and exact exceptions only."""
        return guarded_session(self.settings.egress_allow)

    @cached_property
    def webhooks(self) -> GuardedSession:
        """The session for addresses that producers gave."""
        return guarded_session(self.settings.egress_allow)

    def look_again(self, job_id: str, version: int, in_s: float | None, *, polls: int = 0, by: str = "poll") -> None:
        """Publish the next look at a job. A wait of more than a minute lives in the row and is the sweep's."""
        if in_s is not None and in_s <= MAX_WAIT_S:
            self.publish([poll_nudge(job_id, version, countdown_s=in_s, polls=polls, by=by)])

    def tell(self, job_id: str) -> None:
        """Nudge the messages that a change of this job has just written."""
        self.publish([notify_nudge(job_id, due) for due in deliveries.due_of(self.database, job_id)])

    @cached_property
    def leases(self) -> Leases:
        """The heartbeat of the copies that this process runs."""
        return Leases(self)

    def client(self, account: str) -> KieClient | None:
        """Return the client of an account; None where this process has no key for it."""
        with self._lock:
            if account not in self._clients:
                own = self.settings.keys.get(account)
                if own is None:
                    return None
                key = own.key.get_secret_value()
                timeout_s = self.settings.http_timeout_s
                self._clients[account] = KieClient(self.settings.base_url, key, timeout_s=timeout_s, seen=self._seen)
            return self._clients[account]

    def uploader(self, account: str) -> KieClient | None:
        """Return the client that uploads with an account's key; None where this process has no key for it."""
        own = self.settings.keys.get(account)
        if own is None:
            return None
        with self._lock:
            if account not in self._uploaders:
                address, key = self.settings.upload_url, own.key.get_secret_value()
                self._uploaders[account] = KieClient(address, key, pool_size=4, kind="upload", seen=self._seen)
            return self._uploaders[account]

    def _seen(self, kind: str, code: str, took_s: float) -> None:
        """Count a call to Kie. Codes are Kie's: one that is no status is counted as `other`."""
        known = code == NO_ANSWER or (len(code) == 3 and code.isdecimal())
        self.counts.add(counted.KIE_CALLS, kind, code if known else "other")
        self.counts.observe(counted.KIE_CALL_S, took_s, kind)
        if kind == "read" and code != NO_ANSWER and took_s > LOOK_S / 2:
            self._slow_until = self.monotonic() + SLOW_FOR_S

    def look_s(self) -> float:
        """Return how long a look may take that follows an answered one: short, but a Kie that is slow now has its time."""
        slow = self.monotonic() < self._slow_until
        return look_timeout_s(int(slow), http_timeout_s=self.settings.http_timeout_s)

    def crowd(self, account: str) -> Crowd:
        """Return the account's query pacing."""
        with self._lock:
            if account not in self._crowds:
                rate = self.settings.query_limit_of(account)
                self._crowds[account] = Crowd(
                    rate, lambda: looks.in_flight(self.database, account), monotonic=self.monotonic
                )
            return self._crowds[account]

    def budget(self, account: str) -> Budget:
        """Return the account's create limit."""
        settings = self.settings
        return Budget(settings.create_limit_of(account), settings.create_window_s, settings.create_margin_s)

    def callback_url(self, submission_id: str) -> str | None:
        """Return the address that Kie calls for a submission; None where callbacks are off."""
        if not self.settings.public_url:
            return None
        return callback_url(self.settings.public_url, submission_id, self.settings.callbacks_signed_with)

    @cached_property
    def schedules(self) -> Schedules:
        """When to look at jobs of a model, as far as it was learned."""
        return Schedules(lambda model: durations.latest(self.database, model, AT_MOST), monotonic=self.monotonic)

    def pace(self, account: str, model: str | None = None) -> Pace:
        """Return what decisions need to know of this moment, about a job of this model where there is one."""
        settings = self.settings
        schedule = self.schedules.of(model) if model and settings.pacing == "learned" else None
        late_s = max(settings.poll_timeout_s, schedule.late_s if schedule else 0.0)
        return Pace(
            timeout_s=min(late_s, settings.salvage_s),
            schedule=schedule,
            salvage_s=settings.salvage_s,
            crowd_s=self.crowd(account).wait_s(),
            jitter=self.jitter(),
            callbacks=bool(settings.public_url),
            resend_after_s=RESEND_AFTER_S if settings.on_unconfirmed == "resubmit" else None,
        )
