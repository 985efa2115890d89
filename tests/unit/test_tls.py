"""One TLS context per process: what is verified stays verified, and the bundle is read once."""

import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests

from kiejobs import tls
from kiejobs.answers import Accepted, NotSent, Outcome
from kiejobs.kie.client import KieClient
from kiejobs.kie.families.market import Market
from kiejobs.storage.egress import guarded_session
from tests.support import missing


class Answer(BaseHTTPRequestHandler):
    """Says hello."""

    def do_POST(self) -> None:
        """Accept a create call, or what looks like one."""
        self.rfile.read(int(self.headers["Content-Length"]))
        said = b'{"code":200,"msg":"success","data":{"taskId":"t-1"}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for `localhost`, signed by itself, with its key in one file."""
    if shutil.which("openssl") is None:
        missing("openssl on PATH")
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run(
        [*command.split(), "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True
    )
    return folder


@pytest.fixture
def port(certificate: Path) -> Iterator[int]:
    """A server that speaks TLS with it."""
    server = HTTPServer(("127.0.0.1", 0), Answer)
    speaks = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    speaks.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server.socket = speaks.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def plain(port: int) -> requests.Session:
    """A session as requests makes it, with our adapter."""
    made = requests.Session()
    made.trust_env = False
    made.mount("https://", tls.OneContext())
    return made


def guarded(port: int) -> requests.Session:
    """A session as results and messages to producers are sent with, which may dial this machine."""
    return guarded_session(frozenset({("localhost", port), ("127.0.0.1", port)}))


Make = Callable[[int], requests.Session]


@pytest.fixture(params=[plain, guarded])
def make(request: pytest.FixtureRequest) -> Make:
    """Each kind of session that dials by TLS."""
    made: Make = request.param
    return made


@pytest.fixture
def session(make: Make, certificate: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[requests.Session]:
    """A session whose bundle is the test's own certificate, read by a context of its own."""
    monkeypatch.setattr(tls, "where", lambda: str(certificate / "cert.pem"))
    tls.context.cache_clear()
    with make(port) as made:
        yield made
    tls.context.cache_clear()


def test_ten_connections_read_the_bundle_once(
    session: requests.Session, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where requests alone would read it ten times."""
    read = []
    original = ssl.SSLContext.load_verify_locations
    monkeypatch.setattr(
        ssl.SSLContext, "load_verify_locations", lambda self, *a, **k: (read.append(1), original(self, *a, **k))[1]
    )
    for _ in range(10):
        assert session.get(f"https://localhost:{port}/", timeout=5).text == "hello"
    assert len(read) == 0  # the context had read it when the session was made


def test_another_name_is_refused(session: requests.Session, port: int) -> None:
    """The certificate is not for 127.0.0.1."""
    with pytest.raises(requests.exceptions.SSLError, match=r"127\.0\.0\.1|hostname|IP address"):
        session.get(f"https://127.0.0.1:{port}/", timeout=5)


def test_an_unknown_signer_is_refused(make: Make, port: int) -> None:
    """With the bundle that requests brings."""
    with make(port) as ordinary, pytest.raises(requests.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        ordinary.get(f"https://localhost:{port}/", timeout=5)


def test_the_context_demands_certificates() -> None:
    """And host names."""
    assert tls.context().verify_mode is ssl.CERT_REQUIRED
    assert tls.context().check_hostname


def created(host: str, port: int) -> Outcome:
    return KieClient(f"https://{host}:{port}", "key").create(Market(), "z-image", {"input": {"prompt": "a cat"}})


def test_a_create_call_goes_over_tls(certificate: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a host whose certificate the bundle knows."""
    monkeypatch.setattr(tls, "where", lambda: str(certificate / "cert.pem"))
    tls.context.cache_clear()
    try:
        assert created("localhost", port) == Accepted("t-1")
        assert created("127.0.0.1", port) == NotSent("Kie's certificate could not be verified", unreachable=True)
    finally:
        tls.context.cache_clear()


def test_a_create_call_to_an_unknown_signer_is_not_sent(port: int) -> None:
    """The handshake is over before anything of ours is written: nothing can have been bought."""
    assert created("localhost", port) == NotSent("Kie's certificate could not be verified", unreachable=True)
