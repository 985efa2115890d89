"""A relay in front of a real S3 server that can be told to misbehave: refuse, answer 503 or 403, forget the bucket, dawdle.

It speaks HTTP to both sides, passes bodies on as they are (signatures cover the Host field, which is kept), and
remembers what was asked of it.
"""

import http.client
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

ERRORS = {
    "unavailable": (503, b"<Error><Code>SlowDown</Code></Error>"),
    "denied": (403, b"<Error><Code>AccessDenied</Code></Error>"),
    "bucket missing": (404, b"<Error><Code>NoSuchBucket</Code></Error>"),
}
FAULTS = ("down", "slow", "no conditions", *ERRORS)


@dataclass
class Relay:
    """Where it listens, and how it behaves: None, or one of `FAULTS`."""

    target: str
    server: http.server.ThreadingHTTPServer
    fault: str | None = None
    asked: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    """The headers of each request."""
    going_on: threading.Event = field(default_factory=threading.Event)
    """What a slow server waits for before it answers."""

    @property
    def endpoint_url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    relay: Relay

    def _serve(self) -> None:
        fault = self.relay.fault
        self.relay.asked.append(f"{self.command} {self.path}")
        self.relay.told.append(str(self.headers))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault == "down":
            self.close_connection = True
            return
        if fault == "slow":
            self.relay.going_on.wait(20)
        if fault == "no conditions" and self.headers.get("If-None-Match"):
            self._answer(501, b"<Error><Code>NotImplemented</Code></Error>", {})
            return
        if fault in ERRORS:
            self._answer(*ERRORS[fault], {})
            return
        split = urlsplit(self.relay.target)
        connection = http.client.HTTPConnection(str(split.hostname), split.port, timeout=20)
        connection.request(self.command, self.path, body, dict(self.headers.items()))
        answer = connection.getresponse()
        content = answer.read()
        self._answer(answer.status, content, dict(answer.getheaders()))
        connection.close()

    def _answer(self, status: int, content: bytes, fields: dict[str, str]) -> None:
        self.send_response_only(status)
        kept = {
            n: v for n, v in fields.items() if n.lower() not in ("transfer-encoding", "connection", "content-length")
        }
        length = fields.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        for name, value in {**kept, "Content-Length": length}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextmanager
def relay(target: str) -> Iterator[Relay]:
    """Stand in front of the S3 server at `target` while the block runs."""
    handler = type("Handler", (_Handler,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.relay = made = Relay(target, server)  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield made
        finally:
            made.going_on.set()
            server.shutdown()
