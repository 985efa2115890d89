"""When to look at jobs of a model, as far as it was learned: read anew every ten minutes, kept in between."""

import threading
from collections.abc import Callable

from kiejobs.learned import learn
from kiejobs.pacing import Schedule

LEARN_EVERY_S = 600.0


class Schedules:
    """This process's schedules, by model. Safe to share between threads."""

    def __init__(self, durations: Callable[[str], list[float]], *, monotonic: Callable[[], float]) -> None:
        self._durations = durations
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Schedule | None]] = {}

    def of(self, model: str) -> Schedule | None:
        """Return a model's schedule; None where its jobs are looked at by the ladder."""
        now = self._monotonic()
        with self._lock:
            learned_at, schedule = self._known.get(model, (float("-inf"), None))
            if now - learned_at < LEARN_EVERY_S:
                return schedule
            self._known[model] = (now, schedule)  # one thread learns, the others go by what was known
        schedule = learn(self._durations(model))
        with self._lock:
            self._known[model] = (now, schedule)
        return schedule
