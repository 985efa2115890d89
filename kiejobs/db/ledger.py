"""The money ledger: intents before create calls, outcomes after them, and the budget that is counted from both.

`begin` commits the intent to create in the same transaction as the claim and the budget, under the account's lock: the
ledger is the rate limiter, exact over all processes, restarts and broker flushes. `settle` merges an outcome as a fact,
whatever the job's version, because a task id that is not written down is lost money.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, tuple_, update

from kiejobs.answers import Accepted, Answered, Outcome, Refused, Unknown
from kiejobs.db import candidates, parents, spend
from kiejobs.db.accounts import Budget, free_creates, learn, lock_account, lock_account_of, model_hold_s, standing_of
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
    orphaned,
    poisoned,
    submission_after,
)
from kiejobs.errors import Reason
from kiejobs.jobs import JobState, SubmissionState
from kiejobs.kie.families import family_for
from kiejobs.lifecycle import Event, may

READY_FOR_S = 600.0
"""How long the URLs in an input have to live from the create call on."""

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
class Unprepared(Declined):
    """No create call yet: what the input refers to has to be made ready first."""

    version: int
    """The row's; whoever makes it ready meanwhile raises it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A job after an outcome was merged; what the next nudge needs."""

    state: JobState
    version: int
    due_in_s: float | None


_OF_ACCOUNT = jobs.c.account == bindparam("account")
_IN_LINE = in_state(JobState.QUEUED) & jobs.c.line_at.is_not(None)
_JOB = jobs.c.id == bindparam("job")
_SUBMISSION = submissions.c.id == bindparam("submission")

_FIRST_IN_LINE = (
    select(jobs.c.id).where(_OF_ACCOUNT, _IN_LINE).order_by(jobs.c.line_at, jobs.c.id).limit(bindparam("count"))
)


def first_in_line(tx: Connection, account: str, count: int) -> list[str]:
    """Return the ids of the jobs that are sent next, oldest place first."""
    return list(tx.scalars(_FIRST_IN_LINE, {"account": account, "count": count}))


_PLACE = tuple_(bindparam("place_at", type_=jobs.c.line_at.type), bindparam("place_id", type_=jobs.c.id.type))
_BEFORE = select(jobs.c.id).where(_OF_ACCOUNT, _IN_LINE, tuple_(jobs.c.line_at, jobs.c.id) < _PLACE)
_AHEAD = select(func.count()).select_from(_BEFORE.limit(bindparam("free")).subquery())


def may_be_sent(tx: Connection, job: Any, budget: Budget, standing: Any) -> bool:
    """Say whether the budget reaches as far back in the line as this job stands.

    `job` has an `id`, an `account` and a place, `line_at`; `standing` is the account's, see `free_creates`.
    """
    free = free_creates(tx, job.account, budget, standing)
    if free <= 0:
        return False
    place = {"account": job.account, "place_at": job.line_at, "place_id": job.id, "free": free}
    return (tx.scalar(_AHEAD, place) or 0) < free


_LOOK = select(jobs.c.id, jobs.c.account, jobs.c.line_at, jobs.c.family, *standing_of(jobs.c.account)).where(
    _JOB, _IN_LINE
)


def look(tx: Connection, job_id: str) -> Any | None:
    """Read what a submit needs to know of a job and its account before it takes any lock; None where it is not in line."""
    return tx.execute(_LOOK, {"job": job_id}).first()


_LOCK_IN_LINE = select(jobs).where(_JOB, _IN_LINE).with_for_update()


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
    locked = lock_account(tx, account)
    row = tx.execute(_LOCK_IN_LINE, {"job": job_id}).first()
    if row is None or row.account != account:
        return Declined("not in line any more")
    if row.executions >= MAX_EXECUTIONS:
        write_change(tx, job_id, JobState.QUEUED, poisoned(JobState.QUEUED), who=who, version=row.version)
        return Declined("quarantined")
    if not may_be_sent(tx, row, budget, locked):
        return Declined("the account's create budget is used up, or others stand before it")
    request = _ready(tx, row, who)
    if isinstance(request, Declined):
        return request
    hold = model_hold_s(tx, locked, row.model)
    if hold is not None:
        return _held(tx, row, hold[1], hold[0], who)
    reserved = spend.reserve(tx, row.tenant, row.model, caps[row.tenant]) if row.tenant in caps else None
    if isinstance(reserved, spend.Held):
        return _held(tx, row, reserved.why, reserved.look_s, who)
    return _intent(tx, row, request, reserved=reserved, deadline_s=deadline_s, who=who)


