"""One TLS context for all connections of a process.

requests reads the certificates of its bundle anew for each connection, which costs more CPU than the call that follows; and
every create call has a connection of its own. Here they are read once. What is verified, and how, stays as it was.
"""

import ssl
from functools import cache
from typing import Any

from certifi import where
from requests.adapters import HTTPAdapter
from urllib3.util.ssl_ import create_urllib3_context


@cache
def context() -> ssl.SSLContext:
    """Return the context: certificates required, host names checked, the bundle that requests brings."""
    made = create_urllib3_context()
    made.load_verify_locations(where())
    return made


class OneContext(HTTPAdapter):
    """An adapter whose HTTPS connections share the process's context."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Give the context to every pool."""
        super().init_poolmanager(*args, ssl_context=context(), **kwargs)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Name no bundle where the default one is meant: the context has read it."""
        if verify is not True or cert:
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]
