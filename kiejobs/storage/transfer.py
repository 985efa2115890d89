"""Copies one file from a URL to a store as a stream, and believes nothing about it that the bytes do not show.

It knows nothing of jobs: the caller gives the limits and the rule for the key. Every check runs while the upload is
still open and ends it by raising, so that nothing is ever visible under the key but a whole file of a known kind.
Memory does not grow with the file. Errors are those of `kiejobs.errors` and show no query of the URL.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import IncompleteRead
from typing import Final

import requests
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError

from kiejobs.errors import Incomplete, SourceExpired, SourceRefused, SourceUnavailable, Stopped, StorageUnavailable
from kiejobs.storage.egress import GuardedSession, shown, surplus
from kiejobs.storage.integrity import Ending
from kiejobs.storage.media import HEAD_BYTES, MediaType, sniff
from kiejobs.storage.store import PART_BYTES, Store

_EXPIRED: Final = frozenset({401, 403, 404, 410})
_EVIDENCE_BYTES: Final = 80


@dataclass(frozen=True)
class Stored:
    """A file that is in the store, complete: `sha256` is the hexadecimal digest of its bytes."""

    key: str
    media_type: MediaType
    size_bytes: int
    sha256: str


def copy(
    source_url: str,
    store: Store,
    key_for: Callable[[MediaType], str],
    *,
    session: GuardedSession,
    max_bytes: int,
    deadline_s: float,
    allowed_kinds: frozenset[str] | None = None,
    keep_going: Callable[[], bool] = lambda: True,
    progress: Callable[[int], None] = lambda _: None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Stored:
    """Copy the file behind a URL into the store, under the key that `key_for` makes from what the bytes are.

    `deadline_s` bounds the whole copy; it and `keep_going` are looked at before every read. `progress` is told the
    bytes so far. Raises SourceExpired, SourceUnavailable, Incomplete, SourceRefused, EgressRefused, Stopped or
    StorageUnavailable; the key then holds what it held before.
    """
    watch = _Watch(deadline_s, keep_going, monotonic)
    with session.open(source_url, check=watch) as response:
        source = _Source(response, max_bytes, watch, progress)
        media = source.identify(allowed_kinds)
        key = key_for(media)
        store.put(key, source.verified(media), media_type=media.mime)
    return _confirmed(store, Stored(key, media, source.size_bytes, source.sha256))


class _Watch:
    """Ends a copy that is no longer wanted, or takes too long, by raising from wherever it is called."""

    def __init__(self, deadline_s: float, keep_going: Callable[[], bool], monotonic: Callable[[], float]) -> None:
        self._keep_going, self._monotonic = keep_going, monotonic
        self._deadline_s = deadline_s
        self._start = monotonic()
        self._storing_s = 0.0
        self._handed_over: float | None = None

    def __call__(self) -> None:
        if not self._keep_going():
            raise Stopped("the copy was given up, its worker stops or lost its lease")
        if self._monotonic() - self._start <= self._deadline_s:
            return
        # The storage's slowness must not be charged to the source: only the latter can end a job.
        if self._storing_s > self._deadline_s / 2:
            raise StorageUnavailable(f"the storage was too slow: the copy did not end within {self._deadline_s:g} s")
        raise SourceUnavailable(f"the source is too slow: the copy did not end within {self._deadline_s:g} s")

    def hand_over(self) -> None:
        """A chunk goes to the store now: until `take_back`, the time is the store's."""
        self._handed_over = self._monotonic()

    def take_back(self) -> None:
        """The store asks for the next chunk."""
        if self._handed_over is not None:
            self._storing_s += self._monotonic() - self._handed_over


