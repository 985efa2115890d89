"""The programs that one kiejobs consists of, as values: workers, schedule, gateway, dashboard, simulator.

The commands are those that the documentation gives for production; only the environment differs. The order of ending is
here too: workers give back what they hold while the broker still listens.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from kiejobs.cli import environment
from kiejobs.cli.ports import LOOPBACK
from kiejobs.cli.processes import Program
from kiejobs.nudge import COPY_QUEUES, QUICK_QUEUES

QUICK, COPIES, BEAT, GATEWAY, FLOWER, SIMULATOR = "quick", "copies", "beat", "gateway", "flower", "simulator"
WORKERS_STOP, OTHERS_STOP, BROKER_STOPS = range(3)
"""Ranks of ending."""
WORKERS_STOP_WITHIN_S = 12.0
SIMULATOR_KEY = "simulator"
"""A key that is worth nothing, for the simulator, which takes any."""


_AS_ROOT = "ignore:You're running the worker with superuser privileges"
"""Celery warns of code in pickled messages; ours are JSON, and containers run as root."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What all programs share: their environment, with every setting explicit, and their working directory."""

    environment: dict[str, str]
    folder: Path

    def workers(self) -> list[Program]:
        """Return the two workers: quick work, and copies, which would hold every thread of one shared worker."""
        quick = ("workers", "worker", "-Q", ",".join(QUICK_QUEUES), "-c", "16", "-n", "quick@%h")
        copies = ("workers", "worker", "-Q", ",".join(COPY_QUEUES), "-c", "8", "-n", "copies@%h")
        return [
            self._python(QUICK, quick, WORKERS_STOP, WORKERS_STOP_WITHIN_S),
            self._python(COPIES, copies, WORKERS_STOP, WORKERS_STOP_WITHIN_S),
        ]

    def beat(self) -> Program:
        """Return the schedule of the pump and the sweep."""
        return self._python(BEAT, ("workers", "beat"), OTHERS_STOP)

    def flower(self, port: int) -> Program:
        """Return the dashboard, on loopback and behind KIEJOBS_FLOWER_AUTH."""
        config = environment.checkout() / "flowerconfig.py"
        flower = ("celery", "-q", "-A", "workers", "flower", f"--conf={config}", f"--port={port}")
        return self._python(FLOWER, flower, OTHERS_STOP)

    def gateway(self, port: int) -> Program:
        """Return the HTTP API, on loopback."""
        command = (sys.executable, "-m", "kiejobs.cli", "gateway", "--host", LOOPBACK, "--port", str(port))
        return Program(GATEWAY, command, self.environment, self.folder, OTHERS_STOP)

    def simulator(self, port: int, files_port: int) -> Program:
        """Return a local Kie."""
        ports = ("--host", LOOPBACK, "--port", str(port), "--files-port", str(files_port))
        command = (sys.executable, "-m", "kiejobs.simulator", *ports)
        return Program(SIMULATOR, command, self.environment, self.folder, OTHERS_STOP)

    def _python(self, name: str, arguments: tuple[str, ...], rank: int, within_s: float = 5.0) -> Program:
        command = (sys.executable, "-W", _AS_ROOT, "-m", *arguments)
        return Program(name, command, self.environment, self.folder, rank, within_s)


def simulator_settings(port: int, files_port: int) -> dict[str, str]:
    """Return the settings that lead the workers to a local simulator and let them copy its files."""
    return {
        "KIE_API_KEY": SIMULATOR_KEY,
        "KIE_BASE_URL": f"http://{LOOPBACK}:{port}",
        "KIE_UPLOAD_URL": f"http://{LOOPBACK}:{port}",
        "KIEJOBS_EGRESS_ALLOW": f"{LOOPBACK}:{files_port}",
    }