def _ready(tx: Connection, row: Any, who: str) -> dict[str, Any] | Declined:
    """Return what is sent to Kie: the request, its references replaced by URLs that live long enough."""
    request, made = parents.request_of(tx, row.id)
    if not request.get("references"):
        return request
    needs = parents.standing_of(tx, row.id)
    if needs.failed:
        write_change(tx, row.id, JobState.QUEUED, orphaned(needs.failed, JobState.FAIL), who=who, version=row.version)
        return Declined("a parent failed")
    if needs.waits_for:
        return _held(tx, row, f"waits for job {needs.waits_for}", parents.LOOK_S, who)
    now: datetime = tx.scalar(select(clock()))  # type: ignore[assignment]
    if made is None or datetime.fromisoformat(made["until"]) <= now + timedelta(seconds=READY_FOR_S):
        return Unprepared("its inputs have to be made ready first", row.version)
    return request | {"input": made["input"]}


def hold(tx: Connection, job_id: str, why: str, look_s: float, who: str) -> None:
    """Take a job out of the line until its next look, if it still stands there."""
    row = tx.execute(_LOCK_IN_LINE, {"job": job_id}).first()
    if row is not None:
        _held(tx, row, why, look_s, who)


def _held(tx: Connection, row: Any, why: str, look_s: float, who: str) -> Declined:
    """Take a job out of the line until its next look; the timeline hears of each new reason once."""
    tx.execute(update(jobs).where(jobs.c.id == row.id).values(line_at=None, due_at=clock(look_s), held=why))
    write_event(tx, row.id, "held", why, who=who, unless_said=True)
    return Declined(why)


_CREATES = select(func.coalesce(func.max(submissions.c.seq), 0)).where(submissions.c.job_id == bindparam("job"))
_INTENT = (
    insert(submissions)
    .values(seq=_CREATES.scalar_subquery() + 1, sending_at=clock(), deadline_at=clock("deadline_s"))
    .returning(submissions.c.seq)
)


def _intent(
    tx: Connection, row: Any, request: dict[str, Any], *, reserved: Decimal | None, deadline_s: float, who: str
) -> Intent:
    submission_id = str(uuid.uuid4())
    of_job = {"job": row.id, "job_id": row.id, "tenant": row.tenant, "account": row.account, "model": row.model}
    approval = {"approved_by": row.approved_by, "approved_why": row.approved_why}
    approval["resend_of"] = row.submission_id if row.approved_by else None
    sending = {"id": submission_id, "state": SubmissionState.SENDING, "request_hash": row.request_hash}
    seq = tx.scalar(_INTENT, of_job | approval | sending | {"estimate": reserved, "deadline_s": deadline_s})
    sent = change(JobState.QUEUED, Event.SENT, f"create call {seq} begins", due_in_s=deadline_s + LAPSE_AFTER_S)
    follows: dict[str, Any] = {"submission_id": submission_id, "approved_by": None, "approved_why": None}
    write_change(tx, row.id, JobState.QUEUED, sent, who=who, executions=row.executions + 1, **follows)
    return Intent(submission_id, row.id, row.account, row.model, row.family, request)


_SENT = select(submissions).where(_SUBMISSION)
_FOLLOWER = select(submissions.c.job_id).where(_SUBMISSION).scalar_subquery()
_LOCK_FOLLOWER = select(jobs).where(jobs.c.id == _FOLLOWER).with_for_update()


def settle(
    tx: Connection, submission_id: str, outcome: Outcome, *, pace: Pace, busy_s: float, who: str
) -> Standing | None:
    """Merge the outcome of a create call into its submission, its job and its account.

    Takes any outcome at any time. Returns None where the submission was settled before; a second, different task id is
    then recorded as an alarm, never written over the first.
    """
    account = lock_account_of(tx, submission_id)  # first the account, then the job: the order of `begin`
    if account is None:
        return None
    job = tx.execute(_LOCK_FOLLOWER, {"submission": submission_id}).one()
    found = tx.execute(_SENT, {"submission": submission_id}).one()
    if not _is_news(found.state, outcome):
        _contradiction(tx, found, outcome, who)
        return None
    if isinstance(outcome, Accepted) and candidates.bound_elsewhere(tx, found.account, outcome.task_id, submission_id):
        note = f"Kie's task id {outcome.task_id} already belongs to another submission"
        write_event(tx, found.job_id, "alarm", note, who=who)
        outcome = Unknown(note)
    _write_outcome(tx, submission_id, outcome)
    if isinstance(outcome, Accepted):
        candidates.decide(tx, found.job_id, submission_id, outcome.task_id, who=who)
    return _merged(tx, account, job, found, outcome, pace=pace, busy_s=busy_s, who=who)


