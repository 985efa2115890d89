"""The money ledger: intents before create calls, outcomes after them, and the budget that is counted from both.

`begin` commits the intent to create in the same transaction as the claim and the budget, under the account's lock: the
ledger is the rate limiter, exact over all processes, restarts and broker flushes. `settle` merges an outcome as a fact,
whatever the job's version, because a task id that is not written down is lost money.
"""

import json
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, literal, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from kiejobs.answers import Accepted, Busy, Outcome, Refused, Scope, Unknown
from kiejobs.db.clock import clock
from kiejobs.db.tables import accounts, in_state, jobs, payloads, submissions
from kiejobs.db.timeline import write_change, write_event
from kiejobs.decisions import MAX_EXECUTIONS, Pace, after_create, change, lapsed, poisoned, submission_after
from kiejobs.errors import Reason
from kiejobs.jobs import JobState, SubmissionState
from kiejobs.lifecycle import Event

LAPSE_AFTER_S = 30.0
"""How long after a create call's deadline its job is taken for unknown."""

PAUSE_FIRST_S = 60.0
PAUSE_MAX_S = 1800.0
BUSY_MAX_S = 300.0


@dataclass(frozen=True, slots=True)
class Budget:
    """One account's create limit: `limit` creates per `window_s` (margin included), per the database's clock."""

    limit: int
    window_s: float


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


def free_creates(tx: Connection, account: str, budget: Budget) -> int:
    """Count how many creates the account may make now: 0 while paused, 1 on probation after a pause."""
    row = tx.execute(
        select(accounts.c.paused_until, accounts.c.pause_code, clock().label("now")).where(accounts.c.name == account)
    ).first()
    if row and row.paused_until and row.paused_until > row.now:
        return 0
    recent = submissions.c.sending_at > clock(-budget.window_s)
    used = tx.scalar(select(func.count()).where(submissions.c.account == account, recent)) or 0
    free = max(budget.limit - used, 0)
    if row and row.pause_code:
        sending = (submissions.c.account == account) & (submissions.c.state == SubmissionState.SENDING) & recent
        return 0 if tx.scalar(select(func.count()).where(sending)) else min(free, 1)
    return free


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
    tx: Connection, job_id: str, account: str, budget: Budget, *, deadline_s: float, who: str
) -> Intent | Declined:
    """Claim the job, take one create of the budget and write the intent; all of it or nothing."""
    lock_account(tx, account)
    columns = (jobs.c.line_at, jobs.c.model, jobs.c.family, jobs.c.tenant, jobs.c.request_hash, jobs.c.executions)
    query = select(jobs.c.version, *columns).where(jobs.c.id == job_id, _in_line(account))
    row = tx.execute(query.with_for_update()).first()
    if row is None:
        return Declined("not in line any more")
    if row.executions >= MAX_EXECUTIONS:
        write_change(tx, job_id, JobState.QUEUED, poisoned(JobState.QUEUED), who=who, version=row.version)
        return Declined("quarantined")
    if not may_be_sent(tx, job_id, account, row.line_at, budget):
        return Declined("the account's create budget is used up, or others stand before it")
    submission_id = str(uuid.uuid4())
    seq = (tx.scalar(select(func.max(submissions.c.seq)).where(submissions.c.job_id == job_id)) or 0) + 1
    tx.execute(
        insert(submissions).values(
            id=submission_id,
            job_id=job_id,
            seq=seq,
            tenant=row.tenant,
            account=account,
            model=row.model,
            state=SubmissionState.SENDING,
            request_hash=row.request_hash,
            sending_at=clock(),
            deadline_at=clock(deadline_s),
        )
    )
    sent = change(JobState.QUEUED, Event.SENT, f"create call {seq} begins", due_in_s=deadline_s + LAPSE_AFTER_S)
    write_change(tx, job_id, JobState.QUEUED, sent, who=who, submission_id=submission_id)
    tx.execute(update(jobs).where(jobs.c.id == job_id).values(executions=row.executions + 1))
    request = tx.scalar(select(payloads.c.request).where(payloads.c.job_id == job_id))
    return Intent(submission_id, job_id, account, row.model, row.family, dict(request or {}))


