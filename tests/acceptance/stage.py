"""A whole installation on free ports for one test: broker, database, simulator, workers, beat; any of them can be killed.

A test hits an exact moment without a hook in the product: `Gate` withholds a request on its way to Kie, the simulator
withholds its answer, `Stage.locked` makes a worker block inside a transaction, a stopped broker makes it block right
after one. Then `kill`.
"""

import json
import os
import secrets
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import redis
import requests
from sqlalchemy import text

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
_PROGRAMS = {"flower": ["celery", "-A", "workers"], "gateway": ["kiejobs.cli"]}


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


class Gate:
    """A TCP relay in front of Kie that can withhold requests by a word in them, or take no connections at all.

    What is withheld has left the worker and has not reached Kie; if its sender dies meanwhile, it never does.
    """

    def __init__(self, target: str) -> None:
        split = urlsplit(target)
        self._target = (str(split.hostname), int(split.port or 80))
        self._changed = threading.Condition()
        self._withheld: set[str] = set()
        self._waiting: list[str] = []
        self._answered: set[str] = set()
        self._open, self._closed = threading.Event(), threading.Event()
        self._open.set()
        self._fillers: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.settimeout(0.1)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, name="gate", daemon=True).start()

    def withhold(self, *words: str) -> None:
        """From now on, keep back every request that contains one of the words."""
        with self._changed:
            self._withheld.update(words)
            self._answered.difference_update(words)

    def let_go(self, *words: str) -> None:
        """Let requests with these words pass again, those that wait included."""
        with self._changed:
            self._withheld.difference_update(words)
            self._changed.notify_all()

    def waiting(self, word: str) -> int:
        """Count the requests that are kept back for this word."""
        with self._changed:
            return self._waiting.count(word)

    def answered(self, word: str) -> bool:
        """Say whether the answer to a request that was kept back has been handed to its sender."""
        with self._changed:
            return word in self._answered

    def jam(self) -> None:
        """Take no connection any more: whoever connects hangs, as with a host that drops packets."""
        self._open.clear()
        self._listener.listen(0)
        for _ in range(3):
            filler = socket.socket()
            filler.settimeout(0.15)
            with suppress(TimeoutError):
                filler.connect(self._listener.getsockname())
            self._fillers.append(filler)

    def unjam(self) -> None:
        """Take connections again."""
        while self._fillers:
            self._fillers.pop().close()
        self._listener.listen(128)
        self._open.set()

    def close(self) -> None:
        """Stop; whoever is connected is hung up on."""
        self._closed.set()
        self._open.set()
        with self._changed:
            self._withheld.clear()
            self._changed.notify_all()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            self._open.wait()
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(self._target, 5) as kie:
            client.settimeout(None)
            kie.settimeout(None)
            kept: str | None = None
            while not self._closed.is_set():
                readable, _, _ = select.select([client, kie], [], [], 0.5)
                for side in readable:
                    data = side.recv(65536)
                    if not data:
                        return
                    if side is kie:
                        client.sendall(data)
                        self._note_answer(kept)
                        continue
                    found = self._kept_back(data)
                    kept = found or kept
                    if found and _hung_up(client):
                        return
                    kie.sendall(data)

    def _kept_back(self, data: bytes) -> str | None:
        with self._changed:
            word = next((word for word in self._withheld if word.encode() in data), None)
            if word is None:
                return None
            self._waiting.append(word)
            self._changed.wait_for(lambda: word not in self._withheld)
            self._waiting.remove(word)
            return word

    def _note_answer(self, word: str | None) -> None:
        if word is not None:
            with self._changed:
                self._answered.add(word)


def _hung_up(client: socket.socket) -> bool:
    try:
        return client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


