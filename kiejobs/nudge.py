"""Nudges: Celery messages that say "look at row X now". Names, queues, and publishing by name.

A nudge carries ids only and may be lost, doubled or late; the row decides. Publishing is given at most a few seconds and
its failure is reported, never raised into a transaction. Needs nothing of `workers`.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kiejobs.errors import BrokerUnavailable, SettingsError

log = logging.getLogger(__name__)

SUBMIT = "kiejobs.submit_generation"
POLL = "kiejobs.poll_status"
STORE = "kiejobs.download_and_store"
NOTIFY = "kiejobs.notify_producer"
PUMP = "kiejobs.pump_submissions"
SWEEP = "kiejobs.sweep_stale"
WATCH = "kiejobs.watch_accounts"
PRUNE = "kiejobs.prune"

QUEUES: dict[str, str] = {
    "submit": "requests that come as bare Celery messages: the producers' queue",
    "create": "jobs whose turn in line has come",
    "poll": "looks at Kie's records",
    "store": "copies of results: slow, so they have a worker of their own",
    "notify": "messages to producers",
    "sweep": "the periodic rescues",
}

ROUTES: dict[str, str] = {
    SUBMIT: "create",
    POLL: "poll",
    STORE: "store",
    NOTIFY: "notify",
    PUMP: "sweep",
    SWEEP: "sweep",
    WATCH: "sweep",
    PRUNE: "sweep",
}
"""Task name → queue. A bare producer sends `submit_generation` to `submit` itself."""

QUICK_QUEUES = ("submit", "create", "poll", "notify", "sweep")
COPY_QUEUES = ("store",)


@dataclass(frozen=True, slots=True)
class Nudge:
    """One message, as a value. `countdown_s` is at most 60: longer waits live in the row."""

    task: str
    kwargs: dict[str, Any]
    task_id: str
    countdown_s: float = 0.0
    retries: int = 0
    """Shown by Flower; for a poll lane the number of looks so far."""
    expires_s: float | None = None


Publish = Callable[[Iterable[Nudge]], None]
"""Sends nudges; losing some is weather, and logged."""


def create_nudge(job_id: str, *, countdown_s: float = 0.0) -> Nudge:
    """Say that a job's turn to be sent has come, or comes in so many seconds."""
    return Nudge(SUBMIT, {"job_id": job_id}, task_id=job_id, countdown_s=countdown_s)


def poll_nudge(
    job_id: str, version: int, *, countdown_s: float = 0.0, polls: int = 0, rescue: int = 0, by: str = "poll"
) -> Nudge:
    """Say that a job's record should be looked at. One task id for the whole lane, another for a sweep's rescue.

    `by` is told to the look: whether the lane itself, a `callback` or (with `rescue`) a `sweep` made it happen.
    """
    task_id = f"{job_id}.poll.{rescue}" if rescue else f"{job_id}.poll"
    kwargs: dict[str, Any] = {"job_id": job_id, "version": version}
    by = "sweep" if rescue else by
    if by != "poll":
        kwargs["by"] = by
    return Nudge(POLL, kwargs, task_id=task_id, countdown_s=countdown_s, retries=polls)


def store_nudge(job_id: str, index: int, *, countdown_s: float = 0.0) -> Nudge:
    """Say that a result file should be copied."""
    kwargs = {"job_id": job_id, "index": index}
    return Nudge(STORE, kwargs, task_id=f"{job_id}.store.{index}", countdown_s=countdown_s)


def notify_nudge(job_id: str, delivery_id: str, *, countdown_s: float = 0.0) -> Nudge:
    """Say that a message to a producer is due."""
    kwargs = {"delivery_id": delivery_id}
    return Nudge(NOTIFY, kwargs, task_id=f"{job_id}.notify.{delivery_id[:8]}", countdown_s=countdown_s)


def publisher(app: Any) -> Publish:
    """Make a publisher on a Celery app (the worker's own, or the one of `producer_app`)."""
    send = _Sender(app)

    def publish(nudges: Iterable[Nudge]) -> None:
        for nudge in nudges:
            try:
                send(nudge)
            except Exception as error:  # noqa: BLE001 - whatever the transport raises: the sweep publishes again
                log.warning("nudge %s not published, the sweep will: %s", nudge.task_id, type(error).__name__)
                return

    return publish


