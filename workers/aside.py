"""Calls that may take minutes, on threads of their own, so that they hold none of the worker's.

A family that answers at once may take ten minutes to do so; sixteen of them would stop every look at every other job.
The intent of such a call is committed before it is handed over: a process that dies with it leaves the job `unconfirmed`,
as it would anyway. A process that ends in order waits for its calls.
"""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

AT_ONCE = 32
"""Calls of this kind that one process makes at a time."""


class Aside:
    """At most so many calls at a time, each on a thread that the end of the process waits for."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._room = threading.Semaphore(at_once)

    def take(self) -> bool:
        """Take one place; False where all are taken. Whoever took one must `run` or `give_back`."""
        return self._room.acquire(blocking=False)

    def give_back(self) -> None:
        """Give a place back that was not used."""
        self._room.release()

    def run(self, call: Callable[[], object], name: str) -> bool:
        """Make a call on a thread of its own, in the place that was taken; False where the system gives no thread."""
        try:
            threading.Thread(target=self._call, args=(call, name), name=f"kiejobs-aside-{name}").start()
        except RuntimeError:
            return False
        return True

    def _call(self, call: Callable[[], object], name: str) -> None:
        try:
            call()
        except Exception:
            log.exception("the call for job %s ended without being written down", name)
        finally:
            self._room.release()
