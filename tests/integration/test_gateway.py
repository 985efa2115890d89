"""The HTTP API over real sockets, on both databases: what is accepted, refused, shown and ordered, and by whom."""

import hashlib
import re
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from kiejobs import errors
from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import events, jobs, outputs, payloads
from kiejobs.gateway.app import make_app
from kiejobs.gateway.limits import Limits
from kiejobs.gateway.problems import document
from kiejobs.gateway.schemas import EXAMPLES
from kiejobs.gateway.services import open_services
from kiejobs.jobs import JobState
from kiejobs.producer import KieJobs
from kiejobs.settings import Settings
from tests.factories import Nudges, listening, make_job
from tests.gateways import KEYS, Caller, gateway_keys, running, serving

PICTURE = {"model": "z-image", "input": {"prompt": "a red door", "aspect_ratio": "1:1"}}


@pytest.fixture
def keyless(database: Database, settings: Settings, nudges: Nudges) -> Iterator[Caller]:
    """A gateway without keys: tenant default, everything allowed."""
    with running(settings, database, nudges) as address:
        yield Caller(address)


@pytest.fixture
def keyed(database: Database, settings: Settings, nudges: Nudges) -> Iterator[Callable[[str | None], Caller]]:
    """A gateway with keys; `keyed("a-write")` calls it with that one."""
    mixed = Settings(_env_file=None, **(settings.model_dump() | {"gateway_keys": gateway_keys()}))
    with running(mixed, database, nudges) as address:
        yield lambda name: Caller(address, KEYS.get(name, name) if name else None)


