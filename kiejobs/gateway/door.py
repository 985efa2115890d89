"""What every request passes before a route sees it: where it comes from, who sent it, how often.

Nothing of the body is read here. Where no keys are set, whoever is on this machine may do everything, so a web page that
the same person has open must not: the Host must be this machine (DNS rebinding), and what changes something must not
come from another origin (CSRF). Nor may who comes through a tunnel that was opened for Kie. Kie's callbacks and the
health checks have a door of their own and pass.
"""

import ipaddress
import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kiejobs import logs
from kiejobs.errors import Forbidden, KieJobsError, TooManyRequests
from kiejobs.gateway.keys import Caller, Keys
from kiejobs.gateway.limits import Bucket, Limits
from kiejobs.gateway.problems import answer

_OPEN = ("/callbacks/", "/healthz", "/readyz")
_NEEDS_KEY = ("/api/", "/metrics")
_NAMES = re.compile(r"/(api/generations|jobs|callbacks/kie)/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")
_SAFE = ("GET", "HEAD", "OPTIONS")
_HANDED_ON = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""What proxies and tunnels add. One that also rewrites the Host would open the gateway to everybody."""
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class Door:
    """The outermost layer: lets a request in with its caller in `request.state.caller`, or answers with a problem."""

    def __init__(
        self, app: ASGIApp, keys: Keys, limits: Limits, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._app, self._keys, self._limits, self._monotonic = app, keys, limits, monotonic
        self._buckets: dict[str, Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._look(scope)
        except KieJobsError as refused:
            await answer(refused)(scope, receive, send_safely)
        else:
            with logs.about(**_ids(scope["path"])):
                await self._app(scope, receive, send_safely)

    def _look(self, scope: Scope) -> None:
        path: str = scope["path"]
        if path.startswith(_OPEN):
            return
        headers = Headers(scope=scope)
        if not self._keys.needed:
            _refuse_strangers(headers, scope["method"])
        if path.startswith(_NEEDS_KEY):
            caller = self._keys.caller(headers.get("authorization"))
            scope.setdefault("state", {})["caller"] = caller
            self._count(caller)

    def _count(self, caller: Caller) -> None:
        limits = self._limits
        bucket = self._buckets.setdefault(caller.tenant, Bucket(limits.requests_per_s, limits.burst))
        wait_s = bucket.wait_s(self._monotonic())
        if wait_s:
            raise TooManyRequests(
                f"more than {limits.requests_per_s:g} requests per second of tenant {caller.tenant}",
                retry_after_s=wait_s,
            )


def _ids(path: str) -> dict[str, str]:
    """Return what a path names: the job, or the submission that a callback is for."""
    found = _NAMES.match(path)
    return {"submission" if found[1] == "callbacks/kie" else "job": found[2]} if found else {}


def _refuse_strangers(headers: Headers, method: str) -> None:
    if any(name in headers for name in _HANDED_ON):
        raise Forbidden(
            "the gateway has no keys, so it answers to this machine only, not through a proxy or a tunnel",
            remedy="Set KIEJOBS_GATEWAY_KEYS. Kie's callbacks pass without keys.",
        )
    host = headers.get("host", "")
    if not is_loopback(host):
        raise Forbidden(
            f"the gateway has no keys, so it answers to its loopback address only, not to {host[:100]!r}",
            remedy="Call it as 127.0.0.1 or localhost, or set KIEJOBS_GATEWAY_KEYS.",
        )
    origin = headers.get("origin")
    if method not in _SAFE and origin is not None and host_of(origin) != host:
        raise Forbidden(
            "the gateway has no keys, so no page of another origin may change anything",
            remedy="Call it from a server, or set KIEJOBS_GATEWAY_KEYS.",
        )


def host_of(origin: str) -> str | None:
    """Return the host, with its port, that an `Origin` names; None where it is no web page's."""
    try:
        split = urlsplit(origin)
    except ValueError:
        return None
    return split.netloc if split.scheme in ("http", "https") else None


def is_loopback(host: str) -> bool:
    """Whether a host, with or without a port, is this machine by its very name."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
