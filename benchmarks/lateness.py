"""How late looks begin, and what one costs, with many jobs in flight: `python -m benchmarks.lateness [--small]`.

100, 1,000 and 5,000 jobs on the ladder's 15 s rung (query limit lifted), one worker of sixteen threads, beat, PostgreSQL
and a private Redis, against the simulator. Lateness is the time between the moment a look was due (as its nudge says) and
the moment its request was about to be sent, noted by the worker itself. Cost is the worker's CPU time by looks over two
rungs; that of 5,000 is given beside that of 100, in which the worker's idle time (measured first) is not counted.
Everything, the simulator included, shares this machine.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, cpu_s, options, peak_mb, percentiles, postgresql_cpu_s, settle, tell
from benchmarks.lanes import BEGIN_S, RUNG_S, fill
from benchmarks.observed import looks
from kiejobs.simulator import Simulator
from tests.acceptance.stage import BEAT, QUICK, Stage, until

SETTINGS = {"KIEJOBS_QUERY_LIMIT_PER_S": "100000", "KIEJOBS_SWEEP_INTERVAL_S": "10", "KIEJOBS_SWEEP_GRACE_S": "10"}
SETTINGS |= {"KIEJOBS_LEASE_S": "60", "KIEJOBS_HTTP_TIMEOUT_S": "30"}
IDLE_S = 10.0
COUNTS, SMALL = (100, 1000, 5000), (50, 300)
LATE_S, DEARER = 0.5, 1.2


def measure(jobs: int, rungs: float) -> dict[str, Any]:
    """Keep so many jobs in flight for so many rungs; return lateness and cost."""
    simulator = Simulator(create_limit=0, credits=1e12)
    with tempfile.TemporaryDirectory(prefix="kiejobs-bench-") as folder:
        seen = Path(folder) / "looks"
        with Stage(Path(folder), database="postgresql", simulator=simulator, **SETTINGS) as stage:
            worker = stage.start((*QUICK, "-I", "benchmarks.observed"), {"BENCH_LOOKS": str(seen)})
            stage.start(BEAT)
            until("the worker is ready", lambda: stage.is_ready(worker), 60)
            settle(2.0)
            idle = _cpu(stage, worker.pid, IDLE_S)
            fill(stage, jobs, 3600)
            settle(BEGIN_S + RUNG_S)  # until each has been looked at once: the word of the record is news then
            before = len(looks(seen))
            took_s = RUNG_S * rungs
            busy = _cpu(stage, worker.pid, took_s)
            found = looks(seen)[before:]
            late = [look["late_s"] for look in found if look["late_s"] is not None]
            own, database = (
                1000 * (used - rest * took_s / IDLE_S) / len(found) for used, rest in zip(busy, idle, strict=True)
            )
            return {
                "jobs": jobs,
                "looks": len(found),
                "late_s": percentiles(late),
                "statements": statistics.median(look["statements"] for look in found),
                "cpu_ms_per_look": round(own, 2),
                "postgresql_cpu_ms_per_look": round(database, 2),
                "idle_cpu_share": round(idle[0] / IDLE_S, 3),
                "busy_cpu_share": round(busy[0] / took_s, 3),
                "peak_mb": round(peak_mb(worker.pid), 1),
            }


def _cpu(stage: Stage, pid: int, seconds: float) -> tuple[float, float]:
    """Return what the worker and the database's server took in so many seconds."""
    name = stage.settings.database.rpartition("/")[2]
    before, end = (cpu_s(pid), postgresql_cpu_s(name)), time.monotonic() + seconds
    settle(end - time.monotonic())
    return cpu_s(pid) - before[0], postgresql_cpu_s(name) - before[1]


def main() -> None:
    """Run and judge."""
    parser = options(__doc__)
    parser.add_argument("--jobs", type=int, nargs="*")
    parser.add_argument("--rungs", type=float, default=2.0, help="how long each is measured")
    given = parser.parse_args()
    found = [measure(jobs, given.rungs) for jobs in given.jobs or (SMALL if given.small else COUNTS)]
    figures = [_late(one) for one in found]
    figures.append(Figure("database statements per look", max(one["statements"] for one in found), at_most=2))
    if len(found) > 1:
        least, most = found[0], found[-1]
        words = f"{most['cpu_ms_per_look']} ms of CPU per look; {least['cpu_ms_per_look']} ms at {least['jobs']}"
        ratio = most["cpu_ms_per_look"] / least["cpu_ms_per_look"]
        what = f"cost of a look with {most['jobs']:,} jobs in flight / with {least['jobs']:,}"
        figures.append(Figure(what, ratio, "×", at_most=DEARER, beside=words))
    tell({"runs": found}, figures)


def _late(one: dict[str, Any]) -> Figure:
    late = one["late_s"]
    words = f"p50 {late['p50']} s, p99 {late['p99']} s over {one['looks']:,} looks"
    bound = LATE_S if one["jobs"] <= 1000 else None
    return Figure(f"lateness of a look, p95, {one['jobs']:,} jobs in flight", late["p95"], "s", bound, beside=words)


if __name__ == "__main__":
    main()
