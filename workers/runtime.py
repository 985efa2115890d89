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

from kiejobs.db import deliveries, looks, migrate
from kiejobs.db.accounts import Budget
from kiejobs.db.session import Database
from kiejobs.decisions import Pace
from kiejobs.kie.callbacks import callback_url
from kiejobs.kie.client import KieClient
from kiejobs.nudge import Publish, notify_nudge, poll_nudge
from kiejobs.pacing import MAX_WAIT_S
from kiejobs.settings import Settings
from kiejobs.storage.egress import GuardedSession, guarded_session
from kiejobs.storage.store import Store
from workers.crowd import Crowd
from workers.leases import Leases

RESEND_AFTER_S = 1800.0
"""How long the policy `resubmit` waits for a callback to name the task."""

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
    ) -> None:
        self.settings = settings
        self.publish = publish
        self.monotonic = monotonic
        self.jitter = jitter
        self.who = f"worker {socket.gethostname()}"
        self.stopping = threading.Event()
        self._database = database
        self._store = store
        self._clients: dict[str, KieClient] = {}
        self._crowds: dict[str, Crowd] = {}
        self._lock = threading.Lock()

    @cached_property
    def database(self) -> Database:
        """The database, its schema checked once."""
        return self._database or migrate.ready(Database(self.settings.database))

    @cached_property
    def store(self) -> Store:
        """Where results are kept."""
        return self._store or Store.open(self.settings.storage, endpoint_url=self.settings.storage_endpoint_url)

    @cached_property
    def downloads(self) -> GuardedSession:
        """The session for URLs that came from Kie: it dials public addresses and exact exceptions only."""
        return guarded_session(self.settings.egress_allow)

    @cached_property
    def webhooks(self) -> GuardedSession:
        """The session for addresses that producers gave."""
        return guarded_session(self.settings.egress_allow)

    def look_again(self, job_id: str, version: int, in_s: float | None, *, polls: int = 0) -> None:
        """Publish the next look at a job. A wait of more than a minute lives in the row and is the sweep's."""
        if in_s is not None and in_s <= MAX_WAIT_S:
            self.publish([poll_nudge(job_id, version, countdown_s=in_s, polls=polls)])

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
                self._clients[account] = KieClient(self.settings.base_url, key, timeout_s=self.settings.http_timeout_s)
            return self._clients[account]

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
        """Return the account's create limit; the window has its margin."""
        settings = self.settings
        return Budget(settings.create_limit_of(account), settings.create_window_s + settings.create_margin_s)

    def callback_url(self, submission_id: str) -> str | None:
        """Return the address that Kie calls for a submission; None where callbacks are off."""
        if not self.settings.public_url:
            return None
        return callback_url(self.settings.public_url, submission_id, self.settings.callbacks_signed_with)

    def pace(self, account: str) -> Pace:
        """Return what decisions need to know of this moment."""
        settings = self.settings
        return Pace(
            timeout_s=settings.poll_timeout_s,
            salvage_s=settings.salvage_s,
            crowd_s=self.crowd(account).wait_s(),
            jitter=self.jitter(),
            callbacks=bool(settings.public_url),
            resend_after_s=RESEND_AFTER_S if settings.on_unconfirmed == "resubmit" else None,
        )
