"""A guard for one fault of kombu 5.7: a worker that holds a message dies when Redis restarts.

After the connection is collected, restoring unacknowledged messages asks a channel for its connection parameters, whose
connection has no client any more: AttributeError, and the worker exits. Raised as the connection error that it is, the
worker reconnects. `tests/unit/test_broker_guard.py` says when a newer kombu no longer needs this.
"""

from typing import Any

import kombu

NEEDED_BY = ((5, 7), (5, 8))
"""From this version (inclusive) to that one (exclusive)."""


def install() -> bool:
    """Guard the Redis transport where this kombu needs it; return whether it does."""
    if not NEEDED_BY[0] <= kombu.VERSION[:2] < NEEDED_BY[1]:
        return False
    from kombu.transport import redis as transport
    from redis.exceptions import ConnectionError as RedisConnectionError

    original = transport.Channel._connparams
    if getattr(original, "guarded", False):
        return True

    def _connparams(self: Any, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's signature
        if getattr(self.connection, "client", None) is None:
            raise RedisConnectionError("the transport is closed already")
        return original(self, asynchronous)

    _connparams.guarded = True  # type: ignore[attr-defined]
    _connparams.original = original  # type: ignore[attr-defined]
    transport.Channel._connparams = _connparams
    return True