def count(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(select(func.count()).select_from(jobs)) or 0


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """Check the form that every error has, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert (told["status"], told["code"]) == (status, code)
    fields = {"type", "title", "status", "detail", "code", "reason", "field", "given", "allowed", "action"}
    assert set(told) == fields
    return told


# ── accepting ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_generation_is_accepted_and_shown(keyless, database, nudges):
    """201, a Location that can be looked at, the usual field names, and a nudge for the workers."""
    made = keyless.post("/api/generations", PICTURE | {"metadata": {"order": 42}})
    assert made.status_code == 201
    told = made.json()
    assert {"generationId", "providerTaskId", "state", "phase", "model", "createdAt"} <= told.keys()
    assert (told["state"], told["phase"], told["model"]) == ("waiting", "queued", "z-image")
    assert told["reused"] is False
    assert [one.task_id for one in nudges.sent] == [told["generationId"]]

    shown = keyless.get(made.headers["Location"]).json()
    assert shown["generationId"] == told["generationId"]
    assert (shown["placeInLine"], shown["metadata"]) == (1, {"order": 42})
    assert [event["kind"] for event in shown["timeline"]] == ["queued"]
    assert count(database) == 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_of_the_description_is_accepted_as_it_is_printed(keyless, name):
    """What somebody pastes from the OpenAPI document works, and its answer has the described form."""
    described = keyless.get("/openapi.json").json()
    body = described["paths"]["/api/generations"]["post"]["requestBody"]["content"]["application/json"]
    made = keyless.post("/api/generations", body["examples"][name]["value"])
    assert made.status_code == 201, made.text


def test_the_batch_example_is_accepted_and_a_batch_is_all_or_nothing(keyless, database):
    """One request that is wrong, and none is accepted; the problem says which one."""
    described = keyless.get("/openapi.json").json()
    body = described["paths"]["/api/generations:batch"]["post"]["requestBody"]["content"]["application/json"]
    made = keyless.post("/api/generations:batch", body["examples"]["two"]["value"])
    assert made.status_code == 201, made.text
    assert [one["model"] for one in made.json()["generations"]] == ["z-image", "z-image"]
    assert count(database) == 2

    refused = keyless.post("/api/generations:batch", {"requests": [PICTURE, PICTURE | {"priority": "now"}]})
    assert problem(refused, 422, "invalid_input")["field"] == "requests[1].priority"
    many = keyless.post("/api/generations:batch", {"requests": [PICTURE] * 101})
    assert problem(many, 422, "invalid_input")["field"] == "requests"
    assert count(database) == 2


def test_the_same_key_and_request_is_the_same_generation_another_request_is_a_conflict(keyless, database):
    """By header or by field; both given and different is refused."""
    first = keyless.post("/api/generations", PICTURE, headers={"Idempotency-Key": "order-42"})
    again = keyless.post("/api/generations", PICTURE | {"idempotencyKey": "order-42"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["generationId"] == again.json()["generationId"]
    assert again.json()["reused"] is False

    other = {
        "model": "z-image",
        "input": {"prompt": "a blue door", "aspect_ratio": "1:1"},
        "idempotencyKey": "order-42",
    }
    problem(keyless.post("/api/generations", other), 409, "idempotency_conflict")
    differ = keyless.post("/api/generations", other, headers={"Idempotency-Key": "order-43"})
    assert problem(differ, 422, "invalid_input")["field"] == "idempotencyKey"
    assert count(database) == 1


def test_a_batch_is_safe_to_repeat_by_its_header(keyless, database):
    """Requests without a key of their own get one each; another batch under the same header is a conflict."""
    batch = {"requests": [PICTURE, PICTURE | {"idempotencyKey": "own"}, PICTURE | {"idempotencyKey": None}]}
    header = {"Idempotency-Key": "monday"}
    first, again = (keyless.post("/api/generations:batch", batch, headers=header) for _ in range(2))
    assert (first.status_code, again.status_code, count(database)) == (201, 200, 3)
    ids = [one["generationId"] for one in first.json()["generations"]]
    assert [one["generationId"] for one in again.json()["generations"]] == ids
    assert keyless.post("/api/generations", PICTURE | {"idempotencyKey": "monday/2"}).json()["generationId"] == ids[2]
    other = {"requests": [PICTURE | {"model": "other/model"}]}
    told = problem(keyless.post("/api/generations:batch", other, headers=header), 409, "idempotency_conflict")
    assert ids[0] in told["detail"]
    for path, body in (("/api/generations", PICTURE), ("/api/generations:batch", batch)):
        answer = keyless.post(path, body, headers={"Idempotency-Key": ""})
        assert problem(answer, 422, "invalid_input")["field"] == "idempotencyKey"
    assert count(database) == 3


def test_fifty_identical_posts_at_once_are_one_generation(keyless, database):
    """One is told 201, all are told the same id."""
    answers = at_once(50, lambda: keyless_post(keyless.base_url, PICTURE | {"idempotencyKey": "order-42"}))
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [201]
    assert len({answer.json()["generationId"] for answer in answers}) == 1
    assert count(database) == 1


def test_of_twenty_at_once_that_would_reuse_one_is_bought(keyless, database):
    """Without any key: the lock of the generation decides."""
    answers = at_once(20, lambda: keyless_post(keyless.base_url, PICTURE | {"reuseWithinS": 60}))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert sorted(answer.json()["reused"] for answer in answers) == [False] + [True] * 19
    assert count(database) == 1
    with database.read() as connection:
        assert connection.scalar(select(func.count()).where(events.c.kind == "reused")) == 19


def keyless_post(base_url: str, body: dict[str, Any]) -> Any:
    return Caller(base_url).post("/api/generations", body)


def at_once(number: int, call: Callable[[], Any]) -> list[Any]:
    """Call from so many threads, released together."""
    answers: list[Any] = []
    ready = threading.Barrier(number)

    def one() -> None:
        ready.wait()
        answers.append(call())

    threads = [threading.Thread(target=one) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == number
    return answers


def test_reuse_gives_back_only_what_is_the_same_recent_and_well(keyless, database):
    """Another input, an older job, one that failed, and another tenant's are not the same."""
    first = keyless.post("/api/generations", PICTURE).json()["generationId"]
    wanted = PICTURE | {"reuseWithinS": 600, "metadata": {"another": "caller"}}
    again = keyless.post("/api/generations", wanted)
    assert (again.status_code, again.json()["reused"], again.json()["generationId"]) == (200, True, first)

    other = {"model": "z-image", "input": {"prompt": "a red door", "aspect_ratio": "4:3"}, "reuseWithinS": 600}
    assert keyless.post("/api/generations", other).status_code == 201
    change(database, first, created_at=clock(-601))
    second = keyless.post("/api/generations", wanted)
    assert second.status_code == 201
    change(database, second.json()["generationId"], state=JobState.FAIL)
    third = keyless.post("/api/generations", wanted)
    assert third.status_code == 201
    change(database, third.json()["generationId"], tenant="somebody-else")
    assert keyless.post("/api/generations", wanted).status_code == 201


def change(database: Database, job_id: str, **columns: Any) -> None:
    with database.write() as tx:
        tx.execute(update(jobs).where(jobs.c.id == job_id).values(**columns))


def test_a_dead_broker_costs_a_producer_nothing(database, settings):
    """201 within a second, on a port where nobody listens; the row is there for the pump."""
    dead = Settings(_env_file=None, **(settings.model_dump() | {"broker_url": "redis://127.0.0.1:1/0"}))
    with running(dead, database) as address:
        caller = Caller(address)
        answers = [caller.post("/api/generations", PICTURE) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [201] * 5
        assert max(answer.elapsed.total_seconds() for answer in answers) < 1.5
        told = caller.get("/readyz")
        assert told.status_code == 503
        assert {name: part["ok"] for name, part in told.json()["parts"].items()} == {
            "database": True,
            "broker": False,
            "sweep": False,
        }
        assert caller.get("/healthz").status_code == 200
    assert count(database) == 5


def test_a_queue_has_an_end(database, settings, nudges):
    """Of each tenant, held jobs included; what came before is given back, and what has gone makes room."""
    known = {"gateway_keys": gateway_keys(), "queue_limit": 3}
    with running(Settings(_env_file=None, **(settings.model_dump() | known)), database, nudges) as address:
        caller, other = (Caller(address, KEYS[name]) for name in ("a-write", "b-write"))
        parent = caller.post("/api/generations", PICTURE | {"idempotencyKey": "first"}).json()["generationId"]
        child = {"model": "x/y", "input": {"image_url": {"$from": {"job": parent}}}}
        assert caller.post("/api/generations", child).status_code == 201
        two = caller.post("/api/generations:batch", {"requests": [PICTURE] * 2})
        told = problem(two, 429, "too_many_requests")
        assert "3 jobs" in told["detail"]
        assert "/api/queue" in told["action"]
        assert int(two.headers["Retry-After"]) >= 1
        assert count(database) == 2
        assert caller.post("/api/generations", PICTURE).status_code == 201
        assert caller.post("/api/generations", PICTURE).status_code == 429
        assert caller.post("/api/generations", PICTURE | {"idempotencyKey": "first"}).status_code == 200
        assert other.post("/api/generations", PICTURE).status_code == 201
        assert caller.post(f"/api/generations/{parent}/cancel").status_code == 200
        assert caller.post("/api/generations", PICTURE).status_code == 201
    jobs_of = KieJobs(settings.model_copy(update={"queue_limit": 1}), database=database, publish=nudges)
    jobs_of.enqueue("x/y", {})
    with pytest.raises(errors.TooManyRequests):
        jobs_of.enqueue("x/y", {})


# ── refusing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"input": {}}, "model"),
        ({"model": "z-image", "inptu": {}}, "inptu"),
        ({"model": "z-image", "input": {"prompt": "x", "aspect_ratio": "17:3"}}, "input.aspect_ratio"),
        ({"model": "new/model", "input": []}, "input"),
        ({"model": "new/model", "priority": "now"}, "priority"),
        ({"model": "new/model", "callbackUrl": "http://127.0.0.1/x"}, "callbackUrl"),
        ({"model": "new/model", "input": {"image_url": "http://10.0.0.1/x"}}, "input.image_url"),
        ({"model": "new/model", "input": {"x": "\x00"}}, "input"),
        ({"model": "new/model", "input": {"a": [{"b\x00": 1}]}}, "input"),
        ({"model": "new/model", "metadata": {"x": "\x00"}}, "metadata"),
        ({"model": "new/model", "metadata": {"x": "y" * 65_536}}, "metadata"),
        ({"model": "new/model", "idempotencyKey": "a\x00b"}, "idempotencyKey"),
        ({"model": "new/model", "account": ""}, "account"),
        ({"model": "new/model", "reuseWithinS": -1}, "reuseWithinS"),
        ({"model": "new/model", "reuseWithinS": 10**400}, "reuseWithinS"),
        ({"model": "new/model", "validate": False}, "validate"),
        ({"model": "new/model", "priority": ""}, "priority"),
        ({"model": "new/model", "input": {"prompt": "x"}, "prompt": "y"}, "prompt"),
        ({"model": "new/model", "input": {}, "options": {"duration": "5"}}, "options"),
        ({"model": "new/model", "prompt": "x", "options": {"prompt": "y"}}, "options.prompt"),
        ({"model": 7}, "model"),
    ],
)
def test_what_is_wrong_is_named(keyless, database, body, field):
    """422 with the field, what is allowed, and the reason that a job would end with; nothing is stored."""
    told = problem(keyless.post("/api/generations", body), 422, "invalid_input")
    assert told["field"] == field
    assert told["reason"] == "invalid_input"
    assert count(database) == 0


