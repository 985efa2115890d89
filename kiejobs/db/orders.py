"""What a person (or a policy) orders: cancel, retry, adopt, look now. Each locks the job, reads it, decides and writes.

Every order that may cost money is recorded with who gave it and why. A candidate (a task id that somebody named) is only
noted here; a read of Kie's record decides about it in the poll step.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import candidates, jobs, outputs, payloads, submissions
from kiejobs.db.timeline import write_change, write_event
from kiejobs.decisions import SETTLE_EVERY_S, UNCONFIRMED_FOR_S, Pace, after_unconfirmed, change
from kiejobs.errors import JobNotFound, NotPossible, Reason
from kiejobs.jobs import CandidateState, JobState, OutputState, SubmissionState
from kiejobs.lifecycle import Event, may

KIE_KEEPS_S = 14 * 86400.0
"""How long Kie keeps generated files. Source: https://docs.kie.ai, getting started."""

BILLED = "canceled; Kie had taken the task, so it is billed, and its result will not be stored"
PERHAPS_BILLED = "canceled while nobody knew whether Kie took it: it may be billed"
NOT_BILLED = "canceled before anything was bought"
CANCEL_NOTES = {
    JobState.QUEUED: NOT_BILLED,
    JobState.UNCONFIRMED: PERHAPS_BILLED,
    JobState.WAITING: BILLED,
    JobState.TIMEOUT: BILLED,
}


@dataclass(frozen=True, slots=True)
class Named:
    """An open candidate and what it is judged by."""

    id: str
    task_id: str
    submission_id: str
    model: str
    input: dict[str, Any]
    sending_at: datetime
    deadline_at: datetime
    sending: bool
    bound_elsewhere: bool
    age_s: float
    """Seconds since it was named."""


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

    Returns the job's new state. NotPossible says what stands against it, and whether `pay` would help.
    """
    with database.write() as tx:
        row = _job(tx, job_id, tenant)
        state = JobState(row.state)
        if state is JobState.FAIL and _kie_still_has_it(tx, row):
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
    again |= {"refusals": 0, "executions": 0}
    tx.execute(update(outputs).where(failed).values(**again, reason=None, error=None))
    restored = change(JobState.FAIL, Event.RESTORED, "stored again, free of charge", due_in_s=SETTLE_EVERY_S)
    write_change(tx, row.id, JobState.FAIL, restored, who=who)
    return restored.state


def _buy_again(tx: Connection, row: Any, event: Event, who: str, why: str) -> JobState:
    state = JobState(row.state)
    note = f"a new generation is bought by order of {who}: {why}" + _twice(state)
    tx.execute(delete(outputs).where(outputs.c.job_id == row.id))
    fresh: dict[str, Any] = {
        "provider_task_id": None,
        "accepted_at": None,
        "word": None,
        "progress": None,
        "late": False,
    }
    fresh |= {"line_at": clock(), "held": None, "polls": 0, "troubles": 0, "cancel_requested": False, "credits": None}
    bought = change(state, event, note, in_line=True)
    write_change(tx, row.id, state, bought, who=who, approved_by=who, approved_why=why, **fresh)
    return bought.state


def refresh(database: Database, job_id: str, *, tenant: str, who: str) -> tuple[int | None, list[int]]:
    """Make a job due now; returns the version to look at, and the outputs that are due.

    A look that is running (it holds the version, and `executions` is above zero) is "now" already: it is not overtaken.
    """
    with database.write() as tx:
        row = _job(tx, job_id, tenant)
        state = JobState(row.state)
        due: list[int] = []
        idle = state in (JobState.WAITING, JobState.TIMEOUT) and row.executions == 0
        if idle:
            tx.execute(update(jobs).where(jobs.c.id == job_id).values(due_at=clock(), renudge_at=None))
            write_event(tx, job_id, "refreshed", "a look was asked for", who=who)
        elif state is JobState.STORING:
            waiting = (outputs.c.job_id == job_id) & (outputs.c.state == OutputState.PENDING) & (outputs.c.attempts > 0)
            waiting &= outputs.c.error.is_not(None) & (outputs.c.executions == 0)  # put off, not running
            soon = update(outputs).where(waiting).values(due_at=clock(), renudge_at=None)
            due = list(tx.scalars(soon.returning(outputs.c.position)))
    return (row.version if idle else None), due


def name_candidate(tx: Connection, submission_id: str, task_id: str, *, source: str) -> tuple[str, int] | None:
    """Note a task id that somebody named for a submission, and make its job due now.

    Returns the job and its version for a nudge; None where the submission needs no candidate (any more), or has this one
    already: a look at it may be running, and is not overtaken.
    """
    query = select(submissions.c.job_id).where(submissions.c.id == submission_id)
    job_id = tx.scalar(query)
    if job_id is None:
        return None
    row = tx.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).one()
    if row.submission_id != submission_id or row.state not in (JobState.SUBMITTING, JobState.UNCONFIRMED):
        return None
    mine = (candidates.c.submission_id == submission_id) & (candidates.c.task_id == task_id)
    if tx.scalar(select(candidates.c.id).where(mine)) is not None:
        return None
    values = {"id": str(uuid.uuid4()), "submission_id": submission_id, "task_id": task_id, "source": source}
    tx.execute(insert(candidates).values(state=CandidateState.OPEN, created_at=clock(), **values))
    write_event(tx, job_id, "candidate", f"{source} names task {task_id}; Kie's record will decide", who=source)
    tx.execute(update(jobs).where(jobs.c.id == job_id).values(due_at=clock(), renudge_at=None))
    return job_id, row.version


def adopt(database: Database, job_id: str, task_id: str, *, tenant: str, who: str) -> tuple[str, int] | None:
    """Name the task of a job whose create call's outcome is unknown. A refused candidate may be named again."""
    with database.write() as tx:
        row = _job(tx, job_id, tenant)
        lost = row.state == JobState.FAIL and row.reason == Reason.SUBMISSION_LOST
        if not row.submission_id or not (lost or row.state in (JobState.SUBMITTING, JobState.UNCONFIRMED)):
            raise NotPossible(f"job {job_id} is {row.state}: only an unconfirmed job can adopt a task")
        if lost:
            raise NotPossible(
                f"job {job_id} was given up 14 days after it was sent: Kie has deleted what the task made",
                remedy="Buy it again with `kiejobs retry --pay`.",
            )
        again = (candidates.c.submission_id == row.submission_id) & (candidates.c.task_id == task_id)
        tx.execute(delete(candidates).where(again, candidates.c.state == CandidateState.REFUSED))
        return name_candidate(tx, row.submission_id, task_id, source=who)


