"""Makes the Celery app and one `Runtime` per worker process. Nothing is connected at import."""

import logging
import threading
from typing import Any

from celery import Celery, signals

from kiejobs import logs, nudge, settings
from kiejobs.errors import KieJobsError
from kiejobs.kie import catalogue
from workers import broker_guard, observe, thrift
from workers.aside import Aside
from workers.runtime import Runtime
from workers.waiting import Waiting

log = logging.getLogger(__name__)

app = Celery("kiejobs", task_cls="workers.observe:QuietTask", include=["workers.tasks"])
app.config_from_object("celeryconfig")
broker_guard.install()
thrift.keep_redis_clients()
waiting = Waiting(nudge.publisher(app))

_runtime: Runtime | None = None
_making = threading.Lock()


def runtime() -> Runtime:
    """Return this process's runtime, made when the first task needs it."""
    global _runtime  # noqa: PLW0603 - one per process, that is what it is for
    with _making:
        if _runtime is None:
            loaded = settings.load()
            catalogue.use(loaded.catalogue)
            made = Runtime(loaded, waiting.publish, aside=Aside())
            made.counts.keep_writing(lambda: made.database)
            _runtime = made
        return _runtime


@signals.setup_logging.connect
def _logging(**_: Any) -> None:
    logs.setup_logging(settings.load())


@signals.worker_init.connect
def _check(sender: Any = None, **_: Any) -> None:
    """Say at the start, in one line each, what would go wrong later."""
    observe.refuse_to_start_without(runtime)
    runtime().database.close()  # checked; with -P prefork, children must not inherit what is connected


@signals.celeryd_after_setup.connect
def _queues(sender: str, instance: Any, **_: Any) -> None:
    queues = set(instance.app.amqp.queues.consume_from)
    observe.warn_of_mixed_queues(queues)
    if not instance.pool_cls.__module__.endswith("prefork"):  # the object store's threads do not outlive a fork
        observe.warn_of_storage(runtime, queues)


@signals.worker_process_init.connect
def _own(**_: Any) -> None:
    """With -P prefork: a child makes a runtime of its own, because threads and connections stay with the parent."""
    global _runtime, _making
    _runtime, _making = None, threading.Lock()
    thrift.collect_less()


@signals.worker_ready.connect
def _ready(**_: Any) -> None:
    thrift.collect_less()


@signals.worker_shutting_down.connect
def _stop(**_: Any) -> None:
    if _runtime is not None:
        _runtime.stopping.set()  # long copies watch for this and give their lease back


@signals.worker_shutdown.connect
@signals.worker_process_shutdown.connect
def _last_words(**_: Any) -> None:
    if _runtime is not None:
        try:
            _runtime.counts.flush(_runtime.database)
        except KieJobsError as error:
            log.info("what was counted last is lost: %s", error)
