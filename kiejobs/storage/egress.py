"""The only way out to URLs that somebody else gave us: a requests session that checks every address when it dials.

A name is resolved once, all its addresses must be public, and one of exactly these is dialled; so a name that changes
its answer, a redirect, or an odd spelling of 127.0.0.1 reaches nothing. No proxy, `.netrc` or cookie of the environment
is used. Exceptions are exact (host, port) pairs as written in the URL. Refusals are `EgressRefused`; of a name, whose
answer another network or another day may change, `NameRefused`.
"""

import io
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from http.client import HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin

import requests
from requests.utils import requote_uri
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from kiejobs.errors import EgressRefused, NameRefused, SourceUnavailable
from kiejobs.storage.addresses import address_refused, literal, parse_url, shown, url_refused
from kiejobs.tls import OneContext

__all__ = ["GuardedSession", "address_refused", "guarded_session", "shown", "surplus", "url_refused"]

MAX_REDIRECTS = 3
_MAX_ADDRESSES = 4  # each may cost the whole connect timeout
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_check: ContextVar[Callable[[], None]] = ContextVar("kiejobs_egress_check", default=lambda: None)


class GuardedSession(requests.Session):
    """A session that dials public addresses only, follows no redirect by itself, and always has timeouts.

    `get` and `post` work as usual (and raise as requests does); `open` is the checked way to fetch a file.
    """

    def __init__(
        self,
        allow: frozenset[tuple[str, int]] = frozenset(),
        user_agent: str = "kiejobs/0.1",
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 30.0,
    ) -> None:
        super().__init__()
        self.trust_env = False
        self.timeouts = (connect_timeout_s, read_timeout_s)
        # Kie's CDN answers 403 to the user agents of bare HTTP libraries; a compressed answer could not be counted.
        self.headers.update({"User-Agent": user_agent, "Accept-Encoding": "identity"})
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        adapter = _GuardedAdapter(frozenset((host.lower(), port) for host, port in allow))
        self.adapters.clear()
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def open(
        self, url: str, *, check: Callable[[], None] = lambda: None, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """GET a URL as an open stream, following at most three redirects, each of them guarded.

        `check` is called before every read from the socket, for the header and the body, so that it can end a slow
        answer by raising. Raises EgressRefused and SourceUnavailable; the caller closes the response.
        """
        token = _check.set(check)
        try:
            return self._follow(url, headers or {})
        finally:
            _check.reset(token)

    @contextmanager
    def checked(self, check: Callable[[], None]) -> Iterator[None]:
        """Have `check` called before every read of the calls in this block, so that it can end them by raising."""
        token = _check.set(check)
        try:
            yield
        finally:
            _check.reset(token)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send one request, after a look at its URL's form; never goes on to another URL."""
        split = parse_url(request.url or "")
        if isinstance(split, str):
            raise EgressRefused(f"{shown(request.url or '')} is not dialled: {split}", remedy="Give another URL.")
        kwargs["timeout"] = kwargs.get("timeout") or self.timeouts
        return super().send(request, **kwargs)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: requests would read a redirect's whole body into memory just to remember where it leads."""
        return None

    def _follow(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        for _ in range(MAX_REDIRECTS + 1):
            url = requote_uri(url.strip())
            response = self._get(url, headers)
            location = response.headers.get("Location", "")
            if response.status_code not in _REDIRECTS or not location:
                return response
            response.close()
            url = _joined(url, location)
        raise SourceUnavailable(f"{shown(url)} redirects more than {MAX_REDIRECTS} times")

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        try:
            # Authorization: None takes the header out, should the session have been given one.
            return self.get(url, stream=True, headers={**headers, "Authorization": None})
        except (requests.RequestException, HTTPError, OSError, UnicodeError) as error:
            # `from None`: the texts of these errors hold the whole URL, with the signature in its query.
            if isinstance(error, ValueError):
                raise EgressRefused(f"{shown(url)} is no URL that can be dialled") from None
            raise SourceUnavailable(f"{shown(url)}: {_cause(error)}") from None


def guarded_session(allow: frozenset[tuple[str, int]] = frozenset(), **options: Any) -> GuardedSession:
    """Build a `GuardedSession`; the options are those of its constructor."""
    return GuardedSession(allow, **options)


def surplus(response: requests.Response) -> bool:
    """Whether the server was seen to send more than the Content-Length it declared. Ask after the last byte."""
    original = getattr(response.raw, "_original_response", None)
    return isinstance(original, _WatchedResponse) and original.wire.surplus


def _joined(url: str, location: str) -> str:
    """The next hop. `http.client` reads headers as Latin-1, servers write UTF-8."""
    try:
        return urljoin(url, location.encode("latin-1").decode("utf-8", "replace"))
    except ValueError:
        raise EgressRefused(f"{shown(url)} redirects to what is no URL") from None


def _cause(error: Exception) -> str:
    text = repr(error)
    if isinstance(error, requests.exceptions.SSLError):
        return "the TLS handshake failed (certificate or protocol)"
    if "NameResolutionError" in text:
        return "its name cannot be resolved"
    if isinstance(error, requests.Timeout) or "ReadTimeoutError" in text:
        return "it did not answer in time"
    return "the connection failed"


class _Socket(io.RawIOBase):
    """The socket of one answer, as a raw stream that runs the check before each read."""

    def __init__(self, raw: io.RawIOBase, check: Callable[[], None]) -> None:
        super().__init__()
        self._raw, self._check = raw, check
        self.finished = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.finished:
            return 0
        self._check()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Wire(io.BufferedReader):
    """A buffered answer that notes, when `http.client` closes it, whether bytes were left over."""

    def __init__(self, raw: _Socket) -> None:
        super().__init__(raw, 64 * 1024)
        self._socket = raw
        self.surplus = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read so many bytes and never all there are: a chunk of -1 bytes would ask `http.client` for just that.

        Nobody here reads a body without saying how much of it; what has neither length nor chunks is read in pieces, too.
        """
        if size is None or size < 0:
            raise OSError("a read without a bound")
        return super().read(size)

    def close(self) -> None:
        if not self.closed:
            self._socket.finished = True  # so that the look at the buffer reads nothing more
            self.surplus = bool(self.peek(1))
        super().close()


class _WatchedResponse(HTTPResponse):
    """An answer read through `_Socket`, with the check that is in force when it begins."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.wire = _Wire(_Socket(self.fp.detach(), _check.get()))
        self.fp = self.wire


class _Guarded(HTTPConnection):
    """A connection that checks where it dials; TLS, put on top of it, still sees the host's name."""

    allow: frozenset[tuple[str, int]] = frozenset()
    response_class = _WatchedResponse

    def _new_conn(self) -> socket.socket:
        host = self._dns_host.lower()
        addresses = self._resolved(host)
        if (host, self.port) not in self.allow:
            for address in addresses:
                reason = address_refused(address)
                if reason:
                    refusal = EgressRefused if literal(host) else NameRefused
                    raise refusal(f"{host}:{self.port} is at {address}, which is never dialled: {reason}")
        return self._dialled(addresses)

    def _resolved(self, host: str) -> list[str]:
        try:
            found = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            cause = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
            raise NameResolutionError(host, self, cause) from error
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def _dialled(self, addresses: list[str]) -> socket.socket:
        failure: OSError = OSError("the name has no address")
        for address in addresses[:_MAX_ADDRESSES]:
            try:
                return create_connection((address, self.port), self.timeout, self.source_address, self.socket_options)
            except OSError as error:
                failure = error
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, f"connecting to {self.host} took too long") from failure
        raise NewConnectionError(self, f"connecting to {self.host} failed: {failure}") from failure


class _GuardedAdapter(OneContext):
    """Hands out guarded connections, whose certificates are verified by the process's one context, and no proxies."""

    def __init__(self, allow: frozenset[tuple[str, int]]) -> None:
        self._allow = allow
        super().__init__(pool_connections=16, pool_maxsize=16)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self._allow)

    def proxy_manager_for(self, proxy: str, **_: Any) -> Any:
        """Refuse: a proxy would resolve and dial where nothing can be checked."""
        raise EgressRefused("a proxy is configured for guarded requests", remedy="Take the proxy out.")


def _pools(allowed: frozenset[tuple[str, int]]) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(_Guarded):
        allow = allowed

    class Secure(_Guarded, HTTPSConnection):
        allow = allowed

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
