"""Where kiejobs dials, and where it never does, whatever the URL looks like."""

import http.server
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kiejobs.errors import EgressRefused, KieJobsError, NameRefused, SourceUnavailable
from kiejobs.storage import egress
from kiejobs.storage.egress import address_refused, guarded_session, shown, url_refused

REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.1.2.3",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.0.0.192",  # Oracle's metadata service
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "100::1",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::1",
    "2001::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
ALLOWED = [
    "1.1.1.1",
    "8.8.8.8",
    "104.16.0.1",
    "93.184.215.14",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",  # DNS64's, for a public address
    "2606:4700:4700::1111",
    "2a00:1450:4001::200e",
]


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused_with_its_reason(address: str) -> None:
    """Each of these reaches this machine, its network or its cloud in some setup."""
    assert address_refused(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_an_ordinary_public_address_is_dialled(address: str) -> None:
    """The ban must not stop results from arriving."""
    assert address_refused(address) is None


def test_what_is_no_address_is_refused() -> None:
    """A name is never mistaken for an address that passed."""
    assert address_refused("example.com") == "not an IP address"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/a.png",
        "//example.com/a.png",
        "ftp://example.com/a",
        "file:///etc/passwd",
        "gopher://example.com",
        "data:image/png;base64,AA",
        "http://",
        "http:///a",
        "http://user@example.com/",
        "http://user:secret@example.com/",
        "http://example.com:99999/",
        "http://[::1/",
        "http://exa mple.com/",
        "http://example.com\\@127.0.0.1/",
        "http://example.com/\r\nHost: x",
        "http://localhost/",
        "http://LOCALHOST:8000/",
        "http://localhost./",
        "http://a.localhost/",
        "http://printer.local/",
        "http://metadata.google.internal/",
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://017700000001/",
        "http://0177.0.0.1/",
        "http://0/",
        "http://127.0.0.1./",
        "http://%31%32%37.0.0.1/",
        "http://１２７.0.0.1/",
        "http://127。0。0。1/",
        "http://10.1.2.3/",
        "http://192.168.1.1:8080/a",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[fe80::1]/",
        "http://[64:ff9b::7f00:1]/",
    ],
)
def test_a_url_that_names_no_public_place_is_refused_before_it_is_kept(url: str) -> None:
    """A producer hears at once that Kie could not fetch this, in every spelling a C library understands."""
    assert url_refused(url)


@pytest.mark.parametrize(
    "url",
    ["https://example.com/a.png", "HTTPS://Example.com:8443/a?b=c#d", "http://8.8.8.8/a", "http://[2606:4700::1]/a@b"],
)
def test_an_ordinary_url_passes(url: str) -> None:
    """An @ in the path is no user name."""
    assert url_refused(url) is None


def test_an_exception_is_exactly_one_host_and_port() -> None:
    """127.0.0.1:9000 opens neither another port nor another spelling, and excuses no user name."""
    allow = frozenset({("127.0.0.1", 9000)})
    assert url_refused("http://127.0.0.1:9000/a", allow) is None
    assert url_refused("http://127.0.0.1:9001/a", allow)
    assert url_refused("http://127.1:9000/a", allow)
    assert url_refused("http://u:p@127.0.0.1:9000/a", allow)


def test_a_url_is_shown_without_query_or_password() -> None:
    """Signatures live in the query."""
    assert shown("https://u:p@example.com:8443/a/b.mp4?X-Sig=secret#f") == "https://example.com:8443/a/b.mp4"


