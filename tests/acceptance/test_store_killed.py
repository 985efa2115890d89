"""A worker killed -9 at the worst moment of a copy: the bytes are in storage and the row does not know it yet."""

import hashlib
from pathlib import Path

import pytest

from tests.acceptance.stage import COPIES, Stage, has_redis, kill, until
from tests.support import missing, postgresql_answers


@pytest.fixture
def stage(tmp_path):
    """PostgreSQL, because there one row can be locked and the rest goes on."""
    if not has_redis():
        missing("redis-server on PATH")
    if not postgresql_answers():
        missing("PostgreSQL on 127.0.0.1:5432")
    with Stage(tmp_path, database="postgresql") as made:
        yield made


def test_a_worker_killed_between_the_upload_and_the_row_leaves_one_copy(stage):
    """Another worker writes the same key again: one file, the one that the row tells of, and one generation bought."""
    _, copies, _ = stage.start_all()
    (job_id,) = stage.enqueue(1, "[[duration=1]] [[outputs=1]] [[drip=200000]]")
    until("the copy runs", lambda: stage.jobs.get(job_id).phase == "storing")
    media = Path(stage.settings.storage)

    def whole():
        return [path for path in media.rglob("*") if path.is_file() and not path.name.startswith(".")]

    with stage.locked(job_id):
        (file,) = until("the file is in storage", whole)
        kill(copies)
        assert stage.query("SELECT state FROM outputs WHERE job_id = :id", id=job_id)[0].state == "pending"
    stage.start(COPIES)
    (job,) = stage.ended([job_id], 120)
    assert job.phase == "success", stage.logs()
    assert whole() == [file]
    (output,) = job.outputs
    assert (media / output.key, output.sha256) == (file, hashlib.sha256(file.read_bytes()).hexdigest())
    assert len(stage.creates()) == 1
