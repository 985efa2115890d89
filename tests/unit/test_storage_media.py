"""What a file is, and whether it came to its end, told from its bytes alone."""

import struct
import time
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


def chunk(name: bytes, body: bytes) -> bytes:
    """One chunk of a PNG; its checksum is not looked at."""
    return struct.pack(">I4s", len(body), name) + body + b"\xab\xcd\xef\x01"


IEND = b"\x00\x00\x00\x00IEND\xaeB`\x82"
PNG_FILE = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)) + chunk(b"IDAT", bytes(200)) + IEND
JPEG_FILE = b"\xff\xd8\xff\xe0" + b"\x00\x10JFIF" + b"\x11" * 3000 + b"\xff\xd9"
GIF_LOOP = b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
GIF_IMAGE = b",\x00\x00\x00\x00\x02\x00\x02\x00\x00\x02" + b"\xff" + b";" * 255 + b"\x03abc\x00"
GIF_FILE = b"GIF89a\x02\x00\x02\x00\x80\x00\x00" + bytes(6) + GIF_LOOP + GIF_IMAGE + b";"
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
@pytest.mark.parametrize("cut", [2, 60, 160])
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


FMT = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)


def wav(declared: int, data_size: int, data: bytes, after: bytes = b"") -> bytes:
    """A WAV whose header and data chunk say what a test wants them to."""
    return b"RIFF" + struct.pack("<I", declared) + b"WAVE" + FMT + b"data" + struct.pack("<I", data_size) + data + after