class Handler(http.server.BaseHTTPRequestHandler):
    """Notes what it is asked and answers with what the test put into `answers`."""

    answers: dict[str, tuple[int, dict[str, str]]]
    seen: list[tuple[str, dict[str, str]]]

    def do_GET(self) -> None:
        self.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        status, headers = self.answers.get(self.path, (200, {}))
        self.send_response(status)
        for name, value in {"Content-Length": "2", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"ok")

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    """A web server on the loopback interface, as a private service would be."""
    handler = type("Fresh", (Handler,), {"answers": {}, "seen": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def seen(server: http.server.ThreadingHTTPServer) -> list[tuple[str, dict[str, str]]]:
    """The requests that reached the server."""
    requests: list[tuple[str, dict[str, str]]] = server.RequestHandlerClass.seen  # type: ignore[attr-defined]
    return requests


def answers(server: http.server.ThreadingHTTPServer) -> dict[str, tuple[int, dict[str, str]]]:
    """The answers the server will give, by path."""
    planned: dict[str, tuple[int, dict[str, str]]] = server.RequestHandlerClass.answers  # type: ignore[attr-defined]
    return planned


def allowed(server: http.server.ThreadingHTTPServer, host: str = "127.0.0.1") -> frozenset[tuple[str, int]]:
    """The exception for this one server."""
    return frozenset({(host, server.server_port)})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"])
def test_a_private_server_is_never_reached(server: http.server.ThreadingHTTPServer, host: str) -> None:
    """Every spelling is refused by what it resolves to, with host and address in the message."""
    with pytest.raises(EgressRefused, match=r"never dialled: loopback"):
        guarded_session().open(f"http://{host}:{server.server_port}/")
    assert seen(server) == []


def test_get_and_post_are_guarded_as_well(server: http.server.ThreadingHTTPServer) -> None:
    """Webhooks to producers go through the same session."""
    for method in ("GET", "POST"):
        with pytest.raises(EgressRefused):
            guarded_session().request(method, f"http://127.0.0.1:{server.server_port}/")


def test_one_private_address_among_public_ones_refuses_the_name(
    server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that answers with both could be made to lead to either."""
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("93.184.215.14", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    with pytest.raises(EgressRefused, match=r"two-faced\.example:\d+ is at 127\.0\.0\.1"):
        guarded_session().open(f"http://two-faced.example:{server.server_port}/")


@pytest.mark.parametrize(("host", "refusal"), [("cdn.example", NameRefused), ("10.1.2.3", EgressRefused)])
def test_a_name_is_refused_for_now_and_an_address_for_good(
    monkeypatch: pytest.MonkeyPatch, host: str, refusal: type[EgressRefused]
) -> None:
    """What a DNS says here, a private one or a sinkhole, says nothing of the file; what is written in the URL does."""
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    with pytest.raises(EgressRefused) as caught:
        guarded_session().open(f"http://{host}/a.png")
    assert type(caught.value) is refusal


def test_a_name_in_a_network_with_nat64_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS64 adds an address of its own to each name; both lead to the same server."""
    found = ("93.184.215.14", "64:ff9b::5db8:d70e")
    entries = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 80)) for address in found]
    dialled: list[str] = []

    def dial(address: tuple[str, int], *_: object) -> socket.socket:
        dialled.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    monkeypatch.setattr(egress, "create_connection", dial)
    with pytest.raises(SourceUnavailable):
        guarded_session().open("http://cdn.example/a.png")
    assert tuple(dialled) == found


