"""Memory of a worker, and how long things take to start: `python -m benchmarks.memory [--small]`.

The worker for the quick queues at rest and with 1,000 jobs in flight, the one for copies at rest, as the kernel counts
them (shared pages counted by share). Starts are timed from outside, each in turn with `python -c pass`, which is taken off:
`import kiejobs` and the command line's `--help`; of the first `KieJobs()` with one read, on SQLite, everything counts.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, options, peak_mb, rss_mb, settle, tell
from benchmarks.lanes import BEGIN_S, RUNG_S, fill
from benchmarks.lateness import SETTINGS
from kiejobs.simulator import Simulator
from tests.acceptance.stage import BEAT, COPIES, QUICK, Stage, until

FIRST = "from kiejobs import KieJobs; KieJobs().list(limit=1)"
STARTS = {
    "nothing": ["-c", "pass"],
    "import kiejobs": ["-c", "import kiejobs"],
    "first KieJobs()": ["-c", FIRST],
    "kiejobs --help": ["-m", "kiejobs.cli", "--help"],
}
AT_MOST_S = {"import kiejobs": 0.15, "first KieJobs()": 0.6, "kiejobs --help": 0.4}
AT_MOST_MB = 120.0


def starts(stage: Stage, rounds: int) -> dict[str, list[float]]:
    """Time every start in turn."""
    found: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(rounds):
        for name, words in STARTS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], env=stage.env, cwd=stage.folder, check=True, capture_output=True)
            found[name].append(time.perf_counter() - began)
    return found


def workers(stage: Stage, jobs: int) -> dict[str, float]:
    """Weigh the workers at rest and with jobs in flight."""
    quick, copies = stage.start(QUICK), stage.start(COPIES)
    until("the workers are ready", lambda: stage.is_ready(quick) and stage.is_ready(copies), 60)
    stage.start(BEAT)
    settle(5.0)
    rest = {"quick at rest": rss_mb(quick.pid), "copies at rest": rss_mb(copies.pid)}
    fill(stage, jobs, 3600)
    settle(BEGIN_S + 2 * RUNG_S)
    return rest | {"quick, in flight": rss_mb(quick.pid), "quick, peak": peak_mb(quick.pid)}


def measure(jobs: int, rounds: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Measure starts, then workers."""
    simulator = Simulator(create_limit=0, credits=1e12)
    with (
        tempfile.TemporaryDirectory(prefix="kiejobs-bench-") as folder,
        Stage(Path(folder), simulator=simulator) as small,
    ):
        times = starts(small, rounds)
    simulator = Simulator(create_limit=0, credits=1e12)
    with (
        tempfile.TemporaryDirectory(prefix="kiejobs-bench-") as folder,
        Stage(Path(folder), database="postgresql", simulator=simulator, **SETTINGS) as stage,
    ):
        return times, workers(stage, jobs)


def main() -> None:
    """Run and judge."""
    given = options(__doc__).parse_args()
    jobs, rounds = (200, 3) if given.small else (1000, 9)
    times, weights = measure(jobs, rounds)
    figures = [
        Figure("worker at rest", weights["quick at rest"], "MB", AT_MOST_MB,
               beside=f"the worker for copies {weights['copies at rest']:.0f} MB"),
        Figure(f"worker with {jobs:,} jobs in flight", weights["quick, in flight"], "MB", AT_MOST_MB,
               beside=f"peak {weights['quick, peak']:.0f} MB"),
    ]  # fmt: skip
    nothing = statistics.median(times["nothing"])
    for name, bound in AT_MOST_S.items():
        beyond = statistics.median(took - bare for took, bare in zip(times[name], times["nothing"], strict=True))
        ratio = statistics.median(took / bare for took, bare in zip(times[name], times["nothing"], strict=True))
        words = f"{ratio:.1f} × `python -c pass` ({nothing * 1000:.0f} ms), which is taken off"
        figures.append(Figure(name, beyond, "s", bound, beside=words))
    details: dict[str, Any] = {"starts_s": times, "memory_mb": weights}
    tell(details, figures)


if __name__ == "__main__":
    main()
