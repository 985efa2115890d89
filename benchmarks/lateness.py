"""How late polls start, and how soon a finished result is stored: `python -m benchmarks.lateness [--jobs 200]`.

Real workers, beat and broker on this machine against the simulator. Lateness is the time between the moment a look was
due (its message's ETA) and the moment it started, from Celery's own events. Storing is the time between the moment Kie
could be asked for the result and the moment the file was stored, minus the rung that was being waited on.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from celery import Celery
from redis.exceptions import ConnectionError  # noqa: A004
from sqlalchemy import text

from kiejobs.pacing import rung_s
from kiejobs.simulator import Simulator
from tests.acceptance.stage import Stage, until

SETTINGS = {"KIEJOBS_QUERY_LIMIT_PER_S": "1000", "KIEJOBS_CREATE_LIMIT": "1000", "KIEJOBS_SWEEP_INTERVAL_S": "10"}
SETTINGS |= {"KIEJOBS_SWEEP_GRACE_S": "10", "KIEJOBS_LEASE_S": "60", "KIEJOBS_HTTP_TIMEOUT_S": "30"}


def measure(jobs: int, database: str, broker: str, shortest_s: float, longest_s: float) -> dict[str, Any]:
    """Run the main job `jobs` times at once and return the percentiles."""
    with (
        tempfile.TemporaryDirectory(prefix="kiejobs-bench-") as folder,
        Stage(Path(folder), database=database, broker=broker, simulator=Simulator(create_limit=0), **SETTINGS) as stage,
    ):
        lateness = Lateness(stage.env["KIEJOBS_BROKER_URL"])
        stage.start_all()
        until("the workers are ready", lambda: lateness.workers >= 2, 30)
        rng = random.Random(7)
        requests = [_request(n, rng.uniform(shortest_s, longest_s)) for n in range(jobs)]
        ids = [job.id for job in stage.jobs.enqueue_many(requests)]
        ended = stage.ended(ids, longest_s + 120)
        storing = _storing(stage)
        return {
            "jobs": jobs,
            "succeeded": sum(job.phase == "success" for job in ended),
            "creates": len(stage.creates()),
            "polls": sum(job.polls for job in ended),
            "database": database,
            "broker": broker,
            "poll_lateness_s": _percentiles(lateness.found),
            "stored_after_readable_minus_rung_s": _percentiles(storing),
            "cores": os.cpu_count(),
        }


def _request(number: int, duration_s: float) -> dict[str, Any]:
    prompt = f"{number} [[duration={duration_s:.2f}]] [[outputs=1]]"
    return {"model": "grok-imagine/text-to-image", "input": {"prompt": prompt}}


class Lateness:
    """Collects, from Celery's events, how long after its ETA each poll started."""

    def __init__(self, broker_url: str) -> None:
        self.found: list[float] = []
        self.workers = 0
        self._due: dict[str, float] = {}
        self._app = Celery(broker=broker_url, set_as_current=False)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        handlers = {"task-received": self._received, "task-started": self._started, "worker-online": self._online}
        with suppress(ConnectionError), self._app.connection() as connection:  # the broker ends before the listener
            receiver = self._app.events.Receiver(connection, handlers=handlers)
            receiver.capture(limit=None, timeout=None, wakeup=False)

    def _online(self, event: dict[str, Any]) -> None:
        self.workers += 1

    def _received(self, event: dict[str, Any]) -> None:
        if event["name"] == "kiejobs.poll_status" and event.get("eta"):
            self._due[event["uuid"]] = datetime.fromisoformat(event["eta"]).timestamp()

    def _started(self, event: dict[str, Any]) -> None:
        due = self._due.pop(event["uuid"], None)
        if due is not None:
            self.found.append(event["timestamp"] - due)


def _storing(stage: Stage) -> list[float]:
    query = text(
        "SELECT jobs.accepted_at, outputs.stored_at, payloads.record FROM outputs JOIN jobs ON jobs.id = outputs.job_id"
        " JOIN payloads ON payloads.job_id = jobs.id WHERE outputs.stored_at IS NOT NULL"
    )
    with stage.jobs.database.read() as connection:
        rows = connection.execute(query).all()
    found = []
    for accepted_at, stored_at, record in rows:
        accepted, stored = _epoch(accepted_at), _epoch(stored_at)
        readable = (record if isinstance(record, dict) else json.loads(record))["completeTime"] / 1000
        found.append(stored - readable - rung_s(max(readable - accepted, 0.0)))
    return found


def _epoch(value: Any) -> float:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value + "+00:00")
    return moment.timestamp()


def _percentiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {
        "p50": round(cuts[49], 3),
        "p95": round(cuts[94], 3),
        "p99": round(cuts[98], 3),
        "max": round(max(values), 3),
    }


def main() -> None:
    """Run and judge: at most 0.5 s late and at most the rung plus 1 s, both at p95."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--broker", choices=("redis", "fakeredis", "rabbitmq"), default="redis")
    parser.add_argument("--shortest-s", type=float, default=20.0)
    parser.add_argument("--longest-s", type=float, default=80.0)
    options = parser.parse_args()
    started = time.monotonic()
    found = measure(options.jobs, options.database, options.broker, options.shortest_s, options.longest_s)
    found["took_s"] = round(time.monotonic() - started, 1)
    print(json.dumps(found, indent=2))
    late = found["poll_lateness_s"]["p95"] > 0.5
    slow = found["stored_after_readable_minus_rung_s"]["p95"] > 1.0
    sys.exit(1 if late or slow or found["succeeded"] != found["jobs"] else 0)


if __name__ == "__main__":
    main()
