"""How fast a service can enqueue: `python -m benchmarks.enqueue [--small]`.

One process with PostgreSQL and a private Redis: `enqueue` one by one, `enqueue_many` by the thousand, and beside them, in
turn in the same run, Celery's bare `send_task` with the same request as its arguments, which keeps nothing but the message.
No worker runs, so nothing empties the line: after the first window's worth of jobs an `enqueue` publishes nothing, as with
any backlog; each commits its row, durably.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, options, tell
from kiejobs.nudge import producer_app
from tests.acceptance.stage import Stage

ONE_BY_ONE, MANY = 400, 5000
"""Per second."""


def request(number: int) -> dict[str, Any]:
    """Make a request that is not quite like another."""
    given = {"prompt": f"a red panda on a mossy log, number {number}", "aspect_ratio": "16:9"}
    return {"model": "z-image", "input": given}


def keyed(number: int) -> dict[str, Any]:
    """Make a request with an idempotency key."""
    return request(number) | {"idempotencyKey": f"{time.monotonic_ns()}-{number}"}


def per_s(count: int, run: Callable[[], object]) -> float:
    """Run something that does `count` things; return how many a second that is."""
    began = time.perf_counter()
    run()
    return count / (time.perf_counter() - began)


def measure(count: int, many: int, rounds: int) -> dict[str, list[float]]:
    """Measure all three in turn, `rounds` times."""
    found: dict[str, list[float]] = {"enqueue": [], "enqueue_many": [], "enqueue_many, keyed": [], "send_task": []}
    with (
        tempfile.TemporaryDirectory(prefix="kiejobs-bench-") as folder,
        Stage(Path(folder), database="postgresql") as stage,
    ):
        bare = producer_app(stage.env["KIEJOBS_BROKER_URL"])
        stage.jobs.enqueue_request(request(-1))  # connects, loads the catalogue
        bare.send_task("bare", kwargs={"request": request(-1)}, queue="bare")

        def one_by_one() -> None:
            for number in range(count):
                stage.jobs.enqueue_request(request(number))

        def in_bulk(make: Callable[[int], dict[str, Any]]) -> None:
            for start in range(0, many, 1000):
                stage.jobs.enqueue_many([make(number) for number in range(start, start + 1000)])

        def sent() -> None:
            for number in range(count):
                bare.send_task("bare", kwargs={"request": request(number)}, queue="bare")

        for _ in range(rounds):
            found["enqueue"].append(per_s(count, one_by_one))
            found["send_task"].append(per_s(count, sent))
            found["enqueue_many"].append(per_s(many, lambda: in_bulk(request)))
            found["enqueue_many, keyed"].append(per_s(many, lambda: in_bulk(keyed)))
    return found


def main() -> None:
    """Run and judge."""
    given = options(__doc__).parse_args()
    found = measure(*((200, 1000, 3) if given.small else (1000, 5000, 5)))
    middle = {name: statistics.median(rates) for name, rates in found.items()}
    ratio = statistics.median(bare / ours for bare, ours in zip(found["send_task"], found["enqueue"], strict=True))
    bulk = statistics.median(bare / ours for bare, ours in zip(found["send_task"], found["enqueue_many"], strict=True))
    words = f"send_task {middle['send_task']:,.0f} per second"
    figures = [
        Figure("enqueue, one process", middle["enqueue"], "per second", at_least=ONE_BY_ONE, beside=words),
        Figure("time of an enqueue / of a bare send_task", ratio, "×"),
        Figure("enqueue_many, one process", middle["enqueue_many"], "per second", at_least=MANY, beside=words),
        Figure("time of a job in enqueue_many / of a bare send_task", bulk, "×"),
        Figure("enqueue_many with an idempotency key each", middle["enqueue_many, keyed"], "per second"),
    ]
    tell({"per_s": found}, figures)


if __name__ == "__main__":
    main()
