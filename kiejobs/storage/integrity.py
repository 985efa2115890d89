"""Whether a file came to its own end, told from the stream as it passes: a cut file has the right first bytes too.

Pure, and cheap beside hashing: only chunk ends and box headers are looked at, in memory that does not grow. A file is
faulted for what is missing, never for extra bytes after its end, which every player ignores; so a generation that was
paid for is not thrown away for its padding. Formats without a recognisable end are taken as they are.
"""

import struct
from typing import Final, Protocol

from kiejobs.storage.media import AVIF, GIF, HEIC, JPEG, JSON, M4A, MOV, MP4, PNG, WAV, WEBP, MediaType

_HEAD_BYTES: Final = 64
_TAIL_BYTES: Final = 1024
_MAX_BOXES: Final = 200_000  # a stream of empty boxes would cost a second of work per million
_IEND = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_EOI = b"\xff\xd9"
_PADDING = b"\x00\r\n\t "


class _Check(Protocol):
    """Looks at the stream as it passes and says at the end what is missing."""

    def feed(self, chunk: bytes) -> None: ...

    def missing(self) -> str | None: ...


class Ending:
    """The end check of one file: feed it every chunk in order, then ask what is missing."""

    def __init__(self, media: MediaType) -> None:
        self._check = _check_for(media)

    def feed(self, chunk: bytes) -> None:
        """Take note of the next bytes; they are not kept."""
        if chunk:
            self._check.feed(chunk)

    def missing(self) -> str | None:
        """Say in a few words what the file lacks to be whole, or None."""
        return self._check.missing()


def _check_for(media: MediaType) -> _Check:
    if media in (MP4, MOV, M4A):
        return _Boxes("moov")
    if media in (AVIF, HEIC):
        return _Boxes("meta", "moov")  # a still picture, or a sequence of them
    if media in (WEBP, WAV):
        return _Riff()
    return _Tail(media)


class _Tail:
    """Formats with a mark at the end (PNG, JPEG, GIF, JSON), and those with none: these must only not be empty."""

    def __init__(self, media: MediaType) -> None:
        self._media = media
        self._head = b""
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        if len(self._head) < _HEAD_BYTES:
            self._head += chunk[:_HEAD_BYTES]
        self._tail = chunk[-_TAIL_BYTES:] if len(chunk) >= _TAIL_BYTES else (self._tail + chunk)[-_TAIL_BYTES:]

    def missing(self) -> str | None:
        if not self._tail:
            return "it is empty"
        if self._media == PNG and _IEND not in self._tail:
            return "the PNG has no IEND at its end"
        # In the coded part of a JPEG 0xFF is always followed by 0x00 or a restart mark, so this cannot be picture data.
        if self._media == JPEG and _EOI not in self._tail:
            return "the JPEG has no end mark"
        if self._media == GIF and not self._tail.rstrip(_PADDING).endswith(b";"):
            return "the GIF has no end mark"
        if self._media == JSON and not self._tail.rstrip(_PADDING).endswith(self._closing()):
            return "the JSON text is cut"
        return None

    def _closing(self) -> bytes:
        """The bracket that closes a JSON text is told by the one that opens it."""
        return b"}" if self._head.lstrip(b"\xef\xbb\xbf" + _PADDING).startswith(b"{") else b"]"


class _Riff:
    """WebP and WAV declare their length in bytes 4 to 8. A WAV that was written to a pipe declares none."""

    def __init__(self) -> None:
        self._head = b""
        self._length = 0

    def feed(self, chunk: bytes) -> None:
        if len(self._head) < 8:
            self._head += chunk[: 8 - len(self._head)]
        self._length += len(chunk)

    def missing(self) -> str | None:
        if len(self._head) < 8:
            return "it is shorter than its header"
        declared: int = struct.unpack("<I", self._head[4:8])[0]
        if declared in (0, 0xFFFFFFFF) or self._length >= declared + 8:
            return None
        return f"it declares {declared + 8} bytes and has {self._length}"


class _Boxes:
    """Walks the top-level boxes of an ISO media file (ISO/IEC 14496-12, 4.2), skipping what is inside them.

    Whole means: the last box ends where the file ends, and the box that describes the media is there. (A cut exactly
    between two boxes would otherwise pass, and a video whose `moov` is at its end plays nowhere without it.)
    """

    def __init__(self, *required: str) -> None:
        self._required = required
        self._seen = False
        self._count = 0
        self._header = b""
        self._skip = 0
        self._fault: str | None = None
        self._open_end = False
        """A box of size 0 reaches to the end of the file, wherever that is."""

    def feed(self, chunk: bytes) -> None:
        position, end = 0, len(chunk)
        while position < end and not self._open_end and self._fault is None:
            if self._skip:
                step = min(self._skip, end - position)
                self._skip -= step
                position += step
                continue
            wanted = 16 if self._header[:4] == b"\x00\x00\x00\x01" else 8
            piece = chunk[position : position + wanted - len(self._header)]
            self._header += piece
            position += len(piece)
            self._read_header()

    def missing(self) -> str | None:
        if self._fault:
            return self._fault
        if self._skip:
            return f"its last box lacks {self._skip} bytes"
        if self._header.strip(b"\x00"):
            return "it ends inside the header of a box"
        if not self._seen:
            return f"it has no {' or '.join(self._required)} box"
        return None

    def _read_header(self) -> None:
        if len(self._header) < 8:
            return
        size, name = struct.unpack(">I4s", self._header[:8])
        self._open_end = size == 0
        if size == 1:
            if len(self._header) < 16:
                return
            size = struct.unpack(">Q", self._header[8:16])[0]
        self._seen = self._seen or name.decode("latin-1") in self._required
        self._count += 1
        if (size < len(self._header) and not self._open_end) or self._count > _MAX_BOXES:
            self._fault = "it holds a box of impossible size, or too many boxes"
        self._skip = max(0, size - len(self._header))
        self._header = b""
