"""The main job end to end with real processes, on every broker and both databases."""

import uuid

import pytest
from celery import Celery

from tests.acceptance.stage import Stage, has_redis, until
from tests.support import missing, postgresql_answers, rabbitmq_answers

INSTALLATIONS = [("sqlite", "redis"), ("sqlite", "fakeredis"), ("postgresql", "redis"), ("postgresql", "rabbitmq")]


@pytest.fixture(scope="module", params=INSTALLATIONS, ids="-".join)
def stage(request, tmp_path_factory):
    """An installation whose processes all of these tests use."""
    database, broker = request.param
    if broker == "redis" and not has_redis():
        missing("redis-server on PATH")
    if broker == "rabbitmq" and not rabbitmq_answers():
        missing("RabbitMQ on 127.0.0.1:5672")
    if database == "postgresql" and not postgresql_answers():
        missing("PostgreSQL on 127.0.0.1:5432")
    with Stage(tmp_path_factory.mktemp("main"), database=database, broker=broker) as made:
        made.start_all()
        yield made


def test_generations_are_bought_watched_and_stored(stage):
    """Several models at once, one of them refused by moderation: every file is there, every failure says why."""
    bought = len(stage.creates())
    made = stage.enqueue(4, "[[duration=3]] [[outputs=2]]")
    refused = stage.enqueue(1, "[[fail=moderation]] [[duration=1]]")
    jobs = stage.ended(made + refused)
    for job in jobs[:4]:
        assert job.phase == "success", stage.logs()
        assert [output.state for output in job.outputs] == ["stored", "stored"]
        assert all(
            (stage.folder / "data" / "media" / output.key).stat().st_size == output.size_bytes for output in job.outputs
        )
        assert job.polls <= 4
    assert (jobs[4].phase, jobs[4].reason) == ("fail", "content")
    assert len(stage.creates()) == bought + 5


def test_a_bare_celery_message_is_a_job(stage):
    """A service with nothing of kiejobs installed sends by name; the task id is the job id, a repeat is the same job."""
    bought = len(stage.creates())
    bare = Celery(broker=stage.env["KIEJOBS_BROKER_URL"], set_as_current=False)
    task_id = str(uuid.uuid4())
    request = {"model": "grok-imagine/text-to-image", "input": {"prompt": "bare [[duration=1]] [[outputs=1]]"}}
    for _ in range(3):
        bare.send_task("kiejobs.submit_generation", kwargs={"request": request}, task_id=task_id, queue="submit")
    until("the row is there", lambda: _exists(stage, task_id))
    assert stage.ended([task_id])[0].phase == "success"
    assert len(stage.creates()) == bought + 1


def test_a_bare_message_that_cannot_be_accepted_is_a_failed_job(stage):
    """The producer has nothing but its task id, so that is where the answer is."""
    bought = stage.creates()
    bare = Celery(broker=stage.env["KIEJOBS_BROKER_URL"], set_as_current=False)
    task_id = str(uuid.uuid4())
    request = {"model": "grok-imagine/text-to-image", "input": {"prompt": 7}}
    bare.send_task("kiejobs.submit_generation", kwargs={"request": request}, task_id=task_id, queue="submit")
    until("the row is there", lambda: _exists(stage, task_id))
    job = stage.jobs.get(task_id)
    assert (job.phase, job.reason) == ("fail", "invalid_input")
    assert "prompt" in (job.message or "")
    assert stage.creates() == bought


def _exists(stage: Stage, job_id: str) -> bool:
    return any(job.id == job_id for job in stage.jobs.list())
