"""Copies one file from a URL to a store as a stream, and believes nothing about it that the bytes do not show.

It knows nothing of jobs: the caller gives the limits and the rule for the key. Every check runs while the upload is
still open and ends it by raising, so that nothing is ever visible under the key but a whole file of a known kind.
Memory does not grow with the file. Errors are those of `kiejobs.errors` and show no query of the URL.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import IncompleteRead
from typing import Final

import requests
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError

from kiejobs.errors import (
    Damaged,
    Incomplete,
    SourceExpired,
    SourceRefused,
    SourceUnavailable,
    Stopped,
    StorageUnavailable,
)
from kiejobs.storage.egress import GuardedSession, shown, surplus
from kiejobs.storage.integrity import Ending
from kiejobs.storage.keys import disposition
from kiejobs.storage.media import HEAD_BYTES, MediaType, sniff
from kiejobs.storage.resume import Resumable
from kiejobs.storage.store import PART_BYTES, Store

_EXPIRED: Final = frozenset({400, 401, 403, 404, 410})
"""400 is what S3 and Google answer to a token that has expired."""
_EVIDENCE_BYTES: Final = 80
_MAX_BYTES_OF: Final = {"image": 256 * 1024**2, "audio": 1024**3, "text": 64 * 1024**2}
"""Far more than any model makes; a video is bounded by the setting alone."""
_LEAST_BYTES_PER_S: Final = 32 * 1024
_PART_S: Final = PART_BYTES / _LEAST_BYTES_PER_S
"""The longest that a part may take to come, however steadily its bytes drip."""
_STEADY_BYTES_PER_S: Final = 1024**2
"""A file that comes at this rate is never ended for being large."""
MAX_RESUMES: Final = 5
"""How often one copy goes on over a new connection before it is begun anew, later."""


def longest_s(deadline_s: float, declared_bytes: int | None) -> float:
    """Return how long a copy may take: `deadline_s`, and more where the file is so large that 1 MiB/s takes longer."""
    return max(deadline_s, (declared_bytes or 0) / _STEADY_BYTES_PER_S)


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
    expects: Callable[[int], None] = lambda _: None,
    confirm: Callable[[], None] = lambda: None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Stored:
    """Copy the file behind a URL into the store, under the key that `key_for` makes from what the bytes are.

    `deadline_s` bounds the whole copy, as `longest_s` says; it and `keep_going` are looked at before every read.
    `progress` is told the bytes so far, `expects` how many the source says there are, where it does. `confirm` is called
    once the file is whole and before it becomes visible; by raising it prevents that. A connection that breaks is taken
    up again where the server allows it. Raises SourceExpired, SourceUnavailable, Incomplete, SourceRefused,
    EgressRefused, Stopped or StorageUnavailable; the key then holds what it held before.
    """
    watch = _Watch(deadline_s, keep_going, monotonic)

    def fetch(headers: Mapping[str, str]) -> requests.Response:
        return session.open(source_url, check=watch, headers=headers)

    with closing(_Source(fetch, max_bytes, watch, progress)) as source:
        if source.declared_bytes is not None:
            watch.deadline_s = longest_s(deadline_s, source.declared_bytes)
            expects(source.declared_bytes)
        media = source.identify(allowed_kinds)
        key = key_for(media)
        store.put(key, source.verified(media, confirm), media_type=media.mime, disposition=disposition(key))
    return _confirmed(store, Stored(key, media, source.size_bytes, source.sha256))


_RAISE_IT: Final = "Raise KIEJOBS_DOWNLOAD_TIMEOUT_S, or run fewer copies at once."


class _Watch:
    """Ends a copy that is no longer wanted, or takes too long, by raising from wherever it is called."""

    def __init__(self, deadline_s: float, keep_going: Callable[[], bool], monotonic: Callable[[], float]) -> None:
        self._keep_going, self._monotonic = keep_going, monotonic
        self.deadline_s = deadline_s
        self._start = self._part_start = monotonic()
        self._storing_s = 0.0
        self._parts = 0
        self._handed_over: float | None = None

    def __call__(self) -> None:
        now = self._monotonic()
        if now - self._start <= self.deadline_s:
            if not self._keep_going():
                raise Stopped("the copy was given up, its worker stops or lost its lease")
            if now - self._part_start > min(_PART_S, self.deadline_s):
                least = f"{_LEAST_BYTES_PER_S // 1024} KiB"
                raise SourceUnavailable(f"the source is too slow: it sends less than {least} in a second")
            return
        # Before the lease, which ends soon after the deadline: else a copy that hung would be nobody's fault, and be
        # begun again at once, for ever. The storage's slowness is not charged to the source.
        late = f"too slow: the copy did not end within {self.deadline_s:g} s"
        if self._storing_s > self.deadline_s / 2:
            raise StorageUnavailable(f"the storage was {late}")
        if self._parts > 1:  # each of the earlier ones came in its time
            raise SourceUnavailable(f"the source is {late}, though bytes kept coming; {_RAISE_IT}", remedy=_RAISE_IT)
        raise SourceUnavailable(f"the source is {late}")

    def part(self) -> None:
        """The next part is read from now on, and must come at the least rate."""
        self._parts += 1
        self._part_start = self._monotonic()

    def hand_over(self) -> None:
        """A chunk goes to the store now: until `take_back`, the time is the store's."""
        self._handed_over = self._monotonic()

    def take_back(self) -> None:
        """The store asks for the next chunk."""
        if self._handed_over is not None:
            self._storing_s += self._monotonic() - self._handed_over


