"""How many requests the gateway answers: `python -m benchmarks.gateway [--seconds 10]`.

`kiejobs gateway` as one process with PostgreSQL and a broker on this machine, beside a load generator of its own
process; first looks, then posts, each between two runs of an application with one empty FastAPI route. What counts is
the ratio to the empty route in the same run, because the machine's speed is in both. Memory is the process's own, after
a warm-up and at the end.
"""

import http.client
import json
import multiprocessing
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from fastapi import FastAPI

from benchmarks.figures import Figure, options, tell
from kiejobs.db.migrate import migrate
from kiejobs.db.session import Database
from kiejobs.gateway import server
from kiejobs.gateway.keys import digest_of
from tests.acceptance.stage import free_port, listens, until
from tests.conftest import temporary_postgresql

CONNECTIONS = 16
TENANTS = 4
WARM_UP_S = 3.0
POST, GET = 150, 300
"""Per second, on two cores shared with PostgreSQL and the load generator."""


def main() -> None:
    """Measure, print, and end with 1 where a bound is missed."""
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, help="of each measurement")
    given = parser.parse_args()
    found = measure(given.seconds or (3.0 if given.small else 10.0))
    figures = []
    for name, least in (("post", POST), ("get", GET)):
        one = found[name]
        words = f"{one['of_the_empty_route']:.0%} of an empty FastAPI route in the same run"
        figures.append(Figure(f"{name.upper()}, one process", one["per_s"], "per second", at_least=least, beside=words))
    figures.append(Figure("errors", found["errors"], at_most=0))
    tell(found, figures)


def measure(seconds: float) -> dict[str, Any]:
    """Run it all once."""
    with temporary_postgresql() as url, tempfile.TemporaryDirectory(prefix="kiejobs-bench-") as folder:
        database = Database(url)
        migrate(database)
        database.close()
        keys = [f"kj_{secrets.token_urlsafe(32)}" for _ in range(TENANTS)]
        with (
            broker(Path(folder)) as broker_url,
            empty() as nothing,
            gateway(Path(folder), url, broker_url, keys) as ours,
        ):
            address, process = ours
            ids = [posted(address, key) for key in keys]
            gets = [("GET", f"/api/generations/{ids[n % TENANTS]}", keys[n % TENANTS]) for n in range(CONNECTIONS)]
            posts = [("POST", "/api/generations", keys[n % TENANTS]) for n in range(CONNECTIONS)]
            load(address, gets + posts, WARM_UP_S)
            before = process.memory_info().rss
            found: dict[str, Any] = {"empty": [load(nothing, [("GET", "/", "")] * CONNECTIONS, seconds / 2)]}
            found["get"] = load(address, gets, seconds)
            found["empty"].append(load(nothing, [("GET", "/", "")] * CONNECTIONS, seconds / 2))
            found["post"] = load(address, posts, seconds)
            found["empty"].append(load(nothing, [("GET", "/", "")] * CONNECTIONS, seconds / 2))
            found["rss_mb"] = [round(rss / 1e6, 1) for rss in (before, process.memory_info().rss)]
    idle = sum(one["per_s"] for one in found["empty"]) / len(found["empty"])
    for name in ("get", "post"):
        found[name]["of_the_empty_route"] = round(found[name]["per_s"] / idle, 3)
    found["errors"] = found["get"]["errors"] + found["post"]["errors"]
    return found | {"cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 1)}


def posted(address: str, key: str) -> str:
    """Post once; return the generation's id."""
    connection = http.client.HTTPConnection(str(urlsplit(address).netloc), timeout=30)
    connection.request("POST", "/api/generations", body(), headers(key))
    return str(json.loads(connection.getresponse().read())["generationId"])


def body() -> bytes:
    """Make a request that is not quite like another."""
    given = {"prompt": f"a red panda on a mossy log, {secrets.token_hex(8)}", "aspect_ratio": "16:9"}
    return json.dumps({"model": "z-image", "input": given, "idempotencyKey": secrets.token_hex(8)}).encode()


def headers(key: str) -> dict[str, str]:
    """Make the headers of a request."""
    return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


def load(address: str, requests: list[tuple[str, str, str]], seconds: float) -> dict[str, Any]:
    """Send each of these requests over a connection of its own, again and again, from another process."""
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    sender = context.Process(target=_send_all, args=(urlsplit(address).netloc, requests, seconds, answers))
    sender.start()
    times, errors, took_s = answers.get(timeout=seconds + 60)
    sender.join()
    times.sort()
    return {
        "per_s": round(len(times) / took_s, 1),
        "p50_ms": round(times[len(times) // 2] * 1000, 1),
        "p99_ms": round(times[int(len(times) * 0.99)] * 1000, 1),
        "errors": errors,
    }


def _send_all(netloc: str, requests: list[tuple[str, str, str]], seconds: float, answers: Any) -> None:
    times: list[float] = []
    errors: list[int] = []
    began = time.monotonic()
    threads = [
        threading.Thread(target=_send, args=(netloc, request, began + seconds, times, errors)) for request in requests
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.put((times, len(errors), time.monotonic() - began))


def _send(netloc: str, request: tuple[str, str, str], until_s: float, times: list[float], errors: list[int]) -> None:
    method, path, key = request
    connection = http.client.HTTPConnection(netloc, timeout=30)
    while (began := time.monotonic()) < until_s:
        connection.request(method, path, body() if method == "POST" else None, headers(key))
        answer = connection.getresponse()
        answer.read()
        times.append(time.monotonic() - began)
        if answer.status not in (200, 201):
            errors.append(answer.status)


# What runs.


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """Run a Redis of our own."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with _running(command, {}, folder, port):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def gateway(folder: Path, database: str, broker_url: str, keys: list[str]) -> Iterator[tuple[str, psutil.Process]]:
    """Run `kiejobs gateway`; gives its address and its process."""
    port = free_port()
    known = ",".join(f"tenant{n}:admin:{digest_of(key)}" for n, key in enumerate(keys))
    ours = {"KIEJOBS_DATABASE_URL": database, "KIEJOBS_BROKER_URL": broker_url, "KIEJOBS_GATEWAY_KEYS": known}
    ours |= {"KIEJOBS_DATA_DIR": str(folder), "KIEJOBS_LOG_LEVEL": "WARNING"}
    command = [sys.executable, "-m", "kiejobs.cli", "gateway", "--port", str(port)]
    with _running(command, ours, folder, port) as process:
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)


@contextmanager
def empty() -> Iterator[str]:
    """Run an application with one route that does nothing, as a process, served in the same way."""
    port = free_port()
    with _running([sys.executable, "-m", "benchmarks.gateway", "--empty", str(port)], {}, Path.cwd(), port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(command: list[str], more: dict[str, str], folder: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("KIE_", "KIEJOBS_", "AWS_"))}
    environment = plain | {"PYTHONPATH": str(Path(__file__).parents[1])} | more
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    try:
        until(f"{command[2]} listens", lambda: listens(port), 30)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def serve_nothing(port: int) -> None:
    """Serve the empty route until SIGTERM."""
    app = FastAPI()

    @app.get("/")
    def nothing() -> dict[str, str]:
        return {}

    server.serve(app, server.listen("127.0.0.1", port))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--empty"]:
        serve_nothing(int(sys.argv[2]))
    else:
        main()