def lock_account(tx: Connection, account: str) -> None:
    """Take the account's row for this transaction, making it first where it does not exist."""
    made: Any = (sqlite if tx.dialect.name == "sqlite" else postgresql).insert(accounts)
    tx.execute(made.values(name=account).on_conflict_do_nothing())
    tx.execute(select(accounts.c.name).where(accounts.c.name == account).with_for_update())


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
    job = _locked(tx, found.job_id)
    found = tx.execute(select(submissions).where(submissions.c.id == submission_id)).one()
    if found.state not in (SubmissionState.SENDING, SubmissionState.UNKNOWN):
        _contradiction(tx, found, outcome, who)
        return None
    if found.state == SubmissionState.UNKNOWN and isinstance(outcome, Unknown):
        return None
    if isinstance(outcome, Accepted) and _bound_elsewhere(tx, found, outcome.task_id):
        note = f"Kie's task id {outcome.task_id} already belongs to another submission"
        write_event(tx, found.job_id, "alarm", note, who=who)
        outcome = Unknown(note)
    _write_outcome(tx, submission_id, outcome)
    _pause_or_resume(tx, found.account, outcome, busy_s)
    if job.submission_id != submission_id:
        if isinstance(outcome, Accepted):
            note = f"a surplus task was bought: {outcome.task_id} (billed, not followed)"
            write_event(tx, found.job_id, "alarm", note, who=who)
        return None
    state, version, due_in_s = JobState(job.state), job.version, None
    lost = job.reason == Reason.SUBMISSION_LOST
    for step in after_create(state, outcome, pace=pace, cancel=job.cancel_requested, lost=lost):
        extra: dict[str, Any] = {}
        if isinstance(outcome, Accepted) and step.event is Event.ACCEPTED:
            extra = {"provider_task_id": outcome.task_id, "accepted_at": clock()}
        write_change(tx, found.job_id, state, step, who=who, **extra)
        state, version, due_in_s = step.state, version + (step.state is not state), step.due_in_s
    return Standing(state, version, due_in_s)


def _locked(tx: Connection, job_id: str) -> Any:
    columns = (jobs.c.state, jobs.c.version, jobs.c.submission_id, jobs.c.cancel_requested, jobs.c.reason)
    return tx.execute(select(*columns).where(jobs.c.id == job_id).with_for_update()).one()


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


def _pause_or_resume(tx: Connection, account: str, outcome: Outcome, busy_s: float) -> None:
    """An account-wide refusal stops the account's creates for a while, doubling; an accepted create lets them go on."""
    row = tx.execute(select(accounts.c.pause_s, accounts.c.pause_code).where(accounts.c.name == account)).first()
    match outcome:
        case Accepted() if row and row.pause_code:
            values: dict[str, Any] = {"paused_until": None, "pause_s": 0.0, "pause_code": None, "pause_note": None}
        case Busy():
            pause_s = min(max(row.pause_s * 2 if row else 0.0, busy_s), BUSY_MAX_S)
            values = {"paused_until": clock(pause_s), "pause_s": pause_s}
            values |= {"pause_code": outcome.code, "pause_note": outcome.message}
        case Refused(scope=Scope.ACCOUNT):
            pause_s = min(max(row.pause_s * 2 if row else 0.0, PAUSE_FIRST_S), PAUSE_MAX_S)
            values = {"paused_until": clock(pause_s), "pause_s": pause_s}
            values |= {"pause_code": outcome.code, "pause_note": outcome.message}
        case _:
            return
    tx.execute(update(accounts).where(accounts.c.name == account).values(**values))


def lapse(tx: Connection, job_id: str, *, who: str) -> bool:
    """Park a job whose create call never reported: its submission becomes unknown, the job `unconfirmed`.

    From rows alone, so it locks, reads, decides and writes in this one transaction.
    """
    query = select(jobs.c.state, jobs.c.submission_id).where(
        jobs.c.id == job_id, jobs.c.state == JobState.SUBMITTING, jobs.c.due_at < clock()
    )
    row = tx.execute(query.with_for_update()).first()
    if row is None:
        return False
    values = {"state": SubmissionState.UNKNOWN, "settled_at": clock(), "message": "the sender never reported"}
    sending = (submissions.c.id == row.submission_id) & (submissions.c.state == SubmissionState.SENDING)
    tx.execute(update(submissions).where(sending).values(**values))
    return write_change(tx, job_id, JobState.SUBMITTING, lapsed(JobState.SUBMITTING), who=who)
