"""Nudges: Celery messages that say "look at row X now". Names, queues, and publishing by name.

A nudge carries ids only and may be lost, doubled or late; the row decides. Publishing is given at most a few seconds and
its failure is reported, never raised into a transaction. Needs nothing of `workers`.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kiejobs.errors import BrokerUnavailable

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


def create_nudge(job_id: str) -> Nudge:
    """Say that a job's turn to be sent has come."""
    return Nudge(SUBMIT, {"job_id": job_id}, task_id=job_id)


def poll_nudge(job_id: str, version: int, *, countdown_s: float = 0.0, polls: int = 0, rescue: int = 0) -> Nudge:
    """Say that a job's record should be looked at. One task id for the whole lane, another for a sweep's rescue."""
    task_id = f"{job_id}.poll.{rescue}" if rescue else f"{job_id}.poll"
    kwargs = {"job_id": job_id, "version": version}
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

    def publish(nudges: Iterable[Nudge]) -> None:
        for nudge in nudges:
            try:
                _send(app, nudge)
            except Exception as error:  # noqa: BLE001 - whatever the transport raises: the sweep publishes again
                log.warning("nudge %s not published, the sweep will: %s", nudge.task_id, type(error).__name__)
                return

    return publish


def _send(app: Any, nudge: Nudge) -> None:
    app.send_task(
        nudge.task,
        kwargs=nudge.kwargs,
        task_id=nudge.task_id,
        queue=ROUTES[nudge.task],
        countdown=nudge.countdown_s or None,
        expires=nudge.expires_s,
        retries=nudge.retries,
        ignore_result=True,
        retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2},
    )


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
    """Connect once; BrokerUnavailable, with the address without its password, where that fails."""
    import kombu

    connection: Any = kombu.Connection(broker_url, connect_timeout=3, transport_options=transport_options(broker_url))
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0.2, timeout=4)
    except Exception as error:  # noqa: BLE001 - every transport has its own family of errors
        raise BrokerUnavailable(f"the broker at {connection.as_uri()} does not answer: {error}") from None
    finally:
        connection.release()
