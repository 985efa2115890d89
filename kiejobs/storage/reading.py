"""One object open for reading: as pieces for an answer to a browser, as a file for an upload, with bounded memory.

It is handed a stream of bytes and knows no store. Faults come out as the stream raises them; a stream that ends early
is a fault, so that nobody takes half an object for a whole one.
"""

from collections.abc import Iterator

from kiejobs.errors import StorageUnavailable


class Reading:
    """The bytes of an object, or of a range of it, read once from front to back.

    `size_bytes` is the whole object's size, `first` … `end` (exclusive) the range that is read; `len()` is the range's
    length. Iterate over it for pieces of at most a mebibyte, or `read(n)` as from a file; close it when done early.
    """

    def __init__(
        self,
        key: str,
        pieces: Iterator[bytes],
        *,
        size_bytes: int,
        first: int,
        end: int,
        media_type: str | None,
        etag: str | None,
    ) -> None:
        self.key = key
        self.size_bytes = size_bytes
        self.first = first
        self.end = end
        self.media_type = media_type
        self.etag = etag
        self._pieces: Iterator[bytes] | None = pieces
        self._held = b""
        self._left = end - first

    def __len__(self) -> int:
        return self.end - self.first

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._held_or_next, b"")

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, all that is left without one; nothing at the end."""
        if size < 0:
            return b"".join(self)
        piece = self._held_or_next()
        self._held = piece[size:]
        return piece[:size]

    def close(self) -> None:
        """Let go of the connection."""
        self._pieces, self._held = None, b""

    def _held_or_next(self) -> bytes:
        if self._held:
            piece, self._held = self._held, b""
            return piece
        piece = next(self._pieces, b"") if self._pieces and self._left else b""
        self._left -= len(piece)
        if self._pieces and not piece and self._left:
            raise StorageUnavailable(f"{self.key} ended {self._left} bytes early")
        return piece


def cut(pieces: Iterator[bytes], first: int, end: int) -> Iterator[bytes]:
    """Yield only the bytes from `first` up to `end` of a stream, and read no further."""
    position = 0
    for piece in pieces:
        part = piece[max(first - position, 0) : end - position]
        position += len(piece)
        if part:
            yield part
        if position >= end:
            return
