"""Threads, prefork and gevent side by side on this work: `python -m benchmarks.pools [--small]`.

The same jobs through the same two workers (quick queues and copies) on PostgreSQL and Redis, with one pool after the other
and as much concurrency as fits that pool: sixteen threads and four for copies, four processes and two, sixteen greenlets
and four. Compared are CPU time per job of all workers, their memory (shared pages counted by share) and how long after the
completion that the record names a result was stored. A pool whose package is not installed is left out, and said so.
"""

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.completion import SETTINGS, _request, _took
from benchmarks.figures import Figure, cpu_s, options, percentiles, rss_mb, tell
from kiejobs.simulator import Simulator
from tests.acceptance.stage import BEAT, COPIES, QUICK, Stage, until

POOLS = {"threads": (16, 4), "processes": (4, 2), "gevent": (16, 4)}
"""Each with its concurrency: quick, copies. For Celery, `-P prefork` is whatever is configured; `processes` is prefork."""


def measure(pool: str, jobs: int) -> dict[str, Any]:
    """Do the jobs with one pool."""
    quick, copies = POOLS[pool]
    simulator = Simulator(create_limit=0, credits=1e9)
    with (
        tempfile.TemporaryDirectory(prefix="kiejobs-bench-") as folder,
        Stage(Path(folder), database="postgresql", simulator=simulator, **SETTINGS) as stage,
    ):
        workers = [
            stage.start((*QUICK, "-P", pool, "-c", str(quick))),
            stage.start((*COPIES, "-P", pool, "-c", str(copies))),
        ]
        until("the workers are ready", lambda: all(map(stage.is_ready, workers)), 60)
        stage.start(BEAT)
        pids = [worker.pid for worker in workers]
        before = cpu_s(*pids)
        ids = [job.id for job in stage.jobs.enqueue_many([_request(n, 3 + n % 12) for n in range(jobs)])]
        ended = stage.ended(ids, jobs + 120)
        used, weight = cpu_s(*pids) - before, rss_mb(*pids)
        return {
            "succeeded": sum(job.phase == "success" for job in ended),
            "cpu_ms_per_job": round(1000 * used / jobs, 1),
            "memory_mb": round(weight, 1),
            "beyond_the_rung_s": percentiles([stored - rung for stored, rung, _ in _took(stage)]),
        }


def main() -> None:
    """Run every pool that is here, and compare each with threads."""
    given = options(__doc__).parse_args()
    jobs = 40 if given.small else 200
    here = [pool for pool in POOLS if pool != "gevent" or importlib.util.find_spec("gevent")]
    found = {pool: measure(pool, jobs) for pool in here}
    threads = found["threads"]
    figures = [
        Figure(
            "jobs that did not succeed, all pools", sum(jobs - one["succeeded"] for one in found.values()), at_most=0
        )
    ]
    for pool, one in found.items():
        late = f"stored {one['beyond_the_rung_s']['p95']} s beyond the ladder's wait at p95"
        if pool != "threads":
            words = f"{one['cpu_ms_per_job']} ms per job; threads {threads['cpu_ms_per_job']} ms; {late}"
            ratio = one["cpu_ms_per_job"] / threads["cpu_ms_per_job"]
            figures.append(Figure(f"CPU time of a job, {pool} / threads", ratio, "×", beside=words))
            words = f"{one['memory_mb']} MB; threads {threads['memory_mb']} MB"
            figures.append(
                Figure(f"memory, {pool} / threads", one["memory_mb"] / threads["memory_mb"], "×", beside=words)
            )
    tell({"pools": found, "not installed": [pool for pool in POOLS if pool not in here]}, figures)


if __name__ == "__main__":
    main()