def _merged(
    tx: Connection, account: Any, job: Any, found: Any, outcome: Outcome, *, pace: Pace, busy_s: float, who: str
) -> Standing | None:
    """Let the account learn of an outcome that is written down, and the job follow it or say why it does not."""
    # A job that has nothing, in line or parked, follows any of its own submissions that turns out to have bought.
    has_nothing = job.state in (JobState.QUEUED, JobState.UNCONFIRMED)
    turned_up = has_nothing and isinstance(outcome, Accepted | Answered)
    follows = job.submission_id == found.id or turned_up
    another = _switch(tx, job, outcome) if follows else None
    if another is None:
        alert = learn(tx, account, found.model, outcome, sent_at=found.sending_at, busy_s=busy_s)
        if alert:
            write_event(tx, found.job_id, "alert", alert, who=who)
    if not follows:
        if isinstance(outcome, Accepted | Answered):
            note = f"a surplus generation was bought: {_named(outcome)} (billed, not followed)"
            write_event(tx, found.job_id, "alarm", note, who=who)
        return None
    lost = job.reason == Reason.SUBMISSION_LOST
    changes = after_create(JobState(job.state), outcome, pace=pace, cancel=job.cancel_requested, lost=lost)
    if not changes and isinstance(outcome, Accepted | Answered):
        note = f"Kie made {_named(outcome)} for a job that is {job.state} (billed, not followed)"
        write_event(tx, found.job_id, "alarm", note, who=who)
    return _follow(tx, job, [another] if another else changes, outcome, sent=found, who=who)


def _named(outcome: Accepted | Answered) -> str:
    return f"task {outcome.task_id}" if isinstance(outcome, Accepted) else "an answer"


def _is_news(state: str, outcome: Outcome) -> bool:
    """Say whether an outcome still tells something about a submission in this state."""
    if state == SubmissionState.SENDING:
        return True
    if state == SubmissionState.UNKNOWN:
        return not isinstance(outcome, Unknown)
    return state == SubmissionState.WRITTEN_OFF and isinstance(outcome, Accepted | Answered)


def _switch(tx: Connection, job: Any, outcome: Outcome) -> Change | None:
    """Go on with the request's next model where Kie refused this one; back to the first when none is left."""
    refused = isinstance(outcome, Refused) and outcome.try_another
    if not refused or job.cancel_requested or not may(JobState(job.state), Event.DEFERRED):
        return None
    request, _ = parents.request_of(tx, job.id)
    choices = request.get("choices") or []
    if not choices:
        return None
    chosen = int(request.get("chosen", 0))
    following = next_choice(outcome, chosen, len(choices))
    choice = choices[following or 0]
    request |= {"chosen": following or 0, "input": choice["input"]}
    tx.execute(update(payloads).where(payloads.c.job_id == job.id).values(request=request, prepared=None))
    moved = {"model": choice["model"], "family": choice.get("family") or family_for(choice["model"]).name}
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
            extra = {"provider_task_id": outcome.task_id} | _followed(sent)
        if step.event is Event.ANSWERED:
            extra = {"found_by": "answer"} | _followed(sent)
        if step.event in (Event.ACCEPTED, Event.ANSWERED) and sent.model != job.model:
            extra |= _as_sent(tx, job.id, sent.model)
        if step.event is Event.DEFERRED:  # the order to pay again outlives a create that bought nothing
            extra = {"approved_by": sent.approved_by, "approved_why": sent.approved_why}
        write_change(tx, job.id, state, step, who=who, **extra)
        state, version, due_in_s = step.state, version + (step.state is not state), step.due_in_s
    if state is JobState.UNCONFIRMED and changes:
        candidates.look_now(tx, job.id)
    return Standing(state, version, due_in_s)


def _followed(sent: Any) -> dict[str, Any]:
    """What a job has from the create call that it follows from now on."""
    nothing_else = {"approved_by": None, "approved_why": None, "held": None}
    return {"now": ("accepted_at",), "submission_id": sent.id} | nothing_else


def _as_sent(tx: Connection, job_id: str, model: str) -> dict[str, str]:
    """Return to the model that a late fact speaks of, where the job has gone on to another since."""
    request, _ = parents.request_of(tx, job_id)
    choice = candidates.choice_of(request, model) or {}
    return {"model": model, "family": choice.get("family") or family_for(model).name}


def _contradiction(tx: Connection, submission: Any, outcome: Outcome, who: str) -> None:
    if isinstance(outcome, Accepted) and submission.provider_task_id != outcome.task_id:
        known = submission.provider_task_id or submission.state
        note = f"Kie named task {outcome.task_id} for a submission that is already {known}"
        write_event(tx, submission.job_id, "alarm", note, who=who)


def _write_outcome(tx: Connection, submission_id: str, outcome: Outcome) -> None:
    values: dict[str, Any] = {"state": submission_after(outcome)}
    if isinstance(outcome, Accepted):
        values["provider_task_id"] = outcome.task_id
    elif isinstance(outcome, Answered):
        values |= {"answer": outcome.answer, "credits": outcome.credits}
    else:
        values["message"] = outcome.message
        values["code"] = getattr(outcome, "code", None)
    if isinstance(outcome, Unknown) and outcome.evidence:
        values["evidence"] = json.loads(json.dumps(outcome.evidence, default=str))
    tx.execute(_SETTLE, values | {"submission": submission_id})


_SETTLE = update(submissions).where(_SUBMISSION).values(settled_at=clock())


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
    parked = write_change(tx, job_id, JobState.SUBMITTING, lapsed(JobState.SUBMITTING, pace), who=who)
    candidates.look_now(tx, job_id)
    return parked
