"""What a hostile or broken caller can do to a gateway that really listens: hold places, hide text, fill the disk."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from sqlalchemy import func, select

from kiejobs.db import endpoints
from kiejobs.db.session import Database
from kiejobs.db.tables import jobs
from kiejobs.gateway import bodies, callbacks, connections
from kiejobs.gateway.app import make_app
from kiejobs.gateway.connections import Connection
from kiejobs.gateway.limits import Limits
from kiejobs.gateway.server import listen
from kiejobs.jobs import JobState
from kiejobs.kie.callbacks import token
from kiejobs.settings import Settings
from tests.factories import Nudges, make_job, make_settings
from tests.gateways import KEYS, Caller, gateway_keys, running

SECRET = "s" * 32
PICTURE = {"model": "z-image", "input": {"prompt": "a red door", "aspect_ratio": "1:1"}}
MEDIA = b"\x89PNG\r\n\x1a\n" + b"\x00" * 3_000_000


@pytest.fixture
def keyless(sqlite: Database, settings: Settings, nudges: Nudges) -> Iterator[Caller]:
    with running(settings, sqlite, nudges) as address:
        yield Caller(address)


def count(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(select(func.count()).select_from(jobs)) or 0


# ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Impatient(Connection):
    head_within_s = 0.5
    idle_s = 0.5


@contextmanager
def hardened(app: Any, **options: Any) -> Iterator[int]:
    """Serve as `kiejobs gateway` does, with less patience; gives the port."""
    sock = listen("127.0.0.1", 0)
    config = uvicorn.Config(app, http=Impatient, ws="none", log_config=None, lifespan="on", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    try:
        waited = threading.Event()
        while not server.started and thread.is_alive():
            waited.wait(0.02)
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(15)
        sock.close()


def until_hung_up(connection: socket.socket, drip: bytes = b"") -> bytes:
    """Read until the other side ends it, dripping a byte now and then; fails after 10 s."""
    read, ends_at_s = b"", time.monotonic() + 10
    connection.settimeout(0.1)
    while time.monotonic() < ends_at_s:
        try:
            if drip:
                connection.sendall(drip)
            piece = connection.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            return read
        if not piece:
            return read
        read += piece
    raise AssertionError(f"still open after 10 s: {read[:200]!r}")


@pytest.mark.parametrize(
    "told",
    [
        (b"", b"", b""),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"a", b""),
        (b"POST /api/generations HTTP/1.1\r\nHost: evil\r\nContent-Length: 999\r\n\r\n", b"a", b"HTTP/1.1 403 "),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"", b"HTTP/1.1 200 "),
    ],
    ids=["says nothing", "drips a head", "drips a body that nobody reads", "stays after its answer"],
)
def test_who_asks_nothing_holds_no_place(settings, sqlite, nudges, told):
    """No key is needed to open a connection, so none may stay open for ever."""
    head, drip, answered = told
    app = make_app(settings, database=sqlite, publish=nudges)
    with hardened(app) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head)
        assert until_hung_up(connection, drip).startswith(answered)


def test_who_does_not_read_its_answers_holds_no_place(settings, sqlite, nudges):
    """Two hundred questions at once, and no answer is taken: also while an answer waits to be written."""
    app = make_app(settings, database=sqlite, publish=nudges)
    with hardened(app) as port, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
        threading.Event().wait(2.0)
        assert until_hung_up(connection).count(b"HTTP/1.1 200 ") < 200


def test_a_request_under_way_is_not_hung_up_on(settings, sqlite, nudges):
    """A slow body that is read has a bound of its own, and a longer one."""
    app = make_app(settings, database=sqlite, publish=nudges)
    body = json.dumps(PICTURE).encode()
    head = "POST /api/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}"
    with hardened(app) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode() + body[:10])
        threading.Event().wait(1.0)
        connection.sendall(body[10:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 201 ")


def test_beyond_what_it_can_hold_a_gateway_answers_503(settings, sqlite, nudges):
    """At once, instead of taking what it cannot work on."""
    app = make_app(settings, database=sqlite, publish=nudges)
    with hardened(app, limit_concurrency=2) as port:
        others = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 503 ")
        for other in others:
            other.close()


def test_connections_leave_file_descriptors_for_the_rest(monkeypatch):
    """Where 1,024 are allowed, 2,000 connections would leave none for the database."""
    for allowed, most in ((1024, 1024 - 150), (1_048_576, 2000), (-1, 2000)):
        monkeypatch.setattr(connections.resource, "getrlimit", lambda _, n=allowed: (n, n))
        assert connections.most_connections() == most


def test_a_broker_that_hangs_costs_the_probes_time_and_no_producers(sqlite, tmp_path):
    """Any number of probes wait for one look at it, and on no thread that a producer needs."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with running(make_settings(tmp_path, broker_url=broker), sqlite, Nudges()) as address:
            answers: list[int] = []
            probes = [
                threading.Thread(target=lambda: answers.append(Caller(address).get("/readyz").status_code))
                for _ in range(40)
            ]
            for probe in probes:
                probe.start()
            threading.Event().wait(0.5)
            began_s = time.monotonic()
            assert Caller(address).post("/api/generations", PICTURE).status_code == 201
            took_s = time.monotonic() - began_s
            assert answers == []  # they still wait
            for probe in probes:
                probe.join(30)
    assert took_s < 2
    assert answers == [503] * 40


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "z-image", "input": {}, "validate": "\\ud800"}',
        b'{"model": "z-image", "input": {}, "\\udfff": 1}',
        b'{"model": "z-image", "input": {"prompt": "\\ud83d"}}',
        b'{"model": "z-image", "input": {"prompt": "\xed\xa0\x80"}}',
        b'{"model": "z-image", "validate": "\xed\xa0\x80", "input": {}}',
        '{"model": "z-image", "input": {"prompt": "a"}}'.encode("utf-16"),
        ('{"model": "x/y", "input": {"Ģ": [' + "[]," * 200_000 + "1]}}").encode("utf-16"),
        b'{"model": "z-image", "model": "veo3", "input": {}}',
        b'{"model": "z-image", "input": {"prompt": "a", "prompt": "b"}}',
    ],
)
def test_a_body_that_no_two_would_read_alike_is_refused(keyless, sqlite, body):
    """Half a surrogate pair can be written nowhere; a name that stands twice hides one of its values."""
    answer = keyless("POST", "/api/generations", data=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "unreadable")
    assert count(sqlite) == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "x/y", "input": {"a": [' + b"[]," * 690_000 + b"1]}}",
        b'{"model": "x/y", "input": {"a": [' + b"{}," * 690_000 + b"1]}}",
        b'{"model": "x/y", "input": {"a": [' + b"1," * 1_000_000 + b"1]}}",
        b'{"a": "' + b'\\"' * 1_000_000,
    ],
    ids=["lists", "objects", "numbers", "a text without an end"],
)
def test_what_would_take_seconds_to_read_is_refused_before(keyless, sqlite, body):
    """Two megabytes of brackets cost a thread seconds, and all other threads wait meanwhile."""
    answer = keyless("POST", "/api/generations", data=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "unreadable")
    assert count(sqlite) == 0


