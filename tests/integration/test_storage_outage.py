"""A bucket that misbehaves: jobs wait for it with the reason, buying and watching go on, and all is stored in the end."""

import hashlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kiejobs.db.session import Database
from kiejobs.jobs import JobState
from kiejobs.nudge import store_nudge
from kiejobs.producer import KieJobs
from kiejobs.simulator import Simulator
from tests.contract.s3faults import ERRORS, Relay, relay
from tests.contract.s3server import missing as s3_missing
from tests.contract.s3server import s3_server
from tests.contract.s3sink import made_up
from tests.factories import Nudges, age, finish, job_row, outputs_of, work
from tests.support import missing
from workers.runtime import Runtime
from workers.steps.poll import poll
from workers.steps.store import store
from workers.steps.submit import submit

TOP = Path(__file__).parents[2]
REASONS = {
    "down": "cannot be reached",
    "unavailable": "asks for fewer requests",
    "denied": "access is denied",
    "bucket missing": "bucket does not exist",
}


@dataclass
class Scene:
    """A runtime whose bucket is behind a relay, and the folder in which its objects lie."""

    rt: Runtime
    bucket: Relay
    folder: Path
    simulator: Simulator

    def enqueue(self) -> str:
        """One more generation."""
        jobs = KieJobs(self.rt.settings, database=self.rt.database, publish=Nudges())
        return jobs.enqueue("z-image", {"prompt": "a cat"}, validate="off").id

    def made(self) -> str:
        """A job whose result is known and not yet copied."""
        job_id = self.enqueue()
        submit(self.rt, job_id)
        finish(self.simulator, job_row(self.rt.database, job_id).provider_task_id)
        poll(self.rt, job_id, job_row(self.rt.database, job_id).version)
        assert self.state(job_id) == JobState.STORING
        return job_id

    def state(self, job_id: str) -> str:
        return str(job_row(self.rt.database, job_id).state)

    def creates(self) -> int:
        return len(self.simulator.ledger()["creates"])  # type: ignore[arg-type]

    def is_whole(self, job_id: str) -> bool:
        """Whether the bucket holds the bytes that the row tells of."""
        (row,) = outputs_of(self.rt.database, job_id)
        content = (self.folder / row.key).read_bytes()
        return (len(content), hashlib.sha256(content).hexdigest()) == (row.size_bytes, row.sha256)


@pytest.fixture
def scene(simulator: Simulator, database: Database, runtime: Callable[..., Runtime], tmp_path: Path) -> Iterator[Scene]:
    """An S3 server with a relay before it."""
    if s3_missing():
        missing(str(s3_missing()))
    with s3_server(tmp_path / "s3") as server, relay(server.endpoint_url) as bucket:
        rt = runtime(
            database,
            storage_url=server.url,
            storage_endpoint_url=bucket.endpoint_url,
            storage_key_id=server.access_key,
            storage_secret=server.secret_key,
            storage_region="us-east-1",
        )
        yield Scene(rt, bucket, server.folder / server.bucket, simulator)


@pytest.mark.parametrize("fault", ["down", *ERRORS])
def test_an_outage_of_the_bucket_costs_nothing_but_time(scene: Scene, fault: str) -> None:
    """Waiting with the reason, listed as unsafe, nothing bought again; others are bought and watched meanwhile."""
    rt, bucket = scene.rt, scene.bucket
    first = scene.made()
    bucket.fault = fault
    for _ in range(2):
        assert not store(rt, first, 0)
        age(rt.database, first, 601)
    (row,) = outputs_of(rt.database, first)
    assert (scene.state(first), row.state, row.attempts) == (JobState.STORING, "pending", 2)
    assert REASONS[fault] in row.error
    jobs = KieJobs(rt.settings, database=rt.database, publish=Nudges())
    assert [job.id for job in jobs.list(unsaved=True)] == [first]
    second = scene.made()
    assert not store(rt, second, 0)
    assert scene.creates() == 2
    bucket.fault = None
    for job_id in (first, second):
        age(rt.database, job_id, 601)
    work(rt, [store_nudge(first, 0), store_nudge(second, 0)])
    assert [scene.state(job_id) for job_id in (first, second)] == [JobState.SUCCESS] * 2
    assert scene.is_whole(first)
    assert scene.is_whole(second)
    assert scene.creates() == 2
    assert jobs.list(unsaved=True) == []


def test_a_slow_bucket_holds_nobody_up_but_its_own_copy(scene: Scene) -> None:
    """While one copy waits for its answer, another job is bought and watched; then the copy ends well."""
    rt, bucket = scene.rt, scene.bucket
    first = scene.made()
    bucket.fault = "slow"
    copying = threading.Thread(target=store, args=(rt, first, 0), daemon=True)
    copying.start()
    second = scene.made()
    assert copying.is_alive()
    assert scene.state(first) == JobState.STORING
    bucket.fault = None
    bucket.going_on.set()
    copying.join(20)
    assert scene.state(first) == JobState.SUCCESS
    assert scene.is_whole(first)
    work(rt, [store_nudge(second, 0)])
    assert scene.is_whole(second)
    assert scene.creates() == 2


FULL = """
import sys
from pathlib import Path
from urllib.parse import urlsplit
from kiejobs.errors import StorageUnavailable
from kiejobs.storage.egress import guarded_session
from kiejobs.storage.store import Store
from kiejobs.storage.transfer import copy
source, folder = sys.argv[1:]
session = guarded_session(frozenset({("127.0.0.1", urlsplit(source).port)}))
store = Store.open(folder)
def run(size):
    return copy(f"{source}/{size}/0.mp4", store, lambda media: "k/0.mp4", session=session, max_bytes=1 << 30, deadline_s=60)
try:
    run(32 << 20)
except StorageUnavailable as error:
    print(error, error.remedy, sep="|")
print([path.name for path in Path(folder).rglob("*") if path.is_file()])
print(run(1 << 20).size_bytes)
"""


def test_a_full_disk_is_named_and_leaves_nothing_half(tmp_path: Path) -> None:
    """A file system of 8 MiB of this process's own; a file that fits is stored right after."""
    mount = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=8m none "$0" && exec "$@"', str(tmp_path)]
    if not shutil.which("unshare") or subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        missing("right to mount a file system")
    with made_up() as source:
        command = [*mount, sys.executable, "-c", FULL, source, str(tmp_path)]
        run = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=60, check=True)
    said, files, size = run.stdout.splitlines()
    assert said == f"{tmp_path}: the disk is full|Free space, or point KIEJOBS_STORAGE_URL at another disk."
    assert (files, size) == ("[]", str(1 << 20))
