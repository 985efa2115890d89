"""What a nudge becomes on the wire: the message that Celery's own `send_task` would have sent."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from kiejobs.nudge import POLL, QUEUES, Nudge, poll_nudge, publisher, store_nudge, task_queues

JOB = "7a6f0f0e-5d3c-4f59-9a55-0f6f7e2f3a10"
OURS = ("origin", "eta", "argsrepr", "kwargsrepr")
"""Headers that differ: who sent it, when, and how the arguments are shown."""


@pytest.fixture
def app() -> Iterator[Any]:
    """An app whose broker is this process's memory."""
    made = Celery("test", broker="memory://", set_as_current=False)
    made.conf.update(task_queues=task_queues(), task_create_missing_queues=False, broker_transport_options={})
    yield made
    made.close()


def taken(app: Any, queue: str) -> Any:
    """Take the one message that lies in a queue."""
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue(next(one for one in task_queues() if one.name == queue)).get(timeout=1)
        message.ack()
        return message


def test_a_message_is_the_one_that_celery_would_send(app: Any) -> None:
    """The same body, and the same headers but for who sent it, when, and how its arguments are shown."""
    nudge = poll_nudge(JOB, 7, countdown_s=5.0, polls=3)
    publisher(app)([nudge])
    ours = taken(app, "poll")
    app.send_task(
        POLL, kwargs=nudge.kwargs, task_id=nudge.task_id, queue="poll", countdown=5.0, retries=3, ignore_result=True
    )
    theirs = taken(app, "poll")
    assert ours.payload == theirs.payload
    assert {k: v for k, v in ours.headers.items() if k not in OURS} == {
        k: v for k, v in theirs.headers.items() if k not in OURS
    }
    assert ours.properties["correlation_id"] == theirs.properties["correlation_id"] == f"{JOB}.poll"
    assert ours.headers["kwargsrepr"] == repr(nudge.kwargs)
    assert ours.properties["delivery_mode"] == theirs.properties["delivery_mode"]


def test_every_nudge_finds_its_queue(app: Any) -> None:
    """Also those that nobody has declared yet."""
    publisher(app)([store_nudge(JOB, 0), poll_nudge(JOB, 1)])
    assert taken(app, "store").headers["id"] == f"{JOB}.store.0"
    assert taken(app, "poll").headers["retries"] == 0
    assert {queue.name for queue in task_queues()} == set(QUEUES)


def test_a_nudge_that_cannot_be_sent_is_no_error(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The sweep publishes again; whoever just committed a row must not hear of the broker."""
    publisher(app)([Nudge("kiejobs.no_such_task", {}, "x"), poll_nudge(JOB, 1)])
    assert "nudge x not published" in caplog.text


def test_what_publishing_needs_can_be_loaded_before_without_a_broker() -> None:
    """The first nudge of a process would import Celery and its transport: a quarter of a second, in everybody's way."""
    script = (
        "import sys\n"
        "from kiejobs.nudge import load, producer_app\n"
        "app = producer_app('redis://127.0.0.1:1/0')\n"
        "assert 'kombu.transport.redis' not in sys.modules\n"
        "load(app)\n"
        "assert {'kombu.transport.redis', 'celery.app.amqp', 'redis.client'} <= set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