class _Source:
    """One answer's body: read in parts, counted, hashed and checked as it goes by."""

    def __init__(
        self, response: requests.Response, max_bytes: int, watch: _Watch, progress: Callable[[int], None]
    ) -> None:
        self._response, self._watch, self._progress = response, watch, progress
        self._max_bytes = max_bytes
        self._shown = shown(response.url)
        self._digest = hashlib.sha256()
        self._first = b""
        self.size_bytes = 0
        _check_answer(response, self._shown)
        self._declared = _declared_bytes(response)
        if self._declared is not None and self._declared > max_bytes:
            raise self._too_large()

    @property
    def sha256(self) -> str:
        """The digest of the bytes so far."""
        return self._digest.hexdigest()

    def identify(self, allowed_kinds: frozenset[str] | None) -> MediaType:
        """Read the first part and say what it is; SourceRefused if it is nothing to be stored."""
        self._first = self._read()
        if not self._first:
            # Only an emptiness that was declared is certain: else the server may have hung up.
            if self._declared != 0 and not self._response.raw.chunked:
                raise self._incomplete()
            raise SourceRefused(f"{self._shown} is empty", remedy="The result at Kie is broken: generate it again.")
        media = sniff(self._first[:HEAD_BYTES])
        if media is None or (allowed_kinds is not None and media.kind not in allowed_kinds):
            wanted = ", ".join(sorted(allowed_kinds)) if allowed_kinds else "image, video, audio or text"
            raise SourceRefused(
                f"{self._shown} is {media.mime if media else 'no media'}, wanted: {wanted}; {self._evidence()}",
                remedy="Look at the result at Kie; it is not what the model should make.",
            )
        return media

    def verified(self, media: MediaType) -> Iterator[bytes]:
        """Yield the body part by part; raises instead of ending when the whole is not right."""
        ending = Ending(media)
        chunk = self._first
        self._first = b""
        while chunk:
            self.size_bytes += len(chunk)
            if self.size_bytes > self._max_bytes:
                raise self._too_large()
            self._digest.update(chunk)
            ending.feed(chunk)
            self._progress(self.size_bytes)
            self._watch.hand_over()
            yield chunk
            self._watch.take_back()
            chunk = self._read()
        missing = ending.missing()
        if missing:
            raise Incomplete(f"{self._shown} is not whole: {missing}")

    def _read(self) -> bytes:
        """Fill one part straight from the socket; the watch is asked before each of its reads."""
        self._watch()
        try:
            chunk: bytes = self._response.raw.read(PART_BYTES, decode_content=False)
        except ReadTimeoutError:
            raise SourceUnavailable(f"{self._shown} stopped sending") from None
        except ProtocolError as error:
            if isinstance(error.args[-1], IncompleteRead):
                raise self._incomplete() from None
            raise SourceUnavailable(f"{self._shown} hung up midway") from None
        except (HTTPError, OSError, ValueError):
            raise SourceUnavailable(f"{self._shown}: the connection failed midway") from None
        if not chunk:
            self._check_length()
        return chunk

    def _check_length(self) -> None:
        if surplus(self._response) or (self._declared is not None and self.size_bytes != self._declared):
            raise self._incomplete()

    def _incomplete(self) -> Incomplete:
        declared = "an unknown number of" if self._declared is None else self._declared
        return Incomplete(f"{self._shown} declared {declared} bytes and sent another number")

    def _too_large(self) -> SourceRefused:
        size = f"has {self._declared} bytes" if self._declared else "is larger"
        return SourceRefused(
            f"{self._shown} {size}, more than the {self._max_bytes} allowed", remedy="Raise KIEJOBS_MAX_OUTPUT_BYTES."
        )

    def _evidence(self) -> str:
        begin = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in self._first[:_EVIDENCE_BYTES])
        declared = self._response.headers.get("Content-Type", "none")[:60]
        return f"content type {declared!r}, begins with {begin!r}"


def _check_answer(response: requests.Response, where: str) -> None:
    status = response.status_code
    if status in _EXPIRED:
        raise SourceExpired(f"{where} answers {status}")
    if status != 200:
        raise SourceUnavailable(f"{where} answers {status}")
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise SourceRefused(f"{where} comes compressed ({encoding[:20]}), which was not asked for")


def _declared_bytes(response: requests.Response) -> int | None:
    value = response.headers.get("Content-Length", "").partition(",")[0].strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None


def _confirmed(store: Store, stored: Stored) -> Stored:
    """Look once more: only what the store itself says to hold in full counts as stored."""
    found = store.head(stored.key)
    if found is None or found.size_bytes != stored.size_bytes:
        size = found.size_bytes if found else "nothing"
        raise StorageUnavailable(f"{store.location(stored.key)} should hold {stored.size_bytes} bytes, it holds {size}")
    return stored
