"""Kie's upload API: what is sent, and what is read of the answers. Against a real socket."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from kiejobs.errors import KieRefused, KieUnavailable
from kiejobs.kie import uploads
from kiejobs.kie.client import KieClient

URL = "https://tempfile.example/kiejobs/a.png"


class Upload:
    """An upload host that remembers what came and answers as told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.answer: Any = {"success": True, "code": 200, "msg": "ok", "data": {"downloadUrl": URL, "fileSize": 3}}
        self.status = 200
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                host.seen.append((self.path, dict(self.headers), body))
                said = host.answer if isinstance(host.answer, bytes) else json.dumps(host.answer).encode()
                self.send_response(host.status)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.client = KieClient(f"http://127.0.0.1:{self.server.server_port}", "key-1")


@pytest.fixture
def host() -> Iterator[Upload]:
    """One upload host."""
    made = Upload()
    yield made
    made.server.shutdown()
    made.server.server_close()


class Pieces:
    """Content in pieces, as the store reads it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.largest = 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[bytes]:
        left = self.size
        while left:
            piece = bytes([left % 251]) * min(65536, left)
            left -= len(piece)
            yield piece


def send(host: Upload, size: int) -> str:
    return uploads.upload(host.client, Pieces(size), extension="png", media_type="image/png", timeout_s=10)


def test_a_small_file_goes_as_base64(host: Upload) -> None:
    """With the key, a folder, and a name that is new each time."""
    assert [send(host, 1000), send(host, 1000)] == [URL, URL]
    (path, headers, body), (_, _, second) = host.seen
    sent = json.loads(body)
    assert path == "/api/file-base64-upload"
    assert headers["Authorization"] == "Bearer key-1"
    head, _, data = sent["base64Data"].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data) == b"".join(Pieces(1000))
    assert sent["uploadPath"] == "kiejobs"
    assert re.fullmatch(r"[0-9a-f-]{36}\.png", sent["fileName"])
    assert json.loads(second)["fileName"] != sent["fileName"]


def test_a_large_file_is_streamed_as_a_form(host: Upload) -> None:
    """Its length is known beforehand, the bytes arrive unchanged."""
    size = uploads.BASE64_BYTES + 1
    assert send(host, size) == URL
    path, headers, body = host.seen[0]
    assert path == "/api/file-stream-upload"
    boundary = headers["Content-Type"].removeprefix("multipart/form-data; boundary=").encode()
    parts = body.split(b"--" + boundary)
    assert parts[0] == b""
    assert parts[-1] == b"--\r\n"
    named = {re.search(rb'name="(\w+)"', part).group(1): part.partition(b"\r\n\r\n")[2][:-2] for part in parts[1:-1]}  # type: ignore[union-attr]
    assert set(named) == {b"uploadPath", b"fileName", b"file"}
    assert named[b"file"] == b"".join(Pieces(size))


def test_a_public_file_is_fetched_by_kie(host: Upload) -> None:
    """No byte of it goes through us."""
    found = uploads.fetch(host.client, "https://bucket.example/a.mp4", extension="mp4", timeout_s=10)
    assert found == URL
    assert host.seen[0][0] == "/api/file-url-upload"
    assert json.loads(host.seen[0][2])["fileUrl"] == "https://bucket.example/a.mp4"


@pytest.mark.parametrize("code", [400, 405, 413, 422, 451])
def test_a_file_that_kie_does_not_take_is_refused(host: Upload, code: int) -> None:
    """The file is at fault: sending it again would not help; a link is then given up for the bytes."""
    host.answer = {"success": False, "code": code, "msg": "no"}
    with pytest.raises(KieRefused, match=str(code)):
        send(host, 10)
    assert uploads.fetch(host.client, "https://bucket.example/a", extension="png", timeout_s=10) is None


@pytest.mark.parametrize("answer", [{"code": 500, "msg": "fetching took too long"}, {"code": 501}, b"<html>", b""])
def test_a_link_that_kie_cannot_follow_is_given_up_for_the_bytes(host: Upload, answer: Any) -> None:
    """Asked again it would answer the same for ever, and the job would never be sent."""
    host.answer = answer
    assert uploads.fetch(host.client, "https://bucket.example/a", extension="png", timeout_s=10) is None


@pytest.mark.parametrize(
    "answer",
    [
        {"code": 401, "msg": "key"},
        {"code": 402, "msg": "credits"},
        {"code": 429, "msg": "slow down"},
        {"code": 455, "msg": "maintenance"},
        {"code": 500, "msg": "oh"},
        {"code": 200, "msg": "ok", "data": {}},
        {"code": 200, "msg": "ok", "data": None},
        {"code": 200, "data": {"downloadUrl": 7}},
        b"<html>",
        b"",
    ],
)
def test_a_host_that_does_not_answer_right_is_tried_again(host: Upload, answer: Any) -> None:
    """The file is not at fault."""
    host.answer = answer
    with pytest.raises(Exception) as trouble:
        send(host, 10)
    assert not isinstance(trouble.value, KieRefused)
    assert trouble.value.disposition == "defer"  # type: ignore[attr-defined]


def test_nobody_there_is_unavailable() -> None:
    """And nothing else."""
    nobody = KieClient("http://127.0.0.1:9", "key-1")
    with pytest.raises(KieUnavailable):
        uploads.upload(nobody, Pieces(10), extension="png", media_type="image/png", timeout_s=5)
