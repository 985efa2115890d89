"""Walks through the parts that container files are made of, as the stream passes, and says what is missing at its end.

Pure. A walk reads the headers and skips what is inside, in memory that does not grow, however small the chunks it is
fed and however large or absurd the lengths that a file declares. What follows a file's own end is padding and no fault.
"""

import re
from collections.abc import Callable
from typing import Any, Final

_MAX_STEPS: Final = 200_000  # a file of empty parts would cost a second of work per million
_MAX_GIF_STEPS: Final = 1_200_000  # its parts have 255 bytes at most

UNKNOWN_BYTES: Final = 0x7FFFF000
"""Lengths from here on stand for "unknown" in WAV files that were written to a pipe, as 0 does."""

Move = tuple[int, int, Callable[[bytes], Any]] | None
"""How many bytes to skip, how many to read then, and who reads them; None: nothing that follows matters."""


class Walk:
    """The skeleton: header after header, each telling how far it is to the next one."""

    max_steps = _MAX_STEPS

    def __init__(self, read: int, then: Callable[[bytes], Move]) -> None:
        self._read, self._then = read, then
        self._steps = 0
        self.skip = 0
        """Bytes that the part which is passing still lacks."""
        self.header = b""
        """What is there of the header that comes next."""
        self.over = False
        self.fault: str | None = None

    def feed(self, chunk: bytes) -> None:
        """Take note of the next bytes."""
        position, end = 0, len(chunk)
        while position < end and not self.over:
            if self.skip:
                step = min(self.skip, end - position)
                self.skip -= step
                position += step
                continue
            piece = chunk[position : position + self._read - len(self.header)]
            self.header += piece
            position += len(piece)
            if len(self.header) == self._read:
                header, self.header = self.header, b""
                self._go(self._then(header))

    def missing(self) -> str | None:
        """Say in a few words what the file lacks to be whole, or None."""
        return self.fault or (None if self.over else "it ends before its end mark")

    def _go(self, move: Move) -> None:
        self._steps += 1
        if self._steps > self.max_steps:
            self._fail("it is made of too many parts")
        elif move is None:
            self.over = True
        else:
            self.skip, self._read, self._then = move

    def _fail(self, what: str) -> None:
        self.fault, self.over = what, True


class Png(Walk):
    """Chunks up to IEND (https://www.w3.org/TR/png-3/, 5.3): length, name, data, checksum."""

    def __init__(self) -> None:
        super().__init__(8, lambda _: (0, 8, self._chunk))

    def missing(self) -> str | None:
        """The end of a PNG is a chunk of its own."""
        return self.fault or (None if self.over else "the PNG has no IEND at its end")

    def _chunk(self, header: bytes) -> Move:
        size, name = int.from_bytes(header[:4], "big"), header[4:]
        if not name.isalpha() or not name.isascii() or size >= 1 << 31:
            self._fail("the PNG is damaged: between its chunks lies something else")
            return None
        if name == b"IEND":
            return size, 4, lambda _: None
        return size + 4, 8, self._chunk


class Gif(Walk):
    """Blocks up to the trailer (https://www.w3.org/Graphics/GIF/spec-gif89a.txt)."""

    max_steps = _MAX_GIF_STEPS

    def __init__(self) -> None:
        super().__init__(13, lambda screen: (_colours(screen[10]), 1, self._block))

    def missing(self) -> str | None:
        """The trailer is one byte."""
        return self.fault or (None if self.over else "the GIF has no end mark")

    def _block(self, kind: bytes) -> Move:
        match kind:
            case b";":
                return None
            case b"!":
                return 1, 1, self._data
            case b",":
                return 0, 9, lambda image: (_colours(image[8]) + 1, 1, self._data)
            case b"\x00":  # some writers end a block twice
                return 0, 1, self._block
        self._fail("the GIF is damaged: between its blocks lies something else")
        return None

    def _data(self, size: bytes) -> Move:
        return (size[0], 1, self._data) if size[0] else (0, 1, self._block)


