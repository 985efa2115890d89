"""The worker's consumer: Celery's own, without what costs something at every look and tells nobody anything.

Looks wait in it, see `workers.waiting`; with threads only, because other pools look in processes or loops of their own.

A look that leads to another one ends in Celery's `Retry`. Celery copies its traceback and writes it out, source lines and
all, to say what is said better by `Retry` itself: a quarter of what a message costs. Events go out twice a second together
instead of each by itself, and workers do not listen to one another (mingle, gossip): they have nothing to agree on.

A message that is no task here (an unknown name, a body that cannot be read) is dropped with a line that says so. Celery
would write its whole body into the log, prompt included, and some such bodies would end the worker.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from celery.app.trace import TraceInfo, build_tracer
from celery.concurrency.thread import TaskPool as Threads
from celery.worker import consumer, state

from kiejobs.nudge import POLL, ROUTES, Nudge, task_message
from workers.app import waiting

log = logging.getLogger(__name__)

FLUSH_EVENTS_EVERY_S = 0.5

_UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)
"""What Celery raises, and does not catch, where a message is JSON of another shape than it expects."""


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Set as `worker_consumer`."""

    def __init__(self, *args: Any, worker_options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        quiet = {"without_mingle": True, "without_gossip": True}
        super().__init__(*args, worker_options=(worker_options or {}) | quiet, **kwargs)
        if self.hub is not None:
            self.hub.call_repeatedly(FLUSH_EVENTS_EVERY_S, self._flush_events)

    def register_with_event_loop(self, hub: Any) -> None:
        """Begin the loop of one connection to the broker."""
        super().register_with_event_loop(hub)
        if isinstance(self.pool, Threads) and self._looks():
            waiting.wait_in(self)

    def stop(self) -> None:
        """Hand over what waits here before the connection goes."""
        waiting.hand_over()
        super().stop()

    def run(self, nudge: Nudge) -> bool:
        """Run a look that waited here as if its message had just come; False where it is somebody else's turn.

        One may wait behind each thread's task: a burst is over sooner here than by way of the broker.
        """
        if len(state.reserved_requests) >= 2 * self.pool.num_processes or not self._looks():
            return False
        self.strategies[nudge.task](Waited(self.app, nudge), None, _nothing, _nothing, None)
        return True

    def _looks(self) -> bool:
        """Say whether looks are this worker's work."""
        return ROUTES[POLL] in self.app.amqp.queues.consume_from

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Take messages as Celery does, with no message that ends the worker."""
        handle = super().create_task_handler(*args, **kwargs)

        def take(message: Any) -> None:
            try:
                handle(message)
            except _UNREADABLE as error:
                self._drop(message, f"it is no task's message ({type(error).__name__})")

        return take

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Drop what names no task."""
        self._drop(message, "it names no task")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Drop a task of a newer version, or of somebody else."""
        self._drop(message, f"there is no task {str(exc.args[0])[:100]!r} here")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Drop a task whose message is not as Celery's are."""
        self._drop(message, f"it is no task's message ({type(exc).__name__})")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Drop what is no JSON."""
        self._drop(message, f"its body cannot be read ({type(exc).__name__})")

    def _drop(self, message: Any, why: str) -> None:
        """Take a message off the queue for good, and say so with nothing of what is in it."""
        named = message.headers.get("id") if isinstance(message.headers, dict) else None
        log.error("message %s dropped: %s", str(named)[:64], why)
        if not message.acknowledged:
            message.reject_log_error(log, self.connection_errors)

    def on_send_event_buffered(self) -> None:
        """Leave the event where it is: the next flush takes it along."""

    def update_strategies(self) -> None:
        """Let each of our tasks be traced with `Outcome`."""
        super().update_strategies()
        for name, task in self.app.tasks.items():
            if name.startswith("kiejobs."):
                task.__trace__ = build_tracer(name, task, self.app.loader, self.hostname, app=self.app, Info=Outcome)


class Waited:
    """What Celery reads of a message, of one that no broker has seen: nothing to decode, nothing to acknowledge."""

    content_type = content_encoding = None
    delivery_info = {"exchange": "", "routing_key": ROUTES[POLL]}  # noqa: RUF012 - read, never changed

    def __init__(self, app: Any, nudge: Nudge) -> None:
        self.headers, self.properties, self.body, _ = task_message(app, replace(nudge, countdown_s=0.0))
        self.payload = self.body


def _nothing(*_: Any) -> None:
    """Acknowledge, or reject, what the broker has not sent."""


class Outcome(TraceInfo):  # type: ignore[misc]
    """How a task ended; a `Retry` is told as it is, without a traceback."""

    __slots__ = ()

    def handle_retry(self, task: Any, req: Any, **_: Any) -> "Again":
        """Pass the `Retry` on to whoever tells of it."""
        return Again(self.retval)


class Again:
    """What Celery's request reads of a `Retry`: in place of billiard's ExceptionInfo."""

    internal = False
    traceback = ""

    def __init__(self, retry: BaseException) -> None:
        self.exception = retry.with_traceback(None)
        self.type = type(retry)
