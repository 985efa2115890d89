"""The result files host: links that work, expire or leak, and files that would open in a player."""

import hashlib
import io
import json
import struct
import threading
import time
import wave
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from kiejobs.simulator import Simulator
from kiejobs.simulator.media import MIB, Media, make_media
from kiejobs.simulator.models import Kind

pause = threading.Event().wait  # nobody sets this event
KEY = {"Authorization": "Bearer files"}
MODELS = {
    Kind.IMAGE: "z-image",
    Kind.VIDEO: "kling-3.0/video",
    Kind.AUDIO: "elevenlabs/text-to-speech-turbo-2-5",
    Kind.WAV: "ai-music-api/convert-to-wav-format",
}


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    """One simulator for all tests of this file."""
    with Simulator(create_limit=0) as simulator:
        yield simulator


@pytest.fixture
def kie(running: Simulator) -> Simulator:
    """A simulator that has seen nothing yet."""
    requests.post(f"{running.base_url}/simulator/reset", timeout=5)
    return running


def links(kie: Simulator, prompt: str = "", kind: Kind = Kind.IMAGE) -> list[str]:
    """The result links of a task that has just finished."""
    body = {"model": MODELS[kind], "input": {"prompt": prompt}}
    made = requests.post(f"{kie.base_url}/api/v1/jobs/createTask", json=body, headers=KEY, timeout=5).json()
    assert made["code"] == 200, made
    url = f"{kie.base_url}/simulator/tasks/{made['data']['taskId']}/finish"
    return list(json.loads(requests.post(url, timeout=5).json()["resultJson"])["resultUrls"])


def fresh_link(kie: Simulator, url: str) -> dict[str, Any]:
    """The envelope of one download-url."""
    address = f"{kie.base_url}/api/v1/common/download-url"
    return dict(requests.post(address, json={"url": url}, headers=KEY, timeout=5).json())


def get(url: str, **headers: str) -> requests.Response:
    """One download."""
    return requests.get(url, headers=headers, timeout=10)


