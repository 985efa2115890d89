"""What every store promises, asked of a folder and of a real S3 server alike."""

import hashlib
import http.server
import os
import socket
import threading
import time
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
import psutil
import pytest

from kiejobs.errors import Incomplete, InvalidInput, ObjectMissing, SettingsError, StorageUnavailable
from kiejobs.settings import Settings
from kiejobs.storage.keys import disposition
from kiejobs.storage.store import PART_BYTES, Store, StoredObject
from tests import support
from tests.contract.s3faults import relay
from tests.contract.s3server import S3Server, missing, s3_server
from tests.unit.test_storage_recipes import BLOCKS

KEY = "default/2026/03/09/018f3a5e-7c1d-7e6a-9b0f-2d4c6e8a0b1c/0.mp4"


def forget_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the developer's own AWS setup out of the way."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION", "ENDPOINT_URL", "ENDPOINT_URL_S3"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One S3 server for the module."""
    reason = missing()
    if reason:
        support.missing(reason)
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@dataclass
class Opened:
    """A store under test, and the folder in which its objects can be seen from outside."""

    store: Store
    folder: Path
    keeps_types: bool

    def files(self) -> list[str]:
        """Every file that exists, by its path, also the hidden and half-written ones."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def host_style(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server that finds the bucket in the host's name, reached as if it were a proxy: the name is in no DNS."""
    reason = missing()
    if reason:
        support.missing(reason)
    options = ["--force-path-style=false"]
    with s3_server(tmp_path_factory.mktemp("s3-host"), options=options) as server:
        yield replace(server, endpoint_url="http://media.s3.test", proxy_url=server.endpoint_url)


