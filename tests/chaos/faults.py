"""What befalls the installation: a supervised crew, and the faults that a seeded nemesis brings over it.

Every process is ours and is ended by its pid. The machine's PostgreSQL is never touched, only our database's backends.
"""

import ctypes
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

import psycopg
from redis.exceptions import RedisError

from kiejobs.errors import KieJobsError
from tests.acceptance.stage import Stage, kill, listens

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class Crew:
    """Processes that are started again as soon as one is dead."""

    def __init__(self, stage: Stage, commands: dict[str, Iterable[str]]) -> None:
        self._stage = stage
        self._commands = commands
        self._running: dict[str, Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.restarts = 0
        self._watch_once()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def __getitem__(self, name: str) -> "Popen[bytes]":
        with self._lock:
            return self._running[name]

    def names(self) -> list[str]:
        """List the crew."""
        return list(self._commands)

    def wake(self) -> None:
        """Let every stopped process go on."""
        for name in self._commands:
            kill(self[name], signal.SIGCONT)

    def end(self) -> None:
        """Start nobody again."""
        self._over.set()
        self._thread.join(10)

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self._watch_once()

    def _watch_once(self) -> None:
        for name, command in self._commands.items():
            process = self._running.get(name)
            if process is None or process.poll() is not None:
                self.restarts += process is not None
                with self._lock:
                    self._running[name] = self._stage.start(command)


class Nemesis:
    """Brings faults at random moments, each kind at least once, and counts them."""

    def __init__(self, stage: Stage, crew: Crew, rng: random.Random, told: Callable[[str], None]) -> None:
        self._stage, self._crew, self._rng, self._told = stage, crew, rng, told
        self._media = Path(stage.settings.storage)
        self.brought: Counter[str] = Counter()
        self._kinds: dict[str, tuple[int, Callable[[], None]]] = {
            "kill": (8, self._kill),
            "stop": (6, self._stop),
            "kill inside a create call": (3, self._kill_in_create),
            "flush": (2, self._flush),
            "broker restart": (1, self._restart_broker),
            "database outage": (2, self._database_outage),
            "storage outage": (1, self._storage_outage),
            "gateway outage": (1, self._gateway_outage),
        }

    def rage(self, for_s: float) -> None:
        """Bring faults every 1 to 5 s for so long, and until each kind was there; a short rage hurries to bring them."""
        until = time.monotonic() + for_s
        first = [name for name in self._kinds if name not in ("kill", "gateway outage")]
        pressing = ["kill inside a create call", "gateway outage"]  # while there are calls for them to meet
        self._rng.shuffle(first)
        self._rng.shuffle(pressing)
        first += pressing
        while first or time.monotonic() < until:
            self._pause(self._rng.uniform(1, 5) if len(first) < 2 or for_s > 120 else self._rng.uniform(1, 3))
            weights = [weight for weight, _ in self._kinds.values()]
            name = first.pop() if first else self._rng.choices(list(self._kinds), weights)[0]
            self.brought[name] += 1
            self._told(name)
            self._kinds[name][1]()

    def _pause(self, seconds: float) -> None:
        signal.sigtimedwait([], seconds)

    def _victim(self) -> "Popen[bytes]":
        return self._crew[self._rng.choice(self._crew.names())]

    def _kill(self) -> None:
        kill(self._victim())

    def _stop(self) -> None:
        """SIGSTOP for 1 to 4 s, now and then for longer than an HTTP call may take."""
        victim, for_s = self._victim(), self._rng.choice((1, 2, 3, 4, 9))
        kill(victim, signal.SIGSTOP)
        threading.Timer(for_s, kill, (victim, signal.SIGCONT)).start()

    def _kill_in_create(self) -> None:
        """Wait until Kie has taken a call that it answers slowly, then kill the workers that may have made it."""
        until = time.monotonic() + 6
        while time.monotonic() < until:
            with suppress(Exception):
                if self._stage.query(_BEING_SENT_AND_TAKEN):
                    break
            self._pause(0.1)
        for name in self._crew.names():
            if name.startswith("quick"):
                kill(self._crew[name])

    def _flush(self) -> None:
        with suppress(RedisError):
            self._stage.flush_broker()

    def _restart_broker(self) -> None:
        self._stage.kill_broker()
        self._pause(self._rng.uniform(0.5, 2))
        self._stage.start_broker()

    def _database_outage(self) -> None:
        if self._stage.database == "sqlite":
            with suppress(Exception), self._stage.locked():
                self._pause(self._rng.uniform(1, 3))
            return
        for _ in range(3):
            with suppress(psycopg.OperationalError):  # a server without room for one more is an outage, too
                terminate_backends(self._stage)
            self._pause(0.3)

    def _storage_outage(self) -> None:
        """A file stands where the media folder was, until a copy has met it."""
        self._media.mkdir(parents=True, exist_ok=True)
        away = self._media.with_name("media-is-away")
        away.touch()
        exchange(self._media, away)
        began, least_s = time.monotonic(), self._rng.uniform(3, 6)
        before = self._put_off()
        while time.monotonic() - began < least_s or (self._put_off() <= before and time.monotonic() - began < 20):
            self._pause(0.2)
        exchange(self._media, away)
        away.unlink()

    def _gateway_outage(self) -> None:
        """Keep the gateway from coming up until a callback has met nobody."""
        before, until = missed_callbacks(self._stage), time.monotonic() + 8
        while missed_callbacks(self._stage) <= before and time.monotonic() < until:
            kill(self._crew["gateway"])
            self._pause(1)

    def _put_off(self) -> int:
        """Count the copies that were put off so far; 0 while the database is away."""
        with suppress(KieJobsError):
            return int(self._stage.query("SELECT count(*) FROM events WHERE kind = 'output_postponed'")[0][0])
        return 0

    def relent(self) -> None:
        """Undo whatever still lasts."""
        self._crew.wake()
        if not listens(self._stage.redis_port):
            self._stage.start_broker()


def missed_callbacks(stage: Stage) -> int:
    """Count the calls of Kie's that were not taken, repeats included."""
    ledger: dict[str, Any] = stage.simulator.ledger()
    return sum(call["status"] != 200 for call in ledger["callbacks"])


_BEING_SENT_AND_TAKEN = (
    "SELECT 1 FROM jobs JOIN payloads ON payloads.job_id = jobs.id"
    " WHERE jobs.state = 'submitting' AND CAST(payloads.request AS text) LIKE '%[[slow=%[[no-callback]]%'"
)
"""Without a callback, which would name the task at once: such a call's row has to lapse."""


def terminate_backends(stage: Stage) -> None:
    """End every connection to our own database, as a restart of the server would."""
    ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
    with psycopg.connect("host=127.0.0.1 user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(ours, (stage.settings.database.rpartition("/")[2],))


def exchange(one: Path, other: Path) -> None:
    """Swap two names atomically (renameat2, Linux), so that no process finds neither."""
    libc: Any = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))
