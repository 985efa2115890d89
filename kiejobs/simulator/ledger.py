"""The ledger: what the simulator saw and answered, for a test to assert on.

Entries are written once, at the moment of the answer, and never changed. Lists are capped so that a run of days stays
in memory; the oldest entries go first. Safe to read from another thread.
"""

import threading
import time
from collections import deque

CAP = 200_000
_LISTS = ("creates", "queries", "downloads", "callbacks", "uploads", "leaks")
_PROMPT_CHARS = 2000

Entry = dict[str, object]


class Ledger:
    """Lists of creates, queries, downloads, callbacks, uploads and leaks, and the count of broken limits."""

    def __init__(self) -> None:
        """Start the ledger's clock: every `at` is seconds since now."""
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._lists: dict[str, deque[Entry]] = {name: deque(maxlen=CAP) for name in _LISTS}
        self._violations = {"create": 0, "query": 0}

    def add(self, name: str, /, **entry: object) -> None:
        """Write one entry into the list `name`."""
        prompt = entry.get("prompt")
        if isinstance(prompt, str):
            entry["prompt"] = prompt[:_PROMPT_CHARS]
        with self._lock:
            self._lists[name].append({"at": round(time.monotonic() - self._started, 6), **entry})

    def violated(self, limit: str) -> None:
        """Count one call that would have exceeded the `create` or the `query` limit."""
        with self._lock:
            self._violations[limit] += 1

    def snapshot(self) -> dict[str, object]:
        """All lists and counters, as plain JSON values."""
        with self._lock:
            kept = {name: list(entries) for name, entries in self._lists.items()}
            create, query = self._violations["create"], self._violations["query"]
        lists: dict[str, object] = {name: [entry.copy() for entry in entries] for name, entries in kept.items()}
        return lists | {"violations": create + query, "create_violations": create, "query_violations": query}

    def counts(self) -> dict[str, int]:
        """How long each list is, and how many limits were broken."""
        with self._lock:
            return {name: len(self._lists[name]) for name in _LISTS} | {"violations": sum(self._violations.values())}

    def clear(self) -> None:
        """Forget everything; the clock runs on."""
        with self._lock:
            for entries in self._lists.values():
                entries.clear()
            self._violations = dict.fromkeys(self._violations, 0)
