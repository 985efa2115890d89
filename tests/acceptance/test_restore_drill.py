"""The restore drill of docs/operations.md, step by step: what an earlier database costs, and what it does not."""

import json
import shutil
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from kiejobs.errors import JobNotFound
from tests.acceptance.stage import BEAT, COPIES, QUICK, Stage, has_redis, kill, until
from tests.support import missing, postgresql_answers

SERVER = ("--host=127.0.0.1", "--username=postgres")


@pytest.fixture
def stage(tmp_path):
    if not has_redis():
        missing("redis-server on PATH")
    if not postgresql_answers():
        missing("PostgreSQL on 127.0.0.1:5432")
    if not (shutil.which("pg_dump") and shutil.which("pg_restore")):
        missing("pg_dump and pg_restore on PATH")
    with Stage(tmp_path, database="postgresql", KIEJOBS_LOG_FORMAT="json") as made:
        yield made


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def _restore(stage: Stage, dump: Path) -> None:
    """Put the earlier database in the place of the one that is there."""
    stage.jobs.database.close()
    _run("dropdb", *SERVER, "--force", stage._database)
    _run("createdb", *SERVER, stage._database)
    _run("pg_restore", *SERVER, f"--dbname={stage._database}", "--exit-on-error", str(dump))


def _create_calls_in_logs(stage: Stage) -> dict[str, str]:
    """Read from the workers' logs which job got which task of Kie's."""
    lines = [line for path in stage.folder.glob("worker-*.log") for line in path.read_text().splitlines()]
    told = [json.loads(line) for line in lines if line.startswith("{") and "create call of submission" in line]
    return {one["job"]: one["kie_task"] for one in told}


def _stored_files(stage: Stage, job_id: str) -> list[Path]:
    return [path for path in (stage.folder / "data" / "media").rglob("*") if path.parent.name == job_id]


def _passes(stage: Stage) -> None:
    """Wait until pump and sweep have run a few times with what there is."""

    def ran_at() -> datetime:
        (found,) = stage.query("SELECT min(at) FROM pulses WHERE name IN ('pump', 'sweep')")[0]
        return cast("datetime", found)

    began = ran_at()
    until("pump and sweep ran a few times", lambda: ran_at() > began + timedelta(seconds=3))


def test_a_database_from_before_the_backup_buys_nothing_and_loses_nothing_that_it_knew(stage, tmp_path):
    """In the backup: one done, one at Kie, one inside its create call, one in line. After it all end, and one is new."""
    stopped = list(stage.start_all())
    (done,) = stage.enqueue(1, "done [[duration=1]] [[outputs=1]]")
    stage.ended([done])
    (at_kie,) = stage.enqueue(1, "at kie [[duration=6]] [[outputs=1]]")
    until("one is at Kie", lambda: stage.jobs.get(at_kie).phase == "waiting")
    stage.hold_creates()
    (inside,) = stage.enqueue(1, "inside [[duration=1]] [[outputs=1]]")
    until("a create call is at Kie, unanswered", lambda: stage.held_creates() == 1)
    dump = tmp_path / "kiejobs.dump"
    with stage.locked_table("submissions"):  # so that the next one is still in line when the backup is made
        (in_line,) = stage.enqueue(1, "in line [[duration=1]] [[outputs=1]]")
        _run("pg_dump", *SERVER, "--format=custom", f"--file={dump}", stage._database)
    stage.release_creates()
    (new,) = stage.enqueue(1, "new [[duration=1]] [[outputs=1]]")
    ended = stage.ended([done, at_kie, inside, in_line, new])
    assert [job.phase for job in ended] == ["success"] * 5, stage.logs()
    first_copy = stage.jobs.get(at_kie).outputs[0]
    assert len(stage.creates()) == 5

    for process in stopped:
        kill(process)
    _restore(stage, dump)
    phases = {job_id: stage.jobs.get(job_id).phase for job_id in (done, at_kie, inside, in_line)}
    assert phases == {done: "success", at_kie: "waiting", inside: "submitting", in_line: "queued"}
    with pytest.raises(JobNotFound):
        stage.jobs.get(new)

    quick = stage.start(QUICK, {"KIEJOBS_SUBMIT": "off"})
    stage.start(COPIES)
    stage.start(BEAT)
    found_again = stage.ended([at_kie])[0]
    assert found_again.phase == "success", stage.logs()
    assert (found_again.outputs[0].key, found_again.outputs[0].sha256) == (first_copy.key, first_copy.sha256)
    tasks = _create_calls_in_logs(stage)
    assert tasks.keys() == {done, at_kie, inside, in_line, new}
    stage.jobs.adopt(inside, tasks[inside])
    assert stage.ended([inside])[0].phase == "success", stage.logs()
    _passes(stage)
    assert stage.jobs.get(in_line).phase == "queued", "nothing is bought, and nothing is thrown away"
    assert len(stage.creates()) == 5, "the restored database has bought nothing"
    assert len(_stored_files(stage, in_line)) == 1, "a job in line with a file was bought: cancel it"
    assert len(_stored_files(stage, new)) == 1, "what the database forgot is in the storage all the same"
    stage.jobs.cancel(in_line)

    kill(quick)
    stage.start(QUICK)
    (after,) = stage.enqueue(1, "after [[duration=1]] [[outputs=1]]")
    assert stage.ended([after])[0].phase == "success", stage.logs()
    _passes(stage)
    assert len(stage.creates()) == 6
    assert stage.jobs.get(in_line).phase == "canceled"