def assert_is_png(data: bytes) -> None:
    """Signature, chunks with right CRCs up to the exact end, and pixels for the size it declares."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    offset, pixels, names = 8, b"", []
    while offset < len(data):
        length, name = struct.unpack(">I4s", data[offset : offset + 8])
        body = data[offset + 8 : offset + 8 + length]
        (crc,) = struct.unpack(">I", data[offset + 8 + length : offset + 12 + length])
        assert crc == zlib.crc32(name + body)
        names.append(name)
        if name == b"IDAT":
            pixels += body
        offset += 12 + length
    assert offset == len(data)
    assert (names[0], names[-1]) == (b"IHDR", b"IEND")
    width, height = struct.unpack(">II", data[16:24])
    assert len(zlib.decompress(pixels)) == height * (1 + 3 * width)


def assert_is_mp4(data: bytes) -> None:
    """Boxes up to the exact end, a header and a movie with an H.264 track, and every chunk offset inside the media."""
    boxes, offset = [], 0
    while offset < len(data):
        size, name = struct.unpack(">I4s", data[offset : offset + 8])
        assert size >= 8
        boxes.append((name, offset, size))
        offset += size
    assert offset == len(data)
    by_name = {name: (start, size) for name, start, size in boxes}
    assert boxes[0][0] == b"ftyp"
    start, size = by_name[b"moov"]
    movie = data[start : start + size]
    assert b"avc1" in movie
    media_start, media_size = by_name[b"mdat"]
    table = movie.index(b"stco")
    (first_chunk,) = struct.unpack(">I", movie[table + 12 : table + 16])
    assert media_start + 8 <= first_chunk < media_start + media_size


def assert_is_mp3(data: bytes) -> None:
    """An ID3 tag, then MPEG-1 layer III frames that follow each other up to the exact end."""
    assert data[:3] == b"ID3"
    size = data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9]
    assert data[10:14] == b"TXXX"
    offset, frames = 10 + size, 0
    bitrates = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    while offset < len(data):
        assert data[offset] == 0xFF
        assert data[offset + 1] & 0xFE == 0xFA
        rate, padding = bitrates[data[offset + 2] >> 4], data[offset + 2] >> 1 & 1
        offset += 144 * rate * 1000 // 44100 + padding
        frames += 1
    assert offset == len(data)
    assert frames > 10


def assert_is_wav(data: bytes) -> None:
    """A RIFF of exactly the declared size, with a label and so many frames as its header says."""
    assert struct.unpack("<I", data[4:8]) == (len(data) - 8,)
    with wave.open(io.BytesIO(data)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth()) == (1, 2)
        assert sound.getnframes() >= 2 * sound.getframerate()
        assert sound.readframes(sound.getnframes()) == bytes(2 * sound.getnframes())
    assert b"LIST" in data[:64]


CHECKS = {
    Kind.IMAGE: assert_is_png,
    Kind.VIDEO: assert_is_mp4,
    Kind.AUDIO: assert_is_mp3,
    Kind.WAV: assert_is_wav,
}


@pytest.mark.parametrize("kind", list(Kind))
def test_a_result_file_is_what_its_extension_says(kie: Simulator, kind: Kind) -> None:
    """Right Content-Type and Content-Length, and bytes that are a valid file of that kind."""
    [url] = links(kie, kind=kind)
    answer = get(url)
    assert url.endswith(f"/0.{kind}")
    assert answer.headers["Content-Type"] == kind.content_type
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    CHECKS[kind](answer.content)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_big_file_is_valid_and_big_enough(kind: Kind) -> None:
    """Filled with what its format allows, made without holding it in memory."""
    media = make_media(kind, "b" * 32, 0, 2 * MIB + 1)
    data = b"".join(media.read(0, len(media)))
    assert len(data) == len(media) > 2 * MIB
    CHECKS[kind](data)


def test_a_big_file_arrives_whole(kie: Simulator) -> None:
    """The marker reaches the wire."""
    answer = get(links(kie, "[[big=3]]", Kind.VIDEO)[0])
    assert len(answer.content) > 3 * MIB
    assert_is_mp4(answer.content)


def test_media_can_be_read_from_any_place() -> None:
    """Head, repeated block and tail join without a seam."""
    media = Media(b"head", b"-block-", 3, b"tail")
    whole = b"head-block--block--block-tail"
    assert len(media) == len(whole)
    for start in range(len(whole)):
        for stop in range(start, len(whole) + 1):
            assert b"".join(media.read(start, stop, 2)) == whole[start:stop]


@pytest.mark.parametrize("kind", list(Kind))
def test_no_two_results_have_the_same_bytes_and_each_stays_the_same(kie: Simulator, kind: Kind) -> None:
    """By task and by index; the same link gives the same file each time."""
    urls = links(kie, "[[outputs=2]]", kind) + links(kie, "[[outputs=2]]", kind)
    hashes = [hashlib.sha256(get(url).content).hexdigest() for url in urls]
    assert len(set(hashes)) == 4
    assert hashes == [hashlib.sha256(get(url).content).hexdigest() for url in urls]


def test_a_range_gives_its_bytes_with_206(kie: Simulator) -> None:
    """First bytes, middle, open end, last bytes: each as the whole file has them."""
    [url] = links(kie)
    whole = get(url).content
    size = len(whole)
    spans = {"0-9": (0, 10), "100-199": (100, 200), "50-": (50, size), "-20": (size - 20, size), "9-99999": (9, size)}
    for wanted, (start, stop) in spans.items():
        answer = get(url, Range=f"bytes={wanted}")
        assert answer.status_code == 206
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
        assert answer.content == whole[start:stop]


def test_a_range_beyond_the_end_is_416_and_a_strange_one_is_ignored(kie: Simulator) -> None:
    """As RFC 9110 has it."""
    [url] = links(kie)
    size = len(get(url).content)
    beyond = get(url, Range=f"bytes={size}-")
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")
    assert [get(url, Range=strange).status_code for strange in ("lines=1-2", "bytes=9-3", "bytes=-")] == [200] * 3


def test_if_range_with_another_etag_gives_the_whole_file(kie: Simulator) -> None:
    """A resumed download never joins two versions."""
    [url] = links(kie)
    tag = get(url).headers["ETag"]
    assert get(url, Range="bytes=5-", **{"If-Range": tag}).status_code == 206
    assert get(url, Range="bytes=5-", **{"If-Range": '"other"'}).status_code == 200


def test_head_tells_the_size_without_the_bytes(kie: Simulator) -> None:
    """The same headers as GET."""
    [url] = links(kie)
    answer = requests.head(url, timeout=5)
    assert int(answer.headers["Content-Length"]) == len(get(url).content)
    assert answer.content == b""


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_key_on_the_files_host_is_refused_and_written_down_as_a_leak(kie: Simulator, method: str) -> None:
    """Result links are public: whoever sends a key there sends it to a stranger."""
    [url] = links(kie)
    assert requests.request(method, url, headers=KEY, timeout=5).status_code == 400
    [leak] = leaks(kie)
    assert url.endswith(str(leak["path"]))
    assert "Bearer" not in json.dumps(leak)


def leaks(kie: Simulator) -> list[dict[str, Any]]:
    """The ledger's leaks."""
    found = kie.ledger()["leaks"]
    assert isinstance(found, list)
    return found


