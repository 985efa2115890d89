"""What a person (or a policy) orders: cancel, retry, adopt, look now. Each locks the job, reads it, decides and writes.

Every order that may cost money is recorded with who gave it and why. A candidate (a task id that somebody named) is only
noted here; a read of Kie's record decides about it in the poll step.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, select, update

from kiejobs.db import accounts, candidates
from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import jobs, outputs, submissions
from kiejobs.db.timeline import write_change, write_event
from kiejobs.decisions import BILLED, NOT_BILLED, SETTLE_EVERY_S, UNCONFIRMED_FOR_S, Pace, after_unconfirmed, change
from kiejobs.errors import JobNotFound, NotPossible, Reason
from kiejobs.jobs import JobState, OutputState, SubmissionState
from kiejobs.lifecycle import Event, may
from kiejobs.setbacks import KIE_KEEPS_S

FRUITLESS = (Reason.RESULT_INVALID, Reason.RESULT_EXPIRED)
"""Reasons for which storing again may be as vain as before: who pays for a job that failed so buys it again."""

LOOKS_PER_ASKED = 4
"""One look in so many, of those that the query limit allows, may be one that was asked for."""

OPEN_CANDIDATES = 20
"""How many tasks that are named for a create call may wait to be looked at: each costs reads at Kie."""

PERHAPS_BILLED = "canceled while nobody knew whether Kie took it: it may be billed"
CANCEL_NOTES = {
    JobState.QUEUED: NOT_BILLED,
    JobState.UNCONFIRMED: PERHAPS_BILLED,
    JobState.WAITING: BILLED,
    JobState.TIMEOUT: BILLED,
}


@dataclass(frozen=True, slots=True)
class Hurried:
    """What to nudge after a look was asked for."""

    version: int | None = None
    """The version to look at; None where the look that is due anyway is as soon."""
    wait_s: float = 0.0
    copies: list[int] = field(default_factory=list)
    """The outputs that are due."""


def _job(tx: Connection, job_id: str, tenant: str) -> Any:
    mine = (jobs.c.id == job_id) & (jobs.c.tenant == tenant)
    row = tx.execute(select(jobs, clock().label("now")).where(mine).with_for_update()).first()
    if row is None:
        raise JobNotFound(f"there is no job {job_id}")
    return row


def cancel(database: Database, job_id: str, *, tenant: str, who: str) -> None:
    """Give a job up. NotPossible while its results are being copied and after it ended; twice is the same as once."""
    with database.write() as tx:
        row = _job(tx, job_id, tenant)
        state = JobState(row.state)
        if state is JobState.CANCELED:
            return
        if state is JobState.SUBMITTING:
            tx.execute(update(jobs).where(jobs.c.id == job_id).values(cancel_requested=True))
            note = "cancel asked for while the create call is in flight; applied when its outcome is known"
            write_event(tx, job_id, "cancel_requested", note, who=who)
            return
        if not may(state, Event.CANCELED):
            why = "its results are known and being stored" if state is JobState.STORING else f"it ended as {state}"
            raise NotPossible(f"job {job_id} cannot be canceled: {why}")
        note = CANCEL_NOTES[state]
        if state is JobState.QUEUED and row.submission_id and _may_have_cost(tx, job_id):
            note = PERHAPS_BILLED
        write_change(tx, job_id, state, change(state, Event.CANCELED, note, message=note), who=who)


def _may_have_cost(tx: Connection, job_id: str) -> bool:
    spent = (SubmissionState.ACCEPTED, SubmissionState.UNKNOWN, SubmissionState.WRITTEN_OFF)
    mine = (submissions.c.job_id == job_id) & submissions.c.state.in_(spent)
    return tx.scalar(select(submissions.c.id).where(mine).limit(1)) is not None


def retry(database: Database, job_id: str, *, tenant: str, pay: bool, who: str, why: str) -> JobState:
    """Try again: store again for free while Kie has the result, else buy again, which needs `pay`.

    With `pay`, a job whose result was invalid or gone is bought again at once. Returns the job's new state. NotPossible
    says what stands against it, and whether `pay` would help.
    """
    with database.write() as tx:
        row = _job(tx, job_id, tenant)
        state = JobState(row.state)
        fruitless = pay and row.reason in FRUITLESS
        if state is JobState.FAIL and not fruitless and _kie_still_has_it(tx, row):
            return _store_again(tx, row, who)
        event = Event.RESEND_APPROVED if state is JobState.UNCONFIRMED else Event.BOUGHT_AGAIN
        if not may(state, event):
            raise NotPossible(f"job {job_id} is {state}: there is nothing to retry")
        if not pay:
            raise NotPossible(
                f"retrying job {job_id} buys a new generation{_twice(state)}", remedy="Add --pay to do so."
            )
        return _buy_again(tx, row, event, who, why)


def _twice(state: JobState) -> str:
    if state is JobState.UNCONFIRMED:
        return ", and as nobody knows whether Kie took the first one, it may pay twice"
    return ", while the first one may still bring a result" if state is JobState.TIMEOUT else ""


def _kie_still_has_it(tx: Connection, row: Any) -> bool:
    if row.accepted_at is None or (row.now - row.accepted_at).total_seconds() > KIE_KEEPS_S:
        return False
    failed = (outputs.c.job_id == row.id) & (outputs.c.state == OutputState.FAILED)
    return tx.scalar(select(outputs.c.position).where(failed).limit(1)) is not None


def _store_again(tx: Connection, row: Any, who: str) -> JobState:
    failed = (outputs.c.job_id == row.id) & (outputs.c.state == OutputState.FAILED)
    again = {"state": OutputState.PENDING, "due_at": clock(), "link_expired": True, "attempts": 0}
    again |= {"refusals": 0, "executions": 0, "storage_troubles": 0, "refused_url": None}
    tx.execute(update(outputs).where(failed).values(**again, reason=None, error=None))
    restored = change(JobState.FAIL, Event.RESTORED, "stored again, free of charge", due_in_s=SETTLE_EVERY_S)
    write_change(tx, row.id, JobState.FAIL, restored, who=who)
    return restored.state


def _buy_again(tx: Connection, row: Any, event: Event, who: str, why: str) -> JobState:
    state = JobState(row.state)
    note = f"a new generation is bought by order of {who}: {why}" + _twice(state)
    tx.execute(delete(outputs).where(outputs.c.job_id == row.id))
    unknown_again = ("provider_task_id", "accepted_at", "found_by", "word", "progress", "credits", "held")
    fresh: dict[str, Any] = dict.fromkeys(unknown_again)
    fresh |= {"late": False, "polls": 0, "cancel_requested": False}
    bought = change(state, event, note, in_line=True)
    write_change(tx, row.id, state, bought, who=who, now=("line_at",), approved_by=who, approved_why=why, **fresh)
    return bought.state


def refresh(database: Database, job_id: str, *, tenant: str, who: str, per_s: Callable[[str], float]) -> Hurried:
    """Make a job due as soon as its account has room for a look out of turn. `per_s` is an account's query limit.

    A look that is running (it holds the version, and `executions` is above zero) is "now" already: it is not overtaken.
    """
    with database.write() as tx:
        row = _job(tx, job_id, tenant)
        due = _copies_now(tx, job_id) if row.state == JobState.STORING else []
    if row.state not in (JobState.WAITING, JobState.TIMEOUT) or row.executions:
        return Hurried(copies=due)
    if row.due_at <= row.now:
        return Hurried(row.version)
    # In a transaction of its own: the account is locked before its jobs.
    gap_s = LOOKS_PER_ASKED / per_s(row.account)
    at = accounts.room_for_a_look(database, row.account, gap_s=gap_s, before=row.due_at)
    if at is None:
        return Hurried()
    later = (jobs.c.id == job_id) & (jobs.c.version == row.version) & (jobs.c.executions == 0) & (jobs.c.due_at > at)
    with database.write() as tx:
        if not tx.execute(update(jobs).where(later).values(due_at=at, renudge_at=None)).rowcount:
            return Hurried()  # somebody looks, or asked just before
        write_event(tx, job_id, "refreshed", "a look was asked for", who=who, unless_said=True)
    return Hurried(row.version, wait_s=max((at - row.now).total_seconds(), 0.0))


def _copies_now(tx: Connection, job_id: str) -> list[int]:
    """Make the copies due that were put off; return their positions."""
    waiting = (outputs.c.job_id == job_id) & (outputs.c.state == OutputState.PENDING) & (outputs.c.attempts > 0)
    waiting &= outputs.c.error.is_not(None) & (outputs.c.executions == 0)  # put off, not running
    soon = update(outputs).where(waiting).values(due_at=clock(), renudge_at=None)
    return list(tx.scalars(soon.returning(outputs.c.position)))


def adopt(database: Database, job_id: str, task_id: str, *, tenant: str, who: str) -> tuple[str, int] | None:
    """Name the task of a job whose create call's outcome is unknown. A refused candidate may be named again.

    Returns the job and its version for a nudge; None where the task was named before and the look is still to come.
    """
    with database.write() as tx:
        row = _job(tx, job_id, tenant)
        if row.state == JobState.FAIL and row.reason == Reason.SUBMISSION_LOST:
            raise NotPossible(
                f"job {job_id} was given up 14 days after it was sent: Kie has deleted what the task made",
                remedy="Buy it again with `kiejobs retry --pay`.",
            )
        sent = tx.execute(select(submissions).where(submissions.c.id == row.submission_id)).first()
        if sent is None or not candidates.may_follow(row, sent):
            raise NotPossible(f"job {job_id} is {row.state}: only an unconfirmed job can adopt a task")
        candidates.forget_refused(tx, sent.id, task_id)
        named = candidates.name(tx, row, sent.id, task_id, source=who)
        if named and candidates.count_open(tx, sent.id) > OPEN_CANDIDATES:
            raise NotPossible(
                f"{OPEN_CANDIDATES} other tasks that were named for job {job_id} are still to be looked at",
                remedy="Wait until some are decided: `kiejobs show JOB --timeline` tells of each.",
            )
        return (job_id, row.version) if named else None


def settle_unconfirmed(database: Database, job_id: str, pace: Pace, *, who: str) -> str:
    """Let time decide about a parked job that is due: a policy's resend, a write-off, or more waiting.

    Returns "candidate" where an open candidate waits for a look instead.
    """
    with database.write() as tx:
        query = select(jobs, clock().label("now")).where(jobs.c.id == job_id, jobs.c.state == JobState.UNCONFIRMED)
        row = tx.execute(query.with_for_update()).first()
        if row is None:
            return "gone"
        if candidates.any_open(tx, job_id):
            return "candidate"
        sent = tx.execute(select(submissions).where(submissions.c.id == row.submission_id)).one()
        age_s = (row.now - sent.sending_at).total_seconds()
        resends = (submissions.c.job_id == job_id) & submissions.c.resend_of.is_not(None)
        never = row.cancel_requested or tx.scalar(select(submissions.c.id).where(resends).limit(1)) is not None
        decided = after_unconfirmed(age_s, pace, resent=never)
        if decided is None:
            left = [UNCONFIRMED_FOR_S] + ([pace.resend_after_s] if pace.resend_after_s else [])
            in_s = min((until - age_s for until in left if until > age_s), default=UNCONFIRMED_FOR_S)
            tx.execute(update(jobs).where(jobs.c.id == job_id).values(due_at=clock(in_s)))
            return "waits"
        extra: dict[str, Any] = {}
        if decided.event is Event.RESEND_APPROVED:
            extra = {"approved_by": "policy", "approved_why": decided.note, "now": ("line_at",)}
        else:
            written_off = {"state": SubmissionState.WRITTEN_OFF, "settled_at": clock()}
            tx.execute(update(submissions).where(submissions.c.id == sent.id).values(**written_off))
        write_change(tx, job_id, JobState.UNCONFIRMED, decided, who=who, **extra)
        return str(decided.event)