def test_no_text_of_a_stranger_is_a_mistake_of_the_gateways(keyless, database):
    """NUL is text that PostgreSQL does not take; wherever it stands it is refused by its name."""
    parked, failed = (make_job(database, state).id for state in (JobState.UNCONFIRMED, JobState.FAIL))
    for method, path, body, field in (
        ("GET", "/api/generations?model=%00", None, "model"),
        ("GET", f"/api/generations?model={'m' * 501}", None, "model"),
        ("POST", f"/api/generations/{parked}/adopt", {"taskId": "a\x00b"}, "taskId"),
        ("POST", f"/api/generations/{failed}/retry", {"pay": True, "why": "\x00"}, "why"),
        ("PUT", "/api/addresses/default", {"url": "https://a.example/\x00"}, "url"),
    ):
        answer = keyless(method, path, json=body)
        assert problem(answer, 422, "invalid_input")["field"] == field, path
    for path in ("/api/generations/%00", "/api/models/%00", "/api/generations/x/outputs/0"):
        problem(keyless.get(path), 404, "not_found")
    huge = keyless.get(f"/api/generations/{failed}/outputs/{'9' * 30}")
    assert huge.status_code in (404, 422)
    problem(keyless.post("/api/deliveries/%00/resend"), 404, "not_found")
    problem(keyless.post("/api/addresses/enable", {"url": "https://a.example/\x00"}), 404, "not_found")