def test_python_urllibs_own_user_agent_is_refused(kie: Simulator) -> None:
    """As the real CDN does; any other name is fine."""
    [url] = links(kie)
    assert get(url, **{"User-Agent": "Python-urllib/3.11"}).status_code == 403
    assert get(url, **{"User-Agent": "kiejobs"}).status_code == 200
    assert leaks(kie) == []


def test_links_to_what_is_not_there_are_404(kie: Simulator) -> None:
    """Another index, another extension, another task, another path."""
    [url] = links(kie)
    stem = url.removesuffix("0.png")
    for wrong in (
        f"{stem}1.png",
        f"{stem}0.mp4",
        f"{stem}00.png",
        f"{kie.files_url}/f/{'0' * 32}/0.png",
        kie.files_url,
    ):
        assert get(wrong).status_code == 404


def test_a_running_or_failed_task_has_no_files(kie: Simulator) -> None:
    """Nothing to fetch before success."""
    for prompt in ("[[duration=60]]", "[[fail=500]] [[duration=0]]"):
        body = {"model": "z-image", "input": {"prompt": prompt}}
        made = requests.post(f"{kie.base_url}/api/v1/jobs/createTask", json=body, headers=KEY, timeout=5).json()
        assert get(f"{kie.files_url}/f/{made['data']['taskId']}/0.png").status_code == 404


def test_an_old_link_expires_and_a_fresh_one_opens_the_file_again() -> None:
    """403 after its time; download-url brings it back."""
    with Simulator(file_ttl_s=0.05) as kie:
        [url] = links(kie)
        pause(0.06)
        assert get(url).status_code == 403
        fresh = fresh_link(kie, url)
        assert fresh["code"] == 200
        assert get(fresh["data"]).status_code == 200


def test_a_fresh_link_cannot_be_forged_moved_or_kept(kie: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its token is good for one file and for 20 minutes."""
    first, second = links(kie, "[[outputs=2]]")
    fresh = fresh_link(kie, first)["data"]
    token = fresh.partition("?token=")[2]
    assert get(fresh).status_code == 200
    assert get(f"{second}?token={token}").status_code == 403
    assert get(f"{first}?token=9999999999.{'0' * 64}").status_code == 403
    assert get(f"{first}?token=").status_code == 403
    monkeypatch.setattr("kiejobs.simulator.links.LINK_LIFE_S", -1)
    assert get(fresh_link(kie, first)["data"]).status_code == 403


def test_download_url_knows_its_own_links_only(kie: Simulator) -> None:
    """Anything else is 422 "url is wrong", in a body over HTTP 200."""
    [url] = links(kie)
    for wrong in ("https://cdn.example.com/a.mp4", url.replace("/0.png", "/7.png"), "", kie.files_url):
        assert fresh_link(kie, wrong) == {"code": 422, "msg": "url is wrong", "data": None}


def test_an_expired_link_scenario_heals_through_download_url(kie: Simulator) -> None:
    """The first link is dead on arrival until a fresh one was asked for."""
    [url] = links(kie, "[[expired-link]]")
    assert [get(url).status_code for _ in range(2)] == [403, 403]
    assert get(fresh_link(kie, url)["data"]).status_code == 200


def test_a_dead_link_stays_dead(kie: Simulator) -> None:
    """404, also by a fresh link."""
    [url] = links(kie, "[[dead-link]]")
    assert get(url).status_code == 404
    assert get(fresh_link(kie, url)["data"]).status_code == 404


def test_an_html_result_is_a_page_that_says_200(kie: Simulator) -> None:
    """Only its type and its bytes give it away."""
    answer = get(links(kie, "[[html-result]]", Kind.VIDEO)[0])
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.content.startswith(b"<!doctype html>")


def test_a_truncated_file_breaks_a_careful_download(kie: Simulator) -> None:
    """A client that compares with Content-Length notices."""
    with pytest.raises(requests.exceptions.RequestException):
        get(links(kie, "[[truncate]]", Kind.VIDEO)[0])


def test_a_dripping_file_takes_its_time_and_is_whole(kie: Simulator) -> None:
    """About so many bytes per second."""
    [url] = links(kie, "[[drip=3000]]")
    began = time.monotonic()
    answer = get(url)
    assert time.monotonic() - began >= 0.5 * len(answer.content) / 3000
    assert_is_png(answer.content)


def test_downloads_are_in_the_ledger_with_their_status(kie: Simulator) -> None:
    """Path without query, and what was answered."""
    [url] = links(kie)
    get(url)
    get(f"{url}?token=bad")
    get(f"{kie.files_url}/nothing")
    downloads = kie.ledger()["downloads"]
    assert isinstance(downloads, list)
    path = url.removeprefix(kie.files_url)
    assert [(entry["path"], entry["status"]) for entry in downloads] == [(path, 200), (path, 403), ("/nothing", 404)]
