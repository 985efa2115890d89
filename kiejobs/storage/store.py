"""One bucket or folder: put, read, look, delete, sign. The same behaviour over S3, GCS, Azure, a folder and memory.

It knows nothing of jobs or of where bytes come from. A put that fails, or whose source raises, leaves nothing visible
under its key (an older object stays as it was); memory stays bounded whatever the size; every fault of the storage is
`StorageUnavailable` with a remedy.
"""

import io
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from kiejobs.errors import KieJobsError, ObjectMissing, StorageUnavailable
from kiejobs.storage import folder
from kiejobs.storage.faults import storage_fault
from kiejobs.storage.inputs import describe, pieces
from kiejobs.storage.keys import checked_key, disposition, input_key
from kiejobs.storage.opening import open_place
from kiejobs.storage.reading import Reading, cut

if TYPE_CHECKING:
    from obstore import Attributes, GetOptions
    from obstore.store import ObjectStore

    from kiejobs.settings import Settings

log = logging.getLogger(__name__)

PART_BYTES: Final = 5 * 1024 * 1024
"""Size of a multipart upload's parts: best handed in as chunks of exactly this size, then nothing is copied."""
_PARTS_IN_FLIGHT: Final = 2
_READ_BYTES: Final = 1024 * 1024
_PROBE: Final = "kiejobs-check"
MAX_INPUT_BYTES: Final = 2 * 1024**3


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
        self._knows_conditions = True
        self._folder = Path(store.prefix) if isinstance(store, LocalStore) and store.prefix else None

    @classmethod
    def open(cls, url: str, *, endpoint_url: str | None = None) -> "Store":
        """Open the storage that a URL, or a folder's name, stands for.

        `endpoint_url` is the address of an S3-compatible server; credentials come from the usual names of the
        environment, read by obstore. No request is made. SettingsError for a URL that names no storage.
        """
        place = open_place(url, endpoint_url=endpoint_url)
        return cls(place.work, place.checker, place.shown)

    @classmethod
    def of(cls, settings: "Settings") -> "Store":
        """Open the storage that the settings name, with the key that they hold."""
        place = open_place(settings.storage, endpoint_url=settings.storage_endpoint, access=settings.storage_access)
        return cls(place.work, place.checker, place.shown)

    def put(
        self,
        key: str,
        chunks: Iterator[bytes],
        *,
        media_type: str,
        disposition: str | None = None,
        create: bool = False,
    ) -> None:
        """Store the chunks under a key, at once visible as a whole or not at all; an older object is replaced.

        Whatever `chunks` raises is raised again as it is, and nothing is stored. One chunk is one request; more become
        a multipart upload of `PART_BYTES` each, at most two under way. With `create`, an object that somebody else has
        stored meanwhile stays, where the storage can tell and one request is enough; nobody may rely on it.
        """
        safe_key, source = checked_key(key), _Source(chunks)
        attributes: Attributes = {"Content-Type": media_type}
        if disposition:
            attributes["Content-Disposition"] = disposition
        with self._faults(source):
            path = self.path(safe_key)
            if path is not None and self._folder is not None:
                if not (create and path.exists()):
                    folder.write(self._folder, path, source)
                return
            body, kept = source.body(), attributes
            if create and self._knows_conditions and isinstance(body, bytes) and self._created(safe_key, body, kept):
                return
            obstore.put(
                self._store, safe_key, body, attributes=kept, chunk_size=PART_BYTES, max_concurrency=_PARTS_IN_FLIGHT
            )

    def _created(self, key: str, body: bytes, attributes: "Attributes | None") -> bool:
        """Store an object where there is none; False, and nothing is done, where the server cannot do that."""
        try:
            obstore.put(self._store, key, body, attributes=attributes, mode="create", use_multipart=False)
        except AlreadyExistsError:
            pass
        except BaseError as error:
            if "NotImplemented" not in str(error):
                raise
            self._knows_conditions = False  # each refusal costs the library's retries
            return False
        return True

    def head(self, key: str) -> StoredObject | None:
        """Describe the object under a key; None if there is none."""
        safe_key = checked_key(key)
        with self._faults():
            try:
                found = obstore.get(self._store, safe_key, options={"head": True})
            except FileNotFoundError:
                return None
            return StoredObject(key, found.meta["size"], found.attributes.get("Content-Type"))

    def put_input(self, tenant: str, content: bytes | BinaryIO, *, max_bytes: int = MAX_INPUT_BYTES) -> str:
        """Keep an input file under `{tenant}/inputs/{sha256}.{ext}` and return that key; the same file is kept once.

        A file must be seekable; it is read as a stream, twice. InvalidInput for what is empty, cut short, too large or
        no media.
        """
        file = io.BytesIO(content) if isinstance(content, bytes) else content
        found = describe(file, max_bytes=max_bytes, piece_bytes=PART_BYTES)
        key = input_key(tenant=tenant, sha256=found.sha256, extension=found.media_type.extension)
        there = self.head(key)
        if there is not None and there.size_bytes == found.size_bytes:
            return key
        how = {"media_type": found.media_type.mime, "disposition": disposition(key)}
        self.put(key, pieces(file, PART_BYTES), create=there is None, **how)
        if not self._holds(key, found.size_bytes):
            raise StorageUnavailable(f"{self.location(key)} does not hold what was written")
        return key

    def _holds(self, key: str, size_bytes: int) -> bool:
        there = self.head(key)
        return there is not None and there.size_bytes == size_bytes

    def read(self, key: str) -> Reading:
        """Open the object under a key; ObjectMissing if there is none. The first request is made by the call itself."""
        return self.open_range(key)

    def open_range(self, key: str, first: int = 0, end: int | None = None) -> Reading:
        """Open the bytes from `first` up to but not including `end`, or to the end of the object.

        An `end` behind the object's is its end. ObjectMissing if there is no object, ValueError if it has no byte
        `first`.
        """
        safe_key = checked_key(key)
        if first < 0 or (end is not None and end <= first):
            raise ValueError(f"{first} to {end} is no range of bytes")
        with self._faults():
            there = self._get(safe_key, {"head": True})
        size_bytes, etag = there.meta["size"], there.meta.get("e_tag")
        if first >= size_bytes and not first == size_bytes == 0:
            raise ValueError(f"{key} has {size_bytes} bytes, there is none at {first}")
        end = min(end or size_bytes, size_bytes)
        return Reading(
            key,
            self._parts(safe_key, first, end, etag),
            size_bytes=size_bytes,
            first=first,
            end=end,
            media_type=there.attributes.get("Content-Type"),
            etag=etag,
        )

    def part(self, whole: Reading, first: int, end: int) -> Reading:
        """Open the bytes from `first` up to but not including `end` of an object that is open; no request is made."""
        return Reading(
            whole.key,
            self._parts(checked_key(whole.key), first, end, whole.etag),
            size_bytes=whole.size_bytes,
            first=first,
            end=end,
            media_type=whole.media_type,
            etag=whole.etag,
        )

    def _parts(self, key: str, first: int, end: int, etag: str | None) -> Iterator[bytes]:
        """Yield a range part by part, each by a request of its own.

        The library's timeout is for a whole answer: a long one, or one whose reader is slow, would be cut off.
        """
        same: GetOptions = {"if_match": etag} if etag else {}
        for at in range(first, end, _READ_BYTES):
            try:
                with self._faults():
                    part = bytes(self._get(key, {**same, "range": (at, min(at + _READ_BYTES, end))}).bytes())
            except _NotPartial:
                yield from self._whole(key, same, at, end)
                return
            yield part

    def _whole(self, key: str, options: "GetOptions", first: int, end: int) -> Iterator[bytes]:
        """Yield a range of what is read as a whole, from a server that knows no parts."""
        with self._faults():
            stream = self._get(key, options).stream(_READ_BYTES)
            yield from cut((bytes(piece) for piece in stream), first, end)

    def _get(self, key: str, options: "GetOptions") -> Any:
        try:
            return obstore.get(self._store, key, options=options)
        except FileNotFoundError as error:
            if "head" in options:  # an answer without a body does not tell a missing bucket from a missing object
                return self._get(key, {"range": (0, 1)})
            if "NoSuchBucket" in str(error) or (self._folder and not self._folder.is_dir()):
                raise
            raise ObjectMissing(f"{self.location(key)} is not there") from None
        except BaseError as error:
            # Some servers know no parts (rclone's is one): then the whole is read and cut.
            if "non-partial response" in str(error):
                raise _NotPartial("parts of objects are not served") from None
            raise

    def delete(self, key: str) -> None:
        """Remove the object under a key; there being none is no error."""
        safe_key = checked_key(key)
        with self._faults(), suppress(FileNotFoundError):
            obstore.delete(self._store, safe_key)

    def check(self) -> None:
        """Write, read and remove a small object, within seconds; StorageUnavailable says in one line what is wrong.

        The object has a name of its own: whoever else checks at the same time neither reads nor removes it.
        """
        probe = f"{_PROBE}-{secrets.token_hex(8)}"
        with self._faults():
            obstore.put(self._checker, probe, b"kiejobs", use_multipart=False)
            try:
                if bytes(obstore.get(self._checker, probe).bytes()) != b"kiejobs":
                    raise StorageUnavailable(f"{self._shown}: what is read is not what was written")
            finally:
                with suppress(Exception):  # a bucket that forbids deleting is a good bucket for results
                    obstore.delete(self._checker, probe)

    def link(self, key: str, lives_s: float) -> str | None:
        """Return a signed link that gives the object to whoever has it, for `lives_s` seconds (S3: at most a week).

        None where the store cannot sign (a folder, or a bucket read with credentials that hold no key to sign with): then
        the bytes have to be served. A browser names the file by the disposition that the object was stored with.
        """
        safe_key = checked_key(key)
        if not isinstance(self._store, (S3Store, GCSStore, AzureStore)):
            return None
        try:
            return obstore.sign(self._store, "GET", safe_key, timedelta(seconds=lives_s))
        except Exception as error:  # noqa: BLE001  # obstore raises built-in classes too
            log.warning("no signed links, the bytes are served instead: %s", storage_fault(error, self._shown))
            return None

    def path(self, key: str) -> Path | None:
        """Return the object's file, if the store is a folder."""
        return self._folder / checked_key(key) if self._folder else None

    def location(self, key: str) -> str:
        """Say for a person where the object is: `s3://bucket/prefix/key`, or the path of the file."""
        return f"{self._shown}/{checked_key(key)}"

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


def _handed_over(chunks: list[bytes]) -> Iterator[bytes]:
    """Yield each and let go of it; `chain` keeps what it was given to its own end, two parts for a whole upload."""
    while chunks:
        yield chunks.pop(0)


class _NotPartial(KieJobsError):
    """This server answers a request for a part with something else."""


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
        return first if second is None else chain(_handed_over([first, second]), guarded)

    def __iter__(self) -> Iterator[bytes]:
        return self._guarded()

    def _guarded(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except GeneratorExit:
            raise
        except BaseException as error:
            self.failure = error
            raise