def load(app: Any) -> None:
    """Load what publishing needs without connecting, so that a process's first nudge holds nobody up for its imports."""
    task_message(app, poll_nudge("", 0))
    app.connection_for_write().transport  # noqa: B018 - imports the broker's client


def task_message(app: Any, nudge: Nudge) -> Any:
    """Make the Celery message of a nudge: headers, properties, body (args, kwargs, embed) and no event."""
    return app.amqp.as_task_v2(
        nudge.task_id,
        nudge.task,
        (),
        nudge.kwargs,
        countdown=nudge.countdown_s or None,
        expires=nudge.expires_s,
        retries=nudge.retries,
        ignore_result=True,
        argsrepr="()",
        kwargsrepr=repr(nudge.kwargs),
        origin="kiejobs",
    )


class _Sender:
    """Sends nudges as Celery's messages, by the same parts as `send_task` but without what only other tasks need.

    `send_task` looks routes, defaults and queues up anew each time and takes twice as long.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._queues = {queue.name: queue for queue in task_queues()}
        self._declared: set[str] = set()

    def __call__(self, nudge: Nudge) -> None:
        headers, properties, body, _ = task_message(self._app, nudge)
        queue = ROUTES[nudge.task]
        declare = [] if queue in self._declared else [self._queues[queue]]
        with self._app.producer_pool.acquire(block=True) as producer:
            producer.publish(
                body,
                exchange="",  # the default one: straight into the queue
                routing_key=queue,
                serializer="json",
                headers=headers,
                delivery_mode="persistent",
                declare=declare,
                retry=True,
                retry_policy=RETRY_POLICY,
                **properties,
            )
        self._declared.add(queue)


RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}


def task_queues() -> list[Any]:
    """Make Celery's declarations of QUEUES."""
    from kombu import Exchange, Queue

    return [Queue(name, Exchange(name, type="direct"), routing_key=name) for name in QUEUES]


def producer_app(broker_url: str) -> Any:
    """Make a Celery app that only publishes: JSON, no result backend, short timeouts."""
    from celery import Celery

    app = Celery("kiejobs", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        broker_connection_timeout=3,
        broker_transport_options=transport_options(broker_url),
    )
    return app


def transport_options(broker_url: str) -> dict[str, Any]:
    """Return what kombu's transport needs. Only Redis takes these; RabbitMQ needs none."""
    if not broker_url.startswith(("redis://", "rediss://", "unix://", "sentinel://")):
        return {}
    return {
        "visibility_timeout": 120,  # the longest message is a countdown of 60 s; everything else is acked early
        "unacked_restore_throttle": 1,  # look for messages of dead workers every 10 s, not every 100 s
        "socket_timeout": 10,  # the default is none: a hung Redis would hold a publisher for ever
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 15,
    }


def check_broker(broker_url: str) -> None:
    """Connect once; BrokerUnavailable, with the address without its password, where that fails.

    SettingsError where it is no address of a broker, or of one whose client is not installed.
    """
    connection = _connection(broker_url)
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0.2, timeout=4)
    except Exception as error:  # noqa: BLE001 - every transport has its own family of errors
        raise BrokerUnavailable(f"the broker at {connection.as_uri()} does not answer: {error}") from None
    finally:
        connection.release()


def _connection(broker_url: str) -> Any:
    import kombu

    options = transport_options(broker_url)
    if options:
        options["socket_timeout"] = 3  # somebody waits for the answer, unlike at work
    try:
        connection: Any = kombu.Connection(broker_url, connect_timeout=3, transport_options=options)
        connection.transport  # noqa: B018 - imports the broker's client
    except Exception:  # noqa: BLE001 - a ValueError for a port, a KeyError for a scheme, any error of an import
        raise SettingsError(
            "KIEJOBS_BROKER_URL is no address of a broker",
            remedy="Write it like redis://host:6379/0 or amqp://user:password@host:5672//.",
        ) from None
    return connection
