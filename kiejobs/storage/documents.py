"""Stores a result that came as content instead of a URL: the document itself, with the same record as a copied file."""

import hashlib
from collections.abc import Callable

from kiejobs.errors import StorageUnavailable
from kiejobs.storage.media import JSON, MediaType
from kiejobs.storage.store import Store
from kiejobs.storage.transfer import Stored


def keep(document: str, store: Store, key_for: Callable[[MediaType], str], *, media: MediaType = JSON) -> Stored:
    """Write a document under the key that `key_for` makes. StorageUnavailable where that does not work."""
    content = document.encode()
    key = key_for(media)
    store.put(key, iter([content]), media_type=media.mime)
    found = store.head(key)
    if found is None or found.size_bytes != len(content):
        raise StorageUnavailable(f"{store.location(key)} does not hold what was written")
    return Stored(key, media, len(content), hashlib.sha256(content).hexdigest())
