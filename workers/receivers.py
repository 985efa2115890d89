"""How many messages are on their way at once, to one receiver and in all, in one process.

A producer's receiver that hangs holds a thread for fifteen seconds per message; without a bound a hundred messages to it
would hold every thread that submits, looks and tells others. Receivers that answer are not slowed down: who finds the
slots full of quick ones waits for a moment.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TO_ONE = 3
"""Messages on their way to one receiver."""

IN_ALL = 8
"""To all receivers together: half of the threads that a worker has by default."""

PATIENCE_S = 0.5
"""For how long a thread waits for a slot, and how old a message on its way may be and still count as quick."""


class Receivers:
    """The receivers to which messages are on their way now. Safe to share between threads."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._change = threading.Condition()
        self._began_s: defaultdict[str, list[float]] = defaultdict(list)

    @contextmanager
    def slot(self, receiver: str) -> Iterator[bool]:
        """Hold a slot to a receiver, and give whether there is one: False where slow messages hold them all."""
        began_s = self._take(receiver)
        try:
            yield began_s is not None
        finally:
            if began_s is not None:
                self._give_back(receiver, began_s)

    def _take(self, receiver: str) -> float | None:
        until_s = self._monotonic() + PATIENCE_S
        with self._change:
            while ahead := self._ahead(receiver):
                now_s = self._monotonic()
                left_s = min(until_s, max(ahead) + PATIENCE_S) - now_s
                if left_s <= 0:
                    return None
                self._change.wait(left_s)
            now_s = self._monotonic()
            self._began_s[receiver].append(now_s)
            return now_s

    def _ahead(self, receiver: str) -> list[float]:
        """Return when those began that hold the slots; empty where one is free."""
        mine = self._began_s.get(receiver, [])
        everyone = [began_s for those in self._began_s.values() for began_s in those]
        if len(mine) >= TO_ONE:
            return mine
        return everyone if len(everyone) >= IN_ALL else []

    def _give_back(self, receiver: str, began_s: float) -> None:
        with self._change:
            self._began_s[receiver].remove(began_s)
            if not self._began_s[receiver]:
                del self._began_s[receiver]
            self._change.notify_all()