def test_a_name_is_resolved_once_and_exactly_that_address_is_dialled(
    server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that answers differently the second time (DNS rebinding) gains nothing."""
    real, asked, dialled = socket.getaddrinfo, [], []

    def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
        if host != "rebinding.example":
            return real(host, *args, **kwargs)
        asked.append(host)
        address = "93.184.215.14" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))]

    def dial(address: tuple[str, int], *_: object) -> socket.socket:
        dialled.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(egress, "create_connection", dial)
    with pytest.raises(SourceUnavailable):
        guarded_session().open(f"http://rebinding.example:{server.server_port}/")
    assert (asked, dialled) == (["rebinding.example"], ["93.184.215.14"])


def test_an_exact_exception_is_dialled_in_any_case_of_letters(server: http.server.ThreadingHTTPServer) -> None:
    """And only that: the address behind the name is no exception of its own."""
    session = guarded_session(allowed(server, "LocalHost"))
    with session.open(f"http://LOCALHOST:{server.server_port}/a") as response:
        assert response.raw.read() == b"ok"
    with pytest.raises(EgressRefused):
        session.open(f"http://127.0.0.1:{server.server_port}/a")


def test_requests_name_kiejobs_and_ask_for_no_compression(server: http.server.ThreadingHTTPServer) -> None:
    """Kie's CDN refuses nameless clients; a compressed answer could not be counted."""
    guarded_session(allowed(server)).open(f"http://127.0.0.1:{server.server_port}/a").close()
    headers = seen(server)[0][1]
    assert headers["user-agent"] == "kiejobs/0.1"
    assert headers["accept-encoding"] == "identity"


def test_a_redirect_is_followed_and_checked_at_each_hop(server: http.server.ThreadingHTTPServer) -> None:
    """A public URL that leads to the cloud's metadata service is the classic attack."""
    answers(server)["/fine"] = (302, {"Location": "/a"})
    answers(server)["/evil"] = (302, {"Location": "http://169.254.169.254/latest/meta-data/"})
    session = guarded_session(allowed(server))
    with session.open(f"http://127.0.0.1:{server.server_port}/fine") as response:
        assert response.raw.read() == b"ok"
    with pytest.raises(EgressRefused, match=r"169\.254\.169\.254"):
        session.open(f"http://127.0.0.1:{server.server_port}/evil")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://user:secret@example.com/", "ftp://example.com/"])
def test_a_redirect_to_another_scheme_or_with_a_password_is_refused(
    server: http.server.ThreadingHTTPServer, location: str
) -> None:
    """The rules of the first URL are the rules of all."""
    answers(server)["/a"] = (302, {"Location": location})
    with pytest.raises(EgressRefused):
        guarded_session(allowed(server)).open(f"http://127.0.0.1:{server.server_port}/a")


def test_a_redirect_that_goes_round_in_circles_ends_after_three_hops(server: http.server.ThreadingHTTPServer) -> None:
    """Four requests, and then the source's fault."""
    answers(server)["/a"] = (302, {"Location": "/a"})
    with pytest.raises(SourceUnavailable, match="redirects more than 3 times"):
        guarded_session(allowed(server)).open(f"http://127.0.0.1:{server.server_port}/a")
    assert len(seen(server)) == 4


def test_plain_requests_do_not_follow_redirects(server: http.server.ThreadingHTTPServer) -> None:
    """A webhook's redirect would carry its body to a third party."""
    answers(server)["/a"] = (307, {"Location": "/b"})
    response = guarded_session(allowed(server)).post(f"http://127.0.0.1:{server.server_port}/a", json={})
    assert response.status_code == 307
    assert [path for path, _ in seen(server)] == ["/a"]


def test_no_credential_and_no_proxy_of_the_environment_is_used(
    server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would dial for us where nothing is checked; an API key has no business at a CDN."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    session = guarded_session(allowed(server))
    session.headers["Authorization"] = "Bearer secret"
    session.open(f"http://127.0.0.1:{server.server_port}/a").close()
    assert "authorization" not in seen(server)[0][1]
    session.proxies["http"] = "http://127.0.0.1:1"
    with pytest.raises(EgressRefused, match="proxy"):
        session.open(f"http://127.0.0.1:{server.server_port}/a")


def test_cookies_are_not_carried_from_one_answer_to_the_next(server: http.server.ThreadingHTTPServer) -> None:
    """One session serves the files of all tenants."""
    answers(server)["/a"] = (200, {"Set-Cookie": "who=tenant-a"})
    session = guarded_session(allowed(server))
    session.open(f"http://127.0.0.1:{server.server_port}/a").close()
    session.open(f"http://127.0.0.1:{server.server_port}/b").close()
    assert "cookie" not in seen(server)[1][1]


def test_trouble_on_the_way_says_what_it_was_and_shows_no_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts of the HTTP library hold the whole URL, signature included."""
    session = guarded_session(frozenset({("127.0.0.1", 9)}))
    monkeypatch.setattr(egress, "create_connection", lambda *_: (_ for _ in ()).throw(ConnectionRefusedError()))
    with pytest.raises(SourceUnavailable, match="the connection failed") as refused:
        session.open("http://127.0.0.1:9/a?sig=secret")
    monkeypatch.setattr(egress, "create_connection", lambda *_: (_ for _ in ()).throw(TimeoutError()))
    with pytest.raises(SourceUnavailable, match="did not answer in time") as late:
        session.open("http://127.0.0.1:9/a?sig=secret")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(socket.gaierror(-2)))
    with pytest.raises(SourceUnavailable, match="cannot be resolved") as unknown:
        session.open("http://no-such-name.invalid/a?sig=secret")
    for caught in (refused, late, unknown):
        assert "secret" not in str(caught.value)
        assert caught.value.__suppress_context__


@pytest.mark.parametrize("url", ["", "http://", "http://[::1", "nonsense", "http://a..b/", "http://" + "a" * 300 + "/"])
def test_no_url_however_broken_raises_anything_but_our_own_errors(url: str) -> None:
    """The URL comes from outside: none may crash a worker with an error nobody expects."""
    with pytest.raises(KieJobsError):
        guarded_session().open(url)


def test_the_check_runs_before_each_read_of_an_answer(server: http.server.ThreadingHTTPServer) -> None:
    """So a drip inside the header is ended too, not only one between the parts of the body."""

    def stop() -> None:
        raise SourceUnavailable("no more time")

    with pytest.raises(SourceUnavailable, match="no more time"):
        guarded_session(allowed(server)).open(f"http://127.0.0.1:{server.server_port}/a", check=stop)
