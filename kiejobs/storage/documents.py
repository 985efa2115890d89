"""Stores a result that came as content instead of a URL: the document itself, with the same record as a copied file."""

import hashlib
import json
from collections.abc import Callable

from kiejobs.errors import StorageUnavailable
from kiejobs.storage.keys import disposition
from kiejobs.storage.media import JSON, TEXT, MediaType
from kiejobs.storage.store import Store
from kiejobs.storage.transfer import Stored


def media_of(document: str) -> MediaType:
    """Say what a document is: JSON where it is an object or a list, else plain text, such as lyrics or an answer."""
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):
        return TEXT
    return JSON if isinstance(found, dict | list) else TEXT


def keep(document: str, store: Store, key_for: Callable[[MediaType], str]) -> Stored:
    """Write a document under the key that `key_for` makes. StorageUnavailable where that does not work."""
    content, media = document.encode(), media_of(document)
    key = key_for(media)
    store.put(key, iter([content]), media_type=media.mime, disposition=disposition(key))
    found = store.head(key)
    if found is None or found.size_bytes != len(content):
        raise StorageUnavailable(f"{store.location(key)} does not hold what was written")
    return Stored(key, media, len(content), hashlib.sha256(content).hexdigest())
