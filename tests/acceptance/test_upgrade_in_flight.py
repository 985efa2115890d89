"""An upgrade while jobs are everywhere: the schema first, then the workers one after the other. Nobody notices."""

import signal

import pytest
from sqlalchemy import text

from kiejobs.db import migrate
from tests.acceptance.stage import BEAT, COPIES, QUICK, Stage, has_redis, until
from tests.support import missing, postgresql_answers


@pytest.fixture
def stage(tmp_path):
    if not has_redis():
        missing("redis-server on PATH")
    if not postgresql_answers():
        missing("PostgreSQL on 127.0.0.1:5432")
    with Stage(tmp_path, database="postgresql", KIEJOBS_HTTP_TIMEOUT_S="30") as made:
        yield made


def _migrate_to_the_next_version(stage: Stage) -> None:
    newer = f"{int(migrate.head()) + 1:04}"
    with stage.jobs.database.write() as tx:
        tx.execute(text("SET LOCAL lock_timeout = '10s'"))
        tx.execute(text("ALTER TABLE jobs ADD COLUMN of_the_next_version TEXT"))
        tx.execute(text("UPDATE alembic_version SET version_num = :newer"), {"newer": newer})


def test_jobs_in_flight_do_not_notice_an_upgrade(stage):
    """Inside its create call, at Kie, being copied, in line: nothing is parked, bought twice, or left behind."""
    quick, copies, beat = stage.start_all()
    copied = stage.enqueue(2, "[[duration=1]] [[outputs=1]] [[drip=100]]")
    at_kie = stage.enqueue(4, "[[duration=8]] [[outputs=1]]")
    until("some are being copied", lambda: all(stage.jobs.get(i).phase == "storing" for i in copied))
    until("some are at Kie", lambda: all(stage.jobs.get(i).phase == "waiting" for i in at_kie))
    _migrate_to_the_next_version(stage)
    stage.hold_creates()
    (inside,) = stage.enqueue(1, "[[duration=1]] [[outputs=1]]")
    until("a create call is at Kie, unanswered", lambda: stage.held_creates() == 1)
    for process in (quick, copies, beat):
        process.send_signal(signal.SIGTERM)
    copies.wait(20)
    beat.wait(20)
    assert quick.poll() is None, "it waits for its create call"
    stage.release_creates()
    quick.wait(30)
    assert (quick.returncode, copies.returncode, beat.returncode) == (0, 0, 0), stage.logs()
    assert stage.jobs.get(inside).phase == "waiting", "the answer that came during the stop is written down"
    (in_line,) = stage.enqueue(1, "[[duration=1]] [[outputs=1]]")  # a producer of the version before

    for command in (QUICK, COPIES, BEAT):
        stage.start(command)
    jobs = stage.ended([*copied, *at_kie, inside, in_line], 120)
    assert [job.phase for job in jobs] == ["success"] * 8, stage.logs()
    assert len(stage.creates()) == 8


def test_a_chat_call_is_waited_for_by_a_worker_that_stops(stage):
    """It is made on a thread aside; an answer that was paid for is written down before the process ends."""
    quick = stage.start(QUICK)
    job_id = stage.jobs.enqueue("gpt-5-2", {"messages": [{"role": "user", "content": "[[slow=6]] a limerick"}]}).id
    until("the call is under way", lambda: len(stage.creates()) == 1 and stage.jobs.get(job_id).phase == "submitting")
    quick.send_signal(signal.SIGTERM)
    assert quick.wait(30) == 0, stage.logs()
    assert stage.jobs.get(job_id).phase == "storing", stage.logs()
    stage.start(COPIES)
    stage.start(QUICK)
    stage.start(BEAT)
    assert stage.ended([job_id])[0].phase == "success", stage.logs()
    assert len(stage.creates()) == 1
