"""Result files that open in a player: a gradient PNG, a short H.264 clip, a short MP3 tone, the same as silent WAV.

Every copy carries its task id and index in a place players skip (a PNG text chunk, an MP4 `free` box, an ID3 tag, a
WAV `LIST` chunk), so no two results have the same bytes, and the same result has the same bytes each time. Large files
repeat one valid block, so that even gigabytes cost no memory. Knows nothing of HTTP.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from kiejobs.simulator.models import Kind

MIB = 1024 * 1024
_SIDE = 256
_SAMPLES_PER_S = 8000
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CLIPS = Path(__file__).parent / "media"


@dataclass(frozen=True, slots=True)
class Media:
    """A file as head, one block repeated, tail."""

    head: bytes
    block: bytes = b""
    repeats: int = 0
    tail: bytes = b""

    def __len__(self) -> int:
        """Its size in bytes."""
        return len(self.head) + len(self.block) * self.repeats + len(self.tail)

    def read(self, start: int, stop: int, chunk_bytes: int = 65536) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, in chunks."""
        while start < stop:
            chunk = bytes(self._piece(start)[: min(chunk_bytes, stop - start)])
            yield chunk
            start += len(chunk)

    def _piece(self, offset: int) -> memoryview:
        """What follows `offset` within the head, the block or the tail it falls into."""
        if offset < len(self.head):
            return memoryview(self.head)[offset:]
        offset -= len(self.head)
        if offset < len(self.block) * self.repeats:
            return memoryview(self.block)[offset % len(self.block) :]
        return memoryview(self.tail)[offset - len(self.block) * self.repeats :]


def make_media(kind: Kind, task_id: str, index: int, at_least_bytes: int = 0) -> Media:
    """The result file of a task; padded with valid filling up to `at_least_bytes`."""
    maker = {Kind.IMAGE: _png, Kind.VIDEO: _mp4, Kind.AUDIO: _mp3, Kind.WAV: _wav}[kind]
    return maker(f"{task_id}/{index}", at_least_bytes)


def _repeats(block: bytes, present_bytes: int, at_least_bytes: int) -> int:
    return max(0, -(-(at_least_bytes - present_bytes) // len(block)))


def _png(name: str, at_least_bytes: int) -> Media:
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    head = _PNG_SIGNATURE + _png_chunk(b"IHDR", header) + _png_chunk(b"tEXt", b"Comment\0" + name.encode())
    tail = _png_chunk(b"IDAT", zlib.compress(_gradient(name))) + _png_chunk(b"IEND", b"")
    block = _png_filling() if at_least_bytes else b""
    return Media(head, block, _repeats(block, len(head + tail), at_least_bytes) if block else 0, tail)


def _png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@cache
def _png_filling() -> bytes:
    return _png_chunk(b"fiLl", bytes(MIB))


def _gradient(name: str) -> bytes:
    """Scan lines of a gradient whose three channels run along x or y, up or down, as the name's digest says.

    PNG's own filters do the arithmetic: the first line adds a step per pixel, all others add a step per line.
    """
    digest = sha256(name.encode()).digest()
    first, across, down = bytearray(), bytearray(), bytearray()
    for channel in digest[:3]:
        rising, along_x = channel & 1, channel & 2
        step = 1 if rising else 255
        first.append(0 if rising else 255)
        across.append(step if along_x else 0)
        down.append(0 if along_x else step)
    sub, up = b"\x01", b"\x02"
    return sub + bytes(first) + bytes(across) * (_SIDE - 1) + (up + bytes(down) * _SIDE) * (_SIDE - 1)


def _mp4(name: str, at_least_bytes: int) -> Media:
    clip, label = _clip("sample.mp4"), _free_box(name.encode())
    block = _mp4_filling() if at_least_bytes else b""
    return Media(clip, block, _repeats(block, len(clip + label), at_least_bytes) if block else 0, label)


def _free_box(data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + b"free" + data


@cache
def _mp4_filling() -> bytes:
    return _free_box(bytes(MIB))


def _mp3(name: str, at_least_bytes: int) -> Media:
    """An MP3 has no room for filling, but it may play on: the tone repeats."""
    tag, tone = _id3_tag(name), _clip("sample.mp3")
    return Media(tag + tone, tone, _repeats(tone, len(tag + tone), at_least_bytes))


def _id3_tag(name: str) -> bytes:
    """An ID3v2.3 tag with one TXXX frame (id3.org/id3v2.3.0, 4.2.2); the tag's size has 7 bits in each byte."""
    text = b"\x00kie task\x00" + name.encode("latin-1")
    frame = b"TXXX" + struct.pack(">IH", len(text), 0) + text
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + size + frame


def _wav(name: str, at_least_bytes: int) -> Media:
    """Silence, 8000 samples a second of 16 bits: as long as the tone, or as long as the size asked for."""
    text = name.encode() + b"\0" * (2 - len(name) % 2)
    comment = b"INFOICMT" + struct.pack("<I", len(text)) + text
    label = b"LIST" + struct.pack("<I", len(comment)) + comment
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, _SAMPLES_PER_S, 2 * _SAMPLES_PER_S, 2, 16)
    silence = bytes(2 * _SAMPLES_PER_S)
    repeats = 2 + _repeats(silence, 2 * len(silence), at_least_bytes)
    size = len(silence) * repeats
    body = b"WAVE" + form + label + b"data" + struct.pack("<I", size)
    return Media(b"RIFF" + struct.pack("<I", len(body) + size) + body, silence, repeats)


@cache
def _clip(name: str) -> bytes:
    return (_CLIPS / name).read_bytes()
