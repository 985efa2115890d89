"""What a copy from HTTP to S3 costs, beside the tools one would take instead: `python -m benchmarks.store`.

One large object, and a thousand small ones. All contenders run alternately, each in a process of its own, from the same
server to the same `rclone serve s3` on this machine; medians of the rounds are shown, and of each round's ratio. Of the
large object, start-up (the same command for a tiny object) is taken off everybody's wall and CPU time; peak memory is the
whole process's. kiejobs hashes, checks the file's type and end, and reads the object back by HEAD; the others copy.

The server's ETag hashing is off unless `--etag-hash MD5`: with it, this server reads a whole object again for every HEAD,
which the servers that it stands for do not.
"""

import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.contract.s3server import S3Server, rclone, s3_server

MIB = 1024 * 1024
TINY_BYTES = 4096
TOP = Path(__file__).parents[1]
TARGETS = (
    ("one object, wall: kiejobs / rclone copyurl", "at most", 0.75),
    ("one object, CPU: kiejobs / boto3", "at most", 0.6),
    ("one object, peak memory: kiejobs / rclone copyurl", "at most", 0.7),
    ("many objects, objects per second: kiejobs / boto3", "at least", 1.5),
)


# The two servers.


def video(path: Path, size_bytes: int) -> None:
    """Write a whole MP4 of random bytes."""
    start = struct.pack(">I4s8s", 16, b"ftyp", b"isom\0\0\0\0") + struct.pack(">I4s", 8, b"moov")
    with path.open("wb") as file:
        file.write(start + struct.pack(">I4s", size_bytes - len(start), b"mdat"))
        for left in range(size_bytes - len(start) - 8, 0, -MIB):
            file.write(os.urandom(min(left, MIB)))


@contextmanager
def source(folder: Path) -> Iterator[str]:
    """Serve files by `sendfile` with connections kept, which costs as little as serving can."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        threading.Thread(target=_accept, args=(listener, folder), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _accept(listener: socket.socket, folder: Path) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(connection, folder), daemon=True).start()


def _answer(connection: socket.socket, folder: Path) -> None:
    with connection, connection.makefile("rb") as asked:
        while line := asked.readline():
            while asked.readline().strip():
                pass
            path = folder / Path(line.split()[1].decode()).name
            head = f"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: {path.stat().st_size}\r\n\r\n"
            connection.sendall(head.encode())
            if line.startswith(b"GET"):
                with path.open("rb") as file:
                    connection.sendfile(file)


# The contenders. Those in Python are children of this file: `python -m benchmarks.store child <name> …`.


def by_kiejobs(endpoint: str) -> Callable[[str, str], object]:
    """The copy that the store step makes."""
    from kiejobs.storage.egress import guarded_session
    from kiejobs.storage.store import Store
    from kiejobs.storage.transfer import copy

    store = Store.open("s3://media", endpoint_url=endpoint)
    session = guarded_session(frozenset({("127.0.0.1", int(os.environ["SOURCE_PORT"]))}))

    def run(url: str, key: str) -> object:
        return copy(url, store, lambda _: key, session=session, max_bytes=1 << 40, deadline_s=900)

    return run


def by_boto3(endpoint: str) -> Callable[[str, str], object]:
    """A stream of requests into boto3's managed upload, with its defaults."""
    import boto3
    import requests
    from botocore.config import Config

    client = boto3.client("s3", endpoint_url=endpoint, config=Config(max_pool_connections=32))
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=32))

    def run(url: str, key: str) -> object:
        with session.get(url, stream=True, timeout=60) as response:
            return client.upload_fileobj(response.raw, "media", key)

    return run


def child(name: str, url: str, endpoint: str, count: int, width: int) -> None:
    """Copy once, or so many times from a pool of threads, and say how long that took after a first one."""
    run = {"kiejobs": by_kiejobs, "boto3": by_boto3}[name](endpoint)
    run(url, f"{name}/0.mp4")
    if count:
        start = time.perf_counter()
        with ThreadPoolExecutor(width) as pool:
            list(pool.map(lambda number: run(url, f"{name}/{number}.mp4"), range(count)))
        print(json.dumps({"wall_s": time.perf_counter() - start}))


