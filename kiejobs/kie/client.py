"""The one place that talks to Kie.

`create` makes exactly one POST and returns an `Outcome`, whatever happens: every way a call can end is accepted,
refused, busy, not sent or unknown, and only a call that provably never left is *not sent*. `record` reads and raises
`KieUnavailable` or `KieThrottled`; reading again is harmless. The key goes to Kie's host and nowhere else: no redirects,
no proxy, no netrc. Every call has one total deadline, held by a watchdog that closes the socket.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from math import isfinite
from ssl import SSLCertVerificationError
from typing import Any, Protocol
from urllib.parse import urlencode

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, Timeout
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError
from urllib3.util import parse_url

from kiejobs import __version__
from kiejobs.answers import NotSent, Outcome, Refused, Scope, Snapshot, Unknown
from kiejobs.errors import KieThrottled, KieUnavailable, KieUnreadable, Reason
from kiejobs.kie.deadline import Watch, connections
from kiejobs.kie.envelope import REFUSALS, THROTTLED, Envelope, envelope
from kiejobs.kie.family import Call, Family

USER_AGENT = f"kiejobs/{__version__}"
CONNECT_TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 8 * 1024 * 1024
CREDIT = Call("GET", "/api/v1/chat/credit")
JSON = "application/json"
_LEAST_KEY = 16
"""Characters; Kie's keys have 32. A shorter one may be a word that an answer needs."""


class Stream(Protocol):
    """A body that is sent piece by piece, its length known beforehand."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[bytes]: ...


Payload = bytes | Stream

Seen = Callable[[str, str, float], None]
"""Told of each call that ended: its kind (`create`, or what the client is for), the answer's code, the seconds it took."""

NO_ANSWER = "none"
"""What stands for the code where no answer came."""


