"""How fast callbacks are answered: `python -m benchmarks.callbacks [--rate 200] [--seconds 20]`.

A real gateway process on PostgreSQL (or SQLite), callbacks for as many waiting jobs at a steady rate over kept-alive
connections, each timed from the moment it was due to be sent; beside it, in the same process and run, the same load on
`/healthz`, a route that does nothing. What the machine itself needs is the difference.
"""

import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from benchmarks.figures import Figure, options, tell
from kiejobs.jobs import JobState
from kiejobs.kie.callbacks import token
from tests.acceptance.stage import Stage, free_port, until
from tests.factories import make_job

SECRET = "b" * 32
CONNECTIONS = 16


def measure(rate: int, seconds: int, database: str) -> dict[str, Any]:
    """Run both loads and return their percentiles."""
    port = free_port()
    settings = {"KIEJOBS_PUBLIC_URL": f"http://127.0.0.1:{port}", "KIEJOBS_CALLBACK_SECRET": SECRET}
    with (
        tempfile.TemporaryDirectory(prefix="kiejobs-bench-") as folder,
        Stage(Path(folder), database=database, **settings) as stage,
    ):
        command = [sys.executable, "-m", "kiejobs.cli", "gateway", "--port", str(port)]
        gateway = subprocess.Popen(command, cwd=folder, env=stage.env, stderr=subprocess.DEVNULL)
        stage.processes.append(gateway)
        until("the gateway answers", lambda: _status(port, "GET", "/healthz", b"") == 200, 30)
        made = [make_job(stage.jobs.database, JobState.WAITING) for _ in range(rate * seconds)]
        calls = [(f"/callbacks/kie/{token(str(job.submission_id), SECRET)}", _body(str(job.task_id))) for job in made]
        empty = load(port, "GET", [("/healthz", b"")] * len(calls), rate)
        callbacks = load(port, "POST", calls, rate)
        kept = stage.query("SELECT count(*) AS n FROM callbacks WHERE verdict = 'accepted'")[0].n
        return {"rate_per_s": rate, "database": database, "empty": empty, "callbacks": callbacks, "accepted": kept}


def _body(task_id: str) -> bytes:
    data = {"taskId": task_id, "state": "success", "resultJson": "{}", "param": "x" * 3000}
    return json.dumps({"code": 200, "msg": "success", "data": data}).encode()


def _status(port: int, method: str, path: str, body: bytes) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def load(port: int, method: str, calls: list[tuple[str, bytes]], rate: int) -> dict[str, Any]:
    """Send each call at its moment; a late start counts as part of the answer's time."""
    due: SimpleQueue[tuple[float, str, bytes] | None] = SimpleQueue()
    took: list[float] = []
    wrong: list[int] = []

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        while (one := due.get()) is not None:
            at_s, path, body = one
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            took.append(time.monotonic() - at_s)
            if response.status != 200:
                wrong.append(response.status)

    threads = [threading.Thread(target=send, daemon=True) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    start_s = time.monotonic()
    for number, (path, body) in enumerate(calls):
        at_s = start_s + number / rate
        time.sleep(max(0.0, at_s - time.monotonic()))
        due.put((at_s, path, body))
    for _ in threads:
        due.put(None)
    for thread in threads:
        thread.join()
    cuts = statistics.quantiles([1000 * one for one in took], n=100)
    return {
        "calls": len(took),
        "errors": len(wrong),
        "p50_ms": round(cuts[49], 1),
        "p95_ms": round(cuts[94], 1),
        "p99_ms": round(cuts[98], 1),
    }


def main() -> None:
    """Run and judge: below 50 ms at p99, no error, every callback taken."""
    parser = options(__doc__)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    given = parser.parse_args()
    found = measure(given.rate, given.seconds or (5 if given.small else 20), given.database)
    callbacks, empty = found["callbacks"], found["empty"]
    words = f"a route that does nothing: {empty['p99_ms']} ms"
    figures = [
        Figure(f"answer to a callback, p99, {given.rate} per second", callbacks["p99_ms"], "ms", 50, beside=words),
        Figure("callbacks answered with an error", callbacks["errors"], at_most=0),
        Figure("callbacks not taken", callbacks["calls"] - found["accepted"], at_most=0),
    ]
    tell(found, figures)


if __name__ == "__main__":
    main()