@pytest.mark.parametrize("declared", [0, 0x7FFFF024, 0xFFFFFFFF])
@pytest.mark.parametrize("data_size", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_a_wav_written_to_a_pipe_has_no_length_to_check(declared: int, data_size: int) -> None:
    """Its header says zero or an enormous number, which promises nothing: what follows is sound, whatever it looks like."""
    assert missing(wav(declared, data_size, b"\x07" * 501), WAV, 5) is None


@pytest.mark.parametrize("declared", [0, 0xFFFFFFFF])
def test_a_wav_without_a_length_may_still_say_how_long_its_sound_is(declared: int) -> None:
    """Then that counts; what lies behind the sound does not."""
    assert missing(wav(declared, 500, b"\x07" * 500, b"some more"), WAV, 5) is None
    assert missing(wav(declared, 500, b"\x07" * 498), WAV, 5) == "its sound lacks 2 bytes"


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_padding_of_an_odd_chunk_may_lack_but_no_sound(step: int) -> None:
    """Some writers count the padding and do not write it; one byte less of an even chunk is a cut."""
    assert missing(wav(36 + 502, 501, b"\x07" * 501 + b"\x00"), WAV, step) is None
    assert missing(wav(36 + 502, 501, b"\x07" * 501), WAV, step) is None
    assert missing(wav(36 + 502, 501, b"\x07" * 500), WAV, step)
    assert missing(wav(36 + 500, 500, b"\x07" * 499), WAV, step)
    assert missing(wav(36 + 540, 501, b"\x07" * 501), WAV, step), "more chunks were to come"


def test_formats_without_an_end_must_only_not_be_empty() -> None:
    """An MP3 ends anywhere."""
    assert missing(b"\xff\xfb\x90\x64" + bytes(100), MP3) is None
    assert missing(b"", MP3)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_an_mp3_that_ends_inside_its_tag_has_no_sound(step: int) -> None:
    """The tag before it says how long it is, in seven bits per byte: 0x0102 is 130."""
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x02" + bytes(130)
    assert missing(tag + b"\xff\xfb", MP3, step) is None
    assert missing(tag, MP3, step) == "the MP3 ends inside its tag"
    assert missing(tag[:8], MP3, step)


EBML = b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm"
SEGMENT = b"\x18\x53\x80\x67"


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("size", [b"\x41\xf4", b"\x01\x00\x00\x00\x00\x00\x01\xf4"])
def test_a_webm_that_says_how_long_it_is_must_be_that_long(step: int, size: bytes) -> None:
    """500 bytes, in the short and the long form."""
    assert missing(EBML + SEGMENT + size + bytes(500), WEBM, step) is None
    assert missing(EBML + SEGMENT + size + bytes(499), WEBM, step) == (
        f"it declares {len(EBML) + 4 + len(size) + 500} bytes and has {len(EBML) + 4 + len(size) + 499}"
    )
    assert missing(EBML[:9], WEBM, step) == "it ends inside its header"


@pytest.mark.parametrize(
    "rest", [SEGMENT + b"\x01" + b"\xff" * 7 + bytes(9), SEGMENT + b"\xff" + bytes(9), b"\xec\x81\x00" + bytes(9)]
)
def test_a_webm_written_as_a_stream_promises_no_length(rest: bytes) -> None:
    """Its segment's size is all ones; and what is not understood is not faulted."""
    assert missing(EBML + rest, WEBM) is None


def test_the_check_keeps_no_more_than_a_moment_of_the_stream() -> None:
    """Its memory must not grow with the file."""
    piece = b"\xff" * (1 << 16)
    begins = {
        MP4: FTYP + box(b"moov") + struct.pack(">I4sQ", 1, b"mdat", 1 << 40),
        PNG: PNG_FILE[:33] + struct.pack(">I4s", (1 << 31) - 1, b"IDAT"),
        GIF: GIF_FILE[:19] + GIF_LOOP[:-1],
        JPEG: JPEG_FILE[:30],
        WAV: wav(0xFFFFFFFF, 0x7FFFEFFF, b""),
        WEBM: b"\x1a\x45\xdf\xa3\x81\x00",
        JSON: b'["',
        MP3: b"ID3",
    }
    endings = [Ending(media) for media in begins]
    for ending, begin in zip(endings, begins.values(), strict=True):
        ending.feed(begin)
    tracemalloc.start()
    for _ in range(20):
        for ending in endings:
            ending.feed(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * len(piece)


# Every kind of file, cut and split at will.

JPEG_LONG = (
    b"\xff\xd8\xff\xe1\x00\x0c" + b"Exif" + b"\xff\xd8\xff\xd9" + bytes(2)  # a thumbnail with an end mark of its own
    + b"\xff\xda\x00\x04\x00\x00" + b"\x11\xff\x00\xff\xd0\xff\xff\x00" * 40 + b"\xff\xff\xd9"
)  # fmt: skip
SPLIT = {
    **WHOLE,
    "jpeg with a thumbnail": (JPEG_LONG, JPEG),
    "fragmented mp4": (FTYP + box(b"moov") + (box(b"moof", b"x") + box(b"mdat", b"y" * 9)) * 5, MP4),
    "json with brackets in texts": (b'{"a": "}\\"[\\\\", "b": [{}, "]"]}\n', JSON),
    "wav, odd": (wav(36 + 52, 51, b"\x07" * 51 + b"\x00"), WAV),
}


def whole_lengths(content: bytes, media: MediaType) -> list[int]:
    """Every length at which a file that comes byte by byte would be taken for whole, if it ended there."""
    ending, found = Ending(media), []
    for length in range(1, len(content) + 1):
        ending.feed(content[length - 1 : length])
        if ending.missing() is None:
            found.append(length)
    return found


@pytest.mark.parametrize("name", [name for name in SPLIT if name not in ("avif", "fragmented mp4", "wav, odd")])
def test_no_cut_of_a_file_passes(name: str) -> None:
    """At no length but its own; text may end before its last line end."""
    content, media = SPLIT[name]
    assert whole_lengths(content, media) == [*range(len(content.rstrip(b"\n")), len(content) + 1)]


def test_some_cuts_leave_a_file_that_plays() -> None:
    """Without the padding of its sound, or between fragments; three zeros of a length are padding for all one can see."""
    content, media = SPLIT["wav, odd"]
    assert whole_lengths(content, media) == [len(content) - 1, len(content)]
    content, media = SPLIT["fragmented mp4"]
    ends = [len(content) - 26 * left for left in range(4, -1, -1)]
    assert whole_lengths(content, media) == [end + zeros for end in ends for zeros in range(4)][:-3]


@pytest.mark.parametrize("name", SPLIT)
def test_what_is_found_does_not_depend_on_how_the_file_is_split(name: str) -> None:
    """Whole or cut."""
    content, media = SPLIT[name]
    for length in range(len(content), 20, -997 if len(content) > 2000 else -61):
        assert missing(content[:length], media, 3) == missing(content[:length], media)


@pytest.mark.parametrize("name", [name for name in SPLIT if not name.startswith("json")])
@pytest.mark.parametrize(
    "junk", [b"\r\n", b"\x00" * 4, b"made by somebody who adds a line\n", b"<html>" * 500, b"\xff" * 3000]
)
def test_what_lies_behind_the_end_is_nobodys_loss(name: str, junk: bytes) -> None:
    """Padding, a line end, a signature, a page: the media before it plays."""
    content, media = SPLIT[name]
    assert missing(content + junk, media) is None
    assert missing(content + junk, media, 3) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (FTYP + box(b"moov", b"\x05" * 90) + struct.pack(">I4s", 5000, b"mdat") + bytes(100), "lacks 4892 bytes"),
        (FTYP + box(b"moov", b"\x05" * 90), "no mdat"),
        (FTYP + box(b"moov") + struct.pack(">I4sQ", 1, b"mdat", 2**64 - 1) + bytes(9), "lacks 18446744073709551590"),
        (FTYP + box(b"moov") + struct.pack(">I4sQ", 1, b"mdat", 15) + bytes(99), "impossible size"),
        (FTYP + box(b"moov") + struct.pack(">I4s", 1, b"mdat"), "inside the header"),
        (FTYP + struct.pack(">I4s", 0xFFFFFFFF, b"moov") + bytes(99), "lacks"),
        (FTYP + struct.pack(">I4s", 0, b"moov") + bytes(99), "no mdat"),
        (FTYP + bytes(5000), "what is no box"),
        (FTYP + b"<html><body>an error page</body></html>" * 9, "lacks"),
    ],
)
def test_a_video_with_sizes_out_of_a_bad_dream_is_not_whole(content: bytes, said: str) -> None:
    """Also one that is ready to play from its beginning and ends too soon."""
    for step in (1, 5, 1 << 20):
        assert said in str(missing(content, MP4, step))


