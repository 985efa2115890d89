"""The heartbeat: one thread per process keeps the leases of the copies that run in it.

A copy's lease lapses within a minute when its process dies, and is never kept beyond the longest time a copy may take,
so a hung copy is started again elsewhere. A copy whose lease was taken over learns it and stops.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kiejobs.db import copies
from kiejobs.errors import KieJobsError, Stopped
from kiejobs.jobs import OutputClaim
from kiejobs.storage.transfer import longest_s

if TYPE_CHECKING:
    from workers.runtime import Runtime

log = logging.getLogger(__name__)

BEATS_PER_LEASE = 4
GRACE_S = 60.0


class Lease:
    """One running copy's hold on its output."""

    def __init__(self, claim: OutputClaim, began: float, deadline_s: float, renew: Callable[["Lease"], None]) -> None:
        self.claim = claim
        self._renew = renew
        self._began, self._deadline_s = began, deadline_s
        self.lost = False
        self.received_bytes = 0
        self.expected_bytes: int | None = None

    @property
    def until(self) -> float:
        """When the lease ends for good: a little after the copy's own deadline."""
        return self._began + longest_s(self._deadline_s, self.expected_bytes) + GRACE_S

    def progress(self, received_bytes: int) -> None:
        """Remember how far the copy is; the next beat writes it down."""
        self.received_bytes = received_bytes

    def expects(self, expected_bytes: int) -> None:
        """Remember how many bytes the copy has; a large one may take longer."""
        self.expected_bytes = expected_bytes

    def confirm(self) -> None:
        """Renew the lease now; Stopped where somebody else holds it. To be asked before anything becomes visible."""
        self._renew(self)
        if self.lost:
            raise Stopped("the copy was given up, its worker lost its lease")


class Leases:
    """All leases of this process."""

    def __init__(self, runtime: "Runtime") -> None:
        self._runtime = runtime
        self._running: set[Lease] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def keep(self, claim: OutputClaim) -> Iterator[Lease]:
        """Keep a claim's lease while the block runs."""
        lease = Lease(claim, self._runtime.monotonic(), self._runtime.settings.download_timeout_s, self._renew)
        with self._lock:
            self._running.add(lease)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="kiejobs-leases", daemon=True)
                self._thread.start()
        try:
            yield lease
        finally:
            with self._lock:
                self._running.discard(lease)

    def _run(self) -> None:
        every_s = self._runtime.settings.lease_s / BEATS_PER_LEASE
        never = threading.Event()
        while not never.wait(every_s):
            self.beat()

    def beat(self) -> None:
        """Renew every lease once."""
        with self._lock:
            running = list(self._running)
        for lease in running:
            try:
                self._renew(lease)
            except KieJobsError as error:
                log.warning("lease of %s.%s not renewed: %s", lease.claim.job_id, lease.claim.index, error)
            except Exception:  # one lease's trouble must not end the heartbeat of all
                log.exception("lease of %s.%s not renewed", lease.claim.job_id, lease.claim.index)

    def _renew(self, lease: Lease) -> None:
        if self._runtime.monotonic() > lease.until:
            lease.lost = True
            return
        kept = copies.renew(
            self._runtime.database,
            lease.claim,
            lease_s=self._runtime.settings.lease_s,
            received_bytes=lease.received_bytes,
            expected_bytes=lease.expected_bytes,
        )
        if not kept:
            lease.lost = True