def test_a_text_that_spells_nul_is_text(keyless):
    """As a prompt about programming may."""
    made = keyless.post("/api/generations", {"model": "new/model", "input": {"prompt": r"print \u0000 in C"}})
    assert made.status_code == 201, made.text


def test_a_misspelt_name_is_met_with_the_right_one(keyless):
    """In the body and in a query: a filter that nobody knows would list everything."""
    told = problem(
        keyless.post("/api/generations", PICTURE | {"callbackurl": "https://a.example"}), 422, "invalid_input"
    )
    assert "did you mean 'callbackUrl'" in told["detail"]
    told = problem(keyless.get("/api/generations?stat=fail"), 422, "invalid_input")
    assert "did you mean 'state'" in told["detail"]
    told = problem(keyless.get("/api/generations?state=failed"), 422, "invalid_input")
    assert told["allowed"] == "waiting or success or fail or timeout or canceled"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "unreadable"),
        (b"[]", 400, "unreadable"),
        (b'{"model": NaN}', 400, "unreadable"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, 400, "unreadable"),
        (b"[" * 200_000, 400, "unreadable"),
        (b"\xff\xfe\x00", 400, "unreadable"),
        (b'{"model": "' + b"x" * (2 * 1024 * 1024) + b'"}', 413, "too_large"),
    ],
)
def test_a_body_that_is_none_is_a_problem(keyless, database, body, status, code):
    """Cut, no object, nested too deep, too large."""
    answer = keyless("POST", "/api/generations", data=body, headers={"Content-Type": "application/json"})
    problem(answer, status, code)
    assert count(database) == 0


def test_a_body_that_drips_is_hung_up_on(sqlite, settings, nudges):
    """408, and the thread pool was never touched."""
    with running(settings, sqlite, nudges, Limits(body_within_s=0.3)) as address:
        host = address.removeprefix("http://")
        with socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])), timeout=10) as slow:
            head = f"POST /api/generations HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            slow.sendall(f'{head}Content-Length: 100\r\n\r\n{{"model": '.encode())
            answer = b""
            while piece := slow.recv(65536):
                answer += piece
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer
    assert count(sqlite) == 0


