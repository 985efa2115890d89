"""The Celery tasks: names, acknowledgement, and one call each. What they do is in the steps and sweeps.

What they return is for Flower's eyes alone: a task is a success when it did its work, and its result says what came of
the job. The periodic ones send no events: a row per second would push the generations out of Flower's view.
"""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Reject, Retry

from kiejobs import nudge
from kiejobs.errors import DependencyError
from kiejobs.jobs import JobState
from workers import arrivals, observe
from workers.app import app, runtime
from workers.steps.notify import notify
from workers.steps.poll import poll
from workers.steps.store import store
from workers.steps.submit import submit
from workers.sweeps.accounts import watch
from workers.sweeps.prune import prune as prune_rows
from workers.sweeps.pump import pump
from workers.sweeps.stale import sweep
from workers.sweeps.tally import tally

REQUEUE_AFTER_S = 2.0


def alone(work: Callable[[], None]) -> Callable[[], None]:
    """Make a task of which one runs in a process at a time; what comes meanwhile is dropped.

    A run that waits for a lock in the database would otherwise be joined by the next one every second, until none of the
    worker's threads is left.
    """
    running = threading.Lock()

    @wraps(work)
    def run() -> None:
        if running.acquire(blocking=False):
            try:
                work()
            finally:
                running.release()

    return run


@app.task(bind=True, name=nudge.SUBMIT, acks_late=True)
def submit_generation(self: Task, job_id: str | None = None, request: dict[str, Any] | None = None) -> str:
    """Send a job whose turn has come. With `request` (a bare message) the task id becomes the job's id."""
    if request is not None:
        job_id = _arrived(self, request)
    outcome = submit(runtime(), job_id) if job_id is not None and arrivals.is_id(job_id) else None
    return observe.word_of_create(outcome)


@app.task(bind=True, name=nudge.POLL)
def poll_status(self: Task, job_id: str, version: int, by: str = "poll") -> str:
    """Look at Kie's record once. The whole lane is one task id: RETRY between looks, SUCCESS at the end."""
    change = poll(runtime(), job_id, version, by=by)
    if change is None:
        raise Ignore
    if change.state is JobState.WAITING:
        raise Retry(change.word or "no answer", when=change.due_in_s)
    return observe.word_of_look(change)


@app.task(name=nudge.STORE)
def download_and_store(job_id: str, index: int) -> str:
    """Copy one result file into storage."""
    return "stored" if store(runtime(), job_id, index) else observe.NOT_NOW


@app.task(name=nudge.NOTIFY)
def notify_producer(delivery_id: str) -> str:
    """Send one message to a producer."""
    return "delivered" if notify(runtime(), delivery_id) else observe.NOT_NOW


@app.task(name=nudge.PUMP, send_events=False)
@alone
def pump_submissions() -> None:
    """Nudge the jobs whose turn in line has come."""
    pump(runtime())


@app.task(name=nudge.WATCH, send_events=False)
@alone
def watch_accounts() -> None:
    """Read the accounts' balances."""
    watch(runtime())


@app.task(name=nudge.PRUNE, send_events=False)
@alone
def prune() -> None:
    """Forget what ended long ago."""
    prune_rows(runtime())


@app.task(name=nudge.SWEEP, send_events=False)
@alone
def sweep_stale() -> None:
    """Rescue every row whose time has passed, and add up what happened."""
    sweep(runtime())
    tally(runtime())


def _arrived(task: Task, request: dict[str, Any]) -> str | None:
    """Make a row of a bare message. The message is the request's only copy: without the row it goes back."""
    try:
        return arrivals.arrived(runtime(), str(task.request.id), request)
    except DependencyError:
        threading.Event().wait(REQUEUE_AFTER_S)
        raise Reject("the database is away; the request stays in the broker", requeue=True) from None