class _Source:
    """A file's bytes: read in parts, counted, hashed and checked as they go by, over one connection or several."""

    def __init__(
        self,
        fetch: Callable[[Mapping[str, str]], requests.Response],
        max_bytes: int,
        watch: _Watch,
        progress: Callable[[int], None],
    ) -> None:
        self._fetch, self._watch, self._progress = fetch, watch, progress
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._first = b""
        self._received_bytes, self._resumes = 0, 0
        self.size_bytes = 0
        self._response = fetch({})
        self._shown = shown(self._response.url)
        try:
            _check_answer(self._response, self._shown)
            self.declared_bytes = _declared_bytes(self._response)
            self._bound(None)
        except BaseException:
            self.close()
            raise
        self._resumable = Resumable.told_by(self._response.headers, self.declared_bytes)

    def close(self) -> None:
        """Let go of the connection."""
        self._response.close()

    @property
    def sha256(self) -> str:
        """The digest of the bytes so far."""
        return self._digest.hexdigest()

    def identify(self, allowed_kinds: frozenset[str] | None) -> MediaType:
        """Read the first part and say what it is; SourceRefused if it is nothing to be stored."""
        self._first = self._read()
        if not self._first:
            # Only an emptiness that was declared is certain: else the server may have hung up.
            if self.declared_bytes != 0 and not self._response.raw.chunked:
                raise self._incomplete()
            raise SourceRefused(f"{self._shown} is empty", remedy="The result at Kie is broken: generate it again.")
        media = sniff(self._first[:HEAD_BYTES])
        self._bound(media)
        if media is None or (allowed_kinds is not None and media.kind not in allowed_kinds):
            wanted = ", ".join(sorted(allowed_kinds)) if allowed_kinds else "image, video, audio or text"
            raise SourceRefused(
                f"{self._shown} is {media.mime if media else 'no media'}, wanted: {wanted}; {self._evidence()}",
                remedy="Look at the result at Kie. If the model makes such files now, correct its kind in a file of "
                "KIEJOBS_CATALOGUE; `kiejobs retry` then stores it without paying again.",
            )
        return media

    def _bound(self, media: MediaType | None) -> None:
        """Lower the limit to what a file of this kind can have."""
        self._max_bytes = min(self._max_bytes, _MAX_BYTES_OF.get(media.kind if media else "", self._max_bytes))
        if self.declared_bytes is not None and self.declared_bytes > self._max_bytes:
            raise self._too_large()

    def verified(self, media: MediaType, confirm: Callable[[], None]) -> Iterator[bytes]:
        """Yield the body part by part; raises instead of ending when the whole is not right, or `confirm` does."""
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
            del chunk  # the store's alone now: it is let go of as soon as it is uploaded
            chunk = self._read()
        missing = ending.missing()
        if missing:
            all_came = self.declared_bytes is not None or self._response.raw.chunked
            raise (Damaged if all_came else Incomplete)(f"{self._shown} is not whole: {missing}")
        confirm()

    def _read(self) -> bytes:
        """Fill one part straight from the socket; the watch is asked before each of its reads."""
        self._watch.part()
        while True:
            self._watch()
            try:
                chunk: bytes = self._response.raw.read(PART_BYTES, decode_content=False)
            except (HTTPError, OSError, ValueError) as error:
                if not self._resumed():
                    raise self._broken(error) from None
                continue
            self._received_bytes += len(chunk)
            if not chunk:
                self._check_length()
            return chunk

    def _broken(self, error: Exception) -> Incomplete | SourceUnavailable:
        if isinstance(error, ReadTimeoutError):
            return SourceUnavailable(f"{self._shown} stopped sending")
        if isinstance(error, ProtocolError) and isinstance(error.args[-1], IncompleteRead):
            return self._incomplete()
        return SourceUnavailable(f"{self._shown}: the connection failed midway")

    def _resumed(self) -> bool:
        """Ask for the rest over a new connection; False, and all is lost, where the server does not give just that."""
        file, first = self._resumable, self._received_bytes
        if file is None or not 0 < first < file.size_bytes or self._resumes >= MAX_RESUMES:
            return False
        self._resumes += 1
        self._response.close()
        try:
            answer = self._fetch(file.asking_from(first))
        except SourceUnavailable:
            return False
        self._response = answer
        return file.continues(answer.status_code, answer.headers, first)

    def _check_length(self) -> None:
        if surplus(self._response) or (self.declared_bytes is not None and self.size_bytes != self.declared_bytes):
            raise self._incomplete()

    def _incomplete(self) -> Incomplete:
        declared = "an unknown number of" if self.declared_bytes is None else self.declared_bytes
        return Incomplete(f"{self._shown} declared {declared} bytes and sent another number")

    def _too_large(self) -> SourceRefused:
        size = f"has {self.declared_bytes} bytes" if self.declared_bytes else "is larger"
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
