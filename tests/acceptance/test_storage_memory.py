"""A worker's memory while it copies: bounded by the parts under way, whatever the files' size."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.contract.s3sink import made_up, sink

TOP = Path(__file__).parents[2]
MIB = 1024 * 1024
LIMIT_BYTES = 300 * MIB

# A process with all that a worker has loaded; its peak is asked of the system at the end. Linux hands `ru_maxrss` down from
# the process that started it, so there the peak is read of the process's own memory.
WORKER = textwrap.dedent("""
    import pathlib, resource, sys, threading
    from urllib.parse import urlsplit
    import workers.tasks
    from kiejobs.storage.egress import guarded_session
    from kiejobs.storage.store import Store
    from kiejobs.storage.transfer import copy
    source, bucket, size, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    session = guarded_session(frozenset({("127.0.0.1", urlsplit(source).port)}))
    store = Store.open("s3://media", endpoint_url=bucket)
    stored = []
    def one(number):
        stored.append(copy(f"{source}/{size}/{number}.mp4", store, lambda media: f"k/{number}.{media.extension}",
            session=session, max_bytes=4 << 30, deadline_s=900))
    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    status = pathlib.Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peak = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)
    peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(len(stored), sum(one.size_bytes for one in stored), peak)
""")


def peak_bytes(size_bytes: int, count: int, timeout_s: float) -> int:
    """Copy so many files at once in a process of its own; return its peak resident memory."""
    environment = {
        "AWS_ACCESS_KEY_ID": "access-key",
        "AWS_SECRET_ACCESS_KEY": "secretsecret",
        "AWS_REGION": "us-east-1",
    }
    with sink() as bucket, made_up() as source:
        command = [sys.executable, "-c", WORKER, source, bucket.url, str(size_bytes), str(count)]
        run = subprocess.run(
            command, cwd=TOP, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert run.returncode == 0, run.stderr
        stored, total, peak = map(int, run.stdout.split())
        assert (stored, total) == (count, count * size_bytes)
        assert bucket.sizes == {f"/media/k/{number}.mp4": size_bytes for number in range(count)}
    return peak


@pytest.mark.timeout(110)
def test_a_worker_that_stores_four_large_files_at_once_stays_small() -> None:
    """4 × 256 MiB; the whole process, not only what the copies take."""
    assert peak_bytes(256 * MIB, 4, 100) < LIMIT_BYTES


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_worker_that_stores_four_files_of_the_largest_size_at_once_stays_small() -> None:
    """4 × 2 GiB: KIEJOBS_MAX_OUTPUT_BYTES, as it comes."""
    small, large = peak_bytes(64 * MIB, 4, 100), peak_bytes(2048 * MIB, 4, 500)
    assert large < LIMIT_BYTES
    assert large < small + 40 * MIB, "and it does not grow with the files"
