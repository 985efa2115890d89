"""Beat's scheduler: Celery's own, which would wake ten milliseconds before each turn and spin until it has come.

With a pump every second that is nine milliseconds of CPU in each second, for nothing: a sleep never ends too early.
"""

from celery.beat import Scheduler as Celerys


class Scheduler(Celerys):  # type: ignore[misc]
    """Set as `beat_scheduler`. The schedule is fixed: there is no file to keep, and none to corrupt."""

    def adjust(self, n: float | None, drift: float = 0.0) -> float | None:
        """Sleep for as long as there is to wait."""
        return n
