"""A whole installation on free ports for one test: broker, database, simulator, workers, beat; any of them can be killed."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psycopg
import redis
import requests

from kiejobs import KieJobs
from kiejobs.db.migrate import migrate
from kiejobs.db.session import Database
from kiejobs.jobs import Job
from kiejobs.settings import Settings
from kiejobs.simulator import Simulator

TOP = Path(__file__).parents[2]
POSTGRESQL = "postgresql+psycopg://postgres@127.0.0.1:5432"
RABBITMQ = "amqp://guest:guest@127.0.0.1:5672"
QUICK = ("worker", "-Q", "submit,create,poll,notify,sweep", "-c", "16", "-n", "quick{n}@%h")
COPIES = ("worker", "-Q", "store", "-c", "4", "-n", "copies{n}@%h")
BEAT = ("beat",)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(what: str, holds: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Wait for something to hold; say what did not."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"after {timeout_s:g} s still not: {what}")


class Stage:
    """Processes and addresses of one test. Use as a context manager."""

    def __init__(
        self,
        folder: Path,
        *,
        database: str = "sqlite",
        broker: str = "redis",
        simulator: Simulator | None = None,
        **settings: str,
    ) -> None:
        self.folder = folder
        self.database, self.broker = database, broker
        self.redis_port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.redis: subprocess.Popen[bytes] | None = None
        self.simulator = simulator or Simulator(duration_s=2.0)
        self._own_settings = settings
        self._names: list[str] = []

    def __enter__(self) -> "Stage":
        self.simulator.start()
        self.start_broker()
        self.env = self._environment()
        self.settings = Settings(_env_file=None, **self._as_settings())
        database = Database(self.settings.database)
        migrate(database)
        self.jobs = KieJobs(self.settings, database=database)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            kill(process)
        self.jobs.database.close()
        if self.redis:
            kill(self.redis)
        self.simulator.stop()
        if self.database == "postgresql":
            with psycopg.connect("host=127.0.0.1 user=postgres", autocommit=True) as connection:
                connection.execute(f'DROP DATABASE IF EXISTS "{self._database}" WITH (FORCE)')
        if self.broker == "rabbitmq":
            subprocess.run(["rabbitmqctl", "delete_vhost", self._vhost], capture_output=True, check=False)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KIE_", "KIEJOBS_", "AWS_"))}
        kept |= {
            "PYTHONPATH": str(TOP),
            "KIE_API_KEY": "key-of-the-stage",
            "KIE_BASE_URL": self.simulator.base_url,
            "KIEJOBS_DATA_DIR": str(self.folder / "data"),
            "KIEJOBS_BROKER_URL": self._broker_url(),
            "KIEJOBS_EGRESS_ALLOW": self.simulator.files_host_port,
            "KIEJOBS_SWEEP_INTERVAL_S": "1",
            "KIEJOBS_SWEEP_GRACE_S": "1",
            "KIEJOBS_LEASE_S": "4",
            "KIEJOBS_HTTP_TIMEOUT_S": "5",
            "KIEJOBS_LOG_FORMAT": "text",
        }
        if self.database == "postgresql":
            self._database = f"kiejobs_{secrets.token_hex(6)}"
            with psycopg.connect("host=127.0.0.1 user=postgres", autocommit=True) as connection:
                connection.execute(f'CREATE DATABASE "{self._database}"')
            kept["KIEJOBS_DATABASE_URL"] = f"{POSTGRESQL}/{self._database}"
        return kept | self._own_settings

    def _as_settings(self) -> dict[str, str]:
        return {name: value for name, value in self.env.items() if name.startswith(("KIE_", "KIEJOBS_"))}

    def _broker_url(self) -> str:
        if self.broker == "rabbitmq":
            self._vhost = f"kiejobs-{secrets.token_hex(4)}"
            subprocess.run(["rabbitmqctl", "add_vhost", self._vhost], capture_output=True, check=True)
            permissions = ["rabbitmqctl", "set_permissions", "-p", self._vhost, "guest", ".*", ".*", ".*"]
            subprocess.run(permissions, capture_output=True, check=True)
            return f"{RABBITMQ}/{self._vhost}"
        return f"redis://127.0.0.1:{self.redis_port}/0"

    def start_broker(self) -> None:
        """Start the private broker; it keeps nothing on disk, so a restart loses every message."""
        if self.broker == "redis":
            command = ["redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", ""]
            command += ["--appendonly", "no", "--dir", str(self.folder)]
        elif self.broker == "fakeredis":
            command = [sys.executable, "-m", "kiejobs.cli.fakebroker", "--port", str(self.redis_port)]
        else:
            return
        self.redis = self._spawn(command, "broker")
        until("the broker listens", lambda: listens(self.redis_port), 15)

    def kill_broker(self) -> None:
        assert self.redis is not None
        kill(self.redis)

    def flush_broker(self) -> None:
        redis.Redis(port=self.redis_port).flushall()

    def start(self, command: Iterable[str]) -> "subprocess.Popen[bytes]":
        """Start one of QUICK, COPIES, BEAT."""
        words = [word.format(n=len(self.processes)) for word in command]
        process = self._spawn([sys.executable, "-m", "celery", "-A", "workers", *words], words[0])
        self.processes.append(process)
        return process

    def start_all(self) -> tuple["subprocess.Popen[bytes]", "subprocess.Popen[bytes]", "subprocess.Popen[bytes]"]:
        """Start quick worker, copies worker and beat; return them."""
        return self.start(QUICK), self.start(COPIES), self.start(BEAT)

    def _spawn(self, command: list[str], name: str) -> "subprocess.Popen[bytes]":
        log = self.folder / f"{name}-{len(self._names)}.log"
        self._names.append(name)
        environment = getattr(self, "env", dict(os.environ))
        with log.open("wb") as sink:
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=sink, stderr=sink, start_new_session=True
            )

    def logs(self) -> str:
        return "\n".join(
            f"── {path.name}\n{path.read_text(errors='replace')[-6000:]}" for path in self.folder.glob("*.log")
        )

    def enqueue(self, count: int, prompt: str, model: str = "grok-imagine/text-to-image") -> list[str]:
        requests = [{"model": model, "input": {"prompt": f"{n} {prompt}"}} for n in range(count)]
        return [job.id for job in self.jobs.enqueue_many(requests)]

    def ended(self, ids: list[str], timeout_s: float = 60.0) -> list[Job]:
        """Wait until every job has ended or is parked; return them."""

        def settled() -> list[Job] | None:
            found = [self.jobs.get(job_id) for job_id in ids]
            return found if all(job.ended or job.phase == "unconfirmed" for job in found) else None

        try:
            found: list[Job] = until("every job ended or is parked", settled, timeout_s)
        except AssertionError as error:
            phases = [self.jobs.get(job_id).phase for job_id in ids]
            raise AssertionError(f"{error}: {phases}\n{self.logs()}") from None
        return found

    def hold_creates(self) -> None:
        """Let Kie take create calls and withhold its answers."""
        requests.post(f"{self.simulator.base_url}/simulator/hold", timeout=5).raise_for_status()

    def release_creates(self) -> None:
        requests.post(f"{self.simulator.base_url}/simulator/release", timeout=5).raise_for_status()

    def held_creates(self) -> int:
        return int(requests.get(f"{self.simulator.base_url}/simulator/held", timeout=5).json()["waiting"])

    def creates(self) -> list[dict[str, Any]]:
        """List the create calls that the simulator took and charged for."""
        return [create for create in self.simulator.ledger()["creates"] if create["accepted"]]


def kill(process: "subprocess.Popen[bytes]", with_signal: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process we started, and for a deadly one wait for its end."""
    if process.poll() is None:
        os.kill(process.pid, with_signal)
    if with_signal in (signal.SIGKILL, signal.SIGTERM):
        process.wait(30)


def has_redis() -> bool:
    return shutil.which("redis-server") is not None
