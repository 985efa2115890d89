"""The gateway's small parts: keys, limits, where it may listen, what is handed to the broker, and its commands."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from kiejobs import documents, errors, nudge
from kiejobs.cli import environment
from kiejobs.db.accounts import Account
from kiejobs.db.deliveries import Delivery
from kiejobs.errors import Forbidden, KieJobsError, SettingsError, Unauthorized
from kiejobs.gateway import schemas, services
from kiejobs.gateway.door import is_loopback
from kiejobs.gateway.keys import Caller, Keys, Scope, digest_of, new_key
from kiejobs.gateway.limits import Bucket, deeper_than
from kiejobs.gateway.problems import document, kind_of
from kiejobs.gateway.queries import cursor_of, moment, place_of
from kiejobs.gateway.server import check_address
from kiejobs.gateway.services import Courier
from kiejobs.jobs import DeliveryState, Event, Job, JobState, Output, OutputState
from kiejobs.kie import catalogue
from kiejobs.nudge import Nudge, create_nudge
from kiejobs.settings import GatewayKey, Settings, load
from tests.factories import make_settings

COMMAND = [sys.executable, "-m", "kiejobs.cli"]


def test_a_key_is_known_by_its_digest_alone():
    """Two of one tenant at once, for rotation; nothing else opens."""
    old, new = new_key(), new_key()
    keys = Keys(tuple(GatewayKey(tenant="shop", scope="write", sha256=digest_of(key)) for key in (old, new)))
    for key in (old, new):
        assert keys.caller(f"Bearer {key}") == Caller("shop", Scope.WRITE)
        assert keys.caller(f"bearer   {key} ") == Caller("shop", Scope.WRITE)
    for header in (None, "", "Bearer", f"Basic {old}", f"Bearer {old}x", f"Bearer {digest_of(old)}", "Bearer ü", old):
        with pytest.raises(Unauthorized):
            keys.caller(header)


def test_a_scope_that_is_too_small_is_told_what_it_needs():
    with pytest.raises(Forbidden, match="read, this needs admin"):
        Caller("shop", Scope.READ).must(Scope.ADMIN)


@pytest.mark.parametrize(
    "value",
    ["shop", "shop:write", "Shop:write:" + "a" * 64, "shop:own:" + "a" * 64, "shop:write:" + "A" * 64, "a:b:c:d"],
)
def test_a_key_that_is_none_stops_the_process(monkeypatch, value):
    """Nobody runs a gateway whose keys open nothing."""
    monkeypatch.setenv("KIEJOBS_GATEWAY_KEYS", value)
    with pytest.raises(SettingsError, match="tenant:scope:sha256hex"):
        load()


def test_keys_are_read_from_the_setting(monkeypatch):
    digest = hashlib.sha256(b"x").hexdigest()
    monkeypatch.setenv("KIEJOBS_GATEWAY_KEYS", f" shop:read:{digest} ,default:admin:{digest},")
    found = load().gateway_keys
    assert [(key.tenant, key.scope) for key in found] == [("shop", "read"), ("default", "admin")]
    assert digest not in repr(found)


def test_a_bucket_fills_at_its_rate_and_holds_no_more_than_its_burst():
    bucket = Bucket(2.0, 3)
    assert [bucket.wait_s(100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.wait_s(100.5) == 0.0
    assert bucket.wait_s(100.5) == 0.5
    assert [bucket.wait_s(1000.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.wait_s(999.0) > 0  # a clock that steps back gives nothing away


def test_depth_is_counted_in_lists_and_objects():
    assert not deeper_than({"a": [1, {"b": 2}]}, 3)
    assert deeper_than({"a": [1, {"b": []}]}, 3)
    assert not deeper_than("x", 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9:1", "localhost:8787", "LOCALHOST", "[::1]:80", "localhost."])
def test_this_machine_by_its_very_name(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.1", "[::", "0"]
)
def test_another_name_is_another_machine(host):
    assert not is_loopback(host)


def test_without_keys_it_listens_on_loopback_or_not_at_all():
    keyless = Settings(_env_file=None)
    check_address(keyless, "127.0.0.1")
    check_address(keyless, "::1")
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.com"):
        with pytest.raises(SettingsError, match="loopback only"):
            check_address(keyless, host)
    key = GatewayKey(tenant="a", scope="read", sha256="0" * 64)
    check_address(Settings(_env_file=None, gateway_keys=(key,)), "0.0.0.0")


def test_every_error_of_the_tree_is_told_as_some_problem():
    """With a status of its own or of the class above it; faults of the caller are never 5xx, those of others never 4xx."""
    for kind in subclasses(KieJobsError):
        status = next(row.status for base, row in kinds() if issubclass(kind, base))
        if issubclass(kind, errors.DependencyError):
            assert status == 503, kind
    wrong = errors.InvalidInput("x", field="f", given="y" * 10_000)
    assert len(json.dumps(document(wrong))) < 1000
    assert kind_of(errors.DatabaseUnavailable("x")).status == 503


def subclasses(kind: type[KieJobsError]) -> Iterable[type[KieJobsError]]:
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


def kinds():
    from kiejobs.gateway.problems import KINDS

    return sorted(KINDS.items(), key=lambda row: -len(row[0].__mro__))


@pytest.mark.parametrize("cursor", ["x", "e30", "WyJ4IiwieSJd", "ü", "A" * 10_000])
def test_a_cursor_of_elsewhere_is_refused(cursor):
    with pytest.raises(errors.InvalidInput):
        place_of(cursor)


def test_a_cursor_and_times_read_back():
    at = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    job = Job("00000000-0000-4000-8000-000000000000", "t", "a", "m", JobState.QUEUED, at)
    assert place_of(cursor_of(job)) == (at, job.id)
    assert moment({"since": "2026-01-02T04:04:05 01:00"}, "since") == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert moment({"since": "2026-01-02"}, "since") == datetime(2026, 1, 2, tzinfo=UTC)


def test_a_broker_that_hangs_holds_nobody_up():
    """Handing over returns at once; what was handed over is published when the broker is back, and before the end."""
    published: list[str] = []
    back = threading.Event()

    def hang(nudges: Iterable[Nudge]) -> None:
        back.wait(20)
        published.extend(nudge.task_id for nudge in nudges)

    courier = Courier(hang)
    for number in range(100):
        courier([create_nudge(str(number))])
    assert published == []
    back.set()
    courier.close()
    assert published == [str(number) for number in range(100)]


def run(*words: str, **more: str) -> "subprocess.CompletedProcess[str]":
    given = environment.without_settings() | more
    return subprocess.run([*COMMAND, *words], env=given, capture_output=True, text=True, timeout=60, check=False)


def test_keys_new_prints_the_key_once_and_what_the_setting_holds():
    made = run("keys", "new", "--tenant", "shop", "--scope", "read")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    entry = f"shop:read:{hashlib.sha256(key.encode()).hexdigest()}"
    assert f"KIEJOBS_GATEWAY_KEYS={entry}" in made.stderr
    assert key not in made.stderr
    listed = json.loads(run("keys", "list", "--json", KIEJOBS_GATEWAY_KEYS=entry).stdout)
    assert [(one["tenant"], one["scope"]) for one in listed["keys"]] == [("shop", "read")]
    told = json.loads(run("keys", "new", "--json").stdout)
    assert told["setting"] == f"default:write:{hashlib.sha256(told['key'].encode()).hexdigest()}"
    assert run("keys", "new", "--tenant", "No Tenant").returncode == 2


def test_the_command_refuses_to_be_open_to_everybody(tmp_path: Path):
    refused = run("gateway", "--host", "0.0.0.0", "--port", "0", KIEJOBS_DATA_DIR=str(tmp_path))
    assert refused.returncode == 2
    assert "kiejobs keys new" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_command_serves_until_it_is_asked_to_stop(tmp_path: Path):
    """Its address is one JSON document; SIGTERM ends it with 0, a request that is under way is answered first."""
    given = environment.without_settings() | {"KIEJOBS_DATA_DIR": str(tmp_path)}
    command = [*COMMAND, "gateway", "--port", "0", "--json"]
    process = subprocess.Popen(command, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told = json.loads("".join(process.stdout.readline() for _ in range(3)))
        assert requests.get(f"{told['gatewayUrl']}/healthz", timeout=10).json() == {"status": "ok"}
        assert requests.get(f"{told['gatewayUrl']}/api/generations", timeout=10).status_code == 200
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path):
    """Exit code 3, before the database is opened."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run("gateway", "--port", port, KIEJOBS_DATA_DIR=str(tmp_path))
    assert ended.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_what_is_described():
    """A field that a document has and the OpenAPI document has not, or the other way round, is found here at once."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    job = Job("x", "t", "a", "m", JobState.FAIL, at, outputs=(Output(0, OutputState.STORED, "result"),))
    told = documents.job_document(job, [Event(at, "k", "w", None, None, "n")])
    delivery = Delivery("x", "x", "t", 1, "k", DeliveryState.PENDING, 0, None, "u", None, at, None)
    written = [
        (schemas.Generation, told),
        (schemas.Output, told["outputs"][0]),
        (schemas.Event, told["timeline"][0]),
        (schemas.JobError, told["error"]),
        (schemas.Account, documents.account_document(Account("default"))),
        (schemas.Delivery, documents.delivery_document(delivery)),
        (schemas.Model, documents.model_document(catalogue.models()[0])),
        (schemas.Problem, document(errors.InvalidInput("x", field="f"))),
    ]
    for described, document_of in written:
        names = {field.alias or name for name, field in described.model_fields.items()}
        assert set(document_of) == names, described.__name__
        described.model_validate(document_of)


def test_what_first_requests_need_is_there_before_the_gateway_listens(tmp_path, monkeypatch):
    """Half a second after a start callbacks waited for connections, and for the import of Celery."""
    loaded = []
    monkeypatch.setattr(nudge, "load", loaded.append)
    settings = make_settings(tmp_path, broker_url="redis://127.0.0.1:1/0")
    opened = services.open_services(settings)
    try:
        assert opened.database.engine.pool.checkedin() == services.CONNECTED
        assert [app.conf.broker_url for app in loaded] == ["redis://127.0.0.1:1/0"]
    finally:
        opened.close()
