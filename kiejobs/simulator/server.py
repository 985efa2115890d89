"""The simulator as a thing to start and stop: both hosts on one event loop in one background thread.

Ports are bound before the thread starts, so the addresses are known, a taken port is an `OSError` where the caller can
see it, and no request is ever too early. Stopping ends requests that would wait forever. Signals are only touched by
`serve_forever`.
"""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Self

import uvicorn

from kiejobs.simulator.api import make_api
from kiejobs.simulator.control import add_control
from kiejobs.simulator.files import make_files
from kiejobs.simulator.provider import Provider, Rules
from kiejobs.simulator.wire import Wire

_STOP_WITHIN_S = 5.0
_ANYWHERE = ("0.0.0.0", "::", "")


class Simulator:
    """A local Kie, for `with Simulator() as kie: ...` in tests and for `kiejobs simulator`."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        files_port: int = 0,
        duration_s: float = 6.0,
        create_limit: int = 20,
        create_window_s: float = 10.0,
        query_limit_per_s: int = 0,
        file_ttl_s: float = 86400,
        credits: float = 10000.0,
        keys: Mapping[str, str] | Collection[str] | None = None,
        hmac_key: str | None = None,
        public_host: str | None = None,
    ) -> None:
        """Port 0 takes a free one; a limit of 0 is none; `public_host` is the name others reach this machine by."""
        rules = Rules(
            duration_s=duration_s,
            create_limit=create_limit,
            create_window_s=create_window_s,
            query_limit_per_s=query_limit_per_s,
            file_ttl_s=file_ttl_s,
            credits=credits,
            keys=keys,
            hmac_key=hmac_key,
        )
        self._host = host
        self._ports = (port, files_port)
        self._public_host = public_host or ("127.0.0.1" if host in _ANYWHERE else host)
        self._provider = Provider(rules)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._servers: list[uvicorn.Server] = []
        self._wires: list[Wire] = []
        self._addresses: list[str] = []

    @property
    def base_url(self) -> str:
        """Where the API is, without a slash at the end."""
        return f"http://{self._address(0)}"

    @property
    def files_host_port(self) -> str:
        """`host:port` of the result files."""
        return self._address(1)

    @property
    def files_url(self) -> str:
        """Where the result files are, without a slash at the end."""
        return f"http://{self.files_host_port}"

    def _address(self, number: int) -> str:
        if not self._addresses:
            raise RuntimeError("the simulator has not been started")
        return self._addresses[number]

    def ledger(self) -> dict[str, object]:
        """What it saw so far; the same as `GET /simulator/ledger`. Works after `stop`, too."""
        return self._provider.ledger.snapshot()

    def start(self) -> Self:
        """Listen on both ports and serve; raises OSError if one of them is taken."""
        if self._thread is not None:
            return self
        sockets = _listen(self._host, self._ports)
        self._addresses = [f"{_bracketed(self._public_host)}:{sock.getsockname()[1]}" for sock in sockets]
        self._provider.links.files_url = self.files_url
        api = make_api(self._provider)
        add_control(api, self._provider)
        self._wires = [Wire(api), Wire(make_files(self._provider))]
        self._servers = [uvicorn.Server(_config(wire)) for wire in self._wires]
        started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(sockets, started)), name="kie-simulator", daemon=True
        )
        self._thread.start()
        started.wait()
        return self

    async def _serve(self, sockets: list[socket.socket], started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._provider.courier.start()
        started.set()
        await asyncio.gather(
            *(server.serve(sockets=[sock]) for server, sock in zip(self._servers, sockets, strict=True))
        )

    def stop(self) -> None:
        """Stop serving and free the ports; requests that still wait are hung up on. Stopping twice is harmless."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join(_STOP_WITHIN_S)
        self._thread = None

    def _end(self) -> None:
        self._provider.courier.stop()
        for server in self._servers:
            server.should_exit = server.force_exit = True
        for wire in self._wires:
            wire.hang_up()

    def serve_forever(self, announce: Callable[["Simulator"], None] | None = None) -> None:
        """Serve until SIGINT or SIGTERM, then stop quietly; for the main thread of a program.

        `announce` is called once both ports listen and a signal would be heeded. Raises OSError if a port is taken.
        """
        asked = threading.Event()
        before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.start()
            if announce is not None:
                announce(self)
            asked.wait()
        finally:
            self.stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()


def _config(app: Wire) -> uvicorn.Config:
    """One server: quiet, without signals, on the HTTP implementation the impolite answers were tested with."""
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
        backlog=1024,
    )


def _listen(host: str, ports: tuple[int, int]) -> list[socket.socket]:
    """Both listening sockets, or neither."""
    sockets: list[socket.socket] = []
    try:
        for port in ports:
            sockets += [_open(host, port)]
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _open(host: str, port: int) -> socket.socket:
    """One listening socket.

    It names its protocol, because asyncio switches Nagle's delay off only where it reads IPPROTO_TCP; without that a
    kept-alive connection answers 22 requests per second.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(1024)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None
    return sock


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
