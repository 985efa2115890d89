"""`kiejobs.http` against a gateway that really listens: the verbs, the errors, what is sent again, signed messages."""

import base64
import hashlib
import hmac
import inspect
import json
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from sqlalchemy import func, select, update
from standardwebhooks.webhooks import Webhook

from kiejobs import errors
from kiejobs.db.session import Database
from kiejobs.db.tables import jobs, outputs, payloads
from kiejobs.http import KieJobsHttp, WebhookRefused, verify_webhook
from kiejobs.jobs import Job, JobState, OutputState
from kiejobs.producer import KieJobs
from kiejobs.settings import Settings
from tests.factories import Nudges, make_job
from tests.gateways import KEYS, gateway_keys, running

INPUT = {"prompt": "a red door", "aspect_ratio": "1:1"}


@pytest.fixture
def address(sqlite: Database, settings: Settings, nudges: Nudges) -> Iterator[str]:
    mixed = Settings(_env_file=None, **(settings.model_dump() | {"gateway_keys": gateway_keys()}))
    with running(mixed, sqlite, nudges) as address:
        yield address


@pytest.fixture
def client(address: str) -> KieJobsHttp:
    return KieJobsHttp(address, KEYS["a-write"])


def count(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(select(func.count()).select_from(jobs)) or 0


def test_the_client_gives_the_same_job_as_the_database_does(client, sqlite, settings, nudges):
    """Field by field; only the files' addresses are the gateway's."""
    direct = KieJobs(settings, tenant="a", database=sqlite, publish=nudges)
    accepted = client.enqueue("z-image", INPUT, metadata={"order": 42})
    assert isinstance(accepted, Job)
    assert client.get(accepted.id) == direct.get(accepted.id)
    for state in (JobState.FAIL, JobState.WAITING, JobState.UNCONFIRMED, JobState.CANCELED, JobState.QUEUED):
        made = make_job(sqlite, state, tenant="a").id
        assert client.get(made) == direct.get(made), state
        assert client.timeline(made) == tuple(direct.timeline(made))
    assert [job.id for job in client.list(limit=3)] == [job.id for job in direct.list(limit=3)]
    assert [job.phase for job in client.list(phase="unconfirmed")] == [JobState.UNCONFIRMED]


def test_what_can_be_asked_for_is_the_same_as_beside_the_database():
    """A service changes its way in without changing its words; only an id of its own needs the database."""
    beside, over_http = (inspect.signature(one.enqueue).parameters for one in (KieJobs, KieJobsHttp))
    assert set(beside) - set(over_http) == {"id"}
    for name in over_http:
        assert over_http[name].default == beside[name].default, name


def test_prompt_parts_and_the_account_of_what_is_followed_up_go_through(client, sqlite, settings, nudges):
    """A follow-up names no account: the job that it works on has one."""
    made = client.enqueue("z-image", {"aspect_ratio": "1:1"}, prompt_parts={"subject": "a red door"})
    with sqlite.read() as connection:
        asked = connection.execute(select(payloads.c.request).where(payloads.c.job_id == made.id)).scalar_one()
    assert asked["input"]["prompt"] == "A red door."
    assert made.account == "default"


def test_a_long_list_is_read_over_its_pages(client, sqlite):
    made = [make_job(sqlite, tenant="a", elapsed_s=float(age)).id for age in range(1, 251)]
    assert [job.id for job in client.list(limit=1000)] == made
    assert [job.id for job in client.list(limit=201)] == made[:201]


def test_every_order_reaches_the_job(client, sqlite):
    queued = client.enqueue("z-image", INPUT)
    assert client.cancel(queued.id).phase is JobState.CANCELED
    waiting = make_job(sqlite, JobState.WAITING, tenant="a").id
    assert client.refresh(waiting).phase is JobState.WAITING
    failed = make_job(sqlite, JobState.FAIL, tenant="a").id
    with pytest.raises(errors.NotPossible):
        client.retry(failed)
    assert client.retry(failed, pay=True, why="asked").phase is JobState.QUEUED
    parked = make_job(sqlite, JobState.UNCONFIRMED, tenant="a").id
    assert client.adopt(parked, "abc").phase is JobState.UNCONFIRMED
    assert [job.model for job in client.enqueue_many([{"model": "z-image", "input": INPUT}] * 2)] == ["z-image"] * 2
    assert client.model("z-image")["input"]["type"] == "object"
    assert "z-image" in {model["id"] for model in client.models()}


def test_errors_are_those_of_the_other_ways_in(client, address, sqlite):
    """The class, the field, the remedy."""
    with pytest.raises(errors.InvalidInput) as wrong:
        client.enqueue("z-image", {"prompt": "x", "aspect_ratio": "17:3"})
    assert wrong.value.field == "input.aspect_ratio"
    assert "1:1" in wrong.value.allowed
    client.enqueue("z-image", INPUT, idempotency_key="1")
    with pytest.raises(errors.IdempotencyConflict) as conflict:
        client.enqueue("z-image", INPUT | {"prompt": "another"}, idempotency_key="1")
    assert conflict.value.remedy
    with pytest.raises(errors.JobNotFound):
        client.get("../../healthz")
    with pytest.raises(errors.JobNotFound):
        KieJobsHttp(address, KEYS["b-write"]).get(make_job(sqlite, tenant="a").id)
    with pytest.raises(errors.Unauthorized):
        KieJobsHttp(address).get("x")
    with pytest.raises(errors.Forbidden):
        KieJobsHttp(address, KEYS["a-read"]).enqueue("z-image", INPUT)


def test_waiting_sees_each_change_and_gives_up_in_time(client, sqlite):
    made = make_job(sqlite, JobState.WAITING, tenant="a").id
    seen: list[JobState] = []

    def end(job: Job) -> None:
        seen.append(job.phase)
        with sqlite.write() as tx:
            tx.execute(update(jobs).where(jobs.c.id == made).values(state=JobState.CANCELED))

    assert client.wait(made, timeout_s=20, on_change=end).phase is JobState.CANCELED
    assert seen == [JobState.WAITING, JobState.CANCELED]
    with pytest.raises(errors.WaitTimeout):
        client.wait(make_job(sqlite, JobState.WAITING, tenant="a").id, timeout_s=0)


def test_reuse_says_so(client):
    first = client.enqueue("z-image", INPUT)
    again = client.enqueue("z-image", INPUT, reuse_within_s=60)
    assert (again.id, again.reused, first.reused) == (first.id, True, False)


def test_a_result_is_downloaded_whole_or_not_at_all(client, sqlite, settings, tmp_path):
    content = secrets.token_bytes(3_000_000)
    made = make_job(sqlite, JobState.SUCCESS, tenant="a").id
    key = f"a/2026/01/02/{made}/0.png"
    path = Path(settings.storage) / key
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    values = {"key": key, "sha256": hashlib.sha256(content).hexdigest(), "state": OutputState.STORED}
    values |= {"size_bytes": len(content)}
    with sqlite.write() as tx:
        tx.execute(update(outputs).where(outputs.c.job_id == made).values(**values))
    assert client.read_output(made) == content
    assert client.download(made, 0, tmp_path / "door.png").read_bytes() == content
    for others, said in ((content[:-1] + b"\x00", "other bytes"), (content + b"\x00" * 3_000_000, "more bytes")):
        path.write_bytes(others)
        with pytest.raises(errors.Incomplete, match=said):
            client.download(made, 0, tmp_path / "other.png")
    assert [file.name for file in tmp_path.glob("*.p*")] == ["door.png"]


def test_a_file_is_uploaded_once_and_named_in_an_input(client, tmp_path):
    content = (Path(__file__).parents[2] / "kiejobs/simulator/media/sample.mp4").read_bytes()
    (tmp_path / "clip.mp4").write_bytes(content)
    named = client.upload(tmp_path / "clip.mp4")
    assert named == client.upload(content)
    assert named["$file"]["key"].startswith("a/inputs/")
    with pytest.raises(errors.InvalidInput):
        client.upload(b"no media at all")


class Broken:
    """Between a client and a gateway: hands a request on and hangs up instead of answering, the first so many times."""

    def __init__(self, address: str, times: int) -> None:
        self._target = ("127.0.0.1", int(address.rpartition(":")[2]))
        self._left = times
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, socket.create_connection(self._target) as gateway:
                request = b""
                while not _whole(request):
                    request += client.recv(65536)
                gateway.sendall(request.replace(b"Connection: keep-alive", b"Connection: close"))
                answer = b""
                while piece := gateway.recv(65536):
                    answer += piece
                if self._left:
                    self._left -= 1
                    continue
                client.sendall(answer)

    def close(self) -> None:
        self._listener.close()


def _whole(request: bytes) -> bool:
    head, separator, body = request.partition(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return bool(separator) and len(body) >= (lengths[0] if lengths else 0)


@contextmanager
def broken(address: str, times: int) -> Iterator[KieJobsHttp]:
    between = Broken(address, times)
    try:
        yield KieJobsHttp(between.address, KEYS["a-write"])
    finally:
        between.close()


def test_a_post_whose_answer_was_lost_is_sent_again_and_buys_one(address, sqlite):
    """Its idempotency key, made by the client, makes that safe."""
    with broken(address, 2) as client:
        assert client.enqueue("z-image", INPUT).phase is JobState.QUEUED
    assert count(sqlite) == 1


@pytest.mark.parametrize("request_", [{}, {"idempotencyKey": None}], ids=["no key", "null for a key"])
def test_many_whose_answer_was_lost_are_sent_again_and_bought_once(address, sqlite, request_):
    with broken(address, 1) as client:
        made = client.enqueue_many([{"model": "z-image", "input": INPUT} | request_] * 2)
        alone = client.enqueue_request({"model": "z-image", "input": INPUT} | request_)
    assert len({*(job.id for job in made), alone.id}) == 3
    assert count(sqlite) == 3


def test_an_order_whose_answer_was_lost_is_not_sent_again(address, sqlite):
    """Whether it came through is said to be unknown; a retry that pays must not be given twice."""
    failed = make_job(sqlite, JobState.FAIL, tenant="a").id
    with broken(address, 1) as client:
        with pytest.raises(errors.GatewayUnavailable):
            client.retry(failed, pay=True)
        with pytest.raises(errors.NotPossible):
            client.retry(failed, pay=True)


def test_a_gateway_that_is_away_is_a_dependency_error():
    with pytest.raises(errors.DependencyError, match="cannot be reached"):
        KieJobsHttp("http://127.0.0.1:1").get("x")


def test_the_client_is_imported_without_database_broker_or_web_framework():
    """Nor the settings: a service that uses it has none of ours."""
    code = "import sys, kiejobs.http; print(json.dumps(sorted(sys.modules)))".replace("sys,", "json, sys,")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(ran.stdout))
    assert "requests" in loaded
    assert (
        loaded & {"sqlalchemy", "celery", "kombu", "redis", "obstore", "fastapi", "pydantic", "kiejobs.settings"}
        == set()
    )


# ── signed messages ──────────────────────────────────────────────────────────────────────────────────────────────────

SECRET = f"whsec_{base64.b64encode(b'0' * 32).decode()}"
OTHER = f"whsec_{base64.b64encode(b'1' * 32).decode()}"
NOW = datetime(2026, 11, 21, tzinfo=UTC)
BODY = '{"type":"generation.succeeded","data":{"generationId":"x","note":"ü"}}'


def signed(secret: str = SECRET, body: str = BODY) -> dict[str, str]:
    return {
        "Webhook-Id": "msg_1",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", NOW, body),
    }


def test_a_message_signed_by_the_stock_library_is_verified():
    """With one secret, and with two while they are rotated."""
    for known in (SECRET, [OTHER, SECRET]):
        told = verify_webhook(known, signed(), BODY.encode(), now_s=NOW.timestamp() + 299)
        assert told["type"] == "generation.succeeded"
    both = signed() | {"webhook-signature": f"v1,AAAA v1a,xyz {signed()['webhook-signature']}"}
    assert verify_webhook(SECRET, both, BODY, now_s=NOW.timestamp())["data"]["note"] == "ü"


@pytest.mark.parametrize(
    ("headers", "body", "late_s"),
    [
        (signed(OTHER), BODY, 0),
        (signed(), BODY.replace("succeeded", "failed"), 0),
        (signed(), BODY, 301),
        (signed(), BODY, -301),
        (signed() | {"Webhook-Id": "msg_2"}, BODY, 0),
        (signed() | {"webhook-timestamp": "soon"}, BODY, 0),
        (signed() | {"webhook-timestamp": "9" * 5000}, BODY, 0),
        (signed() | {"webhook-timestamp": f"{signed()['webhook-timestamp']}000"}, BODY, 0),
        (signed() | {"webhook-timestamp": "²"}, BODY, 0),
        (signed() | {"webhook-signature": "v1,ü"}, BODY, 0),
        (signed() | {"webhook-signature": "v1,\ud800"}, BODY, 0),
        (signed() | {"webhook-signature": "v1, v1 , ,, v1,"}, BODY, 0),
        (signed() | {"Webhook-Id": "\ud800"}, BODY, 0),
        (signed(), "\ud800", 0),
        (signed(), b"\xff\xfe", 0),
        (signed(body="[]"), "[]", 0),
        (signed(body="no JSON"), "no JSON", 0),
        (signed(body="[" * 100_000), "[" * 100_000, 0),
        ({}, BODY, 0),
    ],
)
def test_what_is_not_signed_now_with_a_known_secret_is_refused(headers, body, late_s):
    with pytest.raises(WebhookRefused):
        verify_webhook(SECRET, headers, body, now_s=NOW.timestamp() + late_s)


def signed_with(key: bytes) -> dict[str, str]:
    signature = hmac.new(key, f"msg_1.{int(NOW.timestamp())}.{BODY}".encode(), "sha256").digest()
    return signed() | {"webhook-signature": f"v1,{base64.b64encode(signature).decode()}"}


@pytest.mark.parametrize("secret", ["", "whsec_", " ", [], [""], ",", "whsec_!", "whsec_=", "abc d"])
def test_a_secret_that_is_none_verifies_nothing(secret):
    """A setting that was forgotten must not mean that everybody can sign, with the empty key."""
    for headers in (signed_with(b""), signed()):
        with pytest.raises(WebhookRefused):
            verify_webhook(secret, headers, BODY, now_s=NOW.timestamp())


@pytest.mark.parametrize(
    "secret",
    [
        SECRET.removeprefix("whsec_"),
        SECRET.rstrip("="),
        f"{OTHER},{SECRET}",
        [f" {OTHER} , {SECRET} "],
        ["", SECRET],
        ["whsec_no base64", SECRET],
    ],
)
def test_a_secret_is_read_in_every_form_in_which_it_is_written(secret):
    """Without its prefix, without padding, beside an older one or one that is none."""
    assert verify_webhook(secret, signed(), BODY, now_s=NOW.timestamp())["data"]["note"] == "ü"


class Scripted:
    """A server that answers each request with the next of its answers, the last one for ever, and keeps the requests."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.requests: list[bytes] = []
        self.silent_after: int | None = None
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                request = b""
                while not _whole(request) and (piece := client.recv(65536)):
                    request += piece
                self.requests.append(request)
                if self.silent_after is not None and len(self.requests) > self.silent_after:
                    self._over.wait(120)
                answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                with suppress(OSError):  # who has read enough hangs up
                    client.sendall(answer)

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.close()


def told(status: str, body: bytes = b"{}", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirected_request_goes_nowhere_else(status):
    """Neither the key nor the prompt; the address is to be corrected."""
    with Scripted(told("200 OK")) as elsewhere, Scripted(told(status, b"", f"Location: {elsewhere.address}/x")) as gate:
        client = KieJobsHttp(gate.address, "kj_secret")
        with pytest.raises(errors.GatewayUnavailable, match="redirect"):
            client.enqueue("z-image", INPUT)
        with pytest.raises(errors.GatewayUnavailable, match="redirect"):
            client.get("x")
        assert (len(gate.requests), elsewhere.requests) == (2, [])


def test_a_result_is_fetched_where_it_lies_without_the_key():
    with (
        Scripted(told("200 OK", b"bytes")) as bucket,
        Scripted(told("302 Found", b"", f"Location: {bucket.address}/x")) as gate,
    ):
        assert KieJobsHttp(gate.address, "kj_secret").read_output("x") == b"bytes"
        assert b"kj_secret" in gate.requests[0]
        assert b"kj_secret" not in bucket.requests[0]


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b"null", b"<html>", b"[" * 100_000, b'{"generationId": 1, "phase": "new"}']
)
def test_an_answer_of_something_else_is_no_generation(body):
    with Scripted(told("200 OK", body)) as gate, pytest.raises(errors.GatewayUnavailable):
        KieJobsHttp(gate.address).get("x")


def test_an_endless_answer_is_left(monkeypatch):
    monkeypatch.setattr("kiejobs.http.client._DOCUMENT_BYTES", 100_000)
    with (
        Scripted(told("200 OK", b" " * 10_000_000)) as gate,
        pytest.raises(errors.GatewayUnavailable, match="too much"),
    ):
        KieJobsHttp(gate.address).get("x")


def test_waiting_outlives_a_gateway_that_is_away_for_a_while(client, address, sqlite, settings, nudges):
    """What was seen once is waited for; an address where nobody ever answered is said at once."""
    made = make_job(sqlite, JobState.WAITING, tenant="a").id
    document = json.dumps(requests.get(f"{address}/api/generations/{made}", headers=_as("a-read"), timeout=5).json())
    away = told("500 Internal", b"no gateway")
    ended = document.replace('"phase": "waiting"', '"phase": "canceled"').encode()
    with Scripted(told("200 OK", document.encode()), away, told("200 OK", ended)) as gate:
        assert KieJobsHttp(gate.address).wait(made, timeout_s=20).phase is JobState.CANCELED
    with Scripted(away) as gate, pytest.raises(errors.GatewayUnavailable):
        KieJobsHttp(gate.address).wait(made, timeout_s=20)


def test_a_gateway_that_hangs_holds_no_wait_beyond_its_time(client, address, sqlite):
    """It takes connections and answers nothing: a look may take what is left of the time, not two minutes."""
    made = make_job(sqlite, JobState.WAITING, tenant="a").id
    document = requests.get(f"{address}/api/generations/{made}", headers=_as("a-read"), timeout=5).content
    with Scripted(told("200 OK", document), b"") as gate:
        gate.silent_after = 1
        began_s = time.monotonic()
        with pytest.raises(errors.GatewayUnavailable):
            KieJobsHttp(gate.address).wait(made, timeout_s=2)
        assert time.monotonic() - began_s < 25


def _as(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}
