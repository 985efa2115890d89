"""A gateway that really listens, in a thread of the test's process, on the test's own database."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
import uvicorn

from kiejobs.db.session import Database
from kiejobs.gateway.app import make_app
from kiejobs.gateway.keys import digest_of
from kiejobs.gateway.limits import Limits
from kiejobs.gateway.server import listen
from kiejobs.nudge import Publish
from kiejobs.settings import GatewayKey, Settings

KEYS = {name: f"kj_test-{name}" for name in ("a-read", "a-write", "a-admin", "a-write-new", "b-write")}
"""Keys by tenant and scope."""


def gateway_keys() -> tuple[GatewayKey, ...]:
    """Return the setting that knows `KEYS`."""
    return tuple(
        GatewayKey(tenant=name.split("-")[0], scope=name.split("-")[1], sha256=digest_of(key))  # type: ignore[arg-type]
        for name, key in KEYS.items()
    )


class Caller:
    """Calls a gateway as somebody."""

    def __init__(self, base_url: str, key: str | None = None) -> None:
        self.base_url = base_url
        self.session = requests.Session()
        if key:
            self.session.headers["Authorization"] = f"Bearer {key}"

    def __call__(self, method: str, path: str, **options: Any) -> requests.Response:
        options.setdefault("allow_redirects", False)
        return self.session.request(method, self.base_url + path, timeout=30, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> requests.Response:
        return self("POST", path, json=json, **options)


@contextmanager
def running(
    settings: Settings, database: Database | None, publish: Publish | None = None, limits: Limits | None = None
) -> Iterator[str]:
    """Serve a gateway; gives its address. The database stays open."""
    app = make_app(settings, database=database, publish=publish, limits=limits)
    with serving(app) as address:
        yield address


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application; gives its address."""
    sock = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, ws="none", log_config=None, lifespan="on", server_header=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    try:
        waited = threading.Event()
        for _ in range(500):
            if server.started or not thread.is_alive():
                break
            waited.wait(0.02)
        assert server.started
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(15)
        sock.close()