class KieClient:
    """Calls with one account's key. Safe to share between threads."""

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        timeout_s: float = 30.0,
        pool_size: int = 32,
        kind: str = "read",
        seen: Seen = lambda kind, code, took_s: None,
    ) -> None:
        self.base_url = base_url
        self._kind, self._seen = kind, seen
        self.timeout_s = timeout_s
        self._key = key
        self._host = parse_url(base_url)
        self._reads = connections(self._host, at_most=pool_size)

    def __repr__(self) -> str:
        return f"KieClient({self.base_url!r})"

    def create(
        self,
        family: Family,
        model: str,
        request: dict[str, Any],
        callback_url: str | None = None,
        *,
        may_start: Callable[[], bool] = lambda: True,
    ) -> Outcome:
        """Buy a generation with exactly one call, on a connection of its own.

        `may_start` is asked last, when the connection stands and before a byte is sent on it.
        """
        try:
            call = family.create(model, request, callback_url)
            payload = json.dumps(call.body, ensure_ascii=False).encode() if call.body is not None else None
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the request, nothing was sent
            said = f"the request cannot be put into a call: {type(error).__name__}: {error}"
            return Refused("", said[:500], Scope.JOB, Reason.INVALID_INPUT)
        deadline_s = family.create_deadline_s or self.timeout_s
        if not may_start():
            return NotSent("too long after the intent was committed; the intent is given back")
        try:
            # A create never rides on a kept connection that may just be dying.
            with closing(connections(self._host, at_most=1)) as own:
                answer = self._call(own, call, payload, deadline_s, may_start)
            return family.created(answer, request)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, money may have been spent: that is an outcome
            return _not_sent_or_unknown(error)

    def record(self, family: Family, task_id: str, *, timeout_s: float | None = None) -> tuple[Snapshot, Any]:
        """Read a task's record; returns what it says and the raw record. KieUnavailable, KieUnreadable, KieThrottled.

        `timeout_s` (in all) replaces the client's.
        """
        answer = self.send(family.read(task_id), timeout_s=timeout_s)
        code = answer.effective_code
        readable = answer.ok or answer.code in family.readable  # a gateway's bare status says nothing
        if not readable:
            scope, _ = REFUSALS.get(code, (None, None))  # not the job: the key, the account, or Kie's own trouble
            error = KieUnreadable if scope is Scope.JOB else KieUnavailable
            raise error(f"Kie answered {code}: {answer.message}")
        return family.snapshot(answer), answer.data

    def fresh_link(self, family: Family, task_id: str, url: str) -> str | None:
        """Ask for a new link (20 minutes) to a file that Kie made; None where Kie does not know the file."""
        answer = self.send(family.fresh_link(task_id, url))
        if answer.ok and isinstance(answer.data, str) and answer.data:
            return answer.data
        if answer.effective_code in REFUSALS:
            return None
        raise KieUnavailable(f"Kie answered {answer.effective_code}: {answer.message}")

    def credit(self) -> float:
        """Read the account's balance in credits. KieUnavailable where the key is refused or Kie does not answer."""
        answer = self.send(CREDIT)
        known = isinstance(answer.data, int | float) and not isinstance(answer.data, bool) and isfinite(answer.data)
        if not answer.ok or not known:
            raise KieUnavailable(f"Kie answered {answer.effective_code}: {answer.message}")
        return float(answer.data)

    def send(
        self, call: Call, *, payload: Payload | None = None, content_type: str = JSON, timeout_s: float | None = None
    ) -> Envelope:
        """Make a call that costs nothing, on a kept connection, and return its answer, whatever its code.

        `payload` replaces the call's JSON body, `timeout_s` (in all) the client's. KieUnavailable, KieThrottled.
        """
        body = payload if payload is not None or call.body is None else json.dumps(call.body).encode()
        try:
            answer = self._call(self._reads, call, body, timeout_s or self.timeout_s, content_type=content_type)
        except (HTTPError, OSError, ValueError) as error:
            raise KieUnavailable(f"no readable answer: {_named(error)}") from None
        if answer.effective_code in THROTTLED:
            raise KieThrottled(f"Kie answered {answer.effective_code}: {answer.message}")
        if not answer.parsed:
            raise KieUnavailable(f"Kie answered HTTP {answer.http_status} without JSON")
        return answer

    def _without_key(self, answer: bytes) -> bytes:
        """Take the key out of an answer that quotes it ("Incorrect API key provided: …"): its words are kept and shown."""
        return answer.replace(self._key.encode(), b"***") if len(self._key) >= _LEAST_KEY else answer

    def _call(
        self,
        pool: HTTPConnectionPool,
        call: Call,
        payload: Payload | None,
        timeout_s: float,
        may_start: Callable[[], bool] = lambda: True,
        *,
        content_type: str = JSON,
    ) -> Envelope:
        headers = {"Authorization": f"Bearer {self._key}", "Accept": "application/json", "User-Agent": USER_AGENT}
        if payload is not None:
            headers |= {"Content-Type": content_type, "Content-Length": str(len(payload))}
        if pool is not self._reads:
            headers["Connection"] = "close"
        began, code = time.monotonic(), NO_ANSWER
        try:
            answer = self._answer(pool, call, payload, may_start, timeout_s=timeout_s, headers=headers)
            code = str(answer.effective_code)
        finally:
            self._seen(self._kind if pool is self._reads else "create", code, time.monotonic() - began)
        return answer

    def _answer(
        self,
        pool: HTTPConnectionPool,
        call: Call,
        payload: Payload | None,
        may_start: Callable[[], bool],
        *,
        timeout_s: float,
        headers: dict[str, str],
    ) -> Envelope:
        target = (self._host.path or "") + call.path + (f"?{urlencode(call.query)}" if call.query else "")
        with Watch(timeout_s, may_start) as watch:
            response = pool.urlopen(
                call.method,
                target,
                payload,
                headers,
                retries=False,
                redirect=False,
                timeout=Timeout(connect=CONNECT_TIMEOUT_S, read=timeout_s),
                preload_content=False,
            )
            with closing(response):  # whole, the connection is back in its pool by then; else it is cut
                body = _body(response)
            answer = envelope(response.status, self._without_key(body))
            if watch.fired and not answer.parsed:
                raise TimeoutError(f"no whole answer within {timeout_s:g} s")
            return answer


def _body(response: BaseHTTPResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    for part in response.stream(65536, decode_content=True):
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise OSError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    return b"".join(parts)


def _not_sent_or_unknown(error: Exception) -> Outcome:
    """Only a failure to connect proves that nothing was sent."""
    if isinstance(error, NewConnectionError | ConnectTimeoutError):
        return NotSent(f"Kie could not be reached: {type(error).__name__}", unreachable=True)
    if isinstance(error, SSLError) and isinstance(_cause(error), SSLCertVerificationError):
        return NotSent("Kie's certificate could not be verified", unreachable=True)  # nothing follows a handshake
    return Unknown(f"no readable answer: {_named(error)}")


def _named(error: BaseException) -> str:
    """Name an error without its text: the text of transport errors may hold the URL's query."""
    cause, name = _cause(error), type(error).__name__
    return f"{name} ({type(cause).__name__})" if cause else name


def _cause(error: BaseException) -> BaseException | None:
    return next((one for one in error.args if isinstance(one, BaseException)), None)
