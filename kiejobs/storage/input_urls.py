"""Which URLs in a generation's input Kie cannot fetch. Pure: no name is resolved here.

Kie fetches inputs from the public network, so a loopback or private address, a `file:` or a `data:` URL can only fail,
minutes later and paid for in some families. What merely mentions a URL (a prompt) is text and passes; `asset://` is
Kie's own.
"""

import re
from collections.abc import Mapping
from typing import Any

from kiejobs.places import Steps, name_of, places
from kiejobs.storage.addresses import url_refused

_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_LOCAL = re.compile(r"(data|blob|file|cid):|[/~\\]|\.{1,2}/|[a-z]:\\", re.IGNORECASE)
_NAMED_URL = ("url", "urls", "uri", "uris")
_KIES_OWN = "asset://"


def unreachable(given: Mapping[str, Any], allow: frozenset[tuple[str, int]] = frozenset()) -> tuple[str, str] | None:
    """Return the first field whose URL Kie cannot fetch, and why; None where there is none.

    `allow` holds exact (host, port) pairs that pass although they are not public.
    """
    for path, text in places(given):
        why = _refused(path, text.strip(), allow) if isinstance(text, str) else None
        if why:
            return name_of(path), why
    return None


def _refused(path: Steps, text: str, allow: frozenset[tuple[str, int]]) -> str | None:
    if _URL.fullmatch(text):
        return None if text.lower().startswith(_KIES_OWN) else url_refused(text, allow)
    if _LOCAL.match(text) and _is_named_url(path):
        return "it is no http(s) URL"
    return None


def _is_named_url(path: Steps) -> bool:
    """Say whether the field that a text stands in, alone or in a list, is called a URL."""
    field = next((step for step in reversed(path) if isinstance(step, str)), "")
    return field.lower().endswith(_NAMED_URL)
