"""What a file is, read from its first bytes: never from its URL, its name or the Content-Type it came with.

Pure. Only kinds of media that a generation can be are known. HTML, XML and SVG are not among them, on purpose: a
browser would run them under the address of the storage. `integrity` says whether such a file also came to its end.
"""

import struct
from dataclasses import dataclass
from typing import Final

HEAD_BYTES: Final = 4096
"""As many of the first bytes as `sniff` can use."""


@dataclass(frozen=True)
class MediaType:
    """A kind of file: its MIME type, the extension it is stored under, and `image`, `video`, `audio` or `text`."""

    mime: str
    extension: str
    kind: str


PNG = MediaType("image/png", "png", "image")
JPEG = MediaType("image/jpeg", "jpg", "image")
GIF = MediaType("image/gif", "gif", "image")
WEBP = MediaType("image/webp", "webp", "image")
AVIF = MediaType("image/avif", "avif", "image")
HEIC = MediaType("image/heic", "heic", "image")
MP4 = MediaType("video/mp4", "mp4", "video")
MOV = MediaType("video/quicktime", "mov", "video")
WEBM = MediaType("video/webm", "webm", "video")
MATROSKA = MediaType("video/x-matroska", "mkv", "video")
MP3 = MediaType("audio/mpeg", "mp3", "audio")
M4A = MediaType("audio/mp4", "m4a", "audio")
AAC = MediaType("audio/aac", "aac", "audio")
WAV = MediaType("audio/wav", "wav", "audio")
FLAC = MediaType("audio/flac", "flac", "audio")
OGG = MediaType("audio/ogg", "ogg", "audio")
MIDI = MediaType("audio/midi", "mid", "audio")
JSON = MediaType("application/json", "json", "text")
TEXT = MediaType("text/plain; charset=utf-8", "txt", "text")
"""Never sniffed: only a document that came inside an answer is plain text, a file that looks like it is no result."""

_PREFIXES = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"ID3", MP3),
    (b"fLaC", FLAC),
    (b"OggS", OGG),
    (b"MThd", MIDI),
)
# https://mp4ra.org/registered-types/brands
_BRANDS = {
    b"avif": AVIF,
    b"avis": AVIF,
    b"heic": HEIC,
    b"heix": HEIC,
    b"hevc": HEIC,
    b"qt  ": MOV,
    b"M4A ": M4A,
    b"M4B ": M4A,
    b"M4P ": M4A,
}
# A brand that says only "some kind of picture"; the compatible brands say which.
_GENERIC_PICTURE = (b"mif1", b"msf1")
# QuickTime files older than `ftyp` begin with one of these boxes.
_OLD_QUICKTIME = (b"moov", b"mdat", b"wide", b"pnot")


def sniff(head: bytes) -> MediaType | None:
    """Name the media from its first bytes (`HEAD_BYTES` are plenty); None for what is never stored."""
    for prefix, media in _PREFIXES:
        if head.startswith(prefix):
            return media
    return _riff(head) or _boxes(head) or _matroska(head) or _frames(head) or _json(head)


def _riff(head: bytes) -> MediaType | None:
    if head[:4] not in (b"RIFF", b"RF64"):
        return None
    return {b"WEBP": WEBP, b"WAVE": WAV}.get(head[8:12])


def _boxes(head: bytes) -> MediaType | None:
    """MP4 and its relatives. A brand that nobody listed is still such a container, most likely a video."""
    if len(head) >= 8 and head[4:8] in _OLD_QUICKTIME:
        return MOV
    if len(head) < 16 or head[4:8] != b"ftyp":
        return None
    size: int = struct.unpack(">I", head[:4])[0]
    major = head[8:12]
    if major in _GENERIC_PICTURE:
        compatible = head[16 : min(size, 256)]
        return AVIF if b"avif" in compatible or b"avis" in compatible else HEIC
    return _BRANDS.get(major, MP4)


def _matroska(head: bytes) -> MediaType | None:
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return None
    return WEBM if b"webm" in head[:64] else MATROSKA


def _frames(head: bytes) -> MediaType | None:
    """MPEG audio without a tag: a frame header with its reserved values ruled out (ISO 11172-3, ISO 13818-7)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0xF6 == 0xF0:
        return AAC if (head[2] >> 2) & 0x0F < 13 else None
    version, layer = (head[1] >> 3) & 3, (head[1] >> 1) & 3
    bitrate, rate = head[2] >> 4, (head[2] >> 2) & 3
    plausible = version != 1 and layer in (1, 2) and bitrate not in (0, 15) and rate != 3
    return MP3 if plausible else None


def _json(head: bytes) -> MediaType | None:
    """A JSON object or array. A cut through a character at the end of the head is no fault."""
    text = head[:HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    if text[:1] not in (b"{", b"["):
        return None
    following = text[1:].lstrip(b" \t\r\n")[:1]
    allowed = b'"}' if text[:1] == b"{" else b'{["]-0123456789tfn'
    if not following or following not in allowed or any(byte < 0x20 and byte not in b"\t\r\n" for byte in text):
        return None
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(text) - 3:
            return None
    return JSON
