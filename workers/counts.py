"""What this process counts: in memory, written down every ten seconds by a thread of its own.

Counting costs a lock and an addition, and never an error. A process that dies loses what it counted since the last time,
ten seconds at most; one that cannot reach the database keeps it until it can.
"""

import logging
import threading
from typing import TYPE_CHECKING

from kiejobs.counted import Counted, Counts
from kiejobs.db import counters
from kiejobs.errors import KieJobsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kiejobs.db.session import Database

log = logging.getLogger(__name__)

FLUSH_EVERY_S = 10.0


class Tallies:
    """All that a process counted and has not written down yet. Safe to share between threads."""

    def __init__(self) -> None:
        self._counts = Counts()
        self._lock = threading.Lock()

    def add(self, what: Counted, *labels: str, by: float = 1) -> None:
        """Count one, or `by`."""
        with self._lock:
            self._counts.add(what, *labels, by=by)

    def observe(self, what: Counted, value: float, *labels: str) -> None:
        """Count a value of a histogram."""
        with self._lock:
            self._counts.observe(what, value, *labels)

    def flush(self, database: "Database") -> None:
        """Write down what was counted; it is kept for the next time where that does not work."""
        with self._lock:
            taken, self._counts = self._counts, Counts()
        try:
            if taken.sums:
                with database.write() as tx:
                    counters.add(tx, taken.sums)
        except BaseException:
            with self._lock:
                for key, value in taken.sums.items():
                    self._counts.sums[key] += value
            raise

    def keep_writing(self, database: "Callable[[], Database]") -> None:
        """Write down every ten seconds from now on, as long as the process lives."""
        threading.Thread(target=self._run, args=(database,), name="kiejobs-counts", daemon=True).start()

    def _run(self, database: "Callable[[], Database]") -> None:
        never = threading.Event()
        while not never.wait(FLUSH_EVERY_S):
            try:
                self.flush(database())
            except KieJobsError as error:
                log.info("counts are kept until the database answers: %s", error)
            except Exception:
                log.exception("counts were not written down")
