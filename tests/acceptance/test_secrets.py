"""No secret is anywhere but where it belongs: unique values for all of them, everything that can go wrong, one search.

Searched is all that the installation leaves behind or tells anybody: logs at DEBUG, the database's dump, what Redis was
told (MONITOR) and keeps, Flower's pages (they show Celery's events), messages to producers, the object store's requests
and files, the data dir, command lines, the answers of gateway and command line.

Where a value belongs, and is not looked for:

- the keys in calls to Kie, S3's in its own signatures, the passwords in the talk with broker and database;
- `X-Amz-Signature`, `webhook-signature` and the like: proofs made with a secret tell nothing of it. The id of a storage
  key (`AWS_ACCESS_KEY_ID`) stands in every signed link and is no secret;
- the token in a callback's address: Kie gets it with the create call, and its records repeat it. That is no reason to
  keep or show it, so it is looked for like a secret everywhere else;
- a producer's own address with the secret in its query: in the database, from which it is called, and in what its owner
  is shown of it. Not in logs, broker, Flower;
- a prompt, which is no secret but nobody's business: in the database, in what its owner is shown, and in what the broker
  is told of a bare message. Not in logs, Flower, file names, nor in what the broker keeps when the message is done with.
"""

import base64
import json
import secrets
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import pytest
import requests
from celery import Celery

from kiejobs.gateway.keys import digest_of
from kiejobs.kie.callbacks import token
from kiejobs.simulator import Simulator
from tests.acceptance.canaries import Monitor, Parrot, canary, forms, no_messages, search, wrong_messages
from tests.acceptance.stage import (
    BEAT,
    COPIES,
    POSTGRESQL,
    QUICK,
    TOP,
    Stage,
    free_port,
    has_redis,
    kill,
    listens,
    until,
)
from tests.contract.s3faults import Relay, relay
from tests.contract.s3server import S3Server, s3_server
from tests.contract.s3server import missing as s3_missing
from tests.receiver import Receiver
from tests.support import missing, postgresql_answers

MODEL = "grok-imagine/text-to-image"
PRODUCERS, FLOWERS = "producer's address", "Flower's password"
SHOWN_TO_ITS_OWNER = ("database", "gateway", "cli")
BELONGS_IN = {
    "prompt": (*SHOWN_TO_ITS_OWNER, "broker was told"),
    PRODUCERS: SHOWN_TO_ITS_OWNER,
}
"""Where a value may be; a secret nowhere."""


@dataclass
class Scene:
    """The installation, what belongs to it, its secrets, and what it left behind: place → text."""

    stage: Stage
    secrets: dict[str, str]
    gateway: str
    flower: str
    receiver: Receiver
    bucket: Relay
    objects: Path
    monitor: Monitor
    quick: "subprocess.Popen[bytes]"
    places: dict[str, str] = field(default_factory=dict)
    after_garbage: list[str] = field(default_factory=list)
    """Phases of the jobs that were asked for after messages that are none."""

    @property
    def prompt(self) -> str:
        return self.secrets["prompt"]


