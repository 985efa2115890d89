"""A copy from a hostile server: a whole file is stored, and of everything else nothing."""

import gzip
import hashlib
import socket
import struct
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from kiejobs.errors import (
    Damaged,
    EgressRefused,
    Incomplete,
    SourceExpired,
    SourceRefused,
    SourceUnavailable,
    Stopped,
    StorageUnavailable,
    TransferError,
)
from kiejobs.storage.egress import guarded_session
from kiejobs.storage.media import MP3, MP4, PNG
from kiejobs.storage.store import PART_BYTES, Store, StoredObject
from kiejobs.storage.transfer import MAX_RESUMES, Stored, copy

PNG_FILE = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x0f\x9cIHDR" + bytes(4000) + b"\x00\x00\x00\x00IEND\xaeB`\x82"
MP3_FILE = b"ID3\x04" + bytes(6) + b"\x55" * 4000


def mp4(size: int) -> bytes:
    """A whole MP4 of exactly this size."""
    start = struct.pack(">I4s8s", 16, b"ftyp", b"isom\x00\x00\x00\x00") + struct.pack(">I4s", 8, b"moov")
    return start + struct.pack(">I4s", size - len(start), b"mdat") + bytes(size - len(start) - 8)


def answer(body: bytes, *, status: str = "200 OK", length: int | None = -1, **headers: str) -> bytes:
    """The bytes of an HTTP answer. `length`: None leaves Content-Length out, other values lie about it."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length == -1 else length}")
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


@dataclass
class Hostile:
    """A server that sends exactly the bytes a test gives it, then does `after` with the connection, and closes it."""

    listener: socket.socket
    content: bytes = b""
    after: Callable[[socket.socket], object] = lambda _: None
    requests: list[bytes] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.listener.getsockname()[1])

    @property
    def url(self) -> str:
        """A URL with a signature in it, as results have."""
        return f"http://127.0.0.1:{self.port}/files/a.mp4?sig=secret-signature"

    def serve(self) -> None:
        """Answer one connection after the other, until the listener is closed."""
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                try:
                    self.requests.append(connection.recv(65536))
                    connection.sendall(self.content)
                    self.after(connection)
                except OSError:
                    continue


@pytest.fixture
def source() -> Iterator[Hostile]:
    """A hostile server on the loopback interface."""
    listener = socket.create_server(("127.0.0.1", 0))
    hostile = Hostile(listener)
    thread = threading.Thread(target=hostile.serve, daemon=True)
    thread.start()
    yield hostile
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(timeout=5)


@pytest.fixture
def store() -> Store:
    """A store in memory; the contract suite runs the real ones."""
    return Store.open("memory:")


KEY = "default/0.bin"


def run(source: Hostile, store: Store, **changes: Any) -> Stored:
    """Copy from the hostile server with generous limits, and the changes a test is about."""
    options: dict[str, Any] = {
        "session": guarded_session(frozenset({("127.0.0.1", source.port)}), read_timeout_s=5.0),
        "max_bytes": 1 << 30,
        "deadline_s": 60.0,
    }
    return copy(source.url, store, lambda _: KEY, **{**options, **changes})


def refused(
    source: Hostile, store: Store, error: type[TransferError] | type[StorageUnavailable], **changes: Any
) -> str:
    """Copy, expect this error and an untouched store, and return the error's text."""
    with pytest.raises(error) as caught:
        run(source, store, **changes)
    assert store.head(KEY) is None
    assert "secret-signature" not in str(caught.value)
    return str(caught.value)


def test_a_whole_file_is_stored_with_its_size_digest_and_sniffed_type(source: Hostile, store: Store) -> None:
    """What the server calls it does not matter."""
    source.content = answer(PNG_FILE, Content_Type="text/html")
    session = guarded_session(frozenset({("127.0.0.1", source.port)}))
    stored = copy(
        source.url, store, lambda media: f"a/0.{media.extension}", session=session, max_bytes=1 << 20, deadline_s=60
    )
    assert stored == Stored("a/0.png", PNG, len(PNG_FILE), hashlib.sha256(PNG_FILE).hexdigest())
    assert store.head("a/0.png") == StoredObject("a/0.png", len(PNG_FILE), "image/png")
    assert b"".join(store.read("a/0.png")) == PNG_FILE


@pytest.mark.parametrize("size", [PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES])
def test_a_file_of_any_number_of_parts_arrives_byte_for_byte(source: Hostile, store: Store, size: int) -> None:
    """Also where the file ends exactly with a part."""
    content = mp4(size)
    source.content = answer(content)
    counted: list[int] = []
    expected: list[int] = []
    stored = run(source, store, expects=expected.append, progress=counted.append)
    assert (stored.size_bytes, stored.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert stored.media_type == MP4
    assert counted[-1] == size
    assert expected == [size]
    found = store.head(KEY)
    assert found is not None
    assert found.size_bytes == size


def test_a_chunked_answer_without_a_length_is_stored(source: Hostile, store: Store) -> None:
    """Some CDNs send no Content-Length."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (PNG_FILE[:100], PNG_FILE[100:])) + b"0\r\n\r\n"
    source.content = answer(body, length=None, Transfer_Encoding="chunked")
    assert run(source, store).size_bytes == len(PNG_FILE)


def test_a_second_copy_replaces_the_first(source: Hostile, store: Store) -> None:
    """A crash between the upload and the commit is repaired by copying again."""
    source.content = answer(PNG_FILE)
    run(source, store)
    source.content = answer(MP3_FILE)
    assert run(source, store).media_type == MP3
    assert b"".join(store.read(KEY)) == MP3_FILE


def test_a_failed_copy_leaves_the_earlier_object_alone(source: Hostile, store: Store) -> None:
    """Only a whole file replaces a whole file."""
    source.content = answer(PNG_FILE)
    run(source, store)
    source.content = answer(mp4(3 * PART_BYTES)[:-1])
    with pytest.raises(Incomplete):
        run(source, store)
    assert b"".join(store.read(KEY)) == PNG_FILE


@pytest.mark.parametrize("status", ["400 Bad", "401 Unauthorized", "403 Forbidden", "404 Not Found", "410 Gone"])
def test_a_refused_url_has_expired(source: Hostile, store: Store, status: str) -> None:
    """A fresh URL is worth asking for."""
    source.content = answer(b"<Error/>", status=status)
    assert status[:3] in refused(source, store, SourceExpired)


@pytest.mark.parametrize("status", ["429 Slow", "500 Oops", "503 Busy", "204 None", "206 Part", "302 Where"])
def test_any_other_answer_is_trouble_at_the_source(source: Hostile, store: Store, status: str) -> None:
    """A redirect to nowhere and a part that nobody asked for are answers of that kind too."""
    source.content = answer(PNG_FILE, status=status)
    refused(source, store, SourceUnavailable)


def test_a_body_shorter_than_declared_is_incomplete(source: Hostile, store: Store) -> None:
    """Whether the connection ends in the first part or in a later one."""
    for content in (MP3_FILE, mp4(2 * PART_BYTES)):
        source.content = answer(content[:-10], length=len(content))
        refused(source, store, Incomplete)


def test_no_body_where_one_was_declared_is_incomplete(source: Hostile, store: Store) -> None:
    """That is not an empty result, but one that did not come."""
    source.content = answer(b"", length=1000)
    refused(source, store, Incomplete)


def test_a_body_longer_than_declared_is_incomplete(source: Hostile, store: Store) -> None:
    """The declared part of an MP3 would pass for a whole one."""
    source.content = answer(MP3_FILE + b"more", length=len(MP3_FILE))
    refused(source, store, Incomplete)


def test_a_chunked_answer_that_breaks_off_is_incomplete(source: Hostile, store: Store) -> None:
    """Its last chunk says so even without a length."""
    source.content = answer(b"%x\r\n%s" % (len(MP3_FILE) + 5, MP3_FILE), length=None, Transfer_Encoding="chunked")
    refused(source, store, Incomplete)


@pytest.mark.parametrize("way", ["length", "chunked", "neither"])
def test_a_file_that_comes_complete_and_is_not_whole_is_damaged_at_its_source(
    source: Hostile, store: Store, way: str
) -> None:
    """But where nobody said how much there is, the connection may have broken off."""
    cut = PNG_FILE[:-5]
    if way == "chunked":
        source.content = answer(b"%x\r\n%s\r\n0\r\n\r\n" % (len(cut), cut), length=None, Transfer_Encoding="chunked")
    else:
        source.content = answer(cut, length=None if way == "neither" else len(cut))
    with pytest.raises(Incomplete, match="no IEND") as caught:
        run(source, store)
    assert (type(caught.value) is Damaged) == (way != "neither")
    assert store.head(KEY) is None


def test_a_file_without_its_end_is_incomplete_even_when_no_length_was_declared(source: Hostile, store: Store) -> None:
    """The container itself tells."""
    for content in (PNG_FILE[:-20], mp4(2 * PART_BYTES + 50)[:-20]):
        source.content = answer(content, length=None)
        assert "not whole" in refused(source, store, Incomplete)


@pytest.mark.parametrize("size", [b"-1", b"-5", b"+ffff", b"1_0000", b"", b"z"])
def test_a_chunk_of_less_than_no_bytes_is_no_order_to_read_them_all(source: Hostile, store: Store, size: bytes) -> None:
    """The size of a chunk is the server's word: at -1 an endless body would be read into memory whole."""
    sent = [0]

    def endless(connection: socket.socket) -> None:
        while sent[0] < 64 * 1024 * 1024:
            sent[0] += connection.send(bytes(1 << 20))

    source.content = answer(size + b"\r\n" + MP3_FILE, length=None, Transfer_Encoding="chunked")
    source.after = endless
    with pytest.raises((SourceUnavailable, Incomplete)):
        run(source, store)
    assert store.head(KEY) is None
    assert sent[0] < 64 * 1024 * 1024


def reset(connection: socket.socket) -> None:
    """Close a connection the rude way."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_server_that_hangs_up_midway_is_unavailable(source: Hostile, store: Store) -> None:
    """Try again later; whether the reset overtakes the last bytes is chance, what is stored is not."""
    source.content, source.after = answer(mp4(2 * PART_BYTES)[:-PART_BYTES], length=2 * PART_BYTES), reset
    with pytest.raises((SourceUnavailable, Incomplete)):
        run(source, store)
    assert store.head(KEY) is None


def test_a_server_that_stops_sending_is_unavailable(source: Hostile, store: Store) -> None:
    """Silence is bounded by the read timeout."""
    release = threading.Event()
    source.content, source.after = answer(PNG_FILE[:100], length=4000), lambda _: release.wait(5)
    session = guarded_session(frozenset({("127.0.0.1", source.port)}), read_timeout_s=0.2)
    assert "stopped sending" in refused(source, store, SourceUnavailable, session=session)
    release.set()


@dataclass
class Clock:
    """A clock that goes on by itself each time it is read."""

    step_s: float
    now_s: float = 0.0

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


@pytest.mark.parametrize("dripped", [answer(MP3_FILE), b"HTTP/1.1 200 OK\r\nX-Slow: " + b"y" * 60_000])
def test_a_drip_is_ended_by_the_deadline_in_body_and_header(source: Hostile, store: Store, dripped: bytes) -> None:
    """Each byte comes within the read timeout, so only a total deadline ends it; no part is ever full."""
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        for byte in dripped[20:]:
            if ended.wait(0.001):
                return
            connection.sendall(bytes([byte]))

    source.content, source.after = dripped[:20], drip
    message = refused(source, store, SourceUnavailable, deadline_s=10.0, monotonic=Clock(step_s=1.0))
    ended.set()
    assert "too slow" in message


def test_a_copy_that_is_stopped_midway_stores_nothing(source: Hostile, store: Store) -> None:
    """A worker that shuts down, or lost its lease, lets go between two reads."""
    source.content = answer(mp4(4 * PART_BYTES))
    counted: list[int] = []
    refused(source, store, Stopped, progress=counted.append, keep_going=lambda: len(counted) < 2)
    assert len(counted) == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "begins with '<!DOCTYPE html>"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "no media"),
        (b"%PDF-1.7", "no media"),
    ],
)
def test_what_is_no_media_is_refused_with_evidence(source: Hostile, store: Store, body: bytes, words: str) -> None:
    """A web page in place of a video is the commonest of all wrong results."""
    source.content = answer(body, Content_Type="video/mp4")
    assert words in refused(source, store, SourceRefused)


def test_media_of_another_kind_than_the_model_makes_is_refused(source: Hostile, store: Store) -> None:
    """A picture is no video; where the kind is right, it is stored."""
    source.content = answer(PNG_FILE)
    assert "is image/png, wanted: video" in refused(source, store, SourceRefused, allowed_kinds=frozenset({"video"}))
    assert run(source, store, allowed_kinds=frozenset({"image"})).media_type == PNG


def test_evidence_holds_no_control_characters(source: Hostile, store: Store) -> None:
    """It ends up in logs and pages."""
    source.content = answer(b"\x00\x1b[31m\r\nX-Injected: 1 " + b"z" * 500)
    message = refused(source, store, SourceRefused)
    assert message.isprintable()
    assert len(message) < 400


def test_a_compressed_answer_is_refused(source: Hostile, store: Store) -> None:
    """It was not asked for, and a bomb would unfold after every count."""
    source.content = answer(gzip.compress(PNG_FILE), Content_Encoding="gzip")
    assert "compressed (gzip)" in refused(source, store, SourceRefused)


def test_a_file_over_the_limit_is_refused_by_its_declared_or_its_real_size(source: Hostile, store: Store) -> None:
    """A server may declare nothing and send for ever."""
    source.content = answer(mp4(2 * PART_BYTES))
    assert f"has {2 * PART_BYTES} bytes" in refused(source, store, SourceRefused, max_bytes=PART_BYTES)
    source.content = answer(mp4(2 * PART_BYTES), length=None)
    assert "is larger" in refused(source, store, SourceRefused, max_bytes=PART_BYTES + 1)


@pytest.mark.parametrize(("body", "limit"), [(PNG_FILE, 256), (MP3_FILE, 1024), (b'{"a": 1}', 64)])
def test_a_file_larger_than_its_kind_can_be_is_refused(source: Hostile, store: Store, body: bytes, limit: int) -> None:
    """A picture of a gigabyte is none, whatever the setting allows; told before the rest of it is fetched."""
    source.content = answer(body, length=limit * 1024 * 1024 + 1)
    source.after = lambda connection: connection.recv(1)  # the rest never comes, and is not waited for
    source.content += b" " * PART_BYTES
    message = refused(source, store, SourceRefused)
    assert f"more than the {limit * 1024 * 1024} allowed" in message


def test_a_source_below_the_least_rate_is_given_up_long_before_the_deadline(source: Hostile, store: Store) -> None:
    """Steady drops fill no part: 5 MiB have to come within 160 s."""
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        while not ended.wait(0.001):
            connection.sendall(b"x")

    source.content, source.after = answer(MP3_FILE, length=1 << 20), drip
    clock = Clock(step_s=1.0)
    message = refused(source, store, SourceUnavailable, deadline_s=900.0, monotonic=clock)
    ended.set()
    assert "less than 32 KiB in a second" in message
    assert clock.now_s < 200


def test_a_large_file_that_comes_steadily_is_not_ended_by_a_deadline_for_small_ones(
    breaking: "Breaking", store: Store
) -> None:
    """20 MiB at 1.25 MiB/s take 16 s; ten are granted to any copy, 20 to one that is declared to have so much."""

    def at(bytes_per_s: float) -> Stored:
        received = [0]
        how: dict[str, Any] = {"progress": received.append, "monotonic": lambda: received[-1] / bytes_per_s}
        return run_breaking(breaking, store, deadline_s=10.0, **how)

    assert at(1.25 * 1024 * 1024).size_bytes > 20 * 1024 * 1024
    with pytest.raises(SourceUnavailable, match=r"within 20\.0"):
        at(0.75 * 1024 * 1024)


def test_a_copy_that_was_under_way_at_its_deadline_says_which_setting_ended_it(
    breaking: "Breaking", store: Store
) -> None:
    """Two weeks of such tries end as a lost result: whoever reads the error has to learn what would have helped."""
    received = [0]
    with pytest.raises(SourceUnavailable, match="Raise KIEJOBS_DOWNLOAD_TIMEOUT_S") as caught:
        run_breaking(breaking, store, monotonic=lambda: received[-1] / 150_000, progress=received.append)
    assert "KIEJOBS_DOWNLOAD_TIMEOUT_S" in caught.value.remedy


def test_a_redirect_to_the_clouds_metadata_is_refused(source: Hostile, store: Store) -> None:
    """The guard holds on every hop."""
    source.content = answer(b"", status="302 Found", Location="http://169.254.169.254/latest/meta-data/")
    assert "169.254.169.254" in refused(source, store, EgressRefused)


def test_a_redirect_loop_ends(source: Hostile, store: Store) -> None:
    """After three hops."""
    source.content = answer(b"", status="302 Found", Location="/files/a.mp4?sig=secret-signature")
    refused(source, store, SourceUnavailable)
    assert len(source.requests) == 4


@pytest.mark.parametrize("content", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" * 200])
def test_an_answer_that_is_no_http_is_trouble_at_the_source(source: Hostile, store: Store, content: bytes) -> None:
    """Not an exception of the HTTP library."""
    source.content = content
    refused(source, store, SourceUnavailable)


def test_a_nonsensical_length_is_ignored(source: Hostile, store: Store) -> None:
    """The container still tells whether the file is whole."""
    for length in ("9" * 5000, "-1", "many"):
        source.content = answer(PNG_FILE, length=None, Content_Length=length)
        assert run(source, store).size_bytes == len(PNG_FILE)


def test_a_connection_closed_before_the_body_is_no_empty_result(source: Hostile, store: Store) -> None:
    """Without a length nobody can tell; the job must not fail for it."""
    source.content = answer(b"", length=None)
    refused(source, store, Incomplete)


class Forgetful(Store):
    """A store that says it holds less than it was given."""

    def head(self, key: str) -> StoredObject | None:
        found = super().head(key)
        return found and StoredObject(key, found.size_bytes - 1, found.media_type)


def test_a_store_that_holds_another_size_than_was_sent_is_at_fault(source: Hostile) -> None:
    """Done means that the store itself says so."""
    source.content = answer(PNG_FILE)
    with pytest.raises(StorageUnavailable, match="should hold"):
        run(source, Forgetful.open("memory:"))


class Slow(Store):
    """A store that takes all the time there is for each part."""

    clock: Clock

    def put(self, key: str, chunks: Iterator[bytes], *, media_type: str, disposition: str | None = None) -> None:
        for _ in chunks:
            self.clock.now_s += 100.0


def test_a_slow_store_is_not_charged_to_the_source(source: Hostile) -> None:
    """Only the source's faults may ever end a job."""
    source.content = answer(mp4(2 * PART_BYTES))
    slow = Slow.open("memory:")
    assert isinstance(slow, Slow)
    slow.clock = Clock(step_s=0.0)
    with pytest.raises(StorageUnavailable, match="storage was too slow"):
        run(source, slow, deadline_s=60.0, monotonic=slow.clock)


def test_a_copy_that_hung_beyond_its_lease_is_the_fault_of_what_it_hung_on(source: Hostile) -> None:
    """Not nobody's: then it would be begun again at once, to hang again."""
    source.content = answer(mp4(2 * PART_BYTES))
    slow = Slow.open("memory:")
    assert isinstance(slow, Slow)
    slow.clock = clock = Clock(step_s=0.0)
    with pytest.raises(StorageUnavailable, match="storage was too slow"):
        run(source, slow, deadline_s=60.0, monotonic=clock, keep_going=lambda: clock.now_s < 80)


# Connections that break midway.


@dataclass
class Breaking:
    """A server that breaks each answer off after some bytes and knows ranges, as far as a test lets it."""

    listener: socket.socket
    body: bytes
    cuts: list[int]
    """How many bytes of the body each connection gets; after the last, all that was asked for."""
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    refuse_ranges: bool = False
    later: dict[str, str] = field(default_factory=dict)
    """Header fields of the answers to ranges that differ; empty ones are left out."""
    requests: list[dict[str, str]] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.listener.getsockname()[1])

    @property
    def url(self) -> str:
        """The file."""
        return f"http://127.0.0.1:{self.port}/files/a.mp4?sig=secret-signature"

    def serve(self) -> None:
        """Answer one connection after the other, until the listener is closed."""
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                asked = connection.recv(65536).decode("latin-1").split("\r\n")[1:]
                self.requests.append(dict(line.split(": ", 1) for line in asked if ": " in line))
                with suppress(OSError):
                    self.answer(connection, self.requests[-1].get("Range"))

    def answer(self, connection: socket.socket, asked: str | None) -> None:
        """Send what was asked for, up to the cut, and reset the connection there."""
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and not self.refuse_ranges else 0
        total, rest = len(self.body), self.body[first:]
        fields = {**self.headers, "Content-Length": str(len(rest)), "Connection": "close"}
        status = "200 OK"
        if first:
            status = "206 Partial Content"
            fields |= {"Content-Range": f"bytes {first}-{total - 1}/{total}"} | self.later
        head = "\r\n".join(
            [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items() if value), "", ""]
        )
        cut = self.cuts.pop(0) if self.cuts else len(rest)
        connection.sendall(head.encode() + rest[:cut])


@pytest.fixture
def breaking() -> Iterator[Breaking]:
    """A server that breaks off, with a body of four parts and a bit, all of them different."""
    listener = socket.create_server(("127.0.0.1", 0))
    start = mp4(4 * PART_BYTES + 999)[:32]
    body = start + array("I", range(PART_BYTES + 250)).tobytes()[: 4 * PART_BYTES + 967]
    server = Breaking(listener, body, [])
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    yield server
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(timeout=5)


def run_breaking(server: Breaking, store: Store, **changes: Any) -> Stored:
    """Copy from the breaking server."""
    session = guarded_session(frozenset({("127.0.0.1", server.port)}), read_timeout_s=5.0)
    options: dict[str, Any] = {"session": session, "max_bytes": 1 << 30, "deadline_s": 60.0}
    return copy(server.url, store, lambda _: KEY, **{**options, **changes})


@pytest.mark.parametrize(
    "headers",
    [{"ETag": '"one"'}, {"Last-Modified": "Sat, 21 Nov 2026 05:00:00 GMT"}, {"ETag": 'W/"x"', "Last-Modified": "y"}],
)
def test_a_connection_that_breaks_is_taken_up_where_it_broke(
    breaking: Breaking, store: Store, headers: dict[str, str]
) -> None:
    """Twice: only what is missing is asked for, on condition that the file is the same, and the digest goes on."""
    breaking.headers = headers
    breaking.cuts = [PART_BYTES + 1000, 2 * PART_BYTES + 7]
    stored = run_breaking(breaking, store)
    assert stored == Stored(KEY, MP4, len(breaking.body), hashlib.sha256(breaking.body).hexdigest())
    assert store.read(KEY).read() == breaking.body
    validator = headers.get("Last-Modified", '"one"')
    assert [request.get("If-Range") for request in breaking.requests] == [None, validator, validator]
    asked = [int(request["Range"][6:-1]) for request in breaking.requests[1:]]
    assert 0 < asked[0] <= PART_BYTES + 1000
    assert asked[0] < asked[1] < len(breaking.body)


def test_a_whole_answer_to_a_resume_is_never_believed(breaking: Breaking, store: Store) -> None:
    """A 200 begins at the beginning, whatever it says: the copy is begun anew, later."""
    breaking.cuts, breaking.refuse_ranges = [PART_BYTES + 1000], True
    with pytest.raises(Incomplete, match="declared"):
        run_breaking(breaking, store)
    assert store.head(KEY) is None
    assert len(breaking.requests) == 2


@pytest.mark.parametrize(
    "later",
    [
        {"ETag": '"two"'},
        {"Content-Range": "bytes 0-99/100"},
        {"Content-Range": f"bytes {PART_BYTES}-{4 * PART_BYTES + 997}/{4 * PART_BYTES + 999}"},
        {"Content-Range": f"bytes {PART_BYTES}-{4 * PART_BYTES + 998}/*"},
        {"Content-Range": "nonsense"},
        {"Content-Encoding": "gzip"},
    ],
)
def test_a_part_of_another_file_or_another_range_is_never_believed(
    breaking: Breaking, store: Store, later: dict[str, str]
) -> None:
    """The file changed meanwhile, or the server counts wrongly."""
    breaking.cuts, breaking.later = [PART_BYTES], later
    with pytest.raises(Incomplete):
        run_breaking(breaking, store)
    assert store.head(KEY) is None


@pytest.mark.parametrize(
    ("headers", "later"),
    [
        ({"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, {"Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT"}),
        ({"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, {"Last-Modified": ""}),
        ({"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, {"ETag": '"two"'}),
        ({"ETag": '"one"'}, {"ETag": ""}),
        ({"ETag": '"one"', "Last-Modified": "x"}, {"Last-Modified": "y"}),
        ({"ETag": 'W/"one"', "Last-Modified": "x"}, {"ETag": 'W/"two"'}),
    ],
)
def test_a_part_that_does_not_repeat_what_the_file_was_known_by_is_never_believed(
    breaking: Breaking, store: Store, headers: dict[str, str], later: dict[str, str]
) -> None:
    """The server ignores `If-Range`, and the file was replaced meanwhile by another one of the same length."""
    breaking.headers, breaking.cuts, breaking.later = headers, [PART_BYTES + 1000], later
    with pytest.raises(Incomplete):
        run_breaking(breaking, store)
    assert store.head(KEY) is None
    assert len(breaking.requests) == 2


def test_a_part_may_leave_the_date_out_beside_a_strong_etag(breaking: Breaking, store: Store) -> None:
    """RFC 9110, 15.3.7, wants it that way where the request had `If-Range`."""
    breaking.headers, breaking.later = {"ETag": '"one"', "Last-Modified": "x"}, {"Last-Modified": ""}
    breaking.cuts = [PART_BYTES + 1000]
    assert run_breaking(breaking, store).sha256 == hashlib.sha256(breaking.body).hexdigest()


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}, {"ETag": '"one"', "Accept-Ranges": "none"}])
def test_nothing_is_resumed_that_cannot_be_recognised(
    breaking: Breaking, store: Store, headers: dict[str, str]
) -> None:
    """Without a strong validator nobody could say whether it is the same file."""
    breaking.headers, breaking.cuts = headers, [PART_BYTES + 1000]
    with pytest.raises(Incomplete):
        run_breaking(breaking, store)
    assert len(breaking.requests) == 1


def test_a_server_that_breaks_off_again_and_again_is_given_up(breaking: Breaking, store: Store) -> None:
    """Five times; what is left is the next try's."""
    breaking.cuts = [PART_BYTES, *([1000] * 20)]
    with pytest.raises(Incomplete):
        run_breaking(breaking, store)
    assert len(breaking.requests) == 1 + MAX_RESUMES


def test_a_resume_does_not_outlive_the_deadline(breaking: Breaking, store: Store) -> None:
    """The one total deadline counts over all connections."""
    breaking.cuts, received = [2 * PART_BYTES], [0]

    def now() -> float:
        return 61.0 if received[-1] >= 2 * PART_BYTES else 0.0

    with pytest.raises(SourceUnavailable, match="too slow"):
        run_breaking(breaking, store, monotonic=now, progress=received.append)
    assert len(breaking.requests) == 1
    assert store.head(KEY) is None


# The last look before a file becomes visible.


@pytest.mark.parametrize("size", [1000, PART_BYTES, 3 * PART_BYTES])
def test_a_copy_that_is_not_confirmed_at_its_end_stays_invisible(source: Hostile, store: Store, size: int) -> None:
    """Its lease was taken over while the last bytes came: whoever holds it now writes the file."""
    source.content = answer(mp4(size))
    told: list[int] = []

    def confirm() -> None:
        raise Stopped("taken over")

    assert refused(source, store, Stopped, confirm=confirm, progress=told.append) == "taken over"
    assert told[-1] == size, "it is asked at the end"
