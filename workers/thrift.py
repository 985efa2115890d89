"""Two things that a worker would otherwise do at every look, for nothing.

For each message that is published or acknowledged kombu makes a new Redis client, with some hundred entries, on the pool
that is there: here it makes one per pool. And Python's collector walks through all that a worker has imported: here it
leaves that alone and comes less often.
"""

import gc
from typing import Any

from kombu.transport import redis as transport

YOUNG = 10_000
"""Objects made, less those freed, before the collector looks at the young ones; Python's default is 700."""


def keep_redis_clients() -> None:
    """Let a channel use one client for its pool; clients take their connections from the pool, call by call."""
    original = transport.Channel._create_client
    if getattr(original, "keeps", False):
        return

    def _create_client(self: Any, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's signature
        if asynchronous:
            return original(self, asynchronous)
        kept = self.__dict__.get("_kept_client")
        if kept is None or kept.connection_pool is not self.pool:
            kept = self._kept_client = original(self)
        return kept

    _create_client.keeps = True  # type: ignore[attr-defined]
    transport.Channel._create_client = _create_client


def collect_less() -> None:
    """Leave alone what is there now, for good, and collect the rest less often; for a process that is ready to work."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
