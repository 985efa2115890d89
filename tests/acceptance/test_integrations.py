"""The recipes of docs/integrations.md as their frameworks run them: a picture ordered over HTTP, told of, and read."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import requests

from kiejobs.notify import signed
from kiejobs.simulator import Simulator
from tests.acceptance.stage import TOP, Stage, free_port, has_redis, listens, until
from tests.support import missing

SECRET = f"whsec_{base64.b64encode(b'integrations-test-0123456789abcd').decode()}"
KEY = "kj_of-the-integrations-test"
PORTS = {name: free_port() for name in ("gateway", "fastapi", "django", "nextjs", "files")}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Workers, beat, a local Kie and the gateway; the services' addresses may be called although they are loopback."""
    if not has_redis():
        missing("redis-server on PATH")
    allowed = ",".join(f"127.0.0.1:{port}" for port in PORTS.values())
    known = f"shop:write:{hashlib.sha256(KEY.encode()).hexdigest()}"
    ours = {"KIEJOBS_EGRESS_ALLOW": allowed, "KIEJOBS_WEBHOOK_SECRETS": SECRET, "KIEJOBS_GATEWAY_KEYS": known}
    kie = Simulator(duration_s=1.0, files_port=PORTS["files"])
    with Stage(tmp_path_factory.mktemp("integrations"), simulator=kie, **ours) as made:
        made.start_all()
        launch(made, "gateway", [sys.executable, "-m", "kiejobs.cli", "gateway", "--port", str(PORTS["gateway"])])
        yield made


def launch(stage: Stage, name: str, command: list[str]) -> None:
    """Start a program that will listen on its port, in the stage's environment."""
    mine = {
        "GATEWAY_URL": f"http://127.0.0.1:{PORTS['gateway']}",
        "GATEWAY_KEY": KEY,
        "WEBHOOK_SECRET": SECRET,
        "SERVICE_URL": f"http://127.0.0.1:{PORTS[name]}",
    }
    stage.processes.append(stage._spawn(command, name, mine))
    until(f"{name} listens", lambda: listens(PORTS[name]), 30)


def serves_an_order(stage: Stage, name: str, prefix: str = "") -> None:
    """Order the same picture twice, wait until the service was told, and read the file through the gateway."""
    base = f"http://127.0.0.1:{PORTS[name]}{prefix}"
    wanted = {"order": f"{name}-1", "prompt": f"a paper boat for {name} [[outputs=1]]"}
    bought = [requests.post(f"{base}/pictures", json=wanted, timeout=30) for _ in range(2)]
    assert [answer.status_code for answer in bought] == [202, 202], stage.logs()
    assert bought[0].json() == bought[1].json()

    def success() -> Any:
        told = requests.get(f"{base}/pictures/{wanted['order']}", timeout=30).json()
        return told if told["state"] == "success" and told["urls"] else None  # asked for once it was told

    told = until(f"{name} was told", success, 60)
    mine = {"Authorization": f"Bearer {KEY}"}
    content = requests.get(told["urls"][0], headers=mine, timeout=30).content
    shown = requests.get(f"http://127.0.0.1:{PORTS['gateway']}/api/generations/{told['job']}", headers=mine, timeout=30)
    assert hashlib.sha256(content).hexdigest() == shown.json()["outputs"][0]["sha256"]

    forged = {"webhook-id": "x", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
    assert requests.post(f"{base}/hooks/kiejobs", json={}, headers=forged, timeout=30).status_code == 401
    early = json.dumps({"data": {"generationId": "g", "sequence": 1, "state": "fail", "metadata": {"order": "later"}}})
    headers = signed(early, delivery_id="early", secrets=[SECRET], at_s=time.time())
    answer = requests.post(f"{base}/hooks/kiejobs", data=early.encode(), headers=headers, timeout=30)
    assert answer.status_code == 503  # told before it knows the order, it wants to be told again
    assert requests.get(f"{base}/pictures/nothing", timeout=30).status_code == 404
    wrong = requests.post(f"{base}/pictures", json={"order": f"{name}-2", "prompt": ""}, timeout=30)
    assert wrong.status_code == 422
    assert "prompt" in wrong.json()["detail"]


def test_the_fastapi_recipe(stage: Stage) -> None:
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(TOP / "examples"), "fastapi_service:app"]
    launch(stage, "fastapi", [*command, "--port", str(PORTS["fastapi"])])
    serves_an_order(stage, "fastapi")


def test_the_django_recipe(stage: Stage) -> None:
    if find_spec("django") is None:
        missing("Django (pip install django)")
    command = [sys.executable, str(TOP / "examples/django_service.py"), "runserver", "--noreload"]
    launch(stage, "django", [*command, str(PORTS["django"])])
    serves_an_order(stage, "django")


def test_the_nextjs_recipe(stage: Stage) -> None:
    """Its route handlers, in TypeScript as they are, in the node that playwright brings or that is on PATH."""
    node = node_that_reads_typescript()
    if node is None:
        missing("node 22.18 or newer, which reads TypeScript")
        return
    launch(
        stage,
        "nextjs",
        [node, str(TOP / "tests/data/nextjs_routes.mjs"), str(TOP / "examples/nextjs"), str(PORTS["nextjs"])],
    )
    serves_an_order(stage, "nextjs", "/api")


def node_that_reads_typescript() -> str | None:
    found = find_spec("playwright")
    bundled = Path(found.origin or "").parent / "driver/node" if found else None
    for node in (str(bundled) if bundled and bundled.exists() else None, shutil.which("node")):
        if node is None:
            continue
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.match(r"v(\d+)\.(\d+)", said)
        if version and (int(version[1]), int(version[2])) >= (22, 18):
            return node
    return None


def test_the_page_prints_the_recipes_as_they_are_run() -> None:
    """Each block of docs/integrations.md that names a file is that file."""
    page = (TOP / "docs/integrations.md").read_text(encoding="utf-8")
    printed = re.findall(r"<!-- (examples/\S+) -->\n```\w+\n(.*?)```", page, re.DOTALL)
    assert {name for name, _ in printed} == {
        "examples/fastapi_service.py",
        "examples/django_service.py",
        "examples/nextjs/lib/kiejobs.ts",
        "examples/nextjs/app/api/pictures/route.ts",
        "examples/nextjs/app/api/hooks/kiejobs/route.ts",
    }
    for name, block in printed:
        assert block.strip() in (TOP / name).read_text(encoding="utf-8"), name
