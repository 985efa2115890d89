"""The gateway as a process: one listening socket, one event loop, until SIGINT or SIGTERM.

Without keys it listens on loopback or not at all. It stops taking connections at once, answers what it has begun within
a few seconds, and leaves with 0.
"""

import signal
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from kiejobs.errors import DependencyError, SettingsError
from kiejobs.gateway.connections import IDLE_S, Connection, most_connections
from kiejobs.gateway.door import is_loopback
from kiejobs.settings import Settings

_STOP_WITHIN_S = 10


def check_address(settings: Settings, host: str) -> None:
    """SettingsError where whoever can reach this machine could buy without a key."""
    if not settings.gateway_keys and not is_loopback(f"[{host}]" if ":" in host else host):
        raise SettingsError(
            f"without keys the gateway listens on loopback only, not on {host}",
            remedy="Make a key with `kiejobs keys new` and put it into KIEJOBS_GATEWAY_KEYS, or leave --host out.",
        )


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket; DependencyError names the address where it cannot be had.

    It names its protocol, because asyncio switches Nagle's delay off only where it reads IPPROTO_TCP; without that a
    kept-alive connection answers 25 requests per second.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(1024)
    except OSError as error:
        sock.close()
        raise DependencyError(
            f"the gateway cannot listen on {host}:{port}: {error.strerror}", remedy="Name another one with --port."
        ) from None
    return sock


def serve(app: FastAPI, sock: socket.socket, announce: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM; for the main thread of a program. `announce` is called when requests are taken."""
    server = _Server(
        uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=int(IDLE_S),
            timeout_graceful_shutdown=_STOP_WITHIN_S,
            limit_concurrency=most_connections(),
            backlog=1024,
        ),
        announce,
    )
    # uvicorn hands a signal on when it has stopped; to nobody, so that the process leaves with 0.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[sock])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if not server.started:
        raise DependencyError("the gateway could not start", remedy="The lines above say why; then `kiejobs doctor`.")


class _Server(uvicorn.Server):
    """Says when it takes requests."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets=sockets)
        if self.started:
            self._announce()
