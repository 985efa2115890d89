"""Whether a file came to its own end, told from the stream as it passes: a cut file has the right first bytes too.

Pure, and cheap beside hashing: only chunk ends and headers are looked at, in memory that does not grow. A file is faulted
for what is missing, never for extra bytes after its end, which every player ignores; so a generation that was paid for
is not thrown away for its padding. Formats without a recognisable end are taken as they are. `walks` knows the containers.
"""

import re
from typing import Final, Protocol

from kiejobs.storage.media import (
    AVIF,
    GIF,
    HEIC,
    JPEG,
    JSON,
    M4A,
    MATROSKA,
    MOV,
    MP3,
    MP4,
    PNG,
    WAV,
    WEBM,
    WEBP,
    MediaType,
)
from kiejobs.storage.walks import UNKNOWN_BYTES, Boxes, Chunks, Gif, Jpeg, Png

_HEAD_BYTES: Final = 64
_MAX_STRINGS: Final = 500_000
"""A text of more strings and escapes than that is not looked at to its end: a million would cost half a second of work."""


class _Check(Protocol):
    """Looks at the stream as it passes and says at the end what is missing."""

    def feed(self, chunk: bytes) -> None: ...

    def missing(self) -> str | None: ...


class Ending:
    """The end check of one file: feed it every chunk in order, then ask what is missing."""

    def __init__(self, media: MediaType) -> None:
        self._check = _check_for(media)
        self._empty = True

    def feed(self, chunk: bytes) -> None:
        """Take note of the next bytes; they are not kept."""
        if chunk:
            self._empty = False
            self._check.feed(chunk)

    def missing(self) -> str | None:
        """Say in a few words what the file lacks to be whole, or None."""
        return "it is empty" if self._empty else self._check.missing()


def _check_for(media: MediaType) -> _Check:
    if media in (MP4, MOV, M4A):
        return Boxes((b"moov",), (b"mdat",))
    if media in (AVIF, HEIC):
        return Boxes((b"meta", b"moov"))  # a still picture, which may lie in its `meta`, or a sequence of them
    if media in (WEBP, WAV):
        return _Riff()
    if media in (WEBM, MATROSKA):
        return _Segment()
    checks: dict[MediaType, type[_Check]] = {PNG: Png, JPEG: Jpeg, GIF: Gif, JSON: _Json, MP3: _Mp3}
    return checks.get(media, _Anything)()


class _Anything:
    """A format without a mark at its end."""

    def feed(self, chunk: bytes) -> None:
        """Nothing to be seen."""

    def missing(self) -> str | None:
        return None


class _Mp3:
    """Has to be longer than its tags: ID3v2 before the sound (https://id3.org/id3v2.4.0-structure, 3.1), ID3v1 after it."""

    _OLD_TAG_BYTES: Final = 128

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""
        self._length = 0

    def feed(self, chunk: bytes) -> None:
        self._length += len(chunk)
        if len(self._head) < _HEAD_BYTES:
            self._head += chunk[:_HEAD_BYTES]
        self._tail = (self._tail + chunk[-self._OLD_TAG_BYTES :])[-self._OLD_TAG_BYTES :]

    def missing(self) -> str | None:
        tags = self._tag_bytes() if self._head[:3] == b"ID3" else 0
        if tags and self._length <= tags:
            return "the MP3 ends inside its tag"
        if self._tail[:3] == b"TAG" and self._length - self._OLD_TAG_BYTES <= tags:
            return "the MP3 has tags and no sound"
        return None

    def _tag_bytes(self) -> int:
        """Its header, the length in seven bits per byte, and the footer that a flag announces."""
        size = 0
        for byte in self._head[6:10].ljust(4, b"\x7f"):
            size = size << 7 | byte & 0x7F
        return 10 + size + (10 if self._head[5:6] and self._head[5] & 0x10 else 0)


class _Json:
    """Every bracket is closed, and no text is left open. Several objects, one a line, are JSON, too."""

    _QUOTE_OR_ESCAPE: Final = re.compile(rb'["\\]')

    def __init__(self) -> None:
        self._depth = 0
        self._strings = 0
        self._inside = self._escaped = False

    def feed(self, chunk: bytes) -> None:
        position = 0
        while position < len(chunk) and self._strings <= _MAX_STRINGS:
            if self._escaped:
                self._escaped = False
                position += 1
            elif self._inside:
                found = self._QUOTE_OR_ESCAPE.search(chunk, position)
                position = found.end() if found else len(chunk)
                self._escaped = bool(found and found[0] == b"\\")
                self._inside = self._escaped or not found
                self._strings += 1
            else:
                quote = chunk.find(b'"', position)
                end = len(chunk) if quote < 0 else quote
                self._depth += sum(chunk.count(one, position, end) for one in (b"{", b"["))
                self._depth -= sum(chunk.count(one, position, end) for one in (b"}", b"]"))
                self._inside = quote >= 0
                position = end + 1

    def missing(self) -> str | None:
        whole = self._depth <= 0 and not self._inside
        return None if whole or self._strings > _MAX_STRINGS else "the JSON text is cut"


class _Riff:
    """WebP and WAV declare their length. A WAV that was written to a pipe declares none; then its last chunk may."""

    def __init__(self) -> None:
        self._chunks = Chunks()
        self._length = 0

    def feed(self, chunk: bytes) -> None:
        self._length += len(chunk)
        self._chunks.feed(chunk)

    def missing(self) -> str | None:
        chunks, promised = self._chunks, self._chunks.declared + 8
        if self._length < 12:
            return "it is shorter than its header"
        if 8 < promised < UNKNOWN_BYTES:
            # The padding of the last chunk is counted by some writers who do not write it.
            excused = chunks.skip == 1 and chunks.odd
            short = self._length + excused < promised
            return f"it declares {promised} bytes and has {self._length}" if short else None
        return f"its sound lacks {chunks.skip} bytes" if chunks.name == b"data" and chunks.skip > chunks.odd else None


class _Segment:
    """WebM and Matroska declare how long their one segment is, unless they were written as a stream (RFC 8794, RFC 9559)."""

    _SEGMENT = b"\x18\x53\x80\x67"

    def __init__(self) -> None:
        self._head = b""
        self._length = 0

    def feed(self, chunk: bytes) -> None:
        if len(self._head) < _HEAD_BYTES * 2:
            self._head += chunk[: _HEAD_BYTES * 2 - len(self._head)]
        self._length += len(chunk)

    def missing(self) -> str | None:
        start, size = _vint(self._head, 4)
        start += size or 0
        if self._length < start + 4:
            return "it ends inside its header"
        if self._head[start : start + 4] != self._SEGMENT:
            return None
        content, size = _vint(self._head, start + 4)
        if size is not None and self._length < content + size:
            return f"it declares {content + size} bytes and has {self._length}"
        return None


def _vint(data: bytes, at: int) -> tuple[int, int | None]:
    """Read a length as EBML writes it, and say where it ends; None for "unknown", which is all ones."""
    first = data[at] if at < len(data) else 0
    width = 9 - first.bit_length()
    value = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
    return at + width, None if value == (1 << 7 * width) - 1 else value
