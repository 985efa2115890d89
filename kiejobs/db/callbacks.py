"""Callbacks from Kie: kept as they came, capped, and turned into a hint to look at a task now.

A callback changes no state: it makes a waiting job due, or notes a candidate for a create call whose outcome nobody
knows. Told twice it does nothing more, and what one submission may have kept is bounded. `version` is never touched, so
no look is overtaken but one that began before the news, and that once.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from kiejobs.db import candidates
from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import callbacks, jobs, submissions
from kiejobs.db.timeline import write_event
from kiejobs.jobs import JobState
from kiejobs.kie.callbacks import without_tokens

KEPT_BYTES = 64 * 1024
"""Of a body; the rest is cut off."""

KEPT_PER_SUBMISSION = 20
"""Different callbacks for one create call; further ones are dropped. Kie sends a handful."""

REFUSED_PER_SUBMISSION = 5
"""Of those that were refused, so that they never crowd out true ones."""

AGAIN_S = 0.5
"""When the record is looked at once more where a look was already under way as the callback came."""

REFUSED = "refused: "
"""How the verdict on a callback begins that proved nothing."""


class Verdict(StrEnum):
    """What became of a callback that was not refused."""

    ACCEPTED = "accepted"
    """The job is due now."""
    KNOWN = "known"
    """It was told before, or the job has moved on."""
    STAGE = "stage"
    """The task goes on."""
    CONTRADICTS = "contradicts"
    """The create call bought another task, or the task belongs to another create call: an alarm."""
    SURPLUS = "surplus"
    """The job does not follow this create call any more, which bought something after all: an alarm."""
    DROPPED = "dropped"
    """More different ones came for this create call than are kept."""


@dataclass(frozen=True, slots=True)
class Hint:
    """The nudge that follows a callback."""

    job_id: str
    version: int
    polls: int
    countdown_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a callback, and the nudge it asks for."""

    verdict: str
    hint: Hint | None = None
    fault: str | None = None
    """Why it was refused."""


# Built once: to build them costs as much as to run them, and Kie may call hundreds of times a second.
_OF = callbacks.c.submission_id == bindparam("of")
_WAS_REFUSED = callbacks.c.verdict.startswith(REFUSED, autoescape=True)
_OWNER = select(submissions.c.job_id).where(submissions.c.id == bindparam("of")).scalar_subquery()
_JOB = (
    select(jobs.c.id, jobs.c.state, jobs.c.reason, jobs.c.version, jobs.c.polls, jobs.c.executions, jobs.c.due_at)
    .add_columns(jobs.c.submission_id, clock().label("now"))
    .where(jobs.c.id == _OWNER)
    .with_for_update()
)
_SENT_AND_BEFORE = (
    select(submissions.c.id, submissions.c.seq, submissions.c.account, submissions.c.state)
    .add_columns(submissions.c.provider_task_id, callbacks.c.task_id, callbacks.c.verdict, callbacks.c.body_sha256)
    .outerjoin(callbacks, (callbacks.c.submission_id == submissions.c.id) & ~_WAS_REFUSED)
    .where(submissions.c.id == bindparam("of"))
    .limit(KEPT_PER_SUBMISSION)
)
"""The create call, once for each different callback that was kept for it; read after the job is locked."""
_REFUSED_BEFORE = select(callbacks.c.id).where(_OF, _WAS_REFUSED).limit(REFUSED_PER_SUBMISSION)
_DUE_NOW = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"), jobs.c.due_at > clock())
    .values(due_at=clock(), renudge_at=None)
)
_KEEP = insert(callbacks)


def receive(
    database: Database,
    submission_id: str,
    *,
    task_id: str | None,
    stage: bool,
    body: bytes,
    fault: Callable[[str], str | None] = lambda account: None,
) -> Received | None:
    """Take a callback for a submission; None where there is no such submission (any more).

    `fault` is given the submission's account and says what stands against the callback, if anything; then it is kept for
    people to look at, a few per submission, and does nothing. Without a task id there must be a fault.
    """
    with database.write() as tx:
        job = tx.execute(_JOB, {"of": submission_id}).first()
        if job is None:
            return None
        rows = tx.execute(_SENT_AND_BEFORE, {"of": submission_id}).all()
        sent, before = rows[0], [row for row in rows if row.verdict is not None]
        why = fault(sent.account)
        if why is not None or task_id is None:
            return _refused(tx, submission_id, task_id, why or "", body)
        if any(row.task_id == task_id and row.body_sha256 == _digest(body) for row in before):
            return Received(Verdict.KNOWN)
        if len(before) >= KEPT_PER_SUBMISSION:
            return Received(Verdict.DROPPED)
        received = _judged(tx, job, sent, task_id, stage=stage, before=before)
        _keep(tx, submission_id, task_id, received.verdict, body)
        return received


def _refused(tx: Connection, submission_id: str, task_id: str | None, why: str, body: bytes) -> Received:
    if len(tx.execute(_REFUSED_BEFORE, {"of": submission_id}).all()) < REFUSED_PER_SUBMISSION:
        _keep(tx, submission_id, task_id, REFUSED + why, body)
    return Received(REFUSED + why, fault=why)


def _judged(tx: Connection, job: Any, sent: Any, task_id: str, *, stage: bool, before: Sequence[Any]) -> Received:
    bound = sent.provider_task_id
    verdict, note = None, f"a callback names task {task_id} for create call {sent.seq}"
    if bound is None and candidates.bound_elsewhere(tx, sent.account, task_id, sent.id):
        verdict, note = Verdict.CONTRADICTS, f"{note}, but it belongs to another one"
    elif bound not in (None, task_id):
        verdict, note = Verdict.CONTRADICTS, f"{note}, which bought {bound}"
    elif bound is None and not candidates.may_follow(job, sent):
        verdict, note = Verdict.SURPLUS, f"{note}, which the job does not follow ({sent.state}); it may be billed"
    if verdict is not None:
        if not any(row.task_id == task_id and row.verdict == verdict for row in before):
            write_event(tx, job.id, "alarm", note, who=candidates.CALLBACK)
        return Received(verdict)
    if bound is not None:
        return Received(Verdict.STAGE) if stage else _hurry(tx, job, sent)
    if not candidates.name(tx, job, sent.id, task_id, source=candidates.CALLBACK):
        return Received(Verdict.KNOWN)
    return Received(Verdict.ACCEPTED, Hint(job.id, job.version, job.polls))


def _hurry(tx: Connection, job: Any, sent: Any) -> Received:
    """Make a waiting job due now. A look that runs may have read the record too early: one more follows, only one."""
    if job.submission_id != sent.id or job.state not in (JobState.WAITING, JobState.TIMEOUT):
        return Received(Verdict.KNOWN)
    if job.executions > 0 and job.due_at is not None and job.due_at > job.now:
        first = Hint(job.id, job.version, job.polls, countdown_s=AGAIN_S) if job.executions == 1 else None
        return Received(Verdict.ACCEPTED, first)
    tx.execute(_DUE_NOW, {"of_job": job.id})
    return Received(Verdict.ACCEPTED, Hint(job.id, job.version, job.polls))


def _keep(tx: Connection, submission_id: str, task_id: str | None, verdict: str, body: bytes) -> None:
    text = without_tokens(body[:KEPT_BYTES].decode("utf-8", "replace"))
    values = {"submission_id": submission_id, "task_id": task_id, "verdict": str(verdict), "body": text}
    tx.execute(_KEEP, {**values, "body_sha256": _digest(body)})


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
