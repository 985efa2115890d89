"""Guards for two faults of kombu 5.7 with Redis, each of which ends the worker.

A worker that holds a message dies when Redis restarts: after the connection is collected, restoring unacknowledged
messages asks a channel for its connection parameters, whose connection has no client any more: AttributeError. Raised as
the connection error that it is, the worker reconnects.

A worker dies of what lies in a queue and is no message at all, such as a request that somebody pushed there by hand:
ValueError or KeyError. It is off the queue by then; dropped, with a line that shows nothing of it, the worker goes on.

`tests/unit/test_broker_guard.py` says when a newer kombu no longer needs this.
"""

import logging
from typing import Any

import kombu

NEEDED_BY = ((5, 7), (5, 8))
"""From this version (inclusive) to that one (exclusive)."""

log = logging.getLogger(__name__)


def install() -> bool:
    """Guard the Redis transport where this kombu needs it; return whether it does."""
    if not NEEDED_BY[0] <= kombu.VERSION[:2] < NEEDED_BY[1]:
        return False
    from kombu.transport import redis as transport

    for name, guarded in (("_connparams", _connparams), ("_brpop_read", _brpop_read)):
        original = getattr(transport.Channel, name)
        if not hasattr(original, "original"):
            setattr(transport.Channel, name, guarded(original))
    return True


def _connparams(original: Any) -> Any:
    from redis.exceptions import ConnectionError as RedisConnectionError

    def _connparams(self: Any, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's signature
        if getattr(self.connection, "client", None) is None:
            raise RedisConnectionError("the transport is closed already")
        return original(self, asynchronous)

    _connparams.original = original  # type: ignore[attr-defined]
    return _connparams


def _brpop_read(original: Any) -> Any:
    from kombu.transport.redis import Empty

    def _brpop_read(self: Any, **options: Any) -> Any:
        try:
            return original(self, **options)
        except (LookupError, TypeError, ValueError) as error:
            log.error("what lay in a queue is dropped: it is no message (%s)", type(error).__name__)
            raise Empty from None

    _brpop_read.original = original  # type: ignore[attr-defined]
    return _brpop_read