class Stage:
    """Processes and addresses of one test. Use as a context manager.

    With `gated=True` every call to Kie goes through `stage.gate`. `passwords` are those of Redis, which asks for it, and of
    PostgreSQL, which takes any.
    """

    def __init__(
        self,
        folder: Path,
        *,
        database: str = "sqlite",
        broker: str = "redis",
        simulator: Simulator | None = None,
        gated: bool = False,
        passwords: tuple[str, str] | None = None,
        **settings: str,
    ) -> None:
        self.folder = folder
        self._passwords = passwords
        self.database, self.broker = database, broker
        self.redis_port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.redis: subprocess.Popen[bytes] | None = None
        self.simulator = simulator or Simulator(duration_s=2.0)
        self._own_settings = settings
        self._names: list[str] = []
        self._logs: dict[int, Path] = {}
        self._gated = gated

    def __enter__(self) -> "Stage":
        try:
            self._set()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _set(self) -> None:
        self.simulator.start()
        if self._gated:
            self.gate = Gate(self.simulator.base_url)
        self.start_broker()
        self.env = self._environment()
        self.settings = Settings(_env_file=None, **self._as_settings())
        database = Database(self.settings.database)
        migrate(database)
        self.jobs = KieJobs(self.settings, database=database)

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            kill(process)
        if hasattr(self, "jobs"):
            self.jobs.database.close()
        if self.redis:
            kill(self.redis)
        if hasattr(self, "gate"):
            self.gate.close()
        self.simulator.stop()
        if hasattr(self, "_database"):
            with psycopg.connect("host=127.0.0.1 user=postgres", autocommit=True) as connection:
                connection.execute(f'DROP DATABASE IF EXISTS "{self._database}" WITH (FORCE)')
        if hasattr(self, "_vhost"):
            subprocess.run(["rabbitmqctl", "delete_vhost", self._vhost], capture_output=True, check=False)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KIE_", "KIEJOBS_", "AWS_"))}
        kept |= {
            "PYTHONPATH": str(TOP),
            "KIE_API_KEY": "key-of-the-stage",
            "KIE_BASE_URL": self.gate.url if self._gated else self.simulator.base_url,
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
            address = POSTGRESQL
            if self._passwords:
                address = address.replace("postgres@", f"postgres:{quote(self._passwords[1], safe='')}@")
            kept["KIEJOBS_DATABASE_URL"] = f"{address}/{self._database}"
        return kept | self._own_settings

    def _as_settings(self) -> dict[str, Any]:
        given = {name: value for name, value in self.env.items() if name.startswith(("KIE_", "KIEJOBS_"))}
        return given | {name: json.loads(given[name]) for name in ("KIEJOBS_ACCOUNTS",) if name in given}

    def _broker_url(self) -> str:
        if self.broker == "rabbitmq":
            self._vhost = f"kiejobs-{secrets.token_hex(4)}"
            subprocess.run(["rabbitmqctl", "add_vhost", self._vhost], capture_output=True, check=True)
            permissions = ["rabbitmqctl", "set_permissions", "-p", self._vhost, "guest", ".*", ".*", ".*"]
            subprocess.run(permissions, capture_output=True, check=True)
            return f"{RABBITMQ}/{self._vhost}"
        login = f":{quote(self._passwords[0], safe='')}@" if self._passwords else ""
        return f"redis://{login}127.0.0.1:{self.redis_port}/0"

    def start_broker(self) -> None:
        """Start the private broker; it keeps nothing on disk, so a restart loses every message."""
        if self.broker == "redis":
            command = ["redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", ""]
            command += ["--appendonly", "no", "--dir", str(self.folder)]
            command += ["--requirepass", self._passwords[0]] if self._passwords else []
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

    def messages(self, queue: str) -> int:
        """Count the messages that lie in a queue, taken by nobody yet."""
        return int(redis.Redis(port=self.redis_port).llen(queue))  # type: ignore[arg-type]

    def kept_messages(self) -> int:
        """Count the messages that workers have taken and not acknowledged, such as those whose time has not come."""
        return int(redis.Redis(port=self.redis_port).hlen("unacked"))  # type: ignore[arg-type]

    def query(self, statement: str, **values: Any) -> list[Any]:
        """Read rows with a statement of one's own."""
        with self.jobs.database.read() as connection:
            return list(connection.execute(text(statement), values))

    @contextmanager
    def locked(self, *job_ids: str) -> Iterator[None]:
        """Hold the lock that every writer of these jobs needs. SQLite has one for the whole database."""
        if self.database == "sqlite":
            with self._sqlite_write_lock():
                yield
            return
        with self._postgresql() as connection:
            connection.execute("SELECT id FROM jobs WHERE id = ANY(%s::uuid[]) FOR UPDATE", (list(job_ids),))
            yield

    @contextmanager
    def locked_table(self, table: str) -> Iterator[None]:
        """Let nobody write into a table."""
        if self.database == "sqlite":
            with self._sqlite_write_lock():
                yield
            return
        with self._postgresql() as connection:
            connection.execute(f"LOCK TABLE {table} IN SHARE MODE")  # type: ignore[arg-type]
            yield

    @contextmanager
    def _sqlite_write_lock(self) -> Iterator[None]:
        path = self.settings.database.removeprefix("sqlite:///")
        connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.rollback()
            connection.close()

    def _postgresql(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(f"host=127.0.0.1 user=postgres dbname={self._database}")

    def wait_for_blocked(self, count: int = 1, *, saying: str = "") -> None:
        """Wait until so many writers block on locks, with this text in their statement.

        SQLite does not say who waits: there, a moment has to do.
        """
        if self.database == "sqlite":
            signal.sigtimedwait([], 0.4)
            return
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
        waits += " AND position(%s in query) > 0"
        with self._postgresql() as connection:
            connection.autocommit = True

            def blocked() -> bool:
                found = connection.execute(waits, (self._database, saying)).fetchone()
                return found is not None and int(found[0]) >= count

            until(f"{count} writer(s) block on a lock", blocked)  # a look that was cut short is due again after 21 s

    def start(self, command: Iterable[str], extra: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        """Start one of QUICK, COPIES, BEAT, a gateway, or Flower; `extra` is what its environment has besides."""
        words = [word.format(n=len(self.processes)) for word in command]
        program = _PROGRAMS.get(words[0], ["workers"])
        process = self._spawn([sys.executable, "-m", *program, *words], words[0], extra or {})
        self.processes.append(process)
        return process

    def run(self, script: str, extra: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        """Start a Python program of a producer in the stage's environment."""
        process = self._spawn([sys.executable, "-c", script], "producer", extra or {})
        self.processes.append(process)
        return process

    def is_ready(self, worker: "subprocess.Popen[bytes]") -> bool:
        """Say whether a worker takes messages."""
        return " ready." in self.log_of(worker)

    def log_of(self, process: "subprocess.Popen[bytes]") -> str:
        """Read what a process has logged so far."""
        return self._logs[process.pid].read_text(errors="replace")

    def start_all(self) -> tuple["subprocess.Popen[bytes]", "subprocess.Popen[bytes]", "subprocess.Popen[bytes]"]:
        """Start quick worker, copies worker and beat; return them."""
        return self.start(QUICK), self.start(COPIES), self.start(BEAT)

    def _spawn(
        self, command: list[str], name: str, extra: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        log = self.folder / f"{name}-{len(self._names)}.log"
        self._names.append(name)
        environment = getattr(self, "env", dict(os.environ)) | dict(extra or {})
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=sink, stderr=sink, start_new_session=True
            )
        self._logs[process.pid] = log
        return process

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