@dataclass
class Bench:
    """The servers, and what each contender was measured to take."""

    server: S3Server
    source_url: str
    rounds: int
    found: "Rounds" = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """What every contender is given: the key, and nothing of this machine's."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_", "KIE"))}
        remote = {"TYPE": "s3", "PROVIDER": "Rclone", "ENDPOINT": self.server.endpoint_url}
        remote |= {"ACCESS_KEY_ID": self.server.access_key, "SECRET_ACCESS_KEY": self.server.secret_key}
        port = str(urlsplit(self.source_url).port)
        named = {f"RCLONE_CONFIG_BENCH_{name}": value for name, value in remote.items()}
        return ours | self.server.environment | named | {"RCLONE_CONFIG": "/dev/null", "SOURCE_PORT": port}

    def commands(self, file: str) -> dict[str, list[str]]:
        """The command of each contender that is here, for one object."""
        url, endpoint = f"{self.source_url}/{file}", self.server.endpoint_url
        python = [sys.executable, "-m", "benchmarks.store", "child"]
        found = {name: [*python, name, url, endpoint, "0", "1"] for name in ("kiejobs", "boto3")}
        found["rclone copyurl"] = [str(rclone()), "copyurl", url, "bench:media/rclone.mp4"]
        if shutil.which("aws") and shutil.which("curl"):
            pipe = f"curl -sf {url} | aws --endpoint-url {endpoint} s3 cp - s3://media/aws.mp4"
            found["curl | aws s3 cp -"] = ["sh", "-c", pipe]
        return found

    def one_object(self) -> "Rounds":
        """Copy one large object in turn; start-up is measured beside it and taken off."""
        for _ in range(self.rounds):
            tiny, large = self.commands("tiny.mp4"), self.commands("large.mp4")
            for name in large:
                small, big = self.run(tiny[name]), self.run(large[name])
                net = {what: big[what] - small[what] for what in ("wall_s", "cpu_s", "server_cpu_s")}
                self.found.setdefault(name, []).append({**net, "start_s": small["wall_s"], "peak_mib": big["peak_mib"]})
        return self.found

    def run(self, command: list[str]) -> dict[str, float]:
        """Run a contender and ask the system what it, and the server meanwhile, took."""
        import psutil  # not for the children: it would count as their memory

        server = psutil.Process(self.server.pid)
        before, start = server.cpu_times(), time.perf_counter()
        process = subprocess.Popen(command, cwd=TOP, env=self.environment(), stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command} ended with code {process.returncode}")
        wall_s, after = time.perf_counter() - start, server.cpu_times()
        server_s = after.user + after.system - before.user - before.system
        peak = used.ru_maxrss / 1024
        return {"wall_s": wall_s, "cpu_s": used.ru_utime + used.ru_stime, "server_cpu_s": server_s, "peak_mib": peak}

    def many_objects(self, count: int, width: int) -> "Rounds":
        """Copy many small objects from a pool of threads, in turn."""
        found: dict[str, list[dict[str, float]]] = {"kiejobs": [], "boto3": []}
        for _ in range(self.rounds):
            for name, rounds in found.items():
                url, endpoint = f"{self.source_url}/small.mp4", self.server.endpoint_url
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.store",
                    "child",
                    name,
                    url,
                    endpoint,
                    str(count),
                    str(width),
                ]
                said = subprocess.run(command, cwd=TOP, env=self.environment(), capture_output=True, check=True).stdout
                rounds.append({"objects_per_s": count / json.loads(said)["wall_s"]})
        return found


Rounds = dict[str, list[dict[str, float]]]
"""What each contender took, round by round."""


def medians(rounds: Rounds) -> dict[str, dict[str, float]]:
    """The median of each figure of each contender."""
    return {
        name: {what: round(statistics.median(one[what] for one in its), 3) for what in its[0]}
        for name, its in rounds.items()
    }


def ratio(rounds: Rounds, what: str, peer: str) -> float:
    """The median over the rounds of kiejobs' figure by its peer's: what slowed a whole round down slowed both."""
    pairs = zip(rounds["kiejobs"], rounds[peer], strict=True)
    return round(statistics.median(ours[what] / theirs[what] for ours, theirs in pairs), 3)


def measure(size_mib: int, objects: int, width: int, rounds: int, etag_hash: str) -> dict[str, Any]:
    """Measure everything and compare."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() and shutil.disk_usage(memory).free > 4096 * MIB else None
    options = ["--etag-hash", etag_hash]
    with (
        tempfile.TemporaryDirectory(prefix="kiejobs-bench-", dir=place) as folder,
        source(Path(folder)) as url,
        s3_server(Path(folder) / "s3", options=options) as server,
    ):
        for name, size in (("large", size_mib * MIB), ("small", MIB), ("tiny", TINY_BYTES)):
            video(Path(folder) / f"{name}.mp4", size)
        bench = Bench(server, url, rounds)
        one, many = bench.one_object(), bench.many_objects(objects, width)
    ratios = (
        ratio(one, "wall_s", "rclone copyurl"),
        ratio(one, "cpu_s", "boto3"),
        ratio(one, "peak_mib", "rclone copyurl"),
        ratio(many, "objects_per_s", "boto3"),
    )
    compared = [
        {"what": what, "ratio": found, "target": f"{side} {target}"}
        for (what, side, target), found in zip(TARGETS, ratios, strict=True)
    ]
    setting = {"cores": os.cpu_count(), "load": os.getloadavg(), "rounds": rounds, "etag_hash": etag_hash or "off"}
    return {"setting": setting, "one_object": medians(one), "many_objects": medians(many), "compared": compared}


def main() -> None:
    """Run from the command line."""
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))
        return
    from benchmarks.figures import Figure, options, tell  # not for the children: it would count as their memory

    parser = options(__doc__)
    parser.add_argument("--size-mib", type=int)
    parser.add_argument("--objects", type=int)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--etag-hash", default="")
    given = parser.parse_args()
    size_mib, objects, rounds = (64, 100, 1) if given.small else (256, 1000, 5)
    found = measure(
        given.size_mib or size_mib, given.objects or objects, given.width, given.rounds or rounds, given.etag_hash
    )
    figures = []
    for one in found["compared"]:
        side, _, bound = one["target"].rpartition(" ")
        figures.append(Figure(one["what"], one["ratio"], "×", **{side.replace(" ", "_"): float(bound)}))
    tell(found, figures)


if __name__ == "__main__":
    main()