def test_text_may_hold_as_many_brackets_as_it_likes(keyless):
    """As code in a prompt does."""
    request = {"model": "x/y", "input": {"prompt": '[{"a": 1}, "' * 60_000}}
    answer = keyless.post("/api/generations", request)
    assert answer.status_code == 201, answer.text


def test_a_large_body_is_read_beside_the_event_loop(settings, sqlite, nudges, monkeypatch):
    """Callbacks are answered while it is."""
    on: list[str] = []
    read = bodies._read

    def noted(*given: Any) -> Any:
        on.append(threading.current_thread().name)
        return read(*given)

    monkeypatch.setattr(bodies, "_read", noted)
    with running(settings, sqlite, nudges) as address:
        for size in (10, 100_000):
            Caller(address).post("/api/generations", {"model": "x/y", "input": {"prompt": "x" * size}})
    assert len(set(on)) == 2


def test_a_whole_surrogate_pair_is_text(keyless, sqlite):
    body = b'\xef\xbb\xbf{"model": "z-image", "input": {"prompt": "\\ud83d\\ude00", "aspect_ratio": "1:1"}}'
    answer = keyless("POST", "/api/generations", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("key", ["default/inputs/../../b/inputs/x.png", "default/inputs//x.png", "b/inputs/x.png"])
def test_a_file_of_another_tenant_is_named_by_no_detour(keyless, sqlite, key):
    request = {"model": "nano-banana-edit", "input": {"image_urls": [{"$file": {"key": key}}]}, "validate": "off"}
    answer = keyless.post("/api/generations", request)
    assert (answer.status_code, answer.json()["field"]) == (422, "input.image_urls[0]")
    assert count(sqlite) == 0


def test_uploads_hold_a_bounded_part_of_the_disk(settings, sqlite, nudges):
    """All together; what does not fit is asked to come again, and what is done makes room."""
    with running(settings, sqlite, nudges, Limits(files_bytes=4_000_000)) as address:
        host, port = "127.0.0.1", int(address.rpartition(":")[2])
        with socket.create_connection((host, port), timeout=10) as slow:
            head = f"POST /api/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(MEDIA)}\r\n\r\n"
            slow.sendall(head.encode() + MEDIA[:2_500_000])
            threading.Event().wait(0.5)
            full = Caller(address)("POST", "/api/files", data=MEDIA)
            assert (full.status_code, full.json()["code"]) == (429, "too_many_requests")
        for _ in range(100):  # until the gateway has noticed that the slow one is gone
            after = Caller(address)("POST", "/api/files", data=MEDIA)
            if after.status_code != 429:
                break
            threading.Event().wait(0.05)
        assert after.status_code in (201, 422)  # there was room to look at it


def test_an_upload_that_drips_is_hung_up_on(settings, sqlite, nudges):
    with (
        running(settings, sqlite, nudges, Limits(file_within_s=0.3)) as address,
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=10) as slow,
    ):
        slow.sendall(b"POST /api/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
        assert slow.recv(65536).startswith(b"HTTP/1.1 408 ")


# ── without keys ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Forwarded-Host", "X-Real-IP"])
def test_without_keys_nobody_comes_in_through_a_tunnel(keyless, sqlite, header):
    """A tunnel for Kie's callbacks that rewrites the Host would let everybody buy; the callbacks themselves pass."""
    answer = keyless.post("/api/generations", PICTURE, headers={header: "for=203.0.113.7"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert keyless.get("/healthz", headers={header: "203.0.113.7"}).status_code == 200
    assert count(sqlite) == 0


# ── callbacks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_callback_that_drips_is_hung_up_on(settings, sqlite, nudges, monkeypatch):
    """408 within the bound, nothing kept, and the same callback is taken when it comes whole."""
    monkeypatch.setattr(callbacks, "WITHIN_S", 0.3)
    made = make_job(sqlite, JobState.WAITING)
    mixed = Settings(_env_file=None, **(settings.model_dump() | {"callback_secret": SECRET}))
    path = f"/callbacks/kie/{token(str(made.submission_id), SECRET)}"
    with running(mixed, sqlite, nudges) as address:
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=10) as slow:
            slow.sendall(f"POST {path} HTTP/1.1\r\nHost: gate.example\r\nContent-Length: 100\r\n\r\n{{".encode())
            assert slow.recv(65536).startswith(b"HTTP/1.1 408 ")
        whole = Caller(address).post(path, {"data": {"taskId": made.task_id}})
        assert whole.json() == {"received": "accepted"}


def test_more_callbacks_than_can_wait_are_asked_to_come_again(settings, sqlite, nudges, monkeypatch):
    """503 with Retry-After, at once, while all threads wait for the database; the same one is taken afterwards."""
    monkeypatch.setattr(callbacks, "THREADS", 1)
    monkeypatch.setattr(callbacks, "WAITING", 1)
    monkeypatch.setattr(settings.__class__, "callbacks_signed_with", SECRET)
    first, second, third = (make_job(sqlite, JobState.WAITING) for _ in range(3))
    held, answers = threading.Event(), []
    receive = callbacks.callbacks.receive

    def slowly(*given: Any, **named: Any) -> Any:
        held.wait(20)
        return receive(*given, **named)

    monkeypatch.setattr(callbacks.callbacks, "receive", slowly)
    with running(settings, sqlite, nudges) as address:

        def call(job: Any) -> Any:
            path = f"/callbacks/kie/{token(str(job.submission_id), SECRET)}"
            return Caller(address).post(path, {"data": {"taskId": job.task_id}})

        waiting = [threading.Thread(target=lambda job=job: answers.append(call(job))) for job in (first, second)]
        for one in waiting:
            one.start()
            threading.Event().wait(0.3)
        shed = call(third)
        assert (shed.status_code, "Retry-After" in shed.headers) == (503, True)
        held.set()
        for one in waiting:
            one.join(20)
        assert [answer.json() for answer in answers] == [{"received": "accepted"}] * 2
        assert call(third).json() == {"received": "accepted"}


def test_a_gateway_that_cannot_know_the_secret_says_so_at_the_start(settings, sqlite, nudges, tmp_path, caplog):
    """In a read-only container the first callback would else be the first to notice, as a mistake of the gateway's."""
    (tmp_path / "file").write_text("no folder")
    mixed = Settings(_env_file=None, **(settings.model_dump() | {"data_dir": tmp_path / "file" / "data"}))
    made = make_job(sqlite, JobState.WAITING)
    with caplog.at_level("INFO"), running(mixed, sqlite, nudges) as address:
        assert "no callbacks are taken: KIEJOBS_CALLBACK_SECRET is not set" in caplog.text
        path = f"/callbacks/kie/{token(str(made.submission_id), SECRET)}"
        assert Caller(address).post(path, {"data": {"taskId": made.task_id}}).status_code == 404


def test_two_thousand_strangers_leave_no_row(settings, sqlite, nudges):
    """Forged addresses are told apart without the database."""
    mixed = Settings(
        _env_file=None, **(settings.model_dump() | {"callback_secret": SECRET, "gateway_keys": gateway_keys()})
    )
    made = make_job(sqlite, JobState.WAITING)
    with running(mixed, sqlite, nudges) as address:
        caller = Caller(address, KEYS["a-admin"])
        forged = f"{made.submission_id}.{'0' * 32}"
        seen = {caller.post(f"/callbacks/kie/{forged}", {"data": {"taskId": "x"}}).status_code for _ in range(2000)}
    with sqlite.read() as connection:
        kept = connection.exec_driver_sql("SELECT count(*) FROM callbacks").scalar()
    assert (seen, kept) == ({404}, 0)


# ── the database ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_server_that_falls_silent_is_given_up(_postgresql_url):
    """Cut off without a word, it would else hold every thread for a quarter of an hour."""
    database = Database(_postgresql_url)
    with database.read() as connection:
        number = connection.connection.driver_connection.fileno()
        with socket.socket(fileno=os.dup(number)) as wire:
            assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
    database.close()


def test_an_address_set_by_many_at_once_is_one_default(database):
    """No mistake of the gateway's for those that come second, and one address in the end."""
    for number in range(20):
        tenant, start = f"t{number}", threading.Barrier(4)

        def put(which: int, tenant: str = tenant, start: threading.Barrier = start) -> None:
            start.wait()
            endpoints.set_default(database, tenant, f"https://service.example/{which % 2}")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(put, range(4)))
        assert [one.is_default for one in endpoints.listed(database, tenant)] == [True]
