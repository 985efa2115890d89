"""What arrives on the socket when the simulator answers badly, seen without an HTTP library in between."""

import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from kiejobs.simulator import Simulator

pause = threading.Event().wait  # nobody sets this event
KEY = {"Authorization": "Bearer wire"}


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    """One simulator for all tests of this file; generations take 50 ms."""
    with Simulator(duration_s=0.05) as simulator:
        yield simulator


@pytest.fixture
def kie(running: Simulator) -> Simulator:
    """A simulator that has seen nothing yet."""
    requests.post(f"{running.base_url}/simulator/reset", timeout=5)
    return running


def connect(kie: Simulator) -> socket.socket:
    """A connection to the API."""
    address = urlsplit(kie.base_url)
    assert address.hostname is not None
    return socket.create_connection((address.hostname, address.port or 0), timeout=5)


def send_create(kie: Simulator, prompt: str) -> socket.socket:
    """A connection on which a createTask request has just been sent."""
    body = json.dumps({"model": "z-image", "input": {"prompt": prompt}}).encode()
    head = (
        "POST /api/v1/jobs/createTask HTTP/1.1\r\nHost: kie\r\nAuthorization: Bearer wire\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = connect(kie)
    connection.sendall(head.encode() + body)
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """All bytes until the other side closes; a reset raises."""
    chunks = []
    while chunk := connection.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


def last_create(kie: Simulator) -> dict[str, Any]:
    """The newest entry of the ledger's creates."""
    creates = kie.ledger()["creates"]
    assert isinstance(creates, list)
    return dict(creates[-1])


def wait_until(holds: Callable[[], object], within_s: float = 3.0) -> None:
    """Look every few milliseconds until it holds."""
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it never came true"
        pause(0.005)


def test_a_reset_reaches_the_client_as_a_tcp_reset(kie: Simulator) -> None:
    """Not one byte of an answer, and RST instead of FIN; the task exists and was charged."""
    with send_create(kie, "[[reset]]") as connection, pytest.raises(ConnectionResetError):
        read_to_end(connection)
    entry = last_create(kie)
    assert entry["accepted"] is True
    assert entry["code"] is None
    assert requests.get(f"{kie.base_url}/api/v1/chat/credit", headers=KEY, timeout=5).json()["data"] == 9996


def test_a_cut_header_ends_before_the_blank_line(kie: Simulator) -> None:
    """The status line arrives, the end of the headers does not."""
    with send_create(kie, "[[cut-header]]") as connection:
        seen = read_to_end(connection)
    assert seen.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\n" not in seen
    assert last_create(kie)["accepted"] is True


def test_a_cut_body_is_shorter_than_its_content_length(kie: Simulator) -> None:
    """Whole headers, half a body, then the end."""
    with send_create(kie, "[[cut-body]]") as connection:
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    promised = int(lengths[0].split(b":")[1])
    assert 0 < len(body) < promised
    assert body.startswith(b'{"code":200')
    assert last_create(kie)["accepted"] is True


def test_a_hanging_create_says_nothing_and_stays_open(kie: Simulator) -> None:
    """Accepted and charged, but neither an answer nor an end."""
    with send_create(kie, "[[hang]]") as connection:
        connection.settimeout(0.25)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    assert last_create(kie)["accepted"] is True


def test_other_requests_are_served_while_one_hangs(kie: Simulator) -> None:
    """A hanging create holds nobody else up."""
    with send_create(kie, "[[hang]]"):
        assert requests.get(f"{kie.base_url}/api/v1/chat/credit", headers=KEY, timeout=2).json()["code"] == 200


def test_stopping_hangs_up_on_a_hanging_create() -> None:
    """A test that forgot a hanging request can still stop the simulator, soon."""
    with Simulator() as kie:
        connection = send_create(kie, "[[hang]]")
        wait_until(lambda: kie.ledger()["creates"])
        began = time.monotonic()
    assert time.monotonic() - began < 5
    with connection, pytest.raises(ConnectionError):
        if connection.recv(1) == b"":
            raise ConnectionError


def test_a_slow_answer_is_late_but_the_task_is_not(kie: Simulator) -> None:
    """The ledger has the task before the client has the answer."""
    began = time.monotonic()
    with send_create(kie, "[[slow=1.5]]") as connection:
        wait_until(lambda: kie.ledger()["creates"])
        assert time.monotonic() - began < 1.4
        seen = b""
        while b'"taskId"' not in seen:
            seen += connection.recv(65536)
    assert time.monotonic() - began >= 1.5


def test_a_held_create_is_accepted_and_answered_after_the_release(kie: Simulator) -> None:
    """The barrier stands between the task and its answer, and counts who waits."""
    requests.post(f"{kie.base_url}/simulator/hold", timeout=5)
    with send_create(kie, "held") as connection:
        wait_until(lambda: held(kie)["waiting"] == 1)
        assert last_create(kie)["accepted"] is True
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(5)
        assert requests.post(f"{kie.base_url}/simulator/release", timeout=5).json()["held"] is False
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert held(kie) == {"held": False, "waiting": 0}


def test_a_client_killed_at_the_barrier_is_no_longer_counted(kie: Simulator) -> None:
    """Only live clients wait; the task of the dead one stays."""
    requests.post(f"{kie.base_url}/simulator/hold", timeout=5)
    connection = send_create(kie, "about to die")
    wait_until(lambda: held(kie)["waiting"] == 1)
    connection.close()
    wait_until(lambda: held(kie)["waiting"] == 0)
    assert last_create(kie)["accepted"] is True


def held(kie: Simulator) -> dict[str, Any]:
    """The barrier's state."""
    return dict(requests.get(f"{kie.base_url}/simulator/held", timeout=5).json())


def test_answers_on_a_kept_connection_come_without_nagles_delay(kie: Simulator) -> None:
    """Forty milliseconds per answer would be the sign that Nagle's algorithm is on."""
    with requests.Session() as session:
        session.headers.update(KEY)
        session.get(f"{kie.base_url}/api/v1/chat/credit", timeout=5)
        took_s = []
        for _ in range(50):
            began = time.monotonic()
            session.get(f"{kie.base_url}/api/v1/chat/credit", timeout=5)
            took_s.append(time.monotonic() - began)
    assert statistics.median(took_s) < 0.035


def test_a_truncated_file_promises_more_than_it_sends(kie: Simulator) -> None:
    """Content-Length is the whole size, the body half of it."""
    answer = requests.post(
        f"{kie.base_url}/api/v1/jobs/createTask",
        json={"model": "z-image", "input": {"prompt": "[[truncate]] [[duration=0]]"}},
        headers=KEY,
        timeout=5,
    ).json()
    path = f"/f/{answer['data']['taskId']}/0.png"
    wait_until(lambda: requests.head(kie.files_url + path, timeout=5).status_code == 200)
    host, _, port = kie.files_host_port.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: files\r\n\r\n".encode())
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    promised = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert len(body) == promised // 2


def test_many_clients_at_once_are_all_answered() -> None:
    """Forty threads, ten creates each, no error and no task lost."""
    with Simulator(create_limit=0, duration_s=0.01, credits=1e9) as kie:
        failures: list[object] = []

        def call() -> None:
            with requests.Session() as session:
                for _ in range(10):
                    answer = session.post(
                        f"{kie.base_url}/api/v1/jobs/createTask",
                        json={"model": "z-image", "input": {"prompt": "crowd"}},
                        headers=KEY,
                        timeout=10,
                    )
                    if answer.json()["code"] != 200:
                        failures.append(answer.text)

        threads = [threading.Thread(target=call) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        creates = kie.ledger()["creates"]
    assert failures == []
    assert isinstance(creates, list)
    assert len({entry["taskId"] for entry in creates}) == 400
