"""Looks that wait in the worker which looked before, not in the broker.

A look that leads to the next one would write a message which this same worker takes back at once, keeps until it is due,
and acknowledges: that costs more than the look. So the next look waits here, and runs as the task that its message would
have been. What comes due while all threads are busy goes to the broker, where another worker may take it, and so does
everything that waits when the worker is stopped. A worker that is killed leaves rows that are overdue; the sweep finds
them, as it did when their messages lay in the broker, unacknowledged.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Protocol

from kiejobs.nudge import POLL, Nudge, Publish


class Place(Protocol):
    """Where looks can wait: a worker's consumer."""

    hub: Any
    """kombu's event loop."""

    def run(self, nudge: Nudge) -> bool:
        """Run it now, in a thread of the pool; False where too much waits for one. Called by the event loop only."""


class Waiting:
    """Publishes nudges; looks that are due later wait in the process, while it is a place for them."""

    def __init__(self, publish: Publish, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._to_broker = publish
        self._monotonic = monotonic
        self._place: Place | None = None
        self._waiting: dict[tuple[str, int], tuple[float, Nudge]] = {}
        self._lock = threading.Lock()

    def publish(self, nudges: Iterable[Nudge]) -> None:
        """Send nudges off, or keep them until they are due."""
        away = [nudge for nudge in nudges if not self._waits(nudge)]
        if away:
            self._to_broker(away)

    def wait_in(self, place: Place) -> None:
        """Let looks wait in this place from now on; again after each of its connections to the broker."""
        with self._lock:
            self._place = place
            waiting = list(self._waiting)
        for look in waiting:
            place.hub.call_soon(self._set_timer, look)

    def hand_over(self) -> None:
        """Give whatever waits to the broker, and keep nothing any more: the process is about to end."""
        with self._lock:
            self._place = None
            waiting, self._waiting = list(self._waiting.values()), {}
        now = self._monotonic()
        self._to_broker([replace(nudge, countdown_s=max(due - now, 0.0)) for due, nudge in waiting])

    def _waits(self, nudge: Nudge) -> bool:
        if nudge.task != POLL or not nudge.countdown_s:
            return False
        look = (nudge.task_id, nudge.kwargs["version"])
        with self._lock:
            place = self._place
            if place is None:
                return False
            self._waiting[look] = (self._monotonic() + nudge.countdown_s, nudge)
        place.hub.call_soon(self._set_timer, look)  # the only call to an event loop that another thread may make
        return True

    def _set_timer(self, look: tuple[str, int]) -> None:
        with self._lock:
            place = self._place
            due, _ = self._waiting.get(look, (0.0, None))
        if place is not None:
            place.hub.call_later(max(due - self._monotonic(), 0.0), self._run, look)

    def _run(self, look: tuple[str, int]) -> None:
        with self._lock:
            place = self._place
            _, nudge = self._waiting.pop(look, (0.0, None))
        if nudge is not None and not (place is not None and place.run(nudge)):
            self._to_broker([replace(nudge, countdown_s=0.0)])
