"""How soon a finished generation is stored: `python -m benchmarks.completion [--small]`.

The whole way with two workers, beat, PostgreSQL and Redis, once with callbacks (the gateway runs, the simulator calls
back) and once with polling alone. Counted from the moment that the record names as completion to the moment that the
output's row says stored; with polling, the ladder's wait at that age is what it is held against.
"""

import json
import random
import sys
import tempfile
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text

from benchmarks.figures import Figure, options, percentiles, tell
from benchmarks.gateway import _running as running
from kiejobs.pacing import rung_s
from kiejobs.simulator import Simulator
from tests.acceptance.stage import BEAT, COPIES, QUICK, Stage, free_port, until

SETTINGS = {"KIEJOBS_QUERY_LIMIT_PER_S": "1000", "KIEJOBS_CREATE_LIMIT": "100", "KIEJOBS_SWEEP_INTERVAL_S": "10"}
SETTINGS |= {"KIEJOBS_SWEEP_GRACE_S": "10", "KIEJOBS_LEASE_S": "60", "KIEJOBS_HTTP_TIMEOUT_S": "30"}
SECRET = "b" * 32
CALLED_BACK_S, POLLED_S = 1.0, 1.0


def measure(jobs: int, longest_s: float, *, callbacks: bool) -> dict[str, Any]:
    """Do jobs of 3 s to `longest_s`; return the percentiles."""
    port = free_port()
    settings = dict(SETTINGS)
    if callbacks:
        settings |= {"KIEJOBS_PUBLIC_URL": f"http://127.0.0.1:{port}", "KIEJOBS_CALLBACK_SECRET": SECRET}
    simulator = Simulator(create_limit=0, credits=1e9)
    with (
        tempfile.TemporaryDirectory(prefix="kiejobs-bench-") as folder,
        Stage(Path(folder), database="postgresql", simulator=simulator, **settings) as stage,
    ):
        command = [sys.executable, "-m", "kiejobs.cli", "gateway", "--port", str(port)]
        ours = {name: value for name, value in stage.env.items() if name.startswith(("KIE_", "KIEJOBS_"))}
        with running(command, ours, Path(folder), port) if callbacks else nullcontext():
            workers = [stage.start(QUICK), stage.start(COPIES)]
            until("the workers are ready", lambda: all(map(stage.is_ready, workers)), 60)
            stage.start(BEAT)
            rng = random.Random(7)
            ids = [
                job.id for job in stage.jobs.enqueue_many([_request(n, rng.uniform(3, longest_s)) for n in range(jobs)])
            ]
            ended = stage.ended(ids, longest_s + jobs / 10 + 120)
            took = _took(stage)
    found_by: dict[str, int] = {}
    for _, _, by in took:
        found_by[by] = found_by.get(by, 0) + 1
    return {
        "jobs": jobs,
        "succeeded": sum(job.phase == "success" for job in ended),
        "polls": sum(job.polls for job in ended),
        "stored_s": percentiles([stored for stored, _, _ in took]),
        "beyond_the_rung_s": percentiles([stored - rung for stored, rung, _ in took]),
        "found_by": found_by,
    }


def _request(number: int, duration_s: float) -> dict[str, Any]:
    prompt = f"{number} [[duration={duration_s:.2f}]] [[outputs=1]]"
    return {"model": "grok-imagine/text-to-image", "input": {"prompt": prompt}}


def _took(stage: Stage) -> list[tuple[float, float, str]]:
    """List, for each output: from completion to stored, the rung at that age, and what found it."""
    query = text(
        "SELECT jobs.accepted_at, jobs.found_by, outputs.stored_at, payloads.record FROM outputs"
        " JOIN jobs ON jobs.id = outputs.job_id JOIN payloads ON payloads.job_id = jobs.id"
        " WHERE outputs.stored_at IS NOT NULL"
    )
    with stage.jobs.database.read() as connection:
        rows = connection.execute(query).all()
    found = []
    for row in rows:
        record = row.record if isinstance(row.record, dict) else json.loads(row.record)
        completed = record["completeTime"] / 1000
        age_s = max(completed - _epoch(row.accepted_at), 0.0)
        found.append((_epoch(row.stored_at) - completed, rung_s(age_s), str(row.found_by)))
    return found


def _epoch(moment: datetime) -> float:
    return moment.timestamp()


def main() -> None:
    """Run and judge."""
    given = options(__doc__).parse_args()
    jobs, longest_s = (40, 12.0) if given.small else (200, 50.0)
    called, polled = (measure(jobs, longest_s, callbacks=callbacks) for callbacks in (True, False))
    by_polls = polled["stored_s"]
    words = f"p50 {called['stored_s']['p50']} s; with polling p50 {by_polls['p50']} s, p95 {by_polls['p95']} s"
    figures = [
        Figure("completion to stored with callbacks, p95", called["stored_s"]["p95"], "s", CALLED_BACK_S, beside=words),
        Figure(
            "the same with polling, beyond the ladder's wait, p95", polled["beyond_the_rung_s"]["p95"], "s", POLLED_S
        ),
        Figure("polls per job with callbacks / with polling", called["polls"] / polled["polls"], "×"),
        Figure("jobs that did not succeed", 2 * jobs - called["succeeded"] - polled["succeeded"], at_most=0),
    ]
    tell({"callbacks": called, "polling": polled}, figures)


if __name__ == "__main__":
    main()
