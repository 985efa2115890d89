"""What can be seen of workers: Flower without prompts, and plain words at the start."""

import logging
import re
import sys
from collections.abc import Callable
from typing import Any

from celery import Task, signals
from celery.worker.request import Request

from kiejobs import logs
from kiejobs.answers import Busy, NotSent, Outcome, Refused, Unknown
from kiejobs.decisions import Change
from kiejobs.errors import KieJobsError
from kiejobs.nudge import COPY_QUEUES, QUICK_QUEUES, SUBMIT
from workers.runtime import Runtime

log = logging.getLogger(__name__)

_IDS = re.compile(r"\{('\w+': ('[\w.-]{0,64}'|\d+)(, |(?=\})))*\}")
"""How the arguments of our own messages look: ids, a version, an index, one word."""

_JOB = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@signals.task_prerun.connect
def _begin(task_id: str, kwargs: dict[str, Any], **_: Any) -> None:
    """Say of every line of this thread which job and which message it is about; Celery's own lines included."""
    logs.forget()
    job = kwargs.get("job_id") or _JOB.match(task_id)
    logs.note(celery_task=task_id, job=job if isinstance(job, str) or job is None else job[0])


@signals.task_postrun.connect
def _end(**_: Any) -> None:
    logs.forget()


class QuietRequest(Request):  # type: ignore[misc]
    """A received message that shows ids only: a bare request holds a prompt, which is nobody's business in Flower."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Its `name` may be another, of the sender's choice (`shadow`); a request sent to a wrong task is none of ids.
        if self.type == SUBMIT or not _IDS.fullmatch(self.kwargsrepr) or self.argsrepr != "()":
            self._argsrepr, self._kwargsrepr = "()", f"{{'job_id': '{self.id}'}}"

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - Celery's signature
        """Describe the message for `inspect`, always by its short form."""
        described: dict[str, Any] = super().info(safe=True)
        return described


class QuietTask(Task):  # type: ignore[misc]
    """A task whose messages are received as `QuietRequest`."""

    abstract = True
    Request = "workers.observe:QuietRequest"


NOT_NOW = "not now"
"""What a task says that did nothing, or whose work is tried again: the row says why, and when."""


def word_of_create(outcome: Outcome | None) -> str:
    """Say what came of a create call, in our own words and Kie's code: its message may quote a prompt."""
    match outcome:
        case None:
            return NOT_NOW
        case Refused() | Busy():
            return f"{type(outcome).__name__.lower()} {outcome.code[:10]}"
        case Unknown():
            return "unconfirmed"
        case NotSent():
            return "not sent"
        case _:
            return type(outcome).__name__.lower()


def word_of_look(change: Change) -> str:
    """Say where a look left the job, and the reason if it failed."""
    return f"{change.state}: {change.reason}" if change.reason else str(change.state)


def refuse_to_start_without(runtime: Callable[[], Runtime]) -> None:
    """End the process, with one line and its remedy, where the database cannot be used; warn of the rest."""
    try:
        rt = runtime()
        rt.database  # noqa: B018 - connects and checks the schema
    except KieJobsError as error:
        sys.stderr.write(f"kiejobs: {error}\n{error.remedy}\n")
        raise SystemExit(3) from None
    if not rt.settings.keys:
        log.warning("no Kie key is set: nothing will be bought or read (set KIE_API_KEY)")
    if rt.settings.submit == "off":
        log.warning("KIEJOBS_SUBMIT=off: jobs stay in line, nothing is bought")


def warn_of_storage(runtime: Callable[[], Runtime], queues: set[str]) -> None:
    """Say at the start of a worker that copies where its storage cannot be used; results wait for it."""
    if not queues & set(COPY_QUEUES):
        return
    try:
        runtime().store.check()
    except KieJobsError as error:
        log.warning("%s %s Results wait until it can be used.", error, error.remedy)


def warn_of_mixed_queues(queues: set[str]) -> None:
    """Say so where one worker got quick work and copies: sixteen slow copies would hold every thread."""
    if queues & set(QUICK_QUEUES) and queues & set(COPY_QUEUES):
        log.warning(
            "this worker has quick queues and copies: slow copies will hold up polls. Run a second one for them: "
            "python -m workers worker -Q store -c 8 -n copies@%%h"
        )
