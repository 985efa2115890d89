"""Messages that are no task, beside those that are: dropped, unshown, and no worker ends by them.

With Redis that is part of what `test_secrets` runs through; RabbitMQ hands messages over on another way.
"""

import uuid

from celery import Celery

from tests.acceptance.canaries import canary, wrong_messages
from tests.acceptance.stage import BEAT, COPIES, QUICK, Stage, until
from tests.support import missing, rabbitmq_answers

MODEL = "grok-imagine/text-to-image"


def test_no_message_ends_a_worker_that_reads_rabbitmq(tmp_path):
    """Unknown names, bodies of every wrong shape; what was asked for beside them is made, and no prompt is logged."""
    if not rabbitmq_answers():
        missing("RabbitMQ on 127.0.0.1:5672")
    prompt = canary("prompt")
    request = {"model": MODEL, "input": {"prompt": f"{prompt} [[duration=1]] [[outputs=1]]"}}
    with Stage(tmp_path, broker="rabbitmq", KIEJOBS_LOG_LEVEL="DEBUG") as stage:
        quick = stage.start(QUICK)
        stage.start(COPIES)
        stage.start(BEAT)
        until("the worker is ready", lambda: stage.is_ready(quick))
        wanted = str(uuid.uuid4())
        with Celery(broker=stage.env["KIEJOBS_BROKER_URL"], set_as_current=False) as producer:
            for name, given in wrong_messages(MODEL, request):
                producer.send_task(name, queue="submit", task_id=str(uuid.uuid4()), **given)
            _publish_garbage(producer, prompt)
            producer.send_task("kiejobs.submit_generation", queue="submit", task_id=wanted, kwargs={"request": request})
        until(
            "the request arrived", lambda: stage.query("SELECT 1 FROM jobs WHERE id = :id", id=wanted.replace("-", ""))
        )
        assert [job.phase for job in stage.ended([wanted])] == ["success"]
        assert quick.poll() is None
        assert stage.log_of(quick).count(" ready.") == 1
        assert prompt not in stage.logs()


def _publish_garbage(producer: Celery, prompt: str) -> None:
    """Publish bodies that are none of Celery's, with its headers, with others, and with none."""
    ours = {"task": "kiejobs.submit_generation", "id": str(uuid.uuid4())}
    with producer.connection_for_write() as connection:
        publish = connection.Producer(serializer="json").publish
        for headers in (ours, {"task": ours["task"]}, {"task": ["a"]}, {}):
            for body in (prompt, {"prompt": prompt}, [prompt], 5, None, [["a"], ["b"], {}]):
                publish(body, routing_key="submit", headers=headers)
            publish(prompt, routing_key="submit", headers=headers, content_type="application/json", serializer=None)
            publish(b"\x80\x02", routing_key="submit", headers=headers, content_type="application/x-python-serialize")
