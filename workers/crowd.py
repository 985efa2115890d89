"""Keeps an account's reads within Kie's query limit: jobs in flight divided by reads per second is the least wait.

The count is taken once per 10 s, the rate adapts to what Kie says: a throttled read halves it (at most once per 10 s,
never below 1/s), each quiet minute gives 1/s back, up to the limit that is set.
"""

import threading
from collections.abc import Callable

COUNT_EVERY_S = 10.0
HALVE_EVERY_S = 10.0
QUIET_S = 60.0
FLOOR_PER_S = 1.0


class Crowd:
    """One account's query pacing in this process."""

    def __init__(self, limit_per_s: float, count: Callable[[], int], *, monotonic: Callable[[], float]) -> None:
        self._limit_per_s = limit_per_s
        self._count = count
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._rate_per_s = limit_per_s
        self._changed_at = monotonic()
        self._halved_at = float("-inf")
        self._counted_at = float("-inf")
        self._jobs = 0

    def wait_s(self) -> float:
        """Return the least wait between two looks at one job, in seconds."""
        now = self._monotonic()
        with self._lock:
            stale = now - self._counted_at >= COUNT_EVERY_S
            if stale:
                self._counted_at = now  # one thread counts, the others go by the last figure
        if stale:
            try:
                self._jobs = self._count()
            except BaseException:
                self._counted_at = float("-inf")
                raise
        return self._jobs / self.rate_per_s()

    def rate_per_s(self) -> float:
        """Return the reads per second that are allowed now."""
        now = self._monotonic()
        with self._lock:
            quiet = int((now - self._changed_at) / QUIET_S)
            if quiet > 0 and self._rate_per_s < self._limit_per_s:
                self._rate_per_s = min(self._rate_per_s + quiet, self._limit_per_s)
                self._changed_at += quiet * QUIET_S
            return self._rate_per_s

    def throttled(self) -> None:
        """Learn that Kie refused a read as one too many."""
        now = self._monotonic()
        with self._lock:
            if now - self._halved_at >= HALVE_EVERY_S:
                self._rate_per_s = max(self._rate_per_s / 2, min(FLOOR_PER_S, self._limit_per_s))
                self._halved_at = now
            self._changed_at = now
