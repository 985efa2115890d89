"""What every script here says at its end: figures, each with the bound that it is judged by.

A figure is a count, or a ratio beside a peer that was measured in the same run, because the machine's speed is in both; a
time that a promise names is given as it is. `tell` prints them as JSON, ends with 1 where a bound is missed, and is what
`python -m benchmarks` reads.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import psutil


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. `beside` says in words what it was measured beside."""

    what: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    beside: str = ""

    @property
    def good(self) -> bool:
        """Whether it is within its bound; one without a bound is."""
        over = self.at_most is not None and self.value > self.at_most
        return not over and (self.at_least is None or self.value >= self.at_least)


def options(doc: str | None) -> argparse.ArgumentParser:
    """Make a script's parser. A script that is told to end (SIGTERM) ends what it has started, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="a quicker run with less of everything")
    return parser


def tell(details: dict[str, Any], figures: Sequence[Figure]) -> NoReturn:
    """Print figures and details, and end: with 0 where every figure is within its bound."""
    said = [asdict(figure) | {"value": round(figure.value, 3), "good": figure.good} for figure in figures]
    machine = {"cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 1)}
    print(json.dumps({"figures": said, "machine": machine, "details": details}, indent=2, default=str))
    sys.exit(0 if all(figure.good for figure in figures) else 1)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p95, p99 and the largest."""
    cuts = statistics.quantiles(values, n=100)
    return {
        "p50": round(cuts[49], 3),
        "p95": round(cuts[94], 3),
        "p99": round(cuts[98], 3),
        "max": round(max(values), 3),
    }


# What processes took.


def cpu_s(*pids: int) -> float:
    """Add up the CPU time that these processes and their children have taken so far."""
    total = 0.0
    for pid in pids:
        for process in _family(pid):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
    return total


def rss_mb(*pids: int) -> float:
    """Add up the memory that these processes and their children hold now, what they share counted once (PSS)."""
    return sum(_pss(process) for pid in pids for process in _family(pid)) / 1e6


def peak_mb(pid: int) -> float:
    """Return the most memory that a process ever held, as the system counted it."""
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123 - a file of the system
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1e6


def postgresql_cpu_s(database: str) -> float:
    """Add up the CPU time of the server's processes that serve this database."""
    total = 0.0
    for process in psutil.process_iter(["cmdline"]):
        if f" {database} " in " ".join(process.info["cmdline"] or []) + " ":
            total += cpu_s(process.pid)
    return total


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def settle(seconds: float) -> None:
    """Let the machine run for so long."""
    time.sleep(seconds)