def test_a_body_without_its_type_is_refused(keyless):
    """What a form on a web page can send is never a request."""
    for media_type in ("text/plain", "application/x-www-form-urlencoded", None):
        headers = {"Content-Type": media_type} if media_type else {}
        answer = keyless("POST", "/api/generations", data=b'{"model": "z-image"}', headers=headers)
        problem(answer, 415, "wrong_media_type")


def test_the_frameworks_own_errors_are_problems_too(keyless):
    """No route, no such method, a path parameter of the wrong type."""
    problem(keyless.get("/api/nothing"), 404, "not_found")
    answer = keyless("DELETE", "/api/generations")
    problem(answer, 405, "method_not_allowed")
    assert "GET" in answer.headers["Allow"]
    made = keyless.post("/api/generations", PICTURE).json()["generationId"]
    problem(keyless.get(f"/api/generations/{made}/outputs/first"), 422, "invalid_input")


def test_what_a_broken_database_costs_is_503(settings, tmp_path):
    """With when to come back, and without a word of the database's own."""
    from kiejobs.db.migrate import migrate

    broken = Database(f"sqlite:///{tmp_path / 'broken.db'}")
    migrate(broken)
    with running(settings, broken) as address:
        with broken.write() as tx:
            tx.exec_driver_sql("ALTER TABLE jobs RENAME TO gone")
        answer = Caller(address).get("/api/generations")
        problem(answer, 503, "unavailable")
        assert answer.headers["Retry-After"] == "5"


def test_what_is_said_of_a_dependency_names_no_host_and_no_user(settings, database, nudges, monkeypatch, caplog):
    """A caller, and whoever knows the callbacks' address, is told what to do; the reason is for the log."""
    said = 'the database does not answer: connection to server at "db.internal" failed for user "ada"'
    with running(settings, database, nudges) as address:

        def away(*_: Any, **__: Any) -> None:
            raise errors.DatabaseUnavailable(said)

        with monkeypatch.context() as patch, caplog.at_level("WARNING"):
            for way in ("read", "write", "single"):
                patch.setattr(type(database), way, away)
            answers = [Caller(address).get("/api/queue"), Caller(address).post("/api/generations", PICTURE)]
            for answer in answers:
                told = problem(answer, 503, "unavailable")
                assert told["detail"] == "the database does not answer"
                assert "Retry-After" in told["action"]
                assert answer.headers["Retry-After"] == "5"
    assert said in caplog.text
    for error in (errors.StorageUnavailable("s3://secret-bucket is full"), errors.SettingsError("/home/ada is none")):
        assert not {"s3://secret-bucket", "/home/ada"} & set(document(error)["detail"].split())


