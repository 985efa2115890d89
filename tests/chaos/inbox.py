"""The producers' own server, where messages arrive: quick or slow, now and then with an error, or hanging up.

How it behaves to a message is the first word of its address, so that it is the seed's choice and not the machine's.
"""

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from kiejobs.errors import KieJobsError
from kiejobs.http.webhooks import verify_webhook
from tests.chaos.facts import Arrival


class Mood(NamedTuple):
    """`status` is answered to the first `times` tries of each message, 200 to the others; None hangs up."""

    status: int | None = 200
    times: int = 0
    after_s: float = 0.0


MOODS = {
    "well": Mood(),
    "slow": Mood(after_s=0.4),
    "errs": Mood(500, 1),
    "errs-twice": Mood(500, 2),
    "hangs-up": Mood(None, 1),
    "gone": Mood(410, 10**6),
}


class _Server(ThreadingHTTPServer):
    """Has room for many at once, and minds no sender that dies."""

    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        pass


class Inbox:
    """Keeps what arrives. Give it the secrets that messages have to be signed with, and what they must not tell."""

    def __init__(self, signed_with: Iterable[str], untold: re.Pattern[str]) -> None:
        self._signed_with, self._untold = tuple(signed_with), untold
        self._arrivals: list[Arrival] = []
        self._tries: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closed = False
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                mood = MOODS[self.path.split("/")[1]]
                time.sleep(mood.after_s)
                status = inbox._take(self.path, dict(self.headers), body, mood)
                if status is not None:
                    self.send_response(status)
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.host_port = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="inbox", daemon=True).start()

    def url_of(self, address: str) -> str:
        """Return an address as a producer names it."""
        return f"http://{self.host_port}{address}"

    def take_no_more(self) -> tuple[Arrival, ...]:
        """Return what has arrived; from now on it is as if nobody were there."""
        with self._lock:
            self._closed = True
            return tuple(self._arrivals)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def _take(self, address: str, headers: dict[str, str], body: bytes, mood: Mood) -> int | None:
        """Keep an arrival, and say what to answer. It is kept before it is answered: who is told 200 finds it here."""
        signed = all(_is_signed(secret, headers, body) for secret in self._signed_with)
        tells_secret = bool(self._untold.search(body.decode()))
        with self._lock:
            if self._closed:
                return 503
            message_id = str(headers.get("webhook-id"))
            self._tries[message_id] += 1
            status = mood.status if self._tries[message_id] <= mood.times else 200
            told = json.loads(body)
            arrival = _arrival(message_id, address, status, told, signed=signed, tells_secret=tells_secret)
            self._arrivals.append(arrival)
            return status


def _is_signed(secret: str, headers: dict[str, str], body: bytes) -> bool:
    try:
        verify_webhook(secret, headers, body)
    except KieJobsError:
        return False
    return True


def _arrival(
    message_id: str, address: str, status: int | None, told: dict[str, Any], *, signed: bool, tells_secret: bool
) -> Arrival:
    data = told["data"]
    return Arrival(
        id=message_id,
        address=address,
        status=status,
        signed=signed,
        tells_secret=tells_secret,
        digest=hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest(),
        job_id=data["generationId"],
        sequence=data["sequence"],
        kind=told["type"],
        phase=data["phase"],
        label=data["metadata"].get("label", ""),
        tenant=data["metadata"].get("tenant", ""),
        files=tuple((file["index"], file["key"], file["sha256"]) for file in data["outputs"]),
        links=tuple(data["resultUrls"]),
    )
