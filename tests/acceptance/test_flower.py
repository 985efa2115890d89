"""What a person sees in Flower: every generation by its id, and nothing that is nobody's business."""

import json
import re
import secrets
import shutil
import signal
import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from celery import Celery

from kiejobs.jobs import Job
from tests.acceptance.stage import TOP, Stage, free_port, has_redis, kill, listens, until
from tests.support import missing

MODEL = "grok-imagine/text-to-image"
POST_ROUTES = (
    "task/revoke/{task}",
    "task/abort/{task}",
    "task/timeout/kiejobs.poll_status",
    "task/rate-limit/kiejobs.poll_status",
    "task/apply/kiejobs.sweep_stale",
    "task/async-apply/kiejobs.sweep_stale",
    "task/send-task/kiejobs.sweep_stale",
    "worker/shutdown/{worker}",
    "worker/pool/restart/{worker}",
    "worker/pool/grow/{worker}",
    "worker/pool/shrink/{worker}",
    "worker/pool/autoscale/{worker}",
    "worker/queue/add-consumer/{worker}",
    "worker/queue/cancel-consumer/{worker}",
)
"""Everything in Flower that would change something."""


@dataclass
class Watched:
    """Flower beside two finished generations, and what it and `inspect` showed on the way."""

    stage: Stage
    process: "subprocess.Popen[bytes]"
    url: str
    login: tuple[str, str]
    jobs: list[Job]
    secrets: dict[str, str]
    shown: dict[str, str] = field(default_factory=dict)
    """Where → what was read there."""

    def read(self, path: str) -> requests.Response:
        answer = requests.get(f"{self.url}{path}", auth=self.login, timeout=15)
        self.shown[f"{path} {len(self.shown)}"] = answer.text
        return answer

    def tasks(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.read("/api/tasks").json()
        return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Run two generations under Flower's eyes: one asked for in Python, one as a bare Celery message."""
    if not has_redis():
        missing("redis-server on PATH")
    user, password = "ada", f"FLOWER-CANARY-{secrets.token_hex(8)}"
    canaries = {
        "prompt": f"PROMPT-CANARY-{secrets.token_hex(8)}",
        "api key": f"KEY-CANARY-{secrets.token_hex(8)}",
        "broker password": f"BROKER-CANARY-{secrets.token_hex(8)}",
        "flower password": password,
    }
    settings = {"KIE_API_KEY": canaries["api key"], "KIEJOBS_FLOWER_AUTH": f"{user}:{password}"}
    settings["KIEJOBS_HTTP_TIMEOUT_S"] = "60"  # create calls are held while we look
    with Stage(tmp_path_factory.mktemp("flower"), **settings) as stage:
        redis.Redis(port=stage.redis_port).config_set("requirepass", canaries["broker password"])
        broker = f"redis://:{canaries['broker password']}@127.0.0.1:{stage.redis_port}/0"
        stage.env["KIEJOBS_BROKER_URL"] = broker
        port = free_port()
        stage.start_all()
        process = stage.start(("flower", f"--conf={TOP / 'flowerconfig.py'}", f"--port={port}"))
        seen = Watched(stage, process, f"http://127.0.0.1:{port}", (user, password), [], canaries)
        until("Flower listens", lambda: listens(port))
        until("Flower knows both workers", lambda: len(_workers(seen)) == 2)
        _run_two(seen, broker)
        until("every task has ended", lambda: _ended(seen))
        yield seen


def _workers(seen: Watched) -> list[str]:
    return sorted(seen.read("/api/workers?refresh=1").json())


def _ended(seen: Watched) -> bool:
    of_jobs = [task for uuid_, task in seen.tasks().items() if uuid_[:36] in {job.id for job in seen.jobs}]
    return len(of_jobs) == 6 and all(task["state"] == "SUCCESS" for task in of_jobs)


def _run_two(seen: Watched, broker: str) -> None:
    stage = seen.stage
    prompt = f"{seen.secrets['prompt']} [[duration=600]] [[outputs=1]]"
    stage.hold_creates()  # so that the messages are surely in the workers' hands when we look
    bare = str(uuid.uuid4())
    with Celery(broker=broker, set_as_current=False) as producer:
        request = {"model": MODEL, "input": {"prompt": prompt}}
        producer.send_task("kiejobs.submit_generation", kwargs={"request": request}, task_id=bare, queue="submit")
        asked = stage.jobs.enqueue(MODEL, {"prompt": prompt}).id
        until("both create calls are under way", lambda: stage.held_creates() == 2)
        inspect = producer.control.inspect(timeout=5, limit=2)  # two workers: it need not wait longer
        for what in ("active", "reserved", "scheduled", "stats", "conf", "query_task"):
            seen.shown[f"inspect {what}"] = json.dumps(
                getattr(inspect, what)(*([bare] if what == "query_task" else []))
            )
        assert bare in seen.shown["inspect active"]
        _look_around(seen, [bare, asked])
        stage.release_creates()
        until("both were looked at twice", lambda: all(stage.jobs.get(job_id).polls > 1 for job_id in (bare, asked)))
        seen.shown["inspect scheduled, polling"] = json.dumps(inspect.scheduled())
        until("a lane stands at RETRY between its looks", lambda: seen.tasks()[f"{bare}.poll"]["state"] == "RETRY")
    for job_id in (bare, asked):
        task_id = stage.jobs.get(job_id).provider_task_id
        requests.post(f"{stage.simulator.base_url}/simulator/tasks/{task_id}/finish", timeout=5).raise_for_status()
    seen.jobs = stage.ended([bare, asked])
    seen.secrets["result URL"] = stage.simulator.files_host_port  # every result URL begins with it


def _look_around(seen: Watched, ids: list[str]) -> None:
    """Read every page and every list that Flower has."""
    for path in (
        "/api/workers?refresh=1",
        "/api/tasks",
        "/api/task/types",
        "/workers",
        "/broker",
        "/metrics",
        "/tasks",
    ):
        seen.read(path)
    for worker in _workers(seen):
        seen.read(f"/worker/{worker}")
    columns = "&columns[0][data]=received&order[0][column]=0&order[0][dir]=desc"
    seen.read(f"/tasks/datatable?draw=1&start=0&length=100&search[value]={columns}")
    for task_id in seen.tasks():
        if task_id[:36] in ids:
            seen.read(f"/task/{task_id}")
            seen.read(f"/api/task/info/{task_id}")


@pytest.mark.parametrize(
    "path", ["/", "/tasks", "/workers", "/broker", "/api/tasks", "/api/workers", "/api/task/types"]
)
def test_nothing_is_shown_without_the_login(watched, path):
    """401 on pages and API alike, also with a wrong password."""
    assert requests.get(f"{watched.url}{path}", timeout=5).status_code == 401
    assert requests.get(f"{watched.url}{path}", auth=("ada", "wrong"), timeout=5).status_code == 401
    assert watched.read(path).status_code == 200


def test_flower_listens_on_loopback_alone(watched):
    """flowerconfig.py binds 127.0.0.1, not every address of the machine."""
    port = int(watched.url.rpartition(":")[2])
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.2:{port}/healthcheck", timeout=5)


def test_flowers_log_is_ours(watched):
    """Every line of it, its libraries' too, has passed what takes secrets out."""
    lines = watched.stage.log_of(watched.process).splitlines()
    assert any(re.match(r"\d{4}-\S+ \S+ INFO .*redis://:\*\*\*@", line) for line in lines), lines
    assert [line for line in lines if re.match(r"\[[DIWE] \d{6} ", line)] == []  # as Tornado would write them


def test_each_generation_is_three_rows_found_by_its_id(watched):
    """Submit under the job's own id, the poll lane and each copy under ids that begin with it."""
    for job in watched.jobs:
        found = watched.read(f"/api/tasks?search={job.id}").json()
        assert {task_id: task["name"] for task_id, task in found.items()} == {
            job.id: "kiejobs.submit_generation",
            f"{job.id}.poll": "kiejobs.poll_status",
            f"{job.id}.store.0": "kiejobs.download_and_store",
        }
        assert {task["state"] for task in found.values()} == {"SUCCESS"}


def test_a_poll_lane_is_one_row_that_counts_its_looks(watched):
    """Several looks, one row; `retries` is the number of looks before the last."""
    for job in watched.jobs:
        lanes = [task for task_id, task in watched.tasks().items() if task_id.startswith(f"{job.id}.poll")]
        assert len(lanes) == 1
        assert job.polls > 2
        assert lanes[0]["retries"] == job.polls - 1


def test_the_schedule_does_not_drown_the_generations(watched):
    """The pump runs every second: 86,400 rows a day would push every generation out of Flower's memory."""
    assert {task["name"] for task in watched.tasks().values()} == {
        "kiejobs.submit_generation",
        "kiejobs.poll_status",
        "kiejobs.download_and_store",
    }


def test_arguments_are_ids_only(watched):
    """Short, and nothing but the job's id, a version or an index."""
    job_ids = {job.id for job in watched.jobs}
    for task_id, task in watched.tasks().items():
        if task_id[:36] in job_ids:
            assert task["args"] == "()"
            assert re.fullmatch(r"\{'job_id': '[0-9a-f-]{36}'(, '(version|index)': \d+)?\}", task["kwargs"]), task[
                "kwargs"
            ]


def test_no_secret_and_no_prompt_is_shown_anywhere(watched):
    """Not in a page, not in the API, not by `inspect`, not in a log, neither while a message is held nor afterwards."""
    _look_around(watched, [job.id for job in watched.jobs])
    watched.shown |= {path.name: path.read_text(errors="replace") for path in watched.stage.folder.glob("*.log")}
    assert len(watched.shown) > 30
    leaks = [
        f"{what} in {place}"
        for place, text in watched.shown.items()
        for what, secret in watched.secrets.items()
        if secret in text
    ]
    assert leaks == []


@pytest.mark.parametrize("route", POST_ROUTES)
def test_flower_only_looks(watched, route):
    """Whoever has the login may look; revoking, shutting down and publishing are refused."""
    path = route.format(task=watched.jobs[0].id, worker=_workers(watched)[0])
    answer = requests.post(f"{watched.url}/api/{path}", auth=watched.login, json={"args": []}, timeout=5)
    assert answer.status_code == 403


def test_a_person_finds_a_generation_in_the_browser(watched, tmp_path):
    """Log in, search for the job's id, see its three rows, open the lane's page."""
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        missing("chromium on PATH")
    job, other = watched.jobs
    user, password = watched.login
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(
            http_credentials={"username": user, "password": password}, viewport={"width": 1500, "height": 560}
        )
        page.goto(f"{watched.url}/tasks")
        rows = page.locator("#tasks-table tbody tr")
        page.get_by_text(other.id, exact=False).first.wait_for()
        page.locator("input[type=search]").fill(job.id)
        sync_api.expect(rows).to_have_count(3)
        for name in ("kiejobs.submit_generation", "kiejobs.poll_status", "kiejobs.download_and_store"):
            sync_api.expect(rows.filter(has_text=name)).to_have_count(1)
        sync_api.expect(rows.filter(has_text="SUCCESS")).to_have_count(3)
        for word in ("accepted", "storing", "stored"):  # what came of the job stands beside what became of the task
            sync_api.expect(rows.filter(has_text=f"'{word}'")).to_have_count(1)
        for column in ("State", "Result", "Retries", "Runtime"):  # nobody scrolls sideways to see what matters
            sync_api.expect(page.locator("#tasks-table th", has_text=column)).to_be_in_viewport(ratio=1)
        page.screenshot(path=tmp_path / "tasks.png")
        page.goto(f"{watched.url}/task/{job.id}.poll")
        sync_api.expect(page.locator("#task-page")).to_contain_text(job.id)
        page.screenshot(path=tmp_path / "task.png")
        watched.shown["the page in the browser"] = page.content()
        browser.close()
    assert Path(tmp_path / "tasks.png").stat().st_size > 10_000
    assert watched.secrets["prompt"] not in watched.shown["the page in the browser"]


def test_what_was_seen_survives_a_restart(watched):
    """Flower's view lies in the data dir, in a folder that nobody else may enter."""
    before = {task_id: task["state"] for task_id, task in watched.tasks().items()}
    kill(watched.process, signal.SIGTERM)
    kept = Path(watched.stage.env["KIEJOBS_DATA_DIR"]) / "flower"
    assert kept.stat().st_mode & 0o777 == 0o700
    port = free_port()
    watched.stage.start(("flower", f"--conf={TOP / 'flowerconfig.py'}", f"--port={port}"))
    watched.url = f"http://127.0.0.1:{port}"
    until("Flower listens again", lambda: listens(port))
    assert {task_id: task["state"] for task_id, task in watched.tasks().items()} == before


@pytest.mark.long
def test_two_hundred_generations_are_three_rows_each(tmp_path):
    """However often each is looked at: the poll lane does not drown the view, and an id finds its job's rows."""
    if not has_redis():
        missing("redis-server on PATH")
    settings = {"KIEJOBS_FLOWER_AUTH": "ada:a-password", "KIEJOBS_CREATE_LIMIT": "200", "KIEJOBS_HTTP_TIMEOUT_S": "60"}
    with Stage(tmp_path, **settings, KIEJOBS_QUERY_LIMIT_PER_S="50") as stage:
        port = free_port()
        stage.start_all()
        process = stage.start(("flower", f"--conf={TOP / 'flowerconfig.py'}", f"--port={port}"))
        seen = Watched(stage, process, f"http://127.0.0.1:{port}", ("ada", "a-password"), [], {})
        until("Flower listens", lambda: listens(port))
        until("Flower knows both workers", lambda: len(_workers(seen)) == 2)
        prompt = "a cat [[duration=20]] [[outputs=1]]"
        request = {"model": MODEL, "input": {"prompt": prompt}}
        ids = [job.id for job in stage.jobs.enqueue_many([request] * 200)]
        ended = stage.ended(ids, timeout_s=180)
        until("Flower has seen them end", lambda: len(_succeeded(seen)) >= 600)
        tasks, looks = _succeeded(seen), sum(job.polls for job in ended)
        names = Counter(str(task["name"]) for task in tasks.values())
        assert looks > 600
        assert names["kiejobs.submit_generation"] == names["kiejobs.download_and_store"] == 200
        assert 200 <= names["kiejobs.poll_status"] <= 210, "a lane is one row; a rescue is one more"
        assert set(names) == {"kiejobs.submit_generation", "kiejobs.poll_status", "kiejobs.download_and_store"}
        columns = "&columns[0][data]=received&order[0][column]=0&order[0][dir]=desc"
        found = seen.read(f"/tasks/datatable?draw=1&start=0&length=100&search[value]={ids[77]}{columns}").json()
        assert {row["uuid"] for row in found["data"]} >= {ids[77], f"{ids[77]}.poll", f"{ids[77]}.store.0"}
        assert {row["uuid"][:36] for row in found["data"]} == {ids[77]}


def _succeeded(seen: Watched) -> dict[str, dict[str, Any]]:
    return {task_id: task for task_id, task in seen.tasks().items() if task["state"] == "SUCCESS"}
