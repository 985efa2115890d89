"""The pools that a worker may be run with, other than the default: nothing that is connected is shared by a fork."""

import pytest

from tests.acceptance.stage import BEAT, COPIES, QUICK, Stage, has_redis
from tests.support import REAL_DATABASES, missing, postgresql_answers

PREFORK = ("-P", "processes", "-c", "2")  # for Celery, `-P prefork` is whatever the configuration says


@pytest.fixture(autouse=True)
def _services() -> None:
    if not has_redis():
        missing("redis-server on PATH")


@pytest.mark.parametrize("database", REAL_DATABASES)
def test_forked_workers_have_connections_and_threads_of_their_own(tmp_path, database):
    """Every job is looked at and stored by children, and what they counted arrives when the workers end."""
    if database == "postgresql" and not postgresql_answers():
        missing("PostgreSQL on 127.0.0.1:5432")
    with Stage(tmp_path, database=database) as stage:
        workers = [stage.start((*QUICK, *PREFORK)), stage.start((*COPIES, *PREFORK))]
        stage.start(BEAT)
        jobs = stage.ended(stage.enqueue(6, "forked [[duration=1]] [[outputs=1]]"))
        assert {job.phase for job in jobs} == {"success"}, stage.logs()
        assert len(stage.creates()) == 6
        for worker in workers:
            worker.terminate()
            worker.wait(30)
        assert "Traceback" not in stage.logs()
        (stored,) = stage.query("SELECT value FROM counters WHERE name = 'stored_files'") or [None]
        assert stored is not None
        assert stored.value == 6
