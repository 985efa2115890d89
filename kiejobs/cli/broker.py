"""The embedded broker of `up` and `demo`: a private redis-server if there is one, else fakeredis' TCP server.

Holds nothing on disk and listens on loopback only. Losing it is harmless: rows are the truth, and the sweep publishes
again. For one machine and development; production has a Redis or RabbitMQ of its own.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kiejobs.cli import environment
from kiejobs.cli.ports import LOOPBACK, free_port
from kiejobs.cli.processes import Program, Supervisor
from kiejobs.errors import BrokerUnavailable

NAME = "broker"
READY = "Ready to accept connections"
"""What redis-server prints when it listens; our own server prints the same."""
_OLDEST = (6, 2)  # what redis-py 8 and kombu 5.7 speak to
_BINARIES = ("redis-server", "valkey-server")


@dataclass(frozen=True, slots=True)
class EmbeddedBroker:
    """A broker of our own: what it is, where it will be, how it is started."""

    kind: str
    url: str
    program: Program

    def wait_for(self, programs: Supervisor) -> None:
        """Wait until it listens; its program must have been started."""
        programs.wait_until(lambda: programs.said(NAME, READY), within_s=20, what=f"the embedded broker ({self.kind})")


def embedded(choice: str, folder: Path, given: dict[str, str], *, rank: int) -> EmbeddedBroker:
    """Choose the broker: `auto`, `redis` or `fakeredis`. BrokerUnavailable if redis is forced and there is none."""
    binary = None if choice == "fakeredis" else _binary()
    if choice == "redis" and binary is None:
        raise BrokerUnavailable(
            "KIEJOBS_EMBEDDED_BROKER=redis, but there is no redis-server or valkey-server from 6.2 on PATH",
            remedy="Install one, or unset KIEJOBS_EMBEDDED_BROKER: fakeredis is built in.",
        )
    if binary is None:
        environment.require(["fakeredis"])
    port = free_port()
    command = _redis(binary, port, folder) if binary else _fakeredis(port)
    return EmbeddedBroker(
        kind=Path(binary).name if binary else "fakeredis",
        url=f"redis://{LOOPBACK}:{port}/0",
        program=Program(NAME, command, given, folder, rank),
    )


def _redis(binary: str, port: int, folder: Path) -> tuple[str, ...]:
    settings = {
        "--bind": LOOPBACK,
        "--port": str(port),
        "--dir": str(folder),
        "--save": "",
        "--appendonly": "no",
        "--maxmemory-policy": "noeviction",
    }
    return (binary, *(word for pair in settings.items() for word in pair))


def _fakeredis(port: int) -> tuple[str, ...]:
    return (sys.executable, "-m", "kiejobs.cli.fakebroker", "--port", str(port))


def _binary() -> str | None:
    found = (shutil.which(name) for name in _BINARIES)
    return next((path for path in found if path and _version(path) >= _OLDEST), None)


def _version(binary: str) -> tuple[int, int]:
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"v=(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)