@pytest.fixture(params=["folder", "s3", "host_style"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """The same store three times: as a folder, and as a prefix of its own in a bucket, in path style and in host style."""
    forget_credentials(monkeypatch)
    if request.param == "folder":
        return Opened(Store.open(str(tmp_path / "media")), tmp_path / "media", keeps_types=False)
    server: S3Server = request.getfixturevalue(request.param)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    prefix = f"run-{tmp_path.name}"
    store = Store.open(f"{server.url}/{prefix}", endpoint_url=server.endpoint_url)
    return Opened(store, server.folder / server.bucket / prefix, keeps_types=True)


def visit(link: str) -> Any:
    """Follow a link as its reader would, by the proxy that is in force now (`urlopen` remembers its first one)."""
    return urllib.request.build_opener().open(link)


def put(opened: Opened, *chunks: bytes) -> None:
    """Put chunks under the usual key."""
    opened.store.put(KEY, iter(chunks), media_type="video/mp4")


@pytest.mark.parametrize("sizes", [(5,), (PART_BYTES,), (PART_BYTES, 1), (PART_BYTES, PART_BYTES, 77), (3, 4, 5)])
def test_what_was_put_is_there_and_reads_back(opened: Opened, sizes: tuple[int, ...]) -> None:
    """From one small request to an upload of several parts."""
    chunks = [bytes([number]) * size for number, size in enumerate(sizes, start=1)]
    put(opened, *chunks)
    media_type = "video/mp4" if opened.keeps_types else None
    assert opened.store.head(KEY) == StoredObject(KEY, sum(sizes), media_type)
    assert b"".join(opened.store.read(KEY)) == b"".join(chunks)
    assert opened.files() == [KEY]


def test_nothing_is_where_nothing_was_put(opened: Opened) -> None:
    """`head` answers None; reading says that it is missing; deleting is no fault."""
    assert opened.store.head(KEY) is None
    for read in (opened.store.read, lambda key: opened.store.open_range(key, 1, 2)):
        with pytest.raises(ObjectMissing, match=r"0\.mp4 is not there") as caught:
            read(KEY)
        assert "kiejobs retry" in caught.value.remedy
    opened.store.delete(KEY)


@pytest.mark.parametrize(
    ("first", "end", "expected"),
    [(0, 3, b"012"), (2, 5, b"234"), (7, None, b"789"), (7, 100, b"789"), (9, 10, b"9"), (0, 10, b"0123456789")],
)
def test_a_range_of_an_object_reads_exactly_that_range(
    opened: Opened, first: int, end: int | None, expected: bytes
) -> None:
    """Also from a server that knows no ranges; the whole's size and type come with it."""
    put(opened, b"0123456789")
    with opened.store.open_range(KEY, first, end) as reading:
        assert (reading.size_bytes, reading.first, reading.end) == (10, first, first + len(expected))
        assert len(reading) == len(expected)
        assert reading.media_type == ("video/mp4" if opened.keeps_types else None)
        assert reading.read() == expected
        assert reading.read(1) == b""


@pytest.mark.parametrize(("first", "end"), [(10, None), (11, 12), (-1, 3), (3, 3), (4, 2)])
def test_a_range_that_holds_no_byte_is_refused(opened: Opened, first: int, end: int | None) -> None:
    """What a web server answers with 416."""
    put(opened, b"0123456789")
    with pytest.raises(ValueError, match=r"no range|there is none at"):
        opened.store.open_range(KEY, first, end)


def test_an_object_reads_like_a_file_in_pieces_of_any_size(opened: Opened) -> None:
    """So that it can be sent on to somebody else without being held."""
    content = os.urandom(3 * 1024 * 1024 + 77)
    put(opened, content)
    reading = opened.store.read(KEY)
    assert len(reading) == len(content)
    parts = list(iter(lambda: reading.read(100_000), b""))
    assert b"".join(parts) == content
    assert max(map(len, parts)) == 100_000
    assert max(map(len, opened.store.read(KEY))) <= 8 * 1024 * 1024


PNG_FILE = b"\x89PNG\r\n\x1a\n\x00\x00\x0f\x9cIHDR" + bytes(4000) + b"\x00\x00\x00\x00IEND\xaeB`\x82"


def test_an_input_file_is_kept_once_under_its_contents_name(opened: Opened, tmp_path: Path) -> None:
    """As bytes and as a file alike; the second time nothing is written."""
    key = opened.store.put_input("acme", PNG_FILE)
    assert key == f"acme/inputs/{hashlib.sha256(PNG_FILE).hexdigest()}.png"
    written = (opened.folder / key).stat()
    (tmp_path / "door.bin").write_bytes(PNG_FILE)
    with (tmp_path / "door.bin").open("rb") as file:
        file.seek(100)
        assert opened.store.put_input("acme", file) == key
    after = (opened.folder / key).stat()
    assert (after.st_ino, after.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert opened.store.read(key).read() == PNG_FILE
    assert opened.store.put_input("other", PNG_FILE) != key, "tenants share no objects"


def test_a_half_written_input_is_written_again(opened: Opened) -> None:
    """An object of another size under that name is not the file."""
    key = opened.store.put_input("acme", PNG_FILE)
    opened.store.put(key, iter([PNG_FILE[:10]]), media_type="image/png")
    assert opened.store.put_input("acme", PNG_FILE) == key
    assert opened.store.read(key).read() == PNG_FILE


def test_an_input_that_somebody_else_kept_meanwhile_stays_where_the_storage_can_tell(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder refuses to make it twice; a server that ignores the condition writes the same bytes again."""
    key = opened.store.put_input("acme", PNG_FILE)
    before, real, looks = (opened.folder / key).stat(), opened.store.head, iter([None])
    monkeypatch.setattr(opened.store, "head", lambda key: next(looks, real(key)))
    assert opened.store.put_input("acme", PNG_FILE) == key
    assert opened.store.read(key).read() == PNG_FILE
    if not opened.keeps_types:
        after = (opened.folder / key).stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_server_that_refuses_conditions_is_asked_without(keys: S3Server) -> None:
    """Some answer 501 to what they do not know."""
    with relay(keys.endpoint_url) as server:
        server.fault = "no conditions"
        store = Store.open(f"{keys.url}/conditions", endpoint_url=server.endpoint_url)
        key = store.put_input("acme", PNG_FILE)
        assert store.read(key).read() == PNG_FILE
        server.asked.clear()
        assert store.put_input("another", PNG_FILE) != key
        assert [asked.split(" ")[0] for asked in server.asked] == ["HEAD", "PUT", "HEAD"], "and remembered"


def test_a_large_input_is_kept_without_being_held(opened: Opened, tmp_path: Path) -> None:
    """96 MiB go by in parts."""
    path = tmp_path / "long.mp3"
    with path.open("wb") as file:
        file.write(b"ID3\x04")
        file.truncate(96 * 1024 * 1024)
    with path.open("rb") as file:
        tracemalloc.start()
        key = opened.store.put_input("acme", file)
        traced = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert traced < 7 * PART_BYTES
    found = opened.store.head(key)
    assert found is not None
    assert found.size_bytes == 96 * 1024 * 1024


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<html><script>alert(1)</script>", "is no image"),
        (b"<svg xmlns='x'/>", "is no image"),
        (PNG_FILE[:-8], "not whole"),
        (PNG_FILE + bytes(2000), "more than 5000 bytes"),
    ],
)
def test_what_cannot_be_an_input_is_refused_and_not_kept(opened: Opened, content: bytes, words: str) -> None:
    """A generation bought with it would be money lost."""
    with pytest.raises(InvalidInput, match=words):
        opened.store.put_input("acme", content, max_bytes=5000)
    assert opened.files() == []


def test_a_deleted_object_is_gone(opened: Opened) -> None:
    """Deleting twice is once."""
    put(opened, b"x")
    opened.store.delete(KEY)
    opened.store.delete(KEY)
    assert opened.store.head(KEY) is None


def failing(parts: int) -> Iterator[bytes]:
    """A source that breaks after some parts."""
    for _ in range(parts):
        yield bytes(PART_BYTES)
    raise Incomplete("the source broke off")


@pytest.mark.parametrize("parts", [0, 1, 2, 6])
def test_a_failure_midway_leaves_nothing_visible(opened: Opened, parts: int) -> None:
    """The source's own error comes out, and not a byte stays, also not under another name."""
    with pytest.raises(Incomplete, match="broke off"):
        opened.store.put(KEY, failing(parts), media_type="video/mp4")
    assert opened.store.head(KEY) is None
    assert opened.files() == []


def test_a_failure_midway_leaves_the_earlier_object_as_it_was(opened: Opened) -> None:
    """A second copy that fails must not cost the first."""
    put(opened, b"whole")
    with pytest.raises(Incomplete):
        opened.store.put(KEY, failing(3), media_type="video/mp4")
    assert b"".join(opened.store.read(KEY)) == b"whole"


def test_a_second_put_replaces_the_first(opened: Opened) -> None:
    """By a shorter one, too."""
    put(opened, bytes(PART_BYTES), bytes(10))
    put(opened, b"short")
    assert b"".join(opened.store.read(KEY)) == b"short"
    assert opened.files() == [KEY]


def test_memory_stays_flat_while_a_large_stream_is_stored(opened: Opened) -> None:
    """128 MiB take no more than a few parts' worth of memory, in Python and below it."""
    total, digest = 128 * 1024 * 1024, hashlib.sha256()
    process, highest = psutil.Process(), 0

    def stream() -> Iterator[bytes]:
        nonlocal highest
        for _ in range(total // PART_BYTES):
            chunk = os.urandom(PART_BYTES)
            digest.update(chunk)
            highest = max(highest, process.memory_info().rss)
            yield chunk

    before = process.memory_info().rss
    tracemalloc.start()
    opened.store.put(KEY, stream(), media_type="video/mp4")
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert traced < 4.5 * PART_BYTES, "two on their way, one that waits, one being made"
    assert highest - before < 7 * PART_BYTES
    stored = hashlib.sha256()
    for piece in opened.store.read(KEY):
        stored.update(piece)
    assert stored.digest() == digest.digest()


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "a/../../x", "a//b", "", "a/./b", "a\x00b", "%2e%2e/x"])
def test_a_key_that_could_climb_out_is_refused_by_every_method(opened: Opened, key: str) -> None:
    """Keys are ours, and are checked all the same, before anything is asked of the storage."""
    store = opened.store
    for call in (
        lambda: store.put(key, iter([b"x"]), media_type="video/mp4"),
        lambda: store.head(key),
        lambda: store.read(key),
        lambda: store.delete(key),
        lambda: store.link(key, 60),
        lambda: store.location(key),
    ):
        with pytest.raises(ValueError, match="no object key"):
            call()
    assert not list(opened.folder.parent.glob("x"))


def test_a_working_store_passes_its_check_and_keeps_nothing_of_it(opened: Opened) -> None:
    """The check writes, reads and removes."""
    opened.store.check()
    assert opened.files() == []


def test_two_checks_at_once_do_not_meet(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one has written and not read yet, another checks and cleans up: neither is told of a fault."""
    real, turns = obstore.get, iter([opened.store.check])

    def get(*args: Any, **options: Any) -> Any:
        for check in turns:
            check()
        return real(*args, **options)

    monkeypatch.setattr(obstore, "get", get)
    opened.store.check()
    assert opened.files() == []


def test_a_check_that_fails_keeps_nothing_of_it(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object was written, and cannot be read."""

    def get(*_: Any, **__: Any) -> Any:
        raise PermissionError("no")

    monkeypatch.setattr(obstore, "get", get)
    with pytest.raises(StorageUnavailable):
        opened.store.check()
    assert opened.files() == []


def test_a_place_is_named_for_people_and_for_the_file_system(opened: Opened) -> None:
    """A folder has a path; a bucket an address."""
    put(opened, b"x")
    path = opened.store.path(KEY)
    if opened.keeps_types:
        assert path is None
        assert opened.store.location(KEY) == f"s3://media/{opened.folder.name}/{KEY}"
    else:
        assert path is not None
        assert path.read_bytes() == b"x"
        assert opened.store.location(KEY) == str(opened.folder / KEY)


def test_a_signed_link_gives_the_object_to_whoever_has_it(opened: Opened) -> None:
    """A folder cannot sign: its files go through the gateway."""
    opened.store.put(KEY, iter([b"for you"]), media_type="video/mp4", disposition='attachment; filename="a.mp4"')
    link = opened.store.link(KEY, 60)
    if not opened.keeps_types:
        assert link is None
        return
    assert link is not None
    with visit(link) as answer:
        assert answer.read() == b"for you"
        assert answer.headers["Content-Type"] == "video/mp4"
    with pytest.raises(urllib.error.HTTPError):
        visit(link.replace("Signature=", "Signature=0"))


def test_a_bucket_that_is_read_without_a_key_to_sign_with_gives_no_links(
    keys: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Roles and tokens of some clouds sign nothing: readers get the bytes then, not an error."""

    def sign(*_: object) -> str:
        raise PermissionError("no key to sign with")

    monkeypatch.setattr(obstore, "sign", sign)
    assert Store.open(keys.url, endpoint_url=keys.endpoint_url).link(KEY, 60) is None


WITH_ENDPOINT = [block for block in BLOCKS if "AWS_ENDPOINT_URL" in block]


@pytest.mark.parametrize("temporary", [False, True], ids=["lasting key", "temporary key"])
@pytest.mark.parametrize(
    "block", WITH_ENDPOINT, ids=[urlsplit(one["AWS_ENDPOINT_URL"]).netloc for one in WITH_ENDPOINT]
)
def test_a_recipe_with_an_endpoint_works_against_a_server_that_checks_signatures(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, block: dict[str, str], temporary: bool
) -> None:
    """As it stands in docs/storage.md, but for the server's address and key: small, in parts, read, linked, removed."""
    forget_credentials(monkeypatch)
    own = {"AWS_ENDPOINT_URL": s3.endpoint_url, **s3.environment, "AWS_REGION": block["AWS_REGION"]}
    for name, value in {**block, **own, **({"AWS_SESSION_TOKEN": "a+token/="} if temporary else {})}.items():
        monkeypatch.setenv(name, value)
    store = Store.of(Settings(_env_file=None, data_dir=tmp_path))
    store.check()
    key = f"default/recipes/{block['AWS_REGION']}-{temporary}/0.png"
    for content in (PNG_FILE, bytes(PART_BYTES) + PNG_FILE):
        chunks = [content[start : start + PART_BYTES] for start in range(0, len(content), PART_BYTES)]
        store.put(key, iter(chunks), media_type="image/png", disposition=disposition(key))
        assert store.head(key) == StoredObject(key, len(content), "image/png")
        assert store.read(key).read() == content
        link = store.link(key, 60)
        assert link is not None
        with visit(link) as answer:
            assert answer.read() == content
    store.delete(key)
    assert store.head(key) is None


def test_a_long_object_is_read_by_many_requests_and_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's timeout is for a whole answer, however slow its reader; what is replaced meanwhile is not mixed."""
    asked: list[Any] = []
    get = obstore.get
    monkeypatch.setattr(obstore, "get", lambda *given, **more: asked.append(more["options"]) or get(*given, **more))
    store = Store.open("memory:///")
    store.put(KEY, iter([bytes(range(256)) * 10_000]), media_type="image/png")
    assert store.read(KEY).read() == bytes(range(256)) * 10_000
    assert [one.get("range") for one in asked] == [None, (0, 2**20), (2**20, 2**21), (2**21, 2_560_000)]
    pieces = iter(store.read(KEY))
    next(pieces)
    store.put(KEY, iter([b"another" * 400_000]), media_type="image/png")
    with pytest.raises(StorageUnavailable):
        list(pieces)


# How each store says that it cannot be used: one line, a remedy, and soon.


def trouble(store: Store) -> StorageUnavailable:
    """Check a broken store, and expect a quick, plain answer."""
    begun = time.monotonic()
    with pytest.raises(StorageUnavailable) as caught:
        store.check()
    assert time.monotonic() - begun < 10
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    return caught.value


@pytest.fixture
def keys(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server's credentials in the environment."""
    forget_credentials(monkeypatch)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3


def test_reading_tells_a_missing_bucket_from_a_missing_object(keys: S3Server) -> None:
    """The one is waited for, the other ends a job."""
    gone = Store.open("s3://nobodys-bucket", endpoint_url=keys.endpoint_url)
    with pytest.raises(StorageUnavailable, match="the bucket does not exist"):
        gone.read(KEY)
    with pytest.raises(ObjectMissing):
        Store.open(keys.url, endpoint_url=keys.endpoint_url).read("default/nothing.png")


def test_a_missing_bucket_is_named(keys: S3Server) -> None:
    """The remedy is to create it."""
    error = trouble(Store.open("s3://no-such-bucket", endpoint_url=keys.endpoint_url))
    assert str(error) == "s3://no-such-bucket: the bucket does not exist"
    assert "Create the bucket" in error.remedy


def test_wrong_credentials_are_named(keys: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong secret and an unknown key are told apart, and neither is shown."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrongwrong")
    error = trouble(Store.open(keys.url, endpoint_url=keys.endpoint_url))
    assert "AWS_SECRET_ACCESS_KEY" in error.remedy
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobodynobody")
    error = trouble(Store.open(keys.url, endpoint_url=keys.endpoint_url))
    assert "AWS_ACCESS_KEY_ID" in error.remedy
    assert "wrongwrong" not in str(error)


class Denied(http.server.BaseHTTPRequestHandler):
    """An S3 server whose policy allows nothing."""

    def do_PUT(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


def test_denied_access_is_named(keys: S3Server) -> None:
    """The remedy names the rights."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Denied) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        error = trouble(Store.open(keys.url, endpoint_url=f"http://127.0.0.1:{server.server_port}"))
        server.shutdown()
    assert str(error) == "s3://media: access is denied"


def test_an_endpoint_that_is_down_is_named(keys: S3Server) -> None:
    """Nothing listens there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = trouble(Store.open(keys.url, endpoint_url=f"http://127.0.0.1:{port}"))
    assert "cannot be reached" in str(error)


def test_an_endpoint_that_never_answers_is_given_up_soon(keys: S3Server) -> None:
    """It accepts connections and says nothing: worse than being down."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        error = trouble(Store.open(keys.url, endpoint_url=f"http://127.0.0.1:{listener.getsockname()[1]}"))
    assert "cannot be reached" in str(error)


def test_a_put_to_a_broken_store_is_the_storages_fault(keys: S3Server) -> None:
    """A single request and an upload of parts say the same."""
    store = Store.open("s3://no-such-bucket", endpoint_url=keys.endpoint_url)
    for chunks in ([b"x"], [bytes(PART_BYTES), b"x"]):
        with pytest.raises(StorageUnavailable, match="the bucket does not exist"):
            store.put(KEY, iter(chunks), media_type="video/mp4")


def test_a_folder_that_cannot_be_made_or_written_is_named(tmp_path: Path) -> None:
    """A file stands where the folder should be, or comes to stand there."""
    (tmp_path / "file").write_text("")
    for place in ("file", "file/sub"):
        with pytest.raises(StorageUnavailable, match=r"file is where|part of the path is a file") as caught:
            Store.open(str(tmp_path / place))
        assert caught.value.remedy
    store = Store.open(str(tmp_path / "media"))
    (tmp_path / "media").rmdir()
    (tmp_path / "media").write_text("")
    trouble(store)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_named(tmp_path: Path) -> None:
    """The remedy is the right to write."""
    store = Store.open(str(tmp_path / "media"))
    (tmp_path / "media").chmod(0o500)
    assert "may not be written" in str(trouble(store))
    (tmp_path / "media").chmod(0o700)


@pytest.mark.parametrize("url", ["ftp://x/y", "http://x/y", "s3://", "s3:", "file:x/y", "nonsense://x"])
def test_a_url_that_names_no_storage_stops_the_process(url: str) -> None:
    """Wrong settings are told at the start, with the forms that are right."""
    with pytest.raises(SettingsError) as caught:
        Store.open(url)
    assert "s3://bucket/prefix" in caught.value.remedy


def test_an_endpoint_without_a_scheme_stops_the_process() -> None:
    """The most common slip in the most common setup."""
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL"):
        Store.open("s3://media", endpoint_url="localhost:9000")


def test_a_relative_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that changes its directory later still writes to the same place; a file URL is the same folder."""
    monkeypatch.chdir(tmp_path)
    store = Store.open("media/files")
    monkeypatch.chdir("/")
    store.put("a/0.png", iter([b"x"]), media_type="image/png")
    assert (tmp_path / "media/files/a/0.png").read_bytes() == b"x"
    assert Store.open(f"file://{tmp_path}/media/files").head("a/0.png") is not None
