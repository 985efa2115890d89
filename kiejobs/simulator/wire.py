"""The wire: Kie's envelope, the HTML of a failing gateway, and answers that end before they should.

A server framework answers politely by design, so the impolite answers write to the connection itself. `Wire` wraps an
application and hands the connection of each request to them; this needs uvicorn, and the tests look with raw sockets
at what arrives. When the simulator stops, `hang_up` frees every request that is still waiting.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Sequence

from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from kiejobs.simulator.codes import refusal_text
from kiejobs.simulator.orders import to_json

_JSON = "application/json;charset=UTF-8"
_CONNECTION = "kiejobs.simulator.connection"


class Wire:
    """An ASGI application that knows the connection of each request under way."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app
        self._open: set[asyncio.Transport] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; uvicorn's `send` is a method of the object that holds the connection."""
        transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]
        scope[_CONNECTION] = transport
        self._open.add(transport)
        try:
            await self._app(scope, receive, send)
        finally:
            self._open.discard(transport)

    def hang_up(self) -> None:
        """End every request under way."""
        for transport in tuple(self._open):
            transport.abort()


def connection_of(scope: Scope) -> asyncio.Transport:
    """The connection a request came in on."""
    transport: asyncio.Transport = scope[_CONNECTION]
    return transport


async def gone(receive: Receive) -> None:
    """Wait until the client hangs up; the request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(waited: Awaitable[object], receive: Receive) -> None:
    """Wait, but no longer than the client does."""
    waits = {asyncio.ensure_future(waited), asyncio.ensure_future(gone(receive))}
    _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in pending:
        wait.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


def envelope(code: int, msg: str, data: object = None) -> Response:
    """What Kie answers to nearly everything: HTTP 200, and the real status in `code`."""
    return Response(to_json({"code": code, "msg": msg, "data": data}), media_type=_JSON)


def refusal(code: int, msg: str = "", data: object = None) -> Response:
    """An envelope that says no."""
    return envelope(code, msg or refusal_text(code), data)


def gateway_page(status: int) -> Response:
    """The HTML a gateway in front of Kie answers when Kie does not."""
    page = f"<html>\n<head><title>{status}</title></head>\n<body><center><h1>{status}</h1></center></body>\n</html>\n"
    return HTMLResponse(page, status_code=status)


class Silence(Response):
    """No answer at all until the client hangs up."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the client to lose patience."""
        await gone(receive)


class Reset(Response):
    """The connection is reset (TCP RST) instead of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Close with linger 0, which makes the kernel send RST instead of FIN."""
        transport = connection_of(scope)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        await gone(receive)


class CutHeader(Response):
    """The answer ends within its headers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write a beginning and close."""
        transport = connection_of(scope)
        transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/js")
        transport.close()
        await gone(receive)


class CutBody(Response):
    """The answer ends within its body; its Content-Length promised the whole."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the headers and half of the body, and close."""
        transport, body = connection_of(scope), bytes(self.body)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {_JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
        transport.write(head.encode() + body[: len(body) // 2])
        transport.close()
        await gone(receive)


class EventStream(Response):
    """Server-sent events, one after the other with a pause between them; cut, if asked for, at their end."""

    def __init__(self, events: Sequence[bytes], pause_s: float, *, cut: bool) -> None:
        """An answer of which no length is known beforehand."""
        super().__init__(status_code=200)
        self.raw_headers = [(b"content-type", b"text/event-stream;charset=UTF-8"), (b"cache-control", b"no-cache")]
        self._events = events
        self._pause_s = pause_s
        self._cut = cut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send event after event, as long as somebody listens."""
        connection = connection_of(scope)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for event in self._events:
            if connection.is_closing():
                return await gone(receive)
            await send({"type": "http.response.body", "body": event, "more_body": True})
            await asyncio.sleep(self._pause_s)
        if self._cut:
            connection.close()
            return await gone(receive)
        return await send({"type": "http.response.body", "body": b""})
