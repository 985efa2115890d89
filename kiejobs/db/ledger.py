"""The money ledger: intents before create calls, outcomes after them, and the budget that is counted from both.

`begin` commits the intent to create in the same transaction as the claim and the budget, under the account's lock: the
ledger is the rate limiter, exact over all processes, restarts and broker flushes. `settle` merges an outcome as a fact,
whatever the job's version, because a task id that is not written down is lost money.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, func, insert, literal, select, tuple_, update

from kiejobs.answers import Accepted, Outcome, Refused, Unknown
from kiejobs.db import spend
from kiejobs.db.accounts import Budget, free_creates, learn, lock_account, model_hold_s
from kiejobs.db.clock import clock
from kiejobs.db.tables import in_state, jobs, payloads, submissions
from kiejobs.db.timeline import write_change, write_event
from kiejobs.decisions import (
    MAX_EXECUTIONS,
    Change,
    Pace,
    after_create,
    change,
    lapsed,
    next_choice,
    poisoned,
    submission_after,
)
from kiejobs.errors import Reason
from kiejobs.jobs import JobState, SubmissionState
from kiejobs.kie.families import family_for
from kiejobs.lifecycle import Event, may

LAPSE_AFTER_S = 30.0
"""How long after a create call's deadline its job is taken for unknown."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A committed intent: the right to make exactly one create call, and what it asks for."""

    submission_id: str
    job_id: str
    account: str
    model: str
    family: str
    request: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Declined:
    """No create call now, and why. The job stands where it stood."""

    why: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A job after an outcome was merged; what the next nudge needs."""

    state: JobState
    version: int
    due_in_s: float | None


def first_in_line(tx: Connection, account: str, count: int) -> list[str]:
    """Return the ids of the jobs that are sent next, oldest place first."""
    line = select(jobs.c.id).where(_in_line(account)).order_by(jobs.c.line_at, jobs.c.id)
    return list(tx.scalars(line.limit(count)))


def _in_line(account: str) -> Any:
    return (jobs.c.account == account) & in_state(JobState.QUEUED) & jobs.c.line_at.is_not(None)


def may_be_sent(tx: Connection, job_id: str, account: str, line_at: datetime, budget: Budget) -> bool:
    """Say whether the budget reaches as far back in the line as this job stands."""
    free = free_creates(tx, account, budget)
    if free <= 0:
        return False
    place = tuple_(literal(line_at, jobs.c.line_at.type), literal(job_id, jobs.c.id.type))
    before = tuple_(jobs.c.line_at, jobs.c.id) < place
    ahead = select(jobs.c.id).where(_in_line(account), before).limit(free).subquery()
    return (tx.scalar(select(func.count()).select_from(ahead)) or 0) < free


def look(tx: Connection, job_id: str) -> Any | None:
    """Read what a submit needs to know before it takes any lock; None where the job is not in line."""
    return tx.execute(
        select(jobs.c.account, jobs.c.line_at, jobs.c.family).where(
            jobs.c.id == job_id, jobs.c.state == JobState.QUEUED, jobs.c.line_at.is_not(None)
        )
    ).first()


def begin(
    tx: Connection,
    job_id: str,
    account: str,
    budget: Budget,
    *,
    deadline_s: float,
    who: str,
    caps: Mapping[str, float] = MappingProxyType({}),
) -> Intent | Declined:
    """Claim the job, take one create of the budget and write the intent; all of it or nothing.

    `caps` are credits a day by tenant. A job that may not be sent now for a reason of its own leaves the line, so that it
    holds up nobody; one that the account's budget does not reach keeps its place.
    """
    lock_account(tx, account)
    row = tx.execute(select(jobs).where(jobs.c.id == job_id, _in_line(account)).with_for_update()).first()
    if row is None:
        return Declined("not in line any more")
    if row.executions >= MAX_EXECUTIONS:
        write_change(tx, job_id, JobState.QUEUED, poisoned(JobState.QUEUED), who=who, version=row.version)
        return Declined("quarantined")
    if not may_be_sent(tx, job_id, account, row.line_at, budget):
        return Declined("the account's create budget is used up, or others stand before it")
    hold = model_hold_s(tx, account, row.model)
    if hold is not None:
        return _held(tx, row, hold[1], hold[0], who)
    reserved = spend.reserve(tx, row.tenant, row.model, caps[row.tenant]) if row.tenant in caps else None
    if isinstance(reserved, spend.Held):
        return _held(tx, row, reserved.why, reserved.look_s, who)
    return _intent(tx, row, reserved, deadline_s, who)


def _held(tx: Connection, row: Any, why: str, look_s: float, who: str) -> Declined:
    """Take a job out of the line until its next look; the timeline hears of each new reason once."""
    tx.execute(update(jobs).where(jobs.c.id == row.id).values(line_at=None, due_at=clock(look_s), held=why))
    if row.held != why:
        write_event(tx, row.id, "held", why, who=who)
    return Declined(why)


def _intent(tx: Connection, row: Any, reserved: Decimal | None, deadline_s: float, who: str) -> Intent:
    submission_id = str(uuid.uuid4())
    seq = (tx.scalar(select(func.max(submissions.c.seq)).where(submissions.c.job_id == row.id)) or 0) + 1
    tx.execute(
        insert(submissions).values(
            id=submission_id,
            job_id=row.id,
            seq=seq,
            tenant=row.tenant,
            account=row.account,
            model=row.model,
            state=SubmissionState.SENDING,
            request_hash=row.request_hash,
            sending_at=clock(),
            deadline_at=clock(deadline_s),
            estimate=reserved,
            resend_of=row.submission_id if row.approved_by else None,
            approved_by=row.approved_by,
            approved_why=row.approved_why,
        )
    )
    sent = change(JobState.QUEUED, Event.SENT, f"create call {seq} begins", due_in_s=deadline_s + LAPSE_AFTER_S)
    write_change(tx, row.id, JobState.QUEUED, sent, who=who, submission_id=submission_id)
    follows = {"executions": row.executions + 1, "approved_by": None, "approved_why": None}
    tx.execute(update(jobs).where(jobs.c.id == row.id).values(**follows))
    request = tx.scalar(select(payloads.c.request).where(payloads.c.job_id == row.id))
    return Intent(submission_id, row.id, row.account, row.model, row.family, dict(request or {}))


def settle(
    tx: Connection, submission_id: str, outcome: Outcome, *, pace: Pace, busy_s: float, who: str
) -> Standing | None:
    """Merge the outcome of a create call into its submission, its job and its account.

    Takes any outcome at any time. Returns None where the submission was settled before; a second, different task id is
    then recorded as an alarm, never written over the first.
    """
    found = tx.execute(select(submissions).where(submissions.c.id == submission_id)).first()
    if found is None:
        return None
    lock_account(tx, found.account)  # first the account, then the job: the order of `begin`
    job = tx.execute(select(jobs).where(jobs.c.id == found.job_id).with_for_update()).one()
    found = tx.execute(select(submissions).where(submissions.c.id == submission_id)).one()
    if not _is_news(found.state, outcome):
        _contradiction(tx, found, outcome, who)
        return None
    if isinstance(outcome, Accepted) and _bound_elsewhere(tx, found, outcome.task_id):
        note = f"Kie's task id {outcome.task_id} already belongs to another submission"
        write_event(tx, found.job_id, "alarm", note, who=who)
        outcome = Unknown(note)
    _write_outcome(tx, submission_id, outcome)
    # A job in line follows any of its own submissions that turns out to have bought: then nothing more is sent.
    turned_up = job.state == JobState.QUEUED and isinstance(outcome, Accepted)
    follows = job.submission_id == submission_id or turned_up
    another = _switch(tx, job, outcome) if follows else None
    if another is None:
        alert = learn(tx, found.account, found.model, outcome, sent_at=found.sending_at, busy_s=busy_s)
        if alert:
            write_event(tx, found.job_id, "alert", alert, who=who)
    if not follows:
        if isinstance(outcome, Accepted):
            note = f"a surplus task was bought: {outcome.task_id} (billed, not followed)"
            write_event(tx, found.job_id, "alarm", note, who=who)
        return None
    lost = job.reason == Reason.SUBMISSION_LOST
    changes = after_create(JobState(job.state), outcome, pace=pace, cancel=job.cancel_requested, lost=lost)
    if not changes and isinstance(outcome, Accepted):
        note = f"Kie took the task as {outcome.task_id} for a job that is {job.state} (billed, not followed)"
        write_event(tx, found.job_id, "alarm", note, who=who)
    return _follow(tx, job, [another] if another else changes, outcome, sent=found, who=who)


def _is_news(state: str, outcome: Outcome) -> bool:
    """Say whether an outcome still tells something about a submission in this state."""
    if state == SubmissionState.SENDING:
        return True
    if state == SubmissionState.UNKNOWN:
        return not isinstance(outcome, Unknown)
    return state == SubmissionState.WRITTEN_OFF and isinstance(outcome, Accepted)


def _switch(tx: Connection, job: Any, outcome: Outcome) -> Change | None:
    """Go on with the request's next model where Kie refused this one; back to the first when none is left."""
    request = dict(tx.scalar(select(payloads.c.request).where(payloads.c.job_id == job.id)) or {})
    choices = request.get("choices") or []
    refused = isinstance(outcome, Refused) and outcome.try_another
    if not (choices and refused) or job.cancel_requested or not may(JobState(job.state), Event.DEFERRED):
        return None
    chosen = int(request.get("chosen", 0))
    following = next_choice(outcome, chosen, len(choices))
    choice = choices[following or 0]
    request |= {"chosen": following or 0, "input": choice["input"]}
    tx.execute(update(payloads).where(payloads.c.job_id == job.id).values(request=request))
    moved = {"model": choice["model"], "family": family_for(choice["model"]).name}
    tx.execute(update(jobs).where(jobs.c.id == job.id).values(**moved))
    if following is None:
        return None
    said = f"{job.model} was refused ({getattr(outcome, 'code', '')}): {getattr(outcome, 'message', '')}"
    return change(JobState(job.state), Event.DEFERRED, f"{said}; next is {choice['model']}", in_line=True)


