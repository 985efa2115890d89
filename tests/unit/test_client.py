"""The one place that talks to Kie, against servers that misbehave in every way a network can.

Two promises: a create makes exactly one request and always returns an outcome, which is *not sent* only where nothing
can have left; and the key goes to Kie and nowhere else.
"""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from urllib3.util import parse_url

from kiejobs import __version__
from kiejobs.answers import (
    Accepted,
    Broken,
    Busy,
    Finished,
    NotSent,
    NotVisible,
    Outcome,
    Pending,
    Refused,
    Scope,
    Unknown,
)
from kiejobs.errors import KieThrottled, KieUnavailable, KieUnreadable, Reason, SettingsError
from kiejobs.kie.client import CREDIT, KieClient
from kiejobs.kie.deadline import connections
from kiejobs.kie.families.market import Market
from kiejobs.settings import load

KEY = "kie-secret-key-0123456789"
MARKET = Market()
REQUEST = {"input": {"prompt": "a cat"}}
ACCEPTED = b'{"code":200,"msg":"success","data":{"taskId":"t-1","recordId":"t-1"}}'
pause = threading.Event().wait  # nobody sets this event


def whole(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A complete answer."""
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


class Wire:
    """A server of bare sockets: every connection is read to the end of its request, then handed to `answer`."""

    def __init__(self, answer: Callable[[socket.socket], None], *, read: bool = True) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._answer, self._read = answer, read
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError):
            if self._read:
                self.requests.append(read_request(connection))
            self._answer(connection)

    def close(self) -> None:
        self._listener.close()
        for connection in self._open:
            connection.close()


def read_request(connection: socket.socket) -> bytes:
    """Read one whole request, head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += _some(connection)
    return head + b"\r\n\r\n" + body


def _some(connection: socket.socket) -> bytes:
    got = connection.recv(65536)
    if not got:
        raise ConnectionError("the client hung up")
    return got


def send(data: bytes) -> Callable[[socket.socket], None]:
    """Answer with these bytes and hang up."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(data)
        connection.close()

    return answer


def abort(connection: socket.socket) -> None:
    """End a connection with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def hang(connection: socket.socket) -> None:
    """Never answer; ends when the client hangs up."""
    connection.recv(1)


def drip(data: bytes) -> Callable[[socket.socket], None]:
    """Answer one byte per 0.1 s."""

    def answer(connection: socket.socket) -> None:
        for byte in data:
            connection.sendall(bytes([byte]))
            pause(0.1)

    return answer


@contextmanager
def serving(answer: Callable[[socket.socket], None], *, read: bool = True) -> Iterator[Wire]:
    wire = Wire(answer, read=read)
    try:
        yield wire
    finally:
        wire.close()


def create(url: str, *, timeout_s: float = 5.0, key: str = KEY, **more: Any) -> Outcome:
    return KieClient(url, key, timeout_s=timeout_s).create(MARKET, "z-image", REQUEST, **more)


def body_of(request: bytes) -> Any:
    return json.loads(request.partition(b"\r\n\r\n")[2])


def headers_of(request: bytes) -> dict[str, str]:
    lines = request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


# ── what a create may end as ─────────────────────────────────────────────────────────────────────────────────────────


class Stumbling(Market):
    """A family that a request makes stumble."""

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Any:
        raise TypeError("dict expected, got str")


def test_a_request_that_makes_no_call_is_refused_and_nothing_is_sent() -> None:
    """What goes wrong before a byte has left is known to cost nothing: no job is parked for it."""
    wire = Wire(send(whole(ACCEPTED)))
    outcome = KieClient(wire.url, KEY).create(Stumbling(), "any", REQUEST)
    wire.close()
    assert outcome == Refused(
        "", "the request cannot be put into a call: TypeError: dict expected, got str", Scope.JOB, Reason.INVALID_INPUT
    )
    assert wire.connections == 0


def test_an_accepted_create_names_its_task() -> None:
    """One request, with exactly what was asked for."""
    with serving(send(whole(ACCEPTED))) as wire:
        assert create(wire.url, callback_url="https://we.example/cb") == Accepted("t-1")
    (request,) = wire.requests
    assert request.startswith(b"POST /api/v1/jobs/createTask HTTP/1.1\r\n")
    assert body_of(request) == {
        "model": "z-image",
        "input": {"prompt": "a cat"},
        "callBackUrl": "https://we.example/cb",
    }


def test_text_of_all_languages_arrives_as_it_was_written() -> None:
    """As UTF-8, with the length counted in bytes."""
    request = {"input": {"prompt": "猫 🐈 größer"}}
    with serving(send(whole(ACCEPTED))) as wire:
        KieClient(wire.url, KEY).create(MARKET, "z-image", request)
    assert body_of(wire.requests[0])["input"] == request["input"]


def test_a_refused_connection_is_not_sent() -> None:
    """Nobody listens: nothing can have been made."""
    assert isinstance(create(f"http://127.0.0.1:{closed_port()}"), NotSent)


def test_an_unknown_name_is_not_sent() -> None:
    """`.invalid` never resolves."""
    assert isinstance(create("http://kie.invalid"), NotSent)


def test_a_connection_that_is_never_taken_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full backlog: the connect itself times out."""
    monkeypatch.setattr("kiejobs.kie.client.CONNECT_TIMEOUT_S", 0.3)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(full.getsockname())
        pause(0.05)
        outcome = create(f"http://127.0.0.1:{full.getsockname()[1]}")
        for one in waiting:
            one.close()
    assert isinstance(outcome, NotSent)


def test_a_create_whose_deadline_passed_before_it_was_connected_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver in trouble takes longer than the whole call may: nothing is bought that nobody waits for any more."""
    resolve = socket.getaddrinfo

    def slowly(*args: Any, **kwargs: Any) -> Any:
        pause(0.5)
        return resolve(*args, **kwargs)

    with serving(send(whole(ACCEPTED))) as wire:
        monkeypatch.setattr(socket, "getaddrinfo", slowly)
        outcome = create(wire.url, timeout_s=0.2)
        pause(0.02)
    assert isinstance(outcome, NotSent)
    assert wire.requests == []


def test_a_create_that_may_not_start_is_not_sent() -> None:
    """Too long after its intent was committed: not even a connection is made."""
    with serving(send(whole(ACCEPTED))) as wire:
        assert isinstance(create(wire.url, may_start=lambda: False), NotSent)
        assert wire.connections == 0


def test_a_certificate_that_cannot_be_verified_is_not_sent() -> None:
    """A plain server where TLS is expected: the handshake fails before anything of ours is written."""
    with serving(send(b"\x15\x03\x01\x00\x02\x02\x28"), read=False) as wire:
        outcome = create(wire.url.replace("http:", "https:"))
        assert isinstance(outcome, NotSent | Unknown)
        assert wire.requests == []


BROKEN: dict[str, Callable[[socket.socket], None]] = {
    "closed after the request": lambda connection: connection.close(),
    "reset after the request": abort,
    "header cut": send(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "header cut between lines": send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"),
    "body cut": send(whole(ACCEPTED)[:-20]),
    "chunked body cut": send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n80\r\n{"),
    "no http": send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "false gzip": send(whole(ACCEPTED, "200 OK", "Content-Encoding: gzip")),
    "502 html": send(whole(b"<html>502 Bad Gateway</html>", "502 Bad Gateway")),
    "503 json": send(whole(b'{"error":"busy"}', "503 Service Unavailable")),
    "408 json": send(whole(b'{"error":"timeout"}', "408 Request Timeout")),
    "empty 200": send(whole(b"")),
    "html 200": send(whole(b"<html>Just a moment...</html>")),
    "200 without a task id": send(whole(b'{"code":200,"msg":"success","data":{}}')),
    "200 with null data": send(whole(b'{"code":200,"msg":"success","data":null}')),
    "body 500": send(whole(b'{"code":500,"msg":"Server exception","data":null}')),
    "body 550": send(whole(b'{"code":550,"msg":"queue full","data":null}')),
    "code that only looks like a number": send(whole(b'{"code":"--5","msg":"","data":null}')),
    "a hundred thousand brackets": send(whole(b"[" * 100_000)),
    "redirect": send(whole(b"", "302 Found", "Location: http://127.0.0.1:1/elsewhere")),
    "permanent redirect": send(whole(b"", "308 Permanent Redirect", "Location: /api/v2/jobs/createTask")),
    "redirect to nonsense": send(whole(b"", "302 Found", "Location: http://[bad")),
    "redirect without a target": send(whole(b"", "301 Moved Permanently")),
}


@pytest.mark.parametrize("how", BROKEN)
def test_whatever_goes_wrong_after_the_request_is_unknown(how: str) -> None:
    """A task may have been made: parked, never sent a second time, and no exception."""
    with serving(BROKEN[how]) as wire:
        outcome = create(wire.url)
        pause(0.02)
        assert isinstance(outcome, Unknown)
        assert len(wire.requests) == wire.connections == 1
        assert KEY not in repr(outcome)


def test_a_connection_reset_while_the_request_is_read_is_unknown() -> None:
    """Some of it was read; who knows how much."""

    def answer(connection: socket.socket) -> None:
        connection.recv(10)
        abort(connection)

    with serving(answer, read=False) as wire:
        assert isinstance(create(wire.url), Unknown)
        assert wire.connections == 1


def test_a_connection_reset_as_soon_as_it_is_taken_is_tried_once() -> None:
    """The reset may come before the connect is over (not sent) or after it (unknown); never is there a second try."""
    with serving(abort, read=False) as wire:
        assert isinstance(create(wire.url), NotSent | Unknown)
        pause(0.02)
        assert wire.connections == 1


REFUSALS: dict[str, tuple[bytes, type]] = {
    "body 422": (whole(b'{"code":422,"msg":"model is required","data":null}'), Refused),
    "body 422 in http 500": (whole(b'{"code":422,"msg":"no","data":null}', "500 Internal Server Error"), Refused),
    "body 402": (whole(b'{"code":402,"msg":"Credits insufficient","data":null}'), Refused),
    "html 401": (whole(b"<html>no</html>", "401 Unauthorized"), Refused),
    "body 429": (whole(b'{"code":429,"msg":"too high","data":null}'), Busy),
    "html 429": (whole(b"<html>slow down</html>", "429 Too Many Requests"), Busy),
}


@pytest.mark.parametrize("how", REFUSALS)
def test_a_definite_no_is_refused_or_busy(how: str) -> None:
    """Nothing was made."""
    answer, expected = REFUSALS[how]
    with serving(send(answer)) as wire:
        assert isinstance(create(wire.url), expected)
        assert len(wire.requests) == wire.connections == 1


def at_once_then_drip(first: bytes, rest: bytes) -> Callable[[socket.socket], None]:
    """Answer a part at once and the rest drop by drop."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(first)
        drip(rest)(connection)

    return answer


CLOSING = whole(ACCEPTED + b" " * 40, "200 OK", "Connection: close")
SLOW: dict[str, Callable[[socket.socket], None]] = {
    "hang": hang,
    "dripped header": drip(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 4),
    "dripped body": at_once_then_drip(whole(ACCEPTED)[:-40], ACCEPTED[-40:]),
    "dripped body of an answer that closes": at_once_then_drip(CLOSING[:-60], CLOSING[-60:]),
    "dripped body without a length": at_once_then_drip(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 40),
    "dripped chunks": at_once_then_drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n80\r\n{", b" " * 40),
}


@pytest.mark.parametrize("how", SLOW)
def test_a_create_ends_at_its_deadline_whatever_the_server_does(how: str) -> None:
    """One byte per 0.1 s never lets a read time out; the deadline is for the whole call."""
    with serving(SLOW[how]) as wire:
        started = time.monotonic()
        outcome = create(wire.url, timeout_s=0.6)
        took_s = time.monotonic() - started
        assert isinstance(outcome, Unknown)
        assert len(wire.requests) == wire.connections == 1
    assert took_s < 3


@pytest.mark.parametrize("how", SLOW)
def test_a_read_ends_at_its_deadline_whatever_the_server_does(how: str) -> None:
    """The same for looks, of which sixteen held for ever would be a whole worker."""
    with serving(SLOW[how]) as wire:
        started = time.monotonic()
        with pytest.raises(KieUnavailable):
            KieClient(wire.url, KEY, timeout_s=0.6).record(MARKET, "t-1")
        took_s = time.monotonic() - started
    assert took_s < 3


def test_a_dripped_answer_is_unknown() -> None:
    """Cut off in the middle, so nothing is read out of the part that came."""
    with serving(drip(whole(ACCEPTED))) as wire:
        assert isinstance(create(wire.url, timeout_s=0.5), Unknown)


def test_sixteen_creates_at_once_make_sixteen_requests() -> None:
    """As many threads as a worker has, through one client."""

    def answer(connection: socket.socket) -> None:
        pause(0.05)
        send(whole(ACCEPTED))(connection)

    with serving(answer) as wire:
        client = KieClient(wire.url, KEY)
        outcomes: list[Outcome] = []
        threads = [
            threading.Thread(target=lambda: outcomes.append(client.create(MARKET, "z-image", REQUEST)))
            for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert outcomes == [Accepted("t-1")] * 16
        assert len(wire.requests) == 16


def keep_alive(connection: socket.socket) -> None:
    """Answer every request and keep the connection open, whatever the client asked for."""
    while True:
        connection.sendall(whole(ACCEPTED, "200 OK", "Connection: keep-alive"))
        read_request(connection)


def test_every_create_dials_anew() -> None:
    """A kept connection may be dying just then, and what is sent into it is neither sent nor not."""
    with serving(keep_alive) as wire:
        client = KieClient(wire.url, KEY)
        assert client.create(MARKET, "z-image", REQUEST) == Accepted("t-1")
        assert client.create(MARKET, "z-image", REQUEST) == Accepted("t-1")
        assert wire.connections == 2


def test_reads_share_a_kept_connection() -> None:
    """A handshake costs more than the look that follows it; reading again is harmless."""
    with serving(keep_alive) as wire:
        client = KieClient(wire.url, KEY)
        for _ in range(3):
            assert isinstance(client.send(CREDIT).data, dict)
        assert wire.connections == 1


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("https://api.kie.ai", "api.kie.ai", 443),
        ("http://api.kie.ai", "api.kie.ai", 80),
        ("https://api.kie.ai:8443/proxy", "api.kie.ai", 8443),
        ("http://[2001:db8::5:443]", "2001:db8::5:443", 80),
        ("https://[::1]:444", "::1", 444),
    ],
)
def test_the_host_that_is_dialled_is_the_one_of_the_address(address: str, host: str, port: int) -> None:
    """The end of an IPv6 address is no port."""
    connection = connections(parse_url(address), at_most=1)._new_conn()
    assert (connection.host, connection.port) == (host, port)


# ── where the key goes ───────────────────────────────────────────────────────────────────────────────────────────────


class Recorder:
    """A web server that answers 200 with one body and keeps what it was sent."""

    def __init__(self, body: bytes = ACCEPTED) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                recorder.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_CONNECT = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def elsewhere() -> Iterator[Recorder]:
    """A server that has no business with us."""
    running = Recorder()
    yield running
    running.close()


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_no_redirect_is_followed_and_no_key_sent_to_its_target(status: str, elsewhere: Recorder) -> None:
    """Neither by a create nor by a read."""
    with serving(send(whole(b"", status, f"Location: {elsewhere.url}/api/v1/jobs/createTask"))) as wire:
        assert isinstance(create(wire.url), Unknown)
        with pytest.raises(KieUnavailable):
            KieClient(wire.url, KEY).record(MARKET, "t-1")
    assert elsewhere.seen == []


def test_a_redirects_page_is_not_read_beyond_its_bound() -> None:
    """The answer's size has a limit, also where it is a redirect."""
    sent = 0

    def endless(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n")
        while sent < 64 * 1024 * 1024:
            sent += connection.send(b" " * 1024 * 1024)
        connection.close()

    with serving(endless) as wire:
        assert isinstance(create(wire.url), Unknown)
        pause(0.05)
    assert sent < 32 * 1024 * 1024


def test_an_endless_answer_is_cut() -> None:
    """I17: memory has a limit."""
    sent = 0

    def endless(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while sent < 64 * 1024 * 1024:
            sent += connection.send(b" " * 1024 * 1024)
        connection.close()

    with serving(endless) as wire:
        assert isinstance(create(wire.url), Unknown)
        pause(0.05)
    assert sent < 32 * 1024 * 1024


def test_no_proxy_and_no_netrc_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, elsewhere: Recorder
) -> None:
    """A key through somebody's proxy is a key given away; a `.netrc` would replace it."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, elsewhere.url)
    monkeypatch.setenv("no_proxy", "")
    (tmp_path / "netrc").write_text("machine 127.0.0.1\nlogin somebody\npassword else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving(send(whole(ACCEPTED))) as wire:
        assert create(wire.url) == Accepted("t-1")
        assert headers_of(wire.requests[0])["authorization"] == f"Bearer {KEY}"
    assert elsewhere.seen == []


def test_create_and_read_say_who_they_are() -> None:
    """Our user agent, the key as a bearer, JSON both ways; no cookie and no referrer."""
    with serving(send(whole(ACCEPTED))) as wire:
        create(wire.url)
        KieClient(wire.url, KEY).record(MARKET, "t-1")
    posted, read = (headers_of(request) for request in wire.requests)
    for headers in (posted, read):
        assert headers["user-agent"] == f"kiejobs/{__version__}"
        assert headers["authorization"] == f"Bearer {KEY}"
        assert headers["accept"] == "application/json"
        assert "cookie" not in headers
    assert posted["content-type"] == "application/json"
    assert posted["connection"] == "close"
    assert "content-type" not in read


def test_an_answer_that_quotes_the_key_is_read_without_it() -> None:
    """Careless services do ("Incorrect API key provided: …"); their words are kept, shown, and sent to producers."""
    said = f"Incorrect API key provided: {KEY}"
    with serving(send(whole(json.dumps({"code": 401, "msg": said, "data": {"Authorization": KEY}}).encode()))) as wire:
        assert create(wire.url).message == "Incorrect API key provided: ***"  # type: ignore[union-attr]
        with pytest.raises(KieUnavailable) as told:
            KieClient(wire.url, KEY).credit()
    assert KEY not in str(told.value)
    with serving(send(whole(f"<html>{said}</html>".encode(), "502 Bad Gateway"))) as wire:
        assert KEY not in str(create(wire.url))


def test_the_key_shows_in_no_repr() -> None:
    """I11: a client in a traceback shows its address alone."""
    assert KEY not in repr(KieClient("https://api.kie.ai", KEY))


@pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}", "ключ-0123456789", "two\nlines"])
def test_a_key_that_no_header_carries_parks_no_job(key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A trailing newline from a secrets file. It is taken off, or refused at the start, or the create is not sent."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIE_API_KEY", key)
    with serving(send(whole(ACCEPTED))) as wire:
        try:
            used = load().keys["default"].key.get_secret_value()
        except SettingsError:
            return
        outcome = create(wire.url, key=used)
    assert isinstance(outcome, Accepted | NotSent)
    assert isinstance(outcome, Accepted) == (len(wire.requests) == 1)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read(answer: bytes) -> Any:
    with serving(send(answer)) as wire:
        return KieClient(wire.url, KEY, timeout_s=3).record(MARKET, "t 1")


def test_a_record_is_read_with_its_id_quoted() -> None:
    """And comes back with the raw record beside what it says."""
    data = b'{"code":200,"msg":"success","data":{"taskId":"t 1","state":"generating"}}'
    with serving(send(whole(data))) as wire:
        found, raw = KieClient(wire.url, KEY).record(MARKET, "t 1&x=2")
        assert wire.requests[0].startswith(b"GET /api/v1/jobs/recordInfo?taskId=t+1%26x%3D2 HTTP/1.1\r\n")
    assert found == Pending("generating")
    assert raw == {"taskId": "t 1", "state": "generating"}


def test_what_a_record_can_say() -> None:
    """In the family's words, whatever the envelope's code."""
    assert isinstance(read(whole(b'{"code":422,"msg":"recordInfo is null","data":null}'))[0], NotVisible)
    assert isinstance(read(whole(b'{"code":404,"msg":"no","data":null}'))[0], NotVisible)
    assert isinstance(read(whole(b'{"code":501,"msg":"Generation failed","data":null}'))[0], Broken)
    done = b'{"code":200,"data":{"state":"success","resultJson":"{\\"resultUrls\\":[\\"https://f.example/0\\"]}"}}'
    assert isinstance(read(whole(done))[0], Finished)


@pytest.mark.parametrize("answer", [whole(b'{"code":429,"msg":"slow","data":null}'), whole(b"<h1>429", "429 Slow")])
def test_a_throttled_read_says_so(answer: bytes) -> None:
    """In the body, or as an HTTP status."""
    with pytest.raises(KieThrottled):
        read(answer)


NO_ANSWER: dict[str, bytes] = {
    "502 html": whole(b"<html>", "502 Bad Gateway"),
    "200 html": whole(b"<html>"),
    "cut": whole(ACCEPTED)[:-10],
    "nothing": b"",
    "body 500": whole(b'{"code":500,"msg":"Server exception","data":null}'),
    "body 401": whole(b'{"code":401,"msg":"no access","data":null}'),
    "body 455": whole(b'{"code":455,"msg":"maintenance","data":null}'),
    "http 503 with json": whole(b'{"error":"busy"}', "503 Unavailable"),
    "http 502 around code 200": whole(b'{"code":200,"data":{"state":"fail"}}', "502 Bad Gateway"),
    "brackets": whole(b"[" * 100_000),
    "redirect to nonsense": whole(b"", "302 Found", "Location: http://[bad"),
}


@pytest.mark.parametrize("how", NO_ANSWER)
def test_a_read_without_an_answer_is_trouble_and_nothing_else(how: str) -> None:
    """Which never fails a job."""
    with pytest.raises(KieUnavailable) as raised:
        read(NO_ANSWER[how])
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    "answer",
    [
        whole(b'{"message":"upstream request timeout"}', "408 Request Timeout"),
        whole(b'{"error":"Not Implemented"}', "501 Not Implemented"),
    ],
    ids=["408", "501"],
)
def test_a_gateways_status_ends_no_task(answer: bytes) -> None:
    """408 and 501 end a task as codes of Kie's envelope, not as the HTTP status of somebody in between."""
    with pytest.raises(KieUnavailable):
        read(answer)


@pytest.mark.parametrize(
    ("code", "about_the_task"), [(400, True), (409, True), (401, False), (455, False), (500, False)]
)
def test_only_an_answer_about_the_task_says_that_it_cannot_be_read(code: int, about_the_task: bool) -> None:
    """A revoked key, maintenance or Kie's own trouble say nothing of a task, and must never refuse one."""
    with pytest.raises(KieUnavailable) as raised:
        read(whole(b'{"code":%d,"msg":"no","data":null}' % code))
    assert isinstance(raised.value, KieUnreadable) is about_the_task


def test_a_fresh_link_is_a_text_or_none() -> None:
    """None where Kie does not know the file."""

    def ask(body: bytes) -> str | None:
        with serving(send(whole(body))) as wire:
            found = KieClient(wire.url, KEY).fresh_link(Market(), "t", "https://f.example/0.png")
            assert wire.requests[0].startswith(b"POST /api/v1/common/download-url ")
            assert body_of(wire.requests[0]) == {"url": "https://f.example/0.png"}
            return found

    assert ask(b'{"code":200,"msg":"success","data":"https://f.example/fresh"}') == "https://f.example/fresh"
    assert ask(b'{"code":422,"msg":"url is wrong","data":null}') is None
    with pytest.raises(KieUnavailable):
        ask(b'{"code":500,"msg":"Server exception","data":null}')


def test_the_balance_is_a_number() -> None:
    """A refused key or anything else is no balance."""
    for body, expected in ((b'{"code":200,"data":5916.25}', 5916.25), (b'{"code":200,"data":0}', 0.0)):
        with serving(send(whole(body))) as wire:
            assert KieClient(wire.url, KEY).credit() == expected
    for body in (b'{"code":401,"data":null}', b'{"code":200,"data":true}', b'{"code":200,"data":"many"}'):
        with serving(send(whole(body))) as wire, pytest.raises(KieUnavailable):
            KieClient(wire.url, KEY).credit()
