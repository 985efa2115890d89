"""One bucket or folder: put, read, look, delete, sign. The same behaviour over S3, GCS, Azure, a folder and memory.

It knows nothing of jobs or of where bytes come from. A put that fails, or whose source raises, leaves nothing visible
under its key (an older object stays as it was); memory stays bounded whatever the size; every fault of the storage is
`StorageUnavailable` with a remedy.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import obstore
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store, from_url

from kiejobs.errors import SettingsError
from kiejobs.storage.faults import storage_fault
from kiejobs.storage.keys import checked_key

if TYPE_CHECKING:
    from obstore import Attributes
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

PART_BYTES: Final = 8 * 1024 * 1024
"""Size of a multipart upload's parts: best handed in as chunks of exactly this size, then nothing is copied."""
_PARTS_IN_FLIGHT: Final = 2
_READ_BYTES: Final = 1024 * 1024
_PROBE: Final = "kiejobs-check"

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_BUCKETS = ("s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss")
_SETTING = "KIEJOBS_STORAGE_URL is a folder, s3://bucket/prefix, gs://bucket/prefix or az://account/container/prefix."

# Work may wait for a slow part; a check must answer while somebody looks at the screen. obstore's own defaults retry
# ten times over three minutes, longer than a lease.
_WORK_CLIENT: "ClientConfig" = {"timeout": timedelta(seconds=120), "connect_timeout": timedelta(seconds=5)}
_WORK_RETRY: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
_CHECK_CLIENT: "ClientConfig" = {"timeout": timedelta(seconds=2), "connect_timeout": timedelta(seconds=2)}
_CHECK_RETRY: "RetryConfig" = {"max_retries": 1, "retry_timeout": timedelta(seconds=2)}


@dataclass(frozen=True)
class StoredObject:
    """What a store says about one object. Folders do not keep a media type."""

    key: str
    size_bytes: int
    media_type: str | None


