"""The two ends of a very large copy, without a disk: a server that makes a video up, and an S3 server that forgets it.

The sink knows as much of S3 as an upload in parts needs, remembers sizes, and checks no signature; what it is for is
measuring a copy of any size by its memory and its time.
"""

import re
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

_PIECE = bytes(range(256)) * 4096


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@dataclass
class Sink:
    """What the S3 server was given: the size of each object, by its path."""

    url: str
    sizes: dict[str, int] = field(default_factory=dict)


class _Sink(_Quiet):
    sink: Sink
    parts: dict[str, int]

    def do_POST(self) -> None:
        key, _, query = self.path.partition("?")
        self._swallow()
        if query.startswith("uploads"):
            self.parts[key] = 0
            self._answer(
                f"<InitiateMultipartUploadResult><UploadId>{len(self.parts)}</UploadId></InitiateMultipartUploadResult>"
            )
            return
        self.sink.sizes[key] = self.parts.pop(key)
        self._answer('<CompleteMultipartUploadResult><ETag>"whole"</ETag></CompleteMultipartUploadResult>')

    def do_PUT(self) -> None:
        key, _, query = self.path.partition("?")
        size = self._swallow()
        if "partNumber" in query:
            self.parts[key] += size
        else:
            self.sink.sizes[key] = size
        self._answer("")

    def do_HEAD(self) -> None:
        size = self.sink.sizes.get(self.path)
        self.send_response(404 if size is None else 200)
        self.send_header("Content-Length", str(size or 0))
        self.send_header("Last-Modified", "Sat, 21 Nov 2026 05:00:00 GMT")
        self.end_headers()

    def _swallow(self) -> int:
        left = size = int(self.headers.get("Content-Length") or 0)
        room = memoryview(bytearray(1024 * 1024))
        while left:
            left -= self.rfile.readinto(room[: min(left, len(room))])  # type: ignore[attr-defined]
        return size

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("ETag", '"part"')
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


class _Source(_Quiet):
    def do_GET(self) -> None:
        """`/{bytes}/name.mp4` is a whole MP4 of that size."""
        found = re.match(r"/(\d+)/", self.path)
        size = int(found[1]) if found else 0
        start = struct.pack(">I4s8s", 16, b"ftyp", b"isom\0\0\0\0") + struct.pack(">I4s", 8, b"moov")
        start += struct.pack(">I4sQ", 1, b"mdat", size - len(start))
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(start)
        left = size - len(start)
        while left:
            left -= self.request.send(_PIECE[:left] if left < len(_PIECE) else _PIECE)


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


@contextmanager
def sink() -> Iterator[Sink]:
    """An S3 server that forgets all but sizes, while the block runs."""
    fields: dict[str, Any] = {"parts": {}}
    handler = type("Handler", (_Sink,), fields)
    with _serving(handler) as server:
        handler.sink = Sink(server.url)
        yield handler.sink


@contextmanager
def made_up() -> Iterator[str]:
    """The address of a server that has every video of every size: `{address}/{bytes}/0.mp4`."""
    with _serving(_Source) as server:
        yield server.url