def test_a_png_or_gif_that_lost_something_in_the_middle_is_not_whole() -> None:
    """Its first and its last bytes are right."""
    assert missing(PNG_FILE[:60] + PNG_FILE[67:], PNG)
    assert missing(GIF_FILE[:-300] + GIF_FILE[-280:], GIF)


def test_a_million_marks_take_no_time_to_speak_of() -> None:
    """A hostile file made of nothing but what a check looks for."""
    begun = time.process_time()
    for content, media in (
        (b"\xff" * 8_000_000, JPEG),
        (b"\xff\xd8" + b"\xff\xc0\x00\x02" * 250_000, JPEG),
        (b"GIF89a" + bytes(7) + b"\x00" * 8_000_000, GIF),
        (b'["' + b'\\"' * 4_000_000, JSON),
        (b"[" * 8_000_000, JSON),
        (FTYP + box(b"moov") + box(b"mdat") + box(b"free") * 1_000_000, MP4),
    ):
        missing(content, media)
    assert time.process_time() - begun < 30


def test_an_mp3_of_nothing_but_tags_has_no_sound() -> None:
    """The old tag of 128 bytes at its end, with and without the new one before it, whose footer counts."""
    new, old = b"ID3\x04\x00\x00\x00\x00\x01\x02" + bytes(130), b"TAG" + bytes(125)
    with_footer = b"ID3\x04\x00\x10" + new[6:] + b"3DI" + bytes(7)
    sound = b"\xff\xfb\x90\x64" + bytes(50)
    for tags in (new, with_footer):
        assert missing(tags + sound, MP3, 7) is None
        assert missing(tags + sound + old, MP3, 7) is None
        assert missing(tags + old, MP3, 7) == "the MP3 has tags and no sound"
        assert missing(tags, MP3, 7) == "the MP3 ends inside its tag"
    assert missing(sound + old, MP3) is None