class Store:
    """A bucket or folder; safe to share between threads."""

    def __init__(self, store: "ObjectStore", checker: "ObjectStore", shown: str) -> None:
        self._store = store
        self._checker = checker
        self._shown = shown.rstrip("/")
        self._folder = Path(store.prefix) if isinstance(store, LocalStore) and store.prefix else None

    @classmethod
    def open(cls, url: str, *, endpoint_url: str | None = None) -> "Store":
        """Open the storage that a URL, or a folder's name, stands for.

        `endpoint_url` is the address of an S3-compatible server; credentials come from the usual names of the
        environment, read by obstore. No request is made. SettingsError for a URL that names no storage.
        """
        if not _SCHEME.match(url):
            return _folder(Path(url).expanduser().absolute())
        scheme, host = urlsplit(url).scheme.lower(), urlsplit(url).netloc
        if scheme == "memory":
            memory = MemoryStore()
            return cls(memory, memory, "memory:")
        if scheme == "file" and url.lower().startswith("file:///"):
            return _folder(Path(urlsplit(url).path))
        if scheme not in _BUCKETS or not host:
            raise SettingsError(f"{_unsigned(url)!r} names no storage that kiejobs can use", remedy=_SETTING)
        return _bucket(url, endpoint_url)

    def put(self, key: str, chunks: Iterator[bytes], *, media_type: str, disposition: str | None = None) -> None:
        """Store the chunks under a key, at once visible as a whole or not at all; an older object is replaced.

        Whatever `chunks` raises is raised again as it is, and nothing is stored. One chunk is one request; more become
        a multipart upload of `PART_BYTES` each, at most two under way.
        """
        safe_key, source = checked_key(key), _Source(chunks)
        attributes: Attributes = {"Content-Type": media_type}
        if disposition:
            attributes["Content-Disposition"] = disposition
        with self._faults(source):
            obstore.put(
                self._store,
                safe_key,
                source.body(),
                attributes=None if self._folder else attributes,
                chunk_size=PART_BYTES,
                max_concurrency=_PARTS_IN_FLIGHT,
            )

    def head(self, key: str) -> StoredObject | None:
        """Describe the object under a key; None if there is none."""
        safe_key = checked_key(key)
        with self._faults():
            try:
                found = obstore.get(self._store, safe_key, options={"head": True})
            except FileNotFoundError:
                return None
            return StoredObject(key, found.meta["size"], found.attributes.get("Content-Type"))

    def read(self, key: str) -> Iterator[bytes]:
        """Return the object's bytes, a mebibyte at a time. The first request is made by the call itself."""
        safe_key = checked_key(key)
        with self._faults():
            stream = obstore.get(self._store, safe_key).stream(_READ_BYTES)
        return self._pieces(stream)

    def delete(self, key: str) -> None:
        """Remove the object under a key; there being none is no error."""
        safe_key = checked_key(key)
        with self._faults(), suppress(FileNotFoundError):
            obstore.delete(self._store, safe_key)

    def check(self) -> None:
        """Write, read and remove a small object, within seconds; StorageUnavailable says in one line what is wrong."""
        with self._faults():
            obstore.put(self._checker, _PROBE, b"kiejobs", use_multipart=False)
            obstore.head(self._checker, _PROBE)
        with suppress(Exception):  # a bucket that forbids deleting is a good bucket for results
            obstore.delete(self._checker, _PROBE)

    def signed_url(self, key: str, expires_s: int) -> str | None:
        """Return a link that gives the object to whoever has it, for so long; None where the store cannot sign."""
        safe_key = checked_key(key)
        if not isinstance(self._store, (S3Store, GCSStore, AzureStore)):
            return None
        with self._faults():
            return obstore.sign(self._store, "GET", safe_key, timedelta(seconds=expires_s))

    def path(self, key: str) -> Path | None:
        """Return the object's file, if the store is a folder."""
        return self._folder / checked_key(key) if self._folder else None

    def location(self, key: str) -> str:
        """Say for a person where the object is: `s3://bucket/prefix/key`, or the path of the file."""
        return f"{self._shown}/{checked_key(key)}"

    def _pieces(self, stream: Iterator[Any]) -> Iterator[bytes]:
        with self._faults():
            for piece in stream:
                yield bytes(piece)

    @contextmanager
    def _faults(self, source: "_Source | None" = None) -> Iterator[None]:
        """Let no exception of the store's library out. One of the source's own goes on as it is."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # obstore raises built-in classes too
            if source is None or source.failure is None:
                raise storage_fault(error, self._shown) from None
        if source is not None and source.failure is not None:
            raise source.failure


class _Source:
    """The chunks on their way into obstore, with the exception they ended in, for it is the one worth raising."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.failure: BaseException | None = None

    def body(self) -> bytes | Iterator[bytes]:
        """Return plain bytes if there is only one chunk, so that a small file costs one request instead of three."""
        guarded = self._guarded()
        first = next(guarded, b"")
        second = next(guarded, None)
        return first if second is None else chain((first, second), guarded)

    def _guarded(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except GeneratorExit:
            raise
        except BaseException as error:
            self.failure = error
            raise


def _folder(path: Path) -> Store:
    # `mkdir=True`, not a `file:` URL: obstore reads `file:x/y` as `/x/y`.
    try:
        store = LocalStore(path, mkdir=True)
    except Exception as error:  # noqa: BLE001  # obstore raises built-in classes too
        raise storage_fault(error, str(path)) from None
    return Store(store, store, str(path))


def _bucket(url: str, endpoint_url: str | None) -> Store:
    config: S3Config = {}
    extra: ClientConfig = {}
    if urlsplit(url).scheme.lower() in ("s3", "s3a"):
        config = _s3_config(endpoint_url)
        if endpoint_url:
            extra = {"allow_http": urlsplit(endpoint_url).scheme.lower() == "http"}
    try:
        work = _opened(url, config, {**_WORK_CLIENT, **extra}, _WORK_RETRY)
        check = _opened(url, config, {**_CHECK_CLIENT, **extra}, _CHECK_RETRY)
    except Exception as error:  # noqa: BLE001  # whatever it is, this URL cannot be used
        why = str(error).partition("\n")[0][:200]
        raise SettingsError(f"{_unsigned(url)!r} cannot be opened: {why}", remedy=_SETTING) from None
    return Store(work, check, _unsigned(url))


def _s3_config(endpoint_url: str | None) -> "S3Config":
    # Signing a part means hashing it a second time, a third of a copy's CPU. TLS already protects it; so does never
    # leaving this machine.
    if not endpoint_url:
        return {"unsigned_payload": True}
    split = urlsplit(endpoint_url)
    if split.scheme.lower() not in ("http", "https") or not split.hostname:
        raise SettingsError(
            f"AWS_ENDPOINT_URL={_unsigned(endpoint_url)!r} is no http(s) address",
            remedy="Write it with its scheme, such as http://localhost:9000.",
        )
    # Path style, because most S3-compatible servers have no host name per bucket.
    config: S3Config = {"endpoint": endpoint_url.rstrip("/"), "virtual_hosted_style_request": False}
    if split.scheme.lower() == "https" or split.hostname in ("localhost", "127.0.0.1", "::1"):
        config["unsigned_payload"] = True
    return config


def _opened(url: str, config: "S3Config", client: "ClientConfig", retry: "RetryConfig") -> "ObjectStore":
    if config:
        return from_url(url, config=config, client_options=client, retry_config=retry)
    return from_url(url, client_options=client, retry_config=retry)


def _unsigned(url: str) -> str:
    """The URL without a user name, a password or a query."""
    split = urlsplit(url)
    return f"{split.scheme}://{split.netloc.rpartition('@')[2]}{split.path}"
