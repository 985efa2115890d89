"""One total deadline for an HTTP call, whatever the other side does.

A read timeout bounds the gap between two bytes, not the call: a server that drips would hold a thread for ever. `Watch`
remembers the connection that its thread uses; a watchdog thread shuts that socket down when the time is over, and the
blocked read ends.
"""

import heapq
import itertools
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, cast

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError
from urllib3.util import Url

from kiejobs.tls import context

_current = threading.local()


class Watch:
    """Bounds the HTTP call made inside the `with` block by this thread to `timeout_s` seconds in all."""

    def __init__(self, timeout_s: float, may_start: Callable[[], bool] = lambda: True) -> None:
        self.timeout_s = timeout_s
        self.may_start = may_start
        self.connection: HTTPConnection | None = None
        self.socket: Any = None
        self.fired = False
        self.done = False

    def __enter__(self) -> Self:
        _current.watch = self
        _watchdog.add(time.monotonic() + self.timeout_s, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.done = True
        self.connection = self.socket = None
        _current.watch = None

    def fire(self) -> None:
        """Cut the call off, if it is still going on."""
        connection = self.connection
        if self.done:
            return
        self.fired = True
        # An answer that closes its connection takes the socket out of it: so the socket itself is remembered.
        found: socket.socket | None = self.socket or getattr(connection, "sock", None)
        if found is not None:
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)


class _Watchdog:
    """One daemon thread that fires watches when their time has come."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Watch]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, at: float, watch: Watch) -> None:
        with self._changed:
            heapq.heappush(self._due, (at, next(self._order), watch))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="kiejobs-deadlines", daemon=True)
                self._thread.start()
            elif self._due[0][2] is watch:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._due and self._due[0][2].done:
                    heapq.heappop(self._due)
                wait_s = self._due[0][0] - time.monotonic() if self._due else 60.0
                if wait_s > 0:
                    self._changed.wait(wait_s)
                    continue
                watch = heapq.heappop(self._due)[2]
            watch.fire()


_watchdog = _Watchdog()


class _Watched:
    """A connection that shows itself to its thread's watch, and sends nothing once the watch says no."""

    def request(self, *args: Any, **kwargs: Any) -> None:
        watch: Watch | None = getattr(_current, "watch", None)
        if watch is not None:
            watch.connection = cast("HTTPConnection", self)
        super().request(*args, **kwargs)  # type: ignore[misc]
        if watch is not None:
            watch.socket = cast("HTTPConnection", self).sock

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        watch: Watch | None = getattr(_current, "watch", None)
        if watch is not None and (watch.fired or not watch.may_start()):
            this = cast("HTTPConnection", self)
            this.close()
            raise NewConnectionError(this, "connected too late to begin")


class _WatchedHTTP(_Watched, HTTPConnection):
    pass


class _WatchedHTTPS(_Watched, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPS


def connections(to: Url, *, at_most: int) -> HTTPConnectionPool:
    """Make a pool of connections to one host, of which so many are kept; a `Watch` can cut each of them."""
    if to.scheme == "https":
        return _HTTPSPool(to.host or "", to.port or 443, maxsize=at_most, ssl_context=context())
    return _HTTPPool(to.host or "", to.port or 80, maxsize=at_most)