# ── who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nobody_comes_in_without_a_key(keyed, database):
    """401 without one, with a wrong one, with another scheme; health checks need none."""
    for headers in (
        {},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer"},
    ):
        answer = keyed(None).post("/api/generations", PICTURE, headers=headers)
        problem(answer, 401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert keyed(None).get("/healthz").status_code == 200
    assert keyed(None).get("/openapi.json").status_code == 200
    assert count(database) == 0


def test_scopes_include_those_before_them(keyed):
    """read looks, write buys, admin also sees accounts."""
    statuses = {
        name: (
            keyed(name).get("/api/generations").status_code,
            keyed(name).post("/api/generations", PICTURE).status_code,
            keyed(name).get("/api/accounts").status_code,
        )
        for name in ("a-read", "a-write", "a-write-new", "a-admin")
    }
    assert statuses == {
        "a-read": (200, 403, 403),
        "a-write": (200, 201, 403),
        "a-write-new": (200, 201, 403),
        "a-admin": (200, 201, 200),
    }


def test_another_tenants_generation_is_404_everywhere(keyed, database):
    """Looking, ordering, its files, and its place in lists."""
    made = make_job(database, JobState.SUCCESS, tenant="a").id
    other = keyed("b-write")
    for method, path in (
        ("GET", ""),
        ("GET", "/timeline"),
        ("GET", "/outputs/0"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("POST", "/refresh"),
    ):
        problem(other(method, f"/api/generations/{made}{path}"), 404, "not_found")
    problem(other.post(f"/api/generations/{made}/adopt", {"taskId": "x"}), 404, "not_found")
    assert other.get("/api/generations").json() == {"generations": [], "nextCursor": None}
    assert keyed("a-read").get(f"/api/generations/{made}").status_code == 200
    for nonsense in ("nonsense", uuid.uuid4(), "%00", "..%2f"):
        assert keyed("a-read").get(f"/api/generations/{nonsense}").status_code == 404


def test_the_same_idempotency_key_of_two_tenants_is_two_generations(keyed, database):
    """Keys are the tenant's own."""
    for name in ("a-write", "b-write"):
        assert keyed(name).post("/api/generations", PICTURE | {"idempotencyKey": "1"}).status_code == 201
    assert count(database) == 2


def test_accounts_show_no_key(keyed):
    """The name and what is free, nothing that could be used."""
    told = keyed("a-admin").get("/api/accounts")
    assert [account["name"] for account in told.json()["accounts"]] == ["default"]
    assert "key" not in told.text.lower()


def test_without_keys_a_page_of_a_browser_gets_nothing(keyless, database):
    """Another Host is a rebound name, another Origin another page; a callback is neither."""
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", ""):
        problem(keyless.get("/api/generations", headers={"Host": host}), 403, "forbidden")
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        answer = keyless.post("/api/generations", PICTURE, headers={"Origin": origin})
        problem(answer, 403, "forbidden")
    assert count(database) == 0
    assert keyless.post("/api/generations", PICTURE, headers={"Origin": keyless.base_url}).status_code == 201
    assert keyless.get("/api/generations", headers={"Host": "localhost:9"}).status_code == 200


def test_a_tenant_that_asks_too_often_is_told_when_to_come_back(sqlite, settings, nudges):
    """Its own requests alone are counted."""
    mixed = Settings(_env_file=None, **(settings.model_dump() | {"gateway_keys": gateway_keys()}))
    with running(mixed, sqlite, nudges, Limits(requests_per_s=0.01, burst=3)) as address:
        eager = Caller(address, KEYS["a-read"])
        assert [eager.get("/api/models").status_code for _ in range(4)] == [200, 200, 200, 429]
        answer = eager.get("/api/models")
        problem(answer, 429, "too_many_requests")
        assert 50 <= int(answer.headers["Retry-After"]) <= 200
        assert Caller(address, KEYS["b-write"]).get("/api/models").status_code == 200


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_list_is_read_page_by_page(keyless, database):
    """Newest first, no job twice, none missed, also when one is made meanwhile."""
    made = [make_job(database, elapsed_s=float(age)).id for age in range(100, 150)]
    seen: list[str] = []
    cursor = None
    while True:
        page = keyless.get("/api/generations", params={"limit": 7, "cursor": cursor}).json()
        seen += [one["generationId"] for one in page["generations"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
        make_job(database)
    assert seen == made


def test_a_list_reads_no_inputs(keyless, database, settings, nudges):
    """A page of two hundred inputs of a mebibyte each would fill the memory; metadata comes back as it was given."""
    odd = {"order": 42, "ü": [1.5, None, {"deep": "\\u0000"}], "big": 12345678901234567890123}
    plain = keyless.post("/api/generations", PICTURE).json()["generationId"]
    made = keyless.post("/api/generations", PICTURE | {"metadata": odd}).json()["generationId"]
    with database.write() as tx:
        tx.execute(
            update(payloads).where(payloads.c.job_id == plain).values(request={"input": {"prompt": "x" * 10**6}})
        )
    statements: list[str] = []

    def note(*given: Any) -> None:
        statements.append(given[2])

    with listening(database, note):
        listed = keyless.get("/api/generations").json()["generations"]
    assert {one["generationId"]: one["metadata"] for one in listed} == {made: odd, plain: {}}
    whole = re.compile(r"(?<!JSON_EXTRACT\()payloads\.request(?! ->)")
    assert any("payloads" in one for one in statements)
    assert not any(whole.search(one) for one in statements)


def test_a_list_is_filtered(keyless, database):
    """By state, fine state, model and time."""
    old = make_job(database, JobState.FAIL, elapsed_s=7200.0).id
    parked = make_job(database, JobState.UNCONFIRMED, model="sora-2", elapsed_s=60.0).id
    new = make_job(database, elapsed_s=0.0).id

    def ids(**query: Any) -> list[str]:
        answer = keyless.get("/api/generations", params=query)
        assert answer.status_code == 200, answer.text
        return [one["generationId"] for one in answer.json()["generations"]]

    assert ids() == [new, parked, old]
    assert ids(state="fail") == [old]
    assert ids(state="waiting") == [new, parked]
    assert ids(phase="unconfirmed") == [parked]
    assert ids(model="sora-2") == [parked]
    middle = keyless.get(f"/api/generations/{parked}").json()["createdAt"]
    assert ids(since=middle) == [new, parked]
    assert ids(until=middle) == [old]
    for name, value in (("since", "yesterday"), ("limit", "0"), ("limit", "1000"), ("cursor", "!!"), ("cursor", "e30")):
        told = problem(keyless.get("/api/generations", params={name: value}), 422, "invalid_input")
        assert told["field"] == name


def test_what_went_wrong_is_told_with_what_to_do(keyless, database):
    """A job that failed, and one that is parked."""
    failed = keyless.get(f"/api/generations/{make_job(database, JobState.FAIL).id}").json()
    assert failed["error"]["reason"] == "generation"
    assert "retry" in failed["error"]["action"]
    parked = keyless.get(f"/api/generations/{make_job(database, JobState.UNCONFIRMED).id}").json()
    assert (parked["state"], parked["phase"]) == ("waiting", "unconfirmed")
    assert "adopt" in parked["error"]["action"]


def test_models_are_listed_and_described(keyless):
    """An id with a slash is a path; an unknown one is met with the one that was meant."""
    listed = keyless.get("/api/models").json()["models"]
    assert "kling-2.6/text-to-video" in {model["id"] for model in listed}
    one = keyless.get("/api/models/kling-2.6/text-to-video").json()
    assert one["input"]["type"] == "object"
    assert "prompt" in one["input"]["properties"]
    told = problem(keyless.get("/api/models/kling-2.6/text-to-vidoe"), 404, "not_found")
    assert "kling-2.6/text-to-video" in told["action"]


def test_the_queue_counts_what_is_unfinished(keyless, database):
    """In line, held, in flight; what ended is none of it."""
    for state in (JobState.QUEUED, JobState.QUEUED, JobState.WAITING, JobState.STORING, JobState.SUCCESS):
        make_job(database, state)
    make_job(database, tenant="another")
    make_job(database, line_at=None, due_at=clock(60), held="a cap")
    assert keyless.get("/api/queue").json() == {"inLine": 2, "held": 1, "inFlight": {"storing": 1, "waiting": 1}}


# ── ordering ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_orders_do_what_the_command_line_does(keyless, database, nudges):
    """Cancel, refresh, retry and adopt; what the state does not allow is 409."""
    queued = make_job(database).id
    told = keyless.post(f"/api/generations/{queued}/cancel").json()
    assert (told["state"], told["timeline"][-1]["kind"]) == ("canceled", "canceled")
    assert "nothing" in told["message"] or "bought" in told["message"]
    assert keyless.post(f"/api/generations/{queued}/cancel").status_code == 200  # asking twice is no mistake
    done = make_job(database, JobState.SUCCESS).id
    problem(keyless.post(f"/api/generations/{done}/cancel"), 409, "not_possible")

    waiting = make_job(database, JobState.WAITING).id
    assert keyless.post(f"/api/generations/{waiting}/refresh").status_code == 200
    assert nudges.sent[-1].task_id.startswith(f"{waiting}.poll")

    failed = make_job(database, JobState.FAIL).id
    assert "--pay" in problem(keyless.post(f"/api/generations/{failed}/retry"), 409, "not_possible")["action"] + "--pay"
    paid = keyless.post(f"/api/generations/{failed}/retry", {"pay": True, "why": "the customer asked"})
    assert paid.json()["phase"] == "queued"
    assert (
        problem(keyless.post(f"/api/generations/{failed}/retry", {"pay": "yes"}), 422, "invalid_input")["field"]
        == "pay"
    )

    parked = make_job(database, JobState.UNCONFIRMED).id
    named = keyless.post(f"/api/generations/{parked}/adopt", {"taskId": "abc"})
    assert named.status_code == 200
    problem(keyless.post(f"/api/generations/{waiting}/adopt", {"taskId": "abc"}), 409, "not_possible")
    told = problem(keyless.post(f"/api/generations/{parked}/adopt", {"task_id": "abc"}), 422, "invalid_input")
    assert "taskId" in told["detail"]


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def stored(database: Database, settings: Settings, content: bytes, media_type: str, extension: str) -> str:
    """Make a job whose output 0 lies in the test's folder."""
    made = make_job(database, JobState.SUCCESS)
    key = f"default/2026/01/02/{made.id}/0.{extension}"
    path = Path(settings.storage) / key
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    values = {"key": key, "media_type": media_type, "size_bytes": len(content)}
    values["sha256"] = hashlib.sha256(content).hexdigest()
    with database.write() as tx:
        tx.execute(update(outputs).where(outputs.c.job_id == made.id).values(**values))
    return made.id


def test_a_stored_file_is_given_whole_and_in_parts(keyless, database, settings):
    """With its digest as its tag, under the address that the generation names, and nothing that a browser would run."""
    content = bytes(range(256)) * 40
    made = stored(database, settings, content, "video/mp4", "mp4")
    shown = keyless.get(f"/api/generations/{made}").json()
    assert shown["resultUrls"] == [f"{keyless.base_url}/api/generations/{made}/outputs/0"]
    path = shown["resultUrls"][0].removeprefix(keyless.base_url)

    whole = keyless.get(path)
    assert (whole.status_code, whole.content) == (200, content)
    headers = {name.lower(): value for name, value in whole.headers.items()}
    assert headers["content-type"] == "video/mp4"
    assert headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert headers["content-disposition"] == f'inline; filename="{made}-0.mp4"'
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]

    part = keyless.get(path, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, content[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(content)}"
    for beyond in ("bytes=99999999-", "bytes=-0", "bytes=0-1,99999999-"):
        answer = keyless.get(path, headers={"Range": beyond})
        assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{len(content)}"), beyond
        assert answer.headers["Content-Type"] == "application/problem+json"
    for none in ("bytes=5-2", "items=0-1", "bytes=", "bytes=a-b", "bytes=1-2,x"):
        answer = keyless.get(path, headers={"Range": none})
        assert (answer.status_code, answer.content) == (200, content), none
    assert headers["cache-control"] == "private, no-cache"  # bought again, another file has this address
    assert keyless.get(path, headers={"If-None-Match": headers["etag"]}).status_code == 304
    head = keyless("HEAD", path)
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(len(content)), b"")


def test_a_storage_without_files_or_links_is_read_through(sqlite, settings, nudges):
    """Piece by piece, the same headers."""
    content = bytes(range(256)) * 20_000
    made = make_job(sqlite, JobState.SUCCESS)
    values = {"media_type": "video/mp4", "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    with sqlite.write() as tx:
        key = tx.scalar(update(outputs).where(outputs.c.job_id == made.id).values(**values).returning(outputs.c.key))
    mixed = Settings(_env_file=None, **(settings.model_dump() | {"storage_url": "memory:///"}))
    services = open_services(mixed, database=sqlite, publish=nudges)
    services.store.put(key, iter([content]), media_type="video/mp4")
    with serving(make_app(mixed, services=services)) as address:
        given = Caller(address).get(f"/api/generations/{made.id}/outputs/0")
    assert given.content == content
    assert given.headers["Content-Length"] == str(len(content))
    assert given.headers["X-Content-Type-Options"] == "nosniff"


def test_what_is_no_picture_or_sound_is_a_download(keyless, database, settings):
    """A page or a drawing with scripts would run in the gateway's name."""
    for media_type, extension in (("text/html", "html"), ("image/svg+xml", "svg"), ("application/json", "json")):
        made = stored(database, settings, b"<script>", media_type, extension)
        answer = keyless.get(f"/api/generations/{made}/outputs/0")
        assert answer.headers["Content-Disposition"].startswith("attachment; ")


def test_a_file_that_is_not_stored_is_404(keyless, database, settings):
    """Not yet, never, and gone."""
    problem(keyless.get(f"/api/generations/{make_job(database, JobState.STORING).id}/outputs/0"), 404, "not_found")
    made = stored(database, settings, b"x", "image/png", "png")
    problem(keyless.get(f"/api/generations/{made}/outputs/1"), 404, "not_found")
    problem(keyless.get(f"/api/generations/{made}/outputs/-1"), 404, "not_found")
    next(Path(settings.storage).rglob("0.png")).unlink()
    problem(keyless.get(f"/api/generations/{made}/outputs/0"), 404, "not_found")
