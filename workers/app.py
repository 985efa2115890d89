"""Makes the Celery app and one `Runtime` per worker process. Nothing is connected at import."""

import logging
import threading
from typing import Any

from celery import Celery, signals

from kiejobs import nudge, settings
from workers import broker_guard, observe
from workers.runtime import Runtime

log = logging.getLogger(__name__)

app = Celery("kiejobs", task_cls="workers.observe:QuietTask", include=["workers.tasks"])
app.config_from_object("celeryconfig")
broker_guard.install()

_runtime: Runtime | None = None
_making = threading.Lock()


def runtime() -> Runtime:
    """Return this process's runtime, made when the first task needs it."""
    global _runtime  # noqa: PLW0603 - one per process, that is what it is for
    with _making:
        if _runtime is None:
            _runtime = Runtime(settings.load(), nudge.publisher(app))
        return _runtime


@signals.setup_logging.connect
def _logging(**_: Any) -> None:
    observe.setup_logging(settings.load())


@signals.worker_init.connect
def _check(sender: Any = None, **_: Any) -> None:
    """Say at the start, in one line each, what would go wrong later."""
    observe.refuse_to_start_without(runtime)


@signals.celeryd_after_setup.connect
def _queues(sender: str, instance: Any, **_: Any) -> None:
    queues = set(instance.app.amqp.queues.consume_from)
    observe.warn_of_mixed_queues(queues)
    observe.warn_of_storage(runtime, queues)


@signals.worker_shutting_down.connect
def _stop(**_: Any) -> None:
    if _runtime is not None:
        _runtime.stopping.set()  # long copies watch for this and give their lease back