def open_candidate(database: Database, job_id: str) -> Named | None:
    """Read the oldest open candidate of a job's current submission, with what it is judged by."""
    query = (
        select(
            candidates.c.id,
            candidates.c.task_id,
            submissions,
            payloads.c.request,
            candidates.c.created_at.label("named_at"),
            clock().label("now"),
        )
        .join(submissions, submissions.c.id == candidates.c.submission_id)
        .join(jobs, jobs.c.submission_id == submissions.c.id)
        .join(payloads, payloads.c.job_id == jobs.c.id)
        .where(jobs.c.id == job_id, candidates.c.state == CandidateState.OPEN)
        .order_by(candidates.c.created_at)
    )
    with database.read() as connection:
        row = connection.execute(query.limit(1)).first()
        if row is None:
            return None
        other = (submissions.c.account == row.account) & (submissions.c.provider_task_id == row.task_id)
        bound = connection.scalar(select(submissions.c.id).where(other, submissions.c.job_id != job_id)) is not None
    return Named(
        id=row.id,
        task_id=row.task_id,
        submission_id=row._mapping[submissions.c.id],
        model=row.model,
        input=dict(row.request.get("input") or {}),
        sending_at=row.sending_at,
        deadline_at=row.deadline_at,
        sending=row._mapping[submissions.c.state] == SubmissionState.SENDING,
        bound_elsewhere=bound,
        age_s=(row.now - row.named_at).total_seconds(),
    )


def close_candidate(tx: Connection, named: Named, job_id: str, *, refused: str | None, who: str) -> None:
    """Write what Kie's record decided about a candidate; a refusal is an alarm in the timeline."""
    state = CandidateState.REFUSED if refused else CandidateState.ADOPTED
    tx.execute(update(candidates).where(candidates.c.id == named.id).values(state=state, note=refused))
    if refused:
        write_event(tx, job_id, "alarm", f"task {named.task_id} is not adopted: {refused}", who=who)


def give_up_candidates(tx: Connection, job_id: str, *, version: int, who: str) -> None:
    """Refuse the open candidates of a job whose looks at them do not survive; time decides about the job again."""
    submission = select(jobs.c.submission_id).where(jobs.c.id == job_id, jobs.c.version == version).scalar_subquery()
    mine = (candidates.c.submission_id == submission) & (candidates.c.state == CandidateState.OPEN)
    note = "looks at its record did not survive"
    refused = update(candidates).where(mine).values(state=CandidateState.REFUSED, note=note)
    for task_id in tx.scalars(refused.returning(candidates.c.task_id)).all():
        write_event(tx, job_id, "alarm", f"task {task_id} is not adopted: {note}", who=who)
    look_later(tx, job_id, version=version, due=clock())


def look_later(tx: Connection, job_id: str, *, version: int, due: Any) -> None:
    """Say when a job that waits for its candidate, claimed with `version`, is due again (a time or `clock(…)`)."""
    mine = (jobs.c.id == job_id) & (jobs.c.version == version)
    tx.execute(update(jobs).where(mine).values(due_at=due, executions=0))


def settle_unconfirmed(database: Database, job_id: str, pace: Pace, *, who: str) -> str:
    """Let time decide about a parked job that is due: a policy's resend, a write-off, or more waiting.

    Returns "candidate" where an open candidate waits for a look instead.
    """
    with database.write() as tx:
        query = select(jobs, clock().label("now")).where(jobs.c.id == job_id, jobs.c.state == JobState.UNCONFIRMED)
        row = tx.execute(query.with_for_update()).first()
        if row is None:
            return "gone"
        opened = (candidates.c.submission_id == row.submission_id) & (candidates.c.state == CandidateState.OPEN)
        if tx.scalar(select(candidates.c.id).where(opened).limit(1)) is not None:
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
            extra = {"approved_by": "policy", "approved_why": decided.note, "line_at": clock()}
        else:
            written_off = {"state": SubmissionState.WRITTEN_OFF, "settled_at": clock()}
            tx.execute(update(submissions).where(submissions.c.id == sent.id).values(**written_off))
        write_change(tx, job_id, JobState.UNCONFIRMED, decided, who=who, **extra)
        return str(decided.event)
