"""What an input file is, read from its bytes, before it is kept for a generation: its type, its digest, whether whole.

Knows no store. A file is looked at as a stream, twice: once to name it by its content, once to keep it; so it must be
seekable. What is no media, or cut short, is `InvalidInput`: a generation bought with it would be money lost.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from kiejobs.errors import InvalidInput
from kiejobs.storage.integrity import Ending
from kiejobs.storage.media import HEAD_BYTES, MediaType, sniff

_FIELD = "file"


@dataclass(frozen=True, slots=True)
class Description:
    """A file by what is in it."""

    media_type: MediaType
    size_bytes: int
    sha256: str


def describe(file: BinaryIO, *, max_bytes: int, piece_bytes: int) -> Description:
    """Read a file from its beginning to its end and say what it is; InvalidInput where it cannot be an input."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    media = sniff(head)
    if media is None:
        what = "is no image, video, audio or JSON" if head else "is empty"
        raise InvalidInput(f"the file {what}", field=_FIELD, allowed="an image, a video, audio or JSON")
    digest, ending, size = hashlib.sha256(), Ending(media), 0
    for piece in pieces(file, piece_bytes):
        size += len(piece)
        if size > max_bytes:
            raise InvalidInput(f"the file has more than {max_bytes} bytes", field=_FIELD, allowed=f"{max_bytes} bytes")
        digest.update(piece)
        ending.feed(piece)
    missing = ending.missing()
    if missing:
        raise InvalidInput(f"the file is not whole: {missing}", field=_FIELD, remedy="Send the whole file.")
    return Description(media, size, digest.hexdigest())


def pieces(file: BinaryIO, piece_bytes: int) -> Iterator[bytes]:
    """Yield a file from its beginning, full pieces and the rest, whatever a single read returns."""
    file.seek(0)
    while True:
        piece = file.read(piece_bytes)
        while piece and len(piece) < piece_bytes and (more := file.read(piece_bytes - len(piece))):
            piece += more
        if not piece:
            return
        yield piece
