"""A web server that keeps the callbacks it gets, for tests of whatever calls back; and a way to wait for them."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

pause = threading.Event().wait  # nobody sets this event


class Receiver:
    """Keeps headers and body of each call, and answers the first `failures` of them with 500."""

    def __init__(self, failures: int = 0) -> None:
        """Listen on a free port."""
        self.seen: list[tuple[dict[str, str], dict[str, Any]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.seen.append((dict(self.headers), json.loads(body)))
                self.send_response(500 if len(receiver.seen) <= failures else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?token=abc"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The bodies alone."""
        return [body for _, body in self.seen]

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def wait_until(holds: Callable[[], object], within_s: float = 3.0) -> None:
    """Look every few milliseconds until it holds."""
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it never came true"
        pause(0.005)
