"""One connection of the gateway: HTTP/1.1 of uvicorn, with an end to connections that ask for nothing.

uvicorn waits for ever for the rest of a request's head, and for a body that nobody reads any more; whoever opens
connections and drips bytes into them would hold every place there is, without a key. Here a connection without a request
under way is closed after a while, however many bytes came meanwhile. The body of a request has bounds of its own.
"""

import asyncio
import resource

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_WITHIN_S = 15.0
"""From the connection's beginning to the end of the first request's head."""

IDLE_S = 75.0
"""From the end of an answer to the end of the next request's head."""

MOST = 2000
_FOR_THE_REST = 150
"""File descriptors for the database, the broker, files that are read."""


def most_connections() -> int:
    """How many connections the process can hold; further ones are answered 503 at once."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if allowed == resource.RLIM_INFINITY else max(16, min(MOST, allowed - _FOR_THE_REST))


class Connection(H11Protocol):
    """Hangs up on who does not ask in time."""

    head_within_s = HEAD_WITHIN_S
    idle_s = IDLE_S
    _hang_up: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; the first request has to come soon."""
        super().connection_made(transport)
        self._wait(self.head_within_s)

    def handle_events(self) -> None:
        """Go on with what came; a request that is whole enough to be worked on has its own time."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait(None)

    def on_response_complete(self) -> None:
        """Finish an answer; the next request may follow."""
        self._wait(self.idle_s)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait until what was answered is read, but not for ever."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.idle_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: enough of it was read."""
        self._read_at_last()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._wait(None)
        self._read_at_last()
        super().connection_lost(exc)

    def _read_at_last(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _wait(self, within_s: float | None) -> None:
        if self._hang_up is not None:
            self._hang_up.cancel()
        self._hang_up = None if within_s is None else self.loop.call_later(within_s, self.transport.abort)
