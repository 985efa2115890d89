"""How much of Kie's create limit is used: `python -m benchmarks.budget [--small]`.

A backlog, four workers, beat, PostgreSQL and Redis, and Kie's limit as it is: 20 creates in any 10 s, judged by the
simulator's own clock. One worker is killed (`kill -9`) in the middle and started again. Beside it stands a perfect sender:
20 at once and 20 more every 10 s.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, options, tell
from kiejobs.simulator import Simulator
from tests.acceptance.stage import BEAT, COPIES, QUICK, Stage, kill, until

LIMIT, WINDOW_S = 20, 10.0
WORKERS = 4
USED = 0.95


def share_used(times: Sequence[float]) -> float:
    """Divide the time a perfect sender needs by the time it took, over whole windows from the last call backwards."""
    windows = (len(times) - 1) // LIMIT
    return windows * WINDOW_S / (times[-1] - times[-1 - windows * LIMIT])


def most_in_a_window(times: Sequence[float]) -> int:
    """Count the calls in the fullest sliding window."""
    return max(sum(first <= at < first + WINDOW_S for at in times) for first in times)


def measure(backlog: int) -> dict[str, Any]:
    """Work a backlog off, with a kill in the middle."""
    settings = {"KIEJOBS_QUERY_LIMIT_PER_S": "100", "KIEJOBS_SWEEP_INTERVAL_S": "10", "KIEJOBS_SWEEP_GRACE_S": "10"}
    settings |= {"KIEJOBS_LEASE_S": "60", "KIEJOBS_HTTP_TIMEOUT_S": "30"}
    with (
        tempfile.TemporaryDirectory(prefix="kiejobs-bench-") as folder,
        Stage(Path(folder), database="postgresql", simulator=Simulator(credits=1e9), **settings) as stage,
    ):
        workers = [stage.start(QUICK) for _ in range(WORKERS)]
        stage.start(COPIES)
        until("the workers are ready", lambda: all(map(stage.is_ready, workers)), 90)
        stage.enqueue(backlog, "[[fail=500]] [[duration=0.5]]")
        stage.start(BEAT)
        until("half are sent", lambda: len(stage.creates()) >= backlog // 2, 120 + backlog)
        kill(workers.pop(0))
        workers.append(stage.start(QUICK))
        until("the line is empty", lambda: not _queued(stage), 120 + backlog)
        ledger = stage.simulator.ledger()
        times = sorted(create["at"] for create in ledger["creates"])
        killed_at = times[backlog // 2]
        before = [at for at in times if at <= killed_at]
        return {
            "backlog": backlog,
            "creates": len(times),
            "took_s": round(times[-1] - times[0], 1),
            "share_in_all": share_used(times),
            "share_before_the_kill": share_used(before) if len(before) > LIMIT else None,
            "share_of_the_last_windows": share_used(times[-2 * LIMIT - 1 :]),
            "most_in_a_window": most_in_a_window(times),
            "violations": ledger["create_violations"],
        }


def _queued(stage: Stage) -> int:
    return int(stage.query("SELECT count(*) AS n FROM jobs WHERE state = 'queued'")[0].n)


def main() -> None:
    """Run and judge."""
    parser = options(__doc__)
    parser.add_argument("--backlog", type=int)
    given = parser.parse_args()
    found = measure(given.backlog or (81 if given.small else 201))
    words = f"a perfect sender: 1; {found['creates']} creates in {found['took_s']} s, one worker killed in the middle"
    figures = [
        Figure("share of 20 creates per 10 s used with a backlog", found["share_in_all"], at_least=USED, beside=words),
        Figure("creates in the fullest sliding 10 s", found["most_in_a_window"], at_most=LIMIT),
        Figure("creates that Kie refused as too fast", found["violations"], at_most=0),
    ]
    tell(found, figures)


if __name__ == "__main__":
    main()