def _follow(tx: Connection, job: Any, changes: list[Change], outcome: Outcome, *, sent: Any, who: str) -> Standing:
    state, version, due_in_s = JobState(job.state), job.version, None
    for step in changes:
        extra: dict[str, Any] = {}
        if isinstance(outcome, Accepted) and step.event is Event.ACCEPTED:
            extra = {"provider_task_id": outcome.task_id, "accepted_at": clock(), "submission_id": sent.id}
            extra |= {"approved_by": None, "approved_why": None}
        if step.event is Event.DEFERRED:  # the order to pay again outlives a create that bought nothing
            extra = {"approved_by": sent.approved_by, "approved_why": sent.approved_why}
        write_change(tx, job.id, state, step, who=who, **extra)
        state, version, due_in_s = step.state, version + (step.state is not state), step.due_in_s
    return Standing(state, version, due_in_s)


def _bound_elsewhere(tx: Connection, submission: Any, task_id: str) -> bool:
    same = (submissions.c.account == submission.account) & (submissions.c.provider_task_id == task_id)
    return tx.scalar(select(submissions.c.id).where(same, submissions.c.id != submission.id)) is not None


def _contradiction(tx: Connection, submission: Any, outcome: Outcome, who: str) -> None:
    if isinstance(outcome, Accepted) and submission.provider_task_id != outcome.task_id:
        known = submission.provider_task_id or submission.state
        note = f"Kie named task {outcome.task_id} for a submission that is already {known}"
        write_event(tx, submission.job_id, "alarm", note, who=who)