def made_secrets() -> dict[str, str]:
    """Make one value for every secret there is."""
    named = ("broker password", "wrong broker password", "database password", "callback secret", "Kie's signature key")
    named += ("second signature key", "storage secret", "webhook secret", "prompt", PRODUCERS)
    made = {name: canary(name.replace(" ", "-").replace("'", "")) for name in named}
    made |= {f"key of {name}": f"{name}canary{secrets.token_hex(16)}" for name in ("default", "second", "refused")}
    made |= {f"gateway key of {name}": f"kj_{secrets.token_urlsafe(32)}" for name in ("default", "shop", "nobody")}
    return made | {FLOWERS: f"flower-canary-{secrets.token_hex(8)}"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Run an installation through everything that can go wrong."""
    if not has_redis():
        missing("redis-server on PATH")
    if not postgresql_answers():
        missing("PostgreSQL on 127.0.0.1:5432")
    if s3_missing():
        missing(str(s3_missing()))
    with installed(tmp_path_factory.mktemp("secrets"), made_secrets()) as made:
        what_goes_wrong(made)
        look_everywhere(made)
        yield made


@contextmanager
def installed(folder: Path, values: dict[str, str]) -> Iterator[Scene]:
    """Start everything: simulator, parrot, bucket, producer, Redis, workers, beat, gateway, Flower."""
    with ExitStack() as stack:
        keys = [values["key of default"], values["key of second"]]
        simulator = Simulator(duration_s=1.0, hmac_key=values["Kie's signature key"], keys=keys).start()
        stack.callback(simulator.stop)
        parrot, receiver = Parrot(simulator.base_url), Receiver(failures=1)
        stack.callback(parrot.close)
        stack.callback(receiver.close)
        server = stack.enter_context(s3_server(folder / "s3", secret_key=values["storage secret"]))
        bucket = stack.enter_context(relay(server.endpoint_url))
        gateway, flower = free_port(), free_port()
        settings = _settings(values, simulator, receiver, server) | {
            "KIE_BASE_URL": parrot.url,
            "AWS_ENDPOINT_URL": bucket.endpoint_url,
            "KIEJOBS_PUBLIC_URL": f"http://127.0.0.1:{gateway}",
        }
        passwords = (values["broker password"], values["database password"])
        stage = stack.enter_context(
            Stage(folder, database="postgresql", simulator=simulator, passwords=passwords, **settings)
        )
        monitor = Monitor(stage.redis_port, values["broker password"])
        quick = stage.start(QUICK)
        stage.start(COPIES)
        stage.start(BEAT)
        stage.start(("flower", f"--conf={TOP / 'flowerconfig.py'}", f"--port={flower}"))
        command = [sys.executable, "-m", "kiejobs.cli", "gateway", "--port", str(gateway)]
        stage.processes.append(stage._spawn(command, "gateway"))
        made = Scene(
            stage=stage,
            secrets=values,
            gateway=f"http://127.0.0.1:{gateway}",
            flower=f"http://127.0.0.1:{flower}",
            receiver=receiver,
            bucket=bucket,
            objects=server.folder,
            monitor=monitor,
            quick=quick,
        )
        until("gateway and Flower listen", lambda: listens(gateway) and listens(flower))
        until("the workers are ready", lambda: all(map(stage.is_ready, stage.processes[:2])))
        yield made


def _settings(values: dict[str, str], simulator: Simulator, receiver: Receiver, server: S3Server) -> dict[str, str]:
    accounts = {
        "second": {"key": values["key of second"], "hmac_key": values["second signature key"]},
        "refused": {"key": values["key of refused"]},
    }
    gateway_keys = [f"{name}:admin:{digest_of(values[f'gateway key of {name}'])}" for name in ("default", "shop")]
    return server.environment | {
        "KIE_API_KEY": values["key of default"],
        "KIE_WEBHOOK_HMAC_KEY": values["Kie's signature key"],
        "KIEJOBS_ACCOUNTS": json.dumps(accounts),
        "KIEJOBS_CALLBACK_SECRET": values["callback secret"],
        "KIEJOBS_WEBHOOK_SECRETS": f"whsec_{base64.b64encode(values['webhook secret'].encode()).decode()}",
        "KIEJOBS_GATEWAY_KEYS": ",".join(gateway_keys),
        "KIEJOBS_FLOWER_AUTH": f"ada:{values[FLOWERS]}",
        "KIEJOBS_STORAGE_URL": server.url,
        "KIEJOBS_EGRESS_ALLOW": f"{simulator.files_host_port},{urlsplit(receiver.url).netloc},127.0.0.1:9",
        "KIEJOBS_HTTP_TIMEOUT_S": "2",
        "KIEJOBS_LOG_LEVEL": "DEBUG",
    }


# What goes wrong.


def what_goes_wrong(scene: Scene) -> None:
    """Provoke it, and wait until everything has come to rest."""
    stage = scene.stage
    wrong = stage.env["KIEJOBS_BROKER_URL"].replace(
        quote(scene.secrets["broker password"], safe=""), quote(scene.secrets["wrong broker password"], safe="")
    )
    stranger = stage.start(BEAT, {"KIEJOBS_BROKER_URL": wrong})
    for prompt, account in NOT_WAITED_FOR:
        _enqueued(scene, prompt, account)
    ids = [_enqueued(scene, prompt, account) for prompt, account in ASKED]
    ids += _asked_over_http(scene)
    _call_back(scene)
    scene.after_garbage = _send_messages(scene)
    stage.ended(ids)
    _break_storage(scene)
    until("one worker could not log in", lambda: "password" in stage.log_of(stranger))
    kill(stranger)
    _cut_connections(scene)
    until("the messages were tried", lambda: _tried(scene))


ASKED = (
    ("[[outputs=1]]", "default"),
    ("[[outputs=1]]", "second"),  # a callback signed with another account's key: refused
    ("[[refuse=422]]", "default"),
    ("[[fail=500]]", "default"),
    ("[[http-after=502]]", "default"),
    ("[[hang]]", "default"),
    ("[[cut-body]]", "default"),
    ("[[no-task-id]] [[outputs=1]]", "default"),
    ("parrot-422", "default"),
    ("parrot-500", "default"),
    ("parrot-html", "default"),
    ("parrot-fail [[fail=501]]", "default"),
)
NOT_WAITED_FOR = (
    ("parrot-401", "refused"),  # an account that is refused waits, its jobs with it
    ("a prompt", "refused"),
    ("[[poll-http=502]] [[outputs=1]]", "default"),
    ("[[html-result]] [[outputs=1]]", "second"),  # fetched again, later
    ("[[expired-link]] [[outputs=1]]", "second"),
)


def _enqueued(scene: Scene, prompt: str, account: str) -> str:
    address = f"{scene.receiver.url}&secret={quote(scene.secrets[PRODUCERS], safe='')}"
    given = {"prompt": f"{scene.prompt} {prompt}"}
    return scene.stage.jobs.enqueue(MODEL, given, account=account, callback_url=address).id


def _asked_over_http(scene: Scene) -> list[str]:
    """Ask as a service does: well, wrongly, and as nobody; with addresses that take no message."""
    asked = {"model": MODEL, "input": {"prompt": f"{scene.prompt} [[refuse=422]]"}}
    secret = quote(scene.secrets[PRODUCERS], safe="")
    ids = []
    for address in (f"http://127.0.0.1:9/?secret={secret}", f"http://localhost:1/?secret={secret}"):
        answer = _gateway(scene, "POST", "/api/generations", json=asked | {"callbackUrl": address})
        ids += [answer.json()["generationId"]] if answer.ok else []
    _gateway(scene, "POST", "/api/generations", json={"model": 5, "input": scene.prompt})
    _gateway(scene, "POST", "/api/generations", data=b"{")
    _gateway(scene, "GET", "/api/accounts", key=scene.secrets["gateway key of nobody"])
    _gateway(scene, "GET", f"/api/generations/{uuid.uuid4()}")
    return ids


def _gateway(scene: Scene, method: str, path: str, key: str = "", **options: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {key or scene.secrets['gateway key of default']}"}
    answer = requests.request(
        method, f"{scene.gateway}{path}", headers=headers, timeout=10, allow_redirects=False, **options
    )
    scene.places[f"gateway {method} {path} {len(scene.places)}"] = (
        f"{answer.status_code} {answer.headers} {answer.text}"
    )
    return answer


def _call_back(scene: Scene) -> None:
    """Call as Kie and as somebody who pretends to be it."""
    bound = "SELECT id, provider_task_id FROM submissions WHERE provider_task_id IS NOT NULL LIMIT 1"
    (row,) = until("a task is known", lambda: scene.stage.query(bound))
    own = token(str(row.id), scene.secrets["callback secret"])
    told = {"taskId": row.provider_task_id, "callBackUrl": f"{scene.gateway}/callbacks/kie/{own}"}
    forged = {"X-Webhook-Timestamp": "1", "X-Webhook-Signature": "bm90IGtpZQ=="}
    for address, body in ((own, told), (own, {}), (own[:-1] + "x", told), (f"{uuid.uuid4()}.{'0' * 32}", told)):
        answer = requests.post(f"{scene.gateway}/callbacks/kie/{address}", json=body, headers=forged, timeout=5)
        assert answer.status_code in (400, 403, 404)
        scene.places[f"gateway callback {len(scene.places)}"] = f"{answer.headers} {answer.text}"


def _send_messages(scene: Scene) -> list[str]:
    """Send messages that are no task of ours, or none at all, and then two that are; return how those end."""
    request = {"model": MODEL, "input": {"prompt": f"{scene.prompt} [[outputs=1]]"}}
    client = scene.monitor.client
    after = []
    with Celery(broker=scene.stage.env["KIEJOBS_BROKER_URL"], set_as_current=False) as producer:
        for name, arguments in wrong_messages(MODEL, request):
            producer.send_task(name, queue="submit", task_id=str(uuid.uuid4()), **arguments)
        whole = json.loads(client.lindex("submit", 0) or b"null") or _message(producer, request)
        for garbage in no_messages(whole, scene.prompt):
            client.lpush("submit", garbage)
        for _ in range(2):
            after.append(str(uuid.uuid4()))
            producer.send_task(
                "kiejobs.submit_generation", queue="submit", task_id=after[-1], kwargs={"request": request}
            )
    until("the bare requests arrived", lambda: _arrived(scene, after))
    return [job.phase for job in scene.stage.ended(after)]


def _message(producer: Celery, request: dict[str, Any]) -> dict[str, Any]:
    """Make a whole message as it lies in Redis."""
    seen: list[dict[str, Any]] = []
    with producer.connection_for_write() as connection, connection.channel() as channel:
        channel._put = lambda queue, message, **_: seen.append(message)
        producer.send_task(
            "kiejobs.submit_generation",
            kwargs={"request": request},
            queue="submit",
            producer=producer.amqp.Producer(channel),
        )
    return seen[0]


def _arrived(scene: Scene, ids: list[str]) -> bool:
    found = scene.stage.query("SELECT id FROM jobs WHERE id = ANY(CAST(:ids AS uuid[]))", ids=ids)
    return len(found) == len(ids)


COPY_FAILED = "SELECT 1 FROM outputs WHERE job_id = CAST(:job AS uuid) AND error IS NOT NULL"


def _break_storage(scene: Scene) -> None:
    for fault in ("down", "denied"):
        scene.bucket.fault = fault
        job = _enqueued(scene, "[[outputs=1]]", "second")
        until(f"a copy failed, storage {fault}", partial(scene.stage.query, COPY_FAILED, job=job))


def _cut_connections(scene: Scene) -> None:
    """Hang up on everybody who is connected to Redis and PostgreSQL."""
    before = len(scene.stage.logs())
    scene.monitor.hang_up()
    with scene.stage._postgresql() as connection:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        connection.execute(cut, (scene.stage._database,))
    scene.stage.jobs.database.close()  # ours are cut, too
    until("somebody noticed", lambda: "onnection" in scene.stage.logs()[before:] or len(scene.stage.logs()) > before)


def _tried(scene: Scene) -> bool:
    tried = scene.stage.query("SELECT state, error FROM deliveries WHERE attempts > 0")
    return len(scene.receiver.seen) > 5 and any("not reached" in str(row.error) for row in tried)


# Where it is looked for.


def look_everywhere(scene: Scene) -> None:
    """Read all that can be read, then end the processes and read what they leave behind."""
    stage, places = scene.stage, scene.places
    _look_at_flower(scene)
    _look_at_gateway(scene)
    _look_at_cli(scene)
    for process in stage.processes:
        if process.poll() is None:
            places[f"process {process.pid}"] = Path(f"/proc/{process.pid}/cmdline").read_text()
    places["broker keeps"] = scene.monitor.kept()
    assert scene.quick.poll() is None
    for process in stage.processes:
        kill(process, signal.SIGINT if "flower" in places.get(f"process {process.pid}", "") else signal.SIGTERM)
    places["broker was told"] = "\n".join(scene.monitor.heard)
    places["database"] = dump(stage)
    places |= {f"log {path.name}": path.read_text(errors="replace") for path in stage.folder.glob("*.log")}
    for folder in (scene.objects, Path(stage.env["KIEJOBS_DATA_DIR"])):
        for path in folder.rglob("*"):
            places[f"file {path.name}"] = path.read_bytes().decode("latin-1") if path.is_file() else ""
            places["file names"] = places.get("file names", "") + f"{path}\n"
    places["storage was asked"] = "\n".join(scene.bucket.asked + scene.bucket.told)
    places["messages to producers"] = "\n".join(
        f"{headers} {json.dumps(body)}" for headers, body in scene.receiver.seen
    )
    for row in stage.query("SELECT id FROM submissions"):
        scene.secrets[f"token of {row.id}"] = token(str(row.id), scene.secrets["callback secret"]).partition(".")[2]


def dump(stage: Stage) -> str:
    """Return all that is in the database."""
    if shutil.which("pg_dump"):
        address = f"{POSTGRESQL.replace('+psycopg', '')}/{stage._database}"
        done = subprocess.run(["pg_dump", address], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
    tables = [row.name for row in stage.query("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")]
    return "\n".join(str(row) for table in tables for row in stage.query(f'SELECT t.*::text FROM "{table}" t'))


def _look_at_flower(scene: Scene) -> None:
    login = ("ada", scene.secrets[FLOWERS])

    def read(path: str) -> requests.Response:
        answer = requests.get(f"{scene.flower}{path}", auth=login, timeout=15)
        scene.places[f"flower {path}"] = f"{answer.headers} {answer.text}"
        return answer

    requests.get(f"{scene.flower}/api/tasks", auth=("ada", "wrong"), timeout=5)
    workers = read("/api/workers?refresh=1").json()
    for path in ("/broker", "/tasks", "/workers", "/metrics", *(f"/worker/{name}" for name in workers)):
        read(path)
    for task_id in read("/api/tasks").json():
        read(f"/task/{task_id}")


def _look_at_gateway(scene: Scene) -> None:
    jobs = _gateway(scene, "GET", "/api/generations?limit=100").json()["generations"]
    for job in jobs:
        for path in ("", "/timeline", "/outputs/0"):
            _gateway(scene, "GET", f"/api/generations/{job['generationId']}{path}")
    for path in ("/api/accounts", "/api/queue", "/metrics", "/readyz", "/healthz", "/openapi.json", "/nothing"):
        _gateway(scene, "GET", path)
    _look_at_pages(scene, [job["generationId"] for job in jobs])


def _look_at_pages(scene: Scene, ids: list[str]) -> None:
    """Read the pages as somebody who is logged in."""
    visitor = requests.Session()
    form = {"key": scene.secrets["gateway key of default"]}
    origin = {"Origin": scene.gateway}
    answer = visitor.post(f"{scene.gateway}/login", data=form, headers=origin, timeout=10)
    assert answer.ok, answer.text
    for path in ("/", "/health", *(f"/jobs/{job_id}" for job_id in ids)):
        answer = visitor.get(f"{scene.gateway}{path}", timeout=10)
        assert answer.ok
        scene.places[f"gateway page {path}"] = answer.text


def _look_at_cli(scene: Scene) -> None:
    """Run the commands that show something, and those whose settings are wrong."""
    ids = [str(row.id) for row in scene.stage.query("SELECT id FROM jobs ORDER BY created_at")]
    commands = [["accounts", "--spend"], ["deliveries", "--limit", "100"], ["keys", "list"], ["list"]]
    shown: list[Run] = [(command, {}) for command in [*commands, *(["show", job_id] for job_id in ids)]]
    examined: list[Run] = [
        (["doctor"], {}),
        *((["doctor", "--json"], wrong) for wrong in wrong_settings(scene.secrets)),
    ]
    with ThreadPoolExecutor() as pool:
        scene.places["cli shows"], scene.places["cli doctor"] = pool.map(partial(_said, scene), (shown, examined))
    assert scene.places["cli shows"].count("ended with 0") == len(shown), scene.places["cli shows"]


Run = tuple[list[str], dict[str, str]]
"""A command, and what is different in its environment."""

COMMANDS = """
import json, os, sys
from kiejobs.cli.app import app
usual = dict(os.environ)
for command, changed in json.load(sys.stdin):
    os.environ |= usual | changed
    try:
        app(command)
    except SystemExit as ended:
        print(command, "ended with", ended.code)
"""
"""Many commands in one process: to start one for each takes longer than all else here."""


def _said(scene: Scene, runs: list[Run]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        input=json.dumps(runs),
        env=scene.stage.env,
        cwd=scene.stage.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("ended with") == len(runs), done.stderr
    return f"{done.stdout}\n{done.stderr}"


def wrong_settings(values: dict[str, str]) -> Iterator[dict[str, str]]:
    """Give settings that cannot be used, each with a secret in it, and then some that lead nowhere."""
    key, password = values["gateway key of default"], quote(values["database password"], safe="")
    yield {"KIEJOBS_GATEWAY_KEYS": key}
    yield {"KIEJOBS_ACCOUNTS": json.dumps({"x": {"key": f"with a blank {values['key of second']}"}})}
    yield {"KIEJOBS_WEBHOOK_SECRETS": values["webhook secret"]}
    yield {"KIEJOBS_DATABASE_URL": f"postgresql+psycopg://postgres:{password}@@127.0.0.1:x/y"}
    yield {
        "KIEJOBS_DATABASE_URL": f"postgresql+psycopg://postgres:{password}@127.0.0.1:1/x",
        "KIEJOBS_BROKER_URL": f"redis://:{quote(values['wrong broker password'], safe='')}@127.0.0.1:1/0",
        "KIE_API_KEY": values["key of refused"],
    }


# What must hold.


@pytest.mark.parametrize("written", ["{}", "before {} after", "x{}"])
@pytest.mark.parametrize("how", [str, quote_plus, lambda text: base64.b64encode(text.encode()).decode()])
@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_the_search_finds_a_value_in_every_form(written, how, before):
    """As it is, for an address, in base64 wherever it begins there."""
    value = canary("value")
    text = written.format(how(f"{before}{value} after"))
    assert search({"log": text, "nothing": "nothing"}, {"it": value}) == ["it in log"]


def test_the_search_finds_what_is_known_to_be_there(scene):
    """The prompt in the database, in what Redis was told of bare messages, and in the answers to its owner."""
    found = [place for place, text in scene.places.items() if any(form in text for form in forms(scene.prompt))]
    assert {"database", "broker was told"} <= set(found)
    assert any(place.startswith("gateway") for place in found)
    assert len(scene.places) > 80


def test_everything_went_wrong_that_was_meant_to(scene):
    """Or nothing could have leaked."""
    stage = scene.stage
    states = {row.state for row in stage.query("SELECT DISTINCT state FROM submissions")}
    assert {"accepted", "refused", "unknown"} <= states
    codes = {row.code for row in stage.query("SELECT DISTINCT code FROM submissions")}
    assert {"401", "422", "500", "502"} <= codes
    reasons = {row.reason for row in stage.query("SELECT DISTINCT reason FROM jobs")}
    assert {"invalid_input", "generation"} <= reasons
    verdicts = {str(row.verdict).partition(":")[0] for row in stage.query("SELECT verdict FROM callbacks")}
    assert verdicts >= {"accepted", "refused"}


def test_no_secret_is_anywhere(scene):
    """In no form, in no place."""
    assert search(scene.places, scene.secrets, BELONGS_IN) == []


def test_no_message_ends_the_worker(scene):
    """It went on with what came after the garbage, and nothing of it was lost."""
    assert scene.after_garbage == ["success", "success"]
    assert scene.stage.log_of(scene.quick).count(" ready.") == 1