def _colours(flags: int) -> int:
    """The bytes of a colour table, where the flags say that there is one."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


class Jpeg:
    """Segments, and coded data between them, up to the end mark (ITU-T T.81, B.1).

    Coded data holds 0xFF only before 0x00 and restart marks. A picture within a segment (a thumbnail) is skipped with it,
    its end mark, too.
    """

    _MARK: Final = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
    _END: Final = b"\xd9"

    def __init__(self) -> None:
        self._skip = 0
        self._held = b""
        self._over = False

    def feed(self, chunk: bytes) -> None:
        """Take note of the next bytes."""
        data, self._held = self._held + chunk, b""
        position = 0
        while not self._over:
            step = min(self._skip, len(data) - position)
            self._skip -= step
            position += step
            if position == len(data):
                return
            mark = self._MARK.search(data, position)
            if mark is None:
                self._held = data[-1:] if data[-1:] == b"\xff" else b""
                return
            position = mark.end()
            if mark[1] == self._END:
                self._over = True
            elif len(data) < position + 2:
                self._held = data[mark.start() :]
                return
            else:
                size = int.from_bytes(data[position : position + 2], "big")
                self._skip = size if size >= 2 else 0  # its two bytes are counted in

    def missing(self) -> str | None:
        """Say what is missing."""
        return None if self._over else "the JPEG has no end mark"


class Boxes(Walk):
    """The top-level boxes of an ISO media file (ISO/IEC 14496-12, 4.2).

    Whole means: the last box ends where the file ends, and those are there that describe the media and hold it. (A cut
    exactly between two boxes would otherwise pass.) Behind the media, what is no box of the format is padding.
    """

    _OWN: Final = frozenset(
        b"ftyp styp moov mdat moof mfra meta free skip wide uuid sidx ssix emsg prft pdin pnot udta".split()
    )

    def __init__(self, *required: tuple[bytes, ...]) -> None:
        super().__init__(8, self._box)
        self._required = required
        self._seen: set[bytes] = set()
        self._name = b""
        self._open_end = False
        """A box of size 0 reaches to the end of the file, wherever that is."""

    def missing(self) -> str | None:
        """Say what is missing."""
        if self.fault:
            return self.fault
        lacking = self._lacking()
        behind_the_media = lacking is None and self._name not in self._OWN
        if self.skip and not behind_the_media and not self._open_end:
            return f"its last box lacks {self.skip} bytes"
        if self._name == b"moof":
            return "its last fragment has no mdat box"
        if self._is_cut_header(self.header) or (len(self.header) > 0 and lacking):
            return "it ends inside the header of a box"
        return lacking

    def _box(self, header: bytes) -> Move:
        size, name = int.from_bytes(header[:4], "big"), header[4:8]
        if not all(0x20 <= byte < 0x7F for byte in name):
            return self._junk()
        self._name = name
        if size == 1:
            return 0, 8, self._long
        if size == 0:
            self._seen.add(name)
            self._open_end = True
            return None
        return self._passed(size - 8)

    def _long(self, header: bytes) -> Move:
        return self._passed(int.from_bytes(header, "big") - 16)

    def _passed(self, inside: int) -> Move:
        if inside < 0:
            return self._junk()
        self._seen.add(self._name)
        return inside, 8, self._box

    def _junk(self) -> Move:
        if self._lacking():
            self._fail("it holds what is no box, or one of impossible size")
        return None

    def _lacking(self) -> str | None:
        for names in self._required:
            if not self._seen.intersection(names):
                return f"it has no {' or '.join(name.decode() for name in names)} box"
        return None

    def _is_cut_header(self, header: bytes) -> bool:
        """Say whether these last bytes begin a box; a line end or zeros do not."""
        if self._then == self._long:
            return True
        if len(header) <= 4:
            return header[:1] == b"\x00" and bool(header.strip(b"\x00"))
        return any(name.startswith(header[4:]) for name in self._OWN)


class Chunks(Walk):
    """The chunks of a RIFF file: name, length, data, and a byte of padding where the length is odd.

    Source: https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html
    """

    def __init__(self) -> None:
        super().__init__(12, self._begin)
        self.declared = 0
        """The length of the file, less 8, as its header says."""
        self.name = b""
        self.odd = False
        """Whether the last chunk has padding."""

    def _begin(self, header: bytes) -> Move:
        self.declared = int.from_bytes(header[4:8], "little")
        return 0, 8, self._chunk

    def _chunk(self, header: bytes) -> Move:
        self.name, size = header[:4], int.from_bytes(header[4:], "little")
        self.odd = bool(size & 1)
        if self.name == b"data" and not 0 < size < UNKNOWN_BYTES:
            return None
        return size + self.odd, 8, self._chunk
