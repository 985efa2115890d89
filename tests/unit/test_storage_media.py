"""What a file is, and whether it came to its end, told from its bytes alone."""

import struct
import tracemalloc

import pytest

from kiejobs.storage.integrity import Ending
from kiejobs.storage.media import (
    AAC,
    AVIF,
    FLAC,
    GIF,
    HEIC,
    JPEG,
    JSON,
    M4A,
    MATROSKA,
    MIDI,
    MOV,
    MP3,
    MP4,
    OGG,
    PNG,
    WAV,
    WEBM,
    WEBP,
    MediaType,
    sniff,
)


def box(name: bytes, body: bytes = b"") -> bytes:
    """One box of an ISO media file."""
    return struct.pack(">I4s", 8 + len(body), name) + body


def riff(form: bytes, body: bytes) -> bytes:
    """A RIFF file of an even length."""
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + form + body


FTYP = box(b"ftyp", b"isom\x00\x00\x02\x00isommp41")
PNG_FILE = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\x0dIHDR" + bytes(200) + b"\x00\x00\x00\x00IEND\xaeB`\x82"
JPEG_FILE = b"\xff\xd8\xff\xe0" + b"\x00\x10JFIF" + b"\x11" * 3000 + b"\xff\xd9"
GIF_FILE = b"GIF89a" + b"\x01" * 300 + b"\x00;"
WEBP_FILE = riff(b"WEBP", b"VP8 " + b"\x07" * 400)
WAV_FILE = riff(b"WAVE", b"fmt " + b"\x07" * 400)
MP4_FILE = FTYP + box(b"moov", b"\x05" * 90) + box(b"mdat", b"\x06" * 5000)
AVIF_FILE = box(b"ftyp", b"avif\x00\x00\x00\x00avifmif1") + box(b"meta", b"\x05" * 90) + box(b"mdat", b"\x06" * 500)
WHOLE = {
    "png": (PNG_FILE, PNG),
    "jpeg": (JPEG_FILE, JPEG),
    "gif": (GIF_FILE, GIF),
    "webp": (WEBP_FILE, WEBP),
    "wav": (WAV_FILE, WAV),
    "mp4": (MP4_FILE, MP4),
    "avif": (AVIF_FILE, AVIF),
    "json": (b'{"words": [1, 2]}\n', JSON),
}


@pytest.mark.parametrize(
    ("head", "media"),
    [
        *(pytest.param(*pair, id=name) for name, pair in WHOLE.items()),
        pytest.param(b"GIF87a" + bytes(20), GIF, id="old gif"),
        pytest.param(box(b"ftyp", b"qt  \x00\x00\x00\x00qt  "), MOV, id="mov"),
        pytest.param(box(b"moov", bytes(20)), MOV, id="mov without ftyp"),
        pytest.param(box(b"ftyp", b"M4A \x00\x00\x00\x00isom"), M4A, id="m4a"),
        pytest.param(box(b"ftyp", b"zzzz\x00\x00\x00\x00zzzz"), MP4, id="a brand nobody listed"),
        pytest.param(box(b"ftyp", b"mif1\x00\x00\x00\x00mif1avif"), AVIF, id="generic picture brand, avif"),
        pytest.param(box(b"ftyp", b"mif1\x00\x00\x00\x00mif1heic"), HEIC, id="generic picture brand, heic"),
        pytest.param(b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", WEBM, id="webm"),
        pytest.param(b"\x1a\x45\xdf\xa3\x9f\x42\x82\x88matroska", MATROSKA, id="mkv"),
        pytest.param(b"ID3\x04\x00\x00", MP3, id="mp3 with tag"),
        pytest.param(b"\xff\xfb\x90\x64", MP3, id="mp3 frame"),
        pytest.param(b"\xff\xf3\x84\xc4", MP3, id="mp3 frame, mpeg 2"),
        pytest.param(b"\xff\xf1\x50\x80", AAC, id="aac"),
        pytest.param(b"fLaC\x00\x00\x00\x22", FLAC, id="flac"),
        pytest.param(b"OggS\x00\x02", OGG, id="ogg"),
        pytest.param(b"MThd\x00\x00\x00\x06", MIDI, id="midi"),
        pytest.param(b'\xef\xbb\xbf [ {"a": 1}]', JSON, id="json list with a byte order mark"),
        pytest.param(('{"a": "' + "é" * 4000).encode()[:4096], JSON, id="json cut within a character"),
    ],
)
def test_media_is_known_by_its_first_bytes(head: bytes, media: MediaType) -> None:
    """Each kind that a generation can be is named, with the extension it is stored under."""
    assert sniff(head) == media


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"<",
        b"<!DOCTYPE html><html>",
        b"\n  <html><body>Not found",
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>',
        b"\xff\xfe<\x00h\x00t\x00m\x00l\x00",
        b"%PDF-1.7",
        b"PK\x03\x04",
        b"\x1f\x8b\x08\x00",
        b"Internal Server Error",
        b"{not json at all",
        b'{"a": "\x00\x01"}',
        b"RIFF\x00\x00\x00\x00AVI ",
        b"\xff\xfb",
        bytes(4096),
        b"#EXTM3U\nhttp://169.254.169.254/",
    ],
)
def test_what_a_browser_would_run_or_nobody_knows_is_no_media(head: bytes) -> None:
    """Web pages, archives, playlists, error texts and noise have no type, so they are never stored."""
    assert sniff(head) is None


def missing(content: bytes, media: MediaType, step: int = 1 << 20) -> str | None:
    """Feed a file in steps and ask what it lacks."""
    ending = Ending(media)
    for start in range(0, len(content), step):
        ending.feed(content[start : start + step])
    return ending.missing()


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("step", [1, 7, 1000, 1 << 20])
def test_a_whole_file_is_whole_however_it_is_cut_into_chunks(name: str, step: int) -> None:
    """Chunk borders fall anywhere, also inside headers and end marks."""
    assert missing(*WHOLE[name], step) is None


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("cut", [2, 60, 200])
def test_a_file_that_lost_its_end_is_not_whole(name: str, cut: int) -> None:
    """The first bytes are right and the rest is gone: the commonest damage of all."""
    content, media = WHOLE[name]
    assert missing(content[:-cut], media)


@pytest.mark.parametrize("name", ["png", "jpeg", "gif", "webp", "wav"])
def test_padding_after_the_end_is_no_fault(name: str) -> None:
    """Every player ignores it, and the file was paid for."""
    content, media = WHOLE[name]
    assert missing(content + bytes(16), media) is None


def test_a_box_of_64_bits_and_a_box_up_to_the_end_are_followed() -> None:
    """Large files use the long form; recorders that stream leave the last size zero."""
    long_form = struct.pack(">I4sQ", 1, b"mdat", 16 + 300) + bytes(300)
    assert missing(FTYP + box(b"moov") + long_form, MP4, 5) is None
    assert missing(FTYP + box(b"moov") + long_form[:-1], MP4, 5)
    assert missing(FTYP + box(b"moov") + struct.pack(">I4s", 0, b"mdat") + bytes(300), MP4, 5) is None


def test_a_video_cut_between_two_boxes_is_not_whole() -> None:
    """All its boxes are complete, but the one without which nothing plays is gone."""
    assert missing(FTYP + box(b"mdat", bytes(500)), MP4) == "it has no moov box"


def test_a_box_smaller_than_its_own_header_is_a_fault() -> None:
    """It must not send the walk round in circles."""
    assert missing(FTYP + struct.pack(">I4s", 4, b"moov") + bytes(100), MP4)
    assert missing(FTYP + struct.pack(">I4sQ", 1, b"moov", 3) + bytes(100), MP4)


def test_a_sea_of_empty_boxes_is_a_fault_and_not_a_day_of_work() -> None:
    """A hostile file may hold millions of boxes of eight bytes."""
    assert missing(FTYP + box(b"moov") + box(b"free") * 300_000, MP4)


def test_a_wav_written_to_a_pipe_has_no_length_to_check() -> None:
    """Its header says zero or the largest number, which promises nothing."""
    for declared in (0, 0xFFFFFFFF):
        assert missing(b"RIFF" + struct.pack("<I", declared) + b"WAVEfmt " + bytes(50), WAV) is None


def test_formats_without_an_end_must_only_not_be_empty() -> None:
    """An MP3 ends anywhere."""
    assert missing(b"ID3" + bytes(100), MP3) is None
    assert missing(b"", MP3)


def test_the_check_keeps_no_more_than_a_moment_of_the_stream() -> None:
    """Its memory must not grow with the file."""
    chunk = bytes(1 << 20)
    ending, tail = Ending(MP4), Ending(JPEG)
    ending.feed(FTYP + box(b"moov") + struct.pack(">I4sQ", 1, b"mdat", 1 << 40))
    tracemalloc.start()
    for _ in range(200):
        ending.feed(chunk)
        tail.feed(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024