def _write_outcome(tx: Connection, submission_id: str, outcome: Outcome) -> None:
    values: dict[str, Any] = {"state": submission_after(outcome), "settled_at": clock()}
    if isinstance(outcome, Accepted):
        values["provider_task_id"] = outcome.task_id
    else:
        values["message"] = outcome.message
        values["code"] = getattr(outcome, "code", None)
    if isinstance(outcome, Unknown) and outcome.evidence:
        values["evidence"] = json.loads(json.dumps(outcome.evidence, default=str))
    tx.execute(update(submissions).where(submissions.c.id == submission_id).values(**values))


def lapse(tx: Connection, job_id: str, *, pace: Pace, who: str) -> bool:
    """Park a job whose create call never reported: its submission becomes unknown, the job `unconfirmed`.

    From rows alone, so it locks, reads, decides and writes in this one transaction.
    """
    query = select(jobs.c.submission_id).where(jobs.c.id == job_id, jobs.c.state == JobState.SUBMITTING)
    row = tx.execute(query.with_for_update()).first()
    over = (
        (submissions.c.id == row.submission_id) & (submissions.c.deadline_at < clock(-LAPSE_AFTER_S)) if row else None
    )
    if row is None or over is None or tx.scalar(select(submissions.c.id).where(over)) is None:
        return False
    values = {"state": SubmissionState.UNKNOWN, "settled_at": clock(), "message": "the sender never reported"}
    sending = (submissions.c.id == row.submission_id) & (submissions.c.state == SubmissionState.SENDING)
    tx.execute(update(submissions).where(sending).values(**values))
    return write_change(tx, job_id, JobState.SUBMITTING, lapsed(JobState.SUBMITTING, pace), who=who)
