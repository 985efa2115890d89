"""Callbacks: POST a finished task's record to its callBackUrl, from threads, so the API never waits for a receiver.

Anything but HTTP 200 within 15 s is repeated up to 3 times; redirects are not followed. With an HMAC key each attempt
is signed the way Kie documents it, over task id and time, not over the body. Every attempt is written into the ledger.
Source: docs.kie.ai/common-api/webhook-verification.md; the spacing of the repeats is undocumented, so it is short here.
"""

import asyncio
import base64
import hashlib
import hmac
import http.client
import threading
import time
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from urllib.parse import urlsplit

from kiejobs.simulator.ledger import Ledger

TIMEOUT_S = 15.0
REPEAT_AFTER_S = (0.5, 2.0, 5.0)
_THREADS = 16


@dataclass(frozen=True, slots=True)
class Callback:
    """One call to make; `attempt` counts from 1."""

    url: str
    task_id: str
    body: bytes
    attempt: int = 1
    made_s: float = field(default_factory=time.monotonic)


class Courier:
    """A few daemon threads that make calls, and the loop that decides on repeats."""

    def __init__(self, ledger: Ledger, hmac_key: str | None) -> None:
        """No thread runs before `start`."""
        self._ledger = ledger
        self._hmac_key = hmac_key
        self._queue: SimpleQueue[Callback | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._forgotten_s = 0.0

    def start(self) -> None:
        """Begin to work for the running event loop."""
        self._loop = asyncio.get_running_loop()
        for number in range(_THREADS):
            threading.Thread(target=self._work, name=f"simulator-callback-{number}", daemon=True).start()

    def send(self, callback: Callback) -> None:
        """Have the call made soon."""
        self._queue.put(callback)

    def forget(self) -> None:
        """Drop all that was to be sent or repeated until now."""
        self._forgotten_s = time.monotonic()

    def stop(self) -> None:
        """Let the threads end; a call under way is abandoned."""
        self._loop = None
        for _ in range(_THREADS):
            self._queue.put(None)

    def _work(self) -> None:
        while (callback := self._queue.get()) is not None:
            if callback.made_s < self._forgotten_s:
                continue
            status = post(callback, self._hmac_key)
            loop = self._loop
            if loop is None:
                return
            try:
                loop.call_soon_threadsafe(self._answered, callback, status)
            except RuntimeError:  # the simulator stopped meanwhile
                return

    def _answered(self, callback: Callback, status: int | None) -> None:
        if callback.made_s < self._forgotten_s:
            return
        self._ledger.add(
            "callbacks", taskId=callback.task_id, url=callback.url, attempt=callback.attempt, status=status
        )
        if status != http.HTTPStatus.OK and callback.attempt <= len(REPEAT_AFTER_S) and self._loop is not None:
            again = replace(callback, attempt=callback.attempt + 1)
            self._loop.call_later(REPEAT_AFTER_S[callback.attempt - 1], self.send, again)


def post(callback: Callback, hmac_key: str | None) -> int | None:
    """Make one call; the HTTP status, or None when there was no answer."""
    headers = {"Content-Type": "application/json", "User-Agent": "kiejobs-simulator"}
    if hmac_key:
        timestamp = str(int(time.time()))
        signature = sign(hmac_key, callback.task_id, timestamp)
        headers |= {"X-Webhook-Timestamp": timestamp, "X-Webhook-Signature": signature}
    try:
        connection = connect_to(callback.url)
    except ValueError:
        return None
    parts = urlsplit(callback.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", target, body=callback.body, headers=headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def sign(hmac_key: str, task_id: str, timestamp: str) -> str:
    """base64(HMAC-SHA256(key, taskId + "." + timestamp))."""
    digest = hmac.new(hmac_key.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def connect_to(url: str, timeout_s: float = TIMEOUT_S) -> http.client.HTTPConnection:
    """An unopened connection to the host of `url`; ValueError if it has none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return connect(parts.hostname, parts.port, timeout=timeout_s)
