"""Task ids that somebody named for a create call with an unknown outcome: noted, looked at, adopted or refused.

A candidate binds nothing and nobody believes it: it only makes its job due, in whichever state may still follow a late
fact (in flight, parked, in line for another create call, given up). A job in line leaves the line until the look has
decided, so that nothing is bought meanwhile. A read of Kie's record decides, in the poll step.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)

from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import candidates, in_state, jobs, one_of, payloads, submissions
from kiejobs.db.timeline import write_event
from kiejobs.errors import Reason
from kiejobs.jobs import CandidateState, JobState, SubmissionState

UNDECIDED = (SubmissionState.SENDING, SubmissionState.UNKNOWN, SubmissionState.WRITTEN_OFF)
"""Create calls that a task id is still news for."""

CALLBACK = "callback"
"""The source of candidates that Kie's callbacks name; a person's are named after the person."""

HELD = "somebody named a task that an earlier create call may have bought; Kie's record will decide"

NAMED: ColumnElement[bool] = exists().where(
    submissions.c.job_id == jobs.c.id,
    one_of(submissions.c.state, *UNDECIDED),
    candidates.c.submission_id == submissions.c.id,
    one_of(candidates.c.state, CandidateState.OPEN),
)
"""Whether a job (of the statement around it) has an open candidate."""


@dataclass(frozen=True, slots=True)
class Named:
    """An open candidate and what it is judged by."""

    id: str
    task_id: str
    source: str
    submission_id: str
    model: str
    family: str
    input: dict[str, Any]
    sending_at: datetime
    deadline_at: datetime
    sending: bool
    bound_elsewhere: bool
    age_s: float
    """Seconds since it was named."""
    newest_s: float
    """Seconds since the last of the job's open candidates was named."""


def may_follow(job: Any, sent: Any) -> bool:
    """Say whether a job's row could still follow the task of this create call's row."""
    if sent.state not in UNDECIDED:
        return False
    current = bool(job.submission_id == sent.id)
    match JobState(job.state):
        case JobState.QUEUED | JobState.UNCONFIRMED:
            return True
        case JobState.SUBMITTING:
            return current
        case JobState.FAIL:
            return current and bool(job.reason == Reason.SUBMISSION_LOST)
        case _:
            return False


def name(tx: Connection, job: Any, submission_id: str, task_id: str, *, source: str) -> bool:
    """Note a candidate of a job whose row is locked, and make the job due now; False where it was named before.

    A look at the earlier naming may be running, and is not overtaken.
    """
    mine = (candidates.c.submission_id == submission_id) & (candidates.c.task_id == task_id)
    if tx.scalar(select(candidates.c.id).where(mine)) is not None:
        return False
    values = {"id": str(uuid.uuid4()), "submission_id": submission_id, "task_id": task_id, "source": source}
    tx.execute(insert(candidates).values(state=CandidateState.OPEN, created_at=clock(), **values))
    write_event(tx, job.id, "candidate", f"{source} names task {task_id}; Kie's record will decide", who=source)
    due: dict[str, Any] = {"due_at": clock(), "renudge_at": None}
    if job.state == JobState.QUEUED:
        due |= {"line_at": None, "held": HELD}
    tx.execute(update(jobs).where(jobs.c.id == job.id).values(**due))
    return True


def forget_refused(tx: Connection, submission_id: str, task_id: str) -> None:
    """Let a task that was refused be named again."""
    again = (candidates.c.submission_id == submission_id) & (candidates.c.task_id == task_id)
    tx.execute(delete(candidates).where(again, candidates.c.state == CandidateState.REFUSED))


def count_open(tx: Connection, submission_id: str) -> int:
    """Count the tasks that were named for a create call and are not decided."""
    still = (candidates.c.submission_id == submission_id) & (candidates.c.state == CandidateState.OPEN)
    return int(tx.scalar(select(func.count()).select_from(candidates).where(still)) or 0)


def look_now(tx: Connection, job_id: str) -> None:
    """Make a job that was just parked due now where a task was named during its create call: else time decides, in days."""
    named = (jobs.c.id == job_id) & in_state(JobState.UNCONFIRMED) & NAMED
    tx.execute(update(jobs).where(named).values(due_at=clock(), renudge_at=None))


def any_open(tx: Connection, job_id: str) -> bool:
    """Say whether a look at a job's candidate is still to come."""
    return tx.scalar(select(jobs.c.id).where(jobs.c.id == job_id, NAMED)) is not None


def next_open(database: Database, job_id: str, *, turn: int) -> Named | None:
    """Read an open candidate of a job's create calls, with what it is judged by; with each `turn` the next one.

    So one whose record cannot be read keeps no other from being looked at.
    """
    mine = (submissions.c.job_id == job_id) & submissions.c.state.in_(UNDECIDED)
    mine &= candidates.c.state == CandidateState.OPEN
    of_create_calls = candidates.join(submissions, submissions.c.id == candidates.c.submission_id)
    open_ones = select(candidates.c.id, candidates.c.created_at).select_from(of_create_calls).where(mine)
    with database.read() as connection:
        found = connection.execute(open_ones.order_by(candidates.c.created_at, candidates.c.id)).all()
        if not found:
            return None
        row = connection.execute(_JUDGED_BY, {"candidate": found[turn % len(found)].id}).one()
        submission_id = row._mapping[submissions.c.id]
        bound = bound_elsewhere(connection, row.account, row.task_id, submission_id)
    earlier = choice_of(row.request, row.model) if row.now_model != row.model else None
    asked = earlier or {"family": row.now_family, "input": (row.prepared or row.request).get("input")}
    return Named(
        id=row.id,
        task_id=row.task_id,
        source=row.source,
        submission_id=submission_id,
        model=row.model,
        family=asked["family"],
        input=dict(asked["input"] or {}),
        sending_at=row.sending_at,
        deadline_at=row.deadline_at,
        sending=row._mapping[submissions.c.state] == SubmissionState.SENDING,
        bound_elsewhere=bound,
        age_s=(row.now - row.named_at).total_seconds(),
        newest_s=(row.now - found[-1].created_at).total_seconds(),
    )


_JUDGED_BY = (
    select(
        candidates.c.id,
        candidates.c.task_id,
        candidates.c.source,
        submissions,
        jobs.c.model.label("now_model"),
        jobs.c.family.label("now_family"),
        payloads.c.request,
        payloads.c.prepared,
        candidates.c.created_at.label("named_at"),
        clock().label("now"),
    )
    .join(submissions, submissions.c.id == candidates.c.submission_id)
    .join(jobs, jobs.c.id == submissions.c.job_id)
    .join(payloads, payloads.c.job_id == submissions.c.job_id)
    .where(candidates.c.id == bindparam("candidate"))
)


def choice_of(request: dict[str, Any], model: str) -> dict[str, Any] | None:
    """Find the choice of a request with several models that was sent as this one: its `family` and `input`."""
    return next((choice for choice in request.get("choices") or [] if choice["model"] == model), None)


def bound_elsewhere(tx: Connection, account: str, task_id: str, submission_id: str) -> bool:
    """Say whether a task is known to belong to another create call of the account."""
    given = {"account": account, "task": task_id, "submission": submission_id}
    return tx.scalar(_BOUND_ELSEWHERE, given) is not None


_BOUND_ELSEWHERE = select(submissions.c.id).where(
    submissions.c.account == bindparam("account"),
    submissions.c.provider_task_id == bindparam("task"),
    submissions.c.id != bindparam("submission"),
)


def refuse(tx: Connection, named: Named, job_id: str, *, why: str, who: str) -> None:
    """Write that a candidate is not the job's, if nothing else was decided about it; an alarm in the timeline."""
    still_open = (candidates.c.id == named.id) & (candidates.c.state == CandidateState.OPEN)
    refused = update(candidates).where(still_open).values(state=CandidateState.REFUSED, note=why)
    if tx.execute(refused).rowcount:
        write_event(tx, job_id, "alarm", f"task {named.task_id} is not adopted: {why}", who=who)


def decide(tx: Connection, job_id: str, submission_id: str, task_id: str, *, who: str) -> None:
    """Close the candidates of a create call whose task has become known; a task beside it is an alarm."""
    note = f"its create call bought task {task_id}"
    decided = tx.scalars(_DECIDE, {"submission": submission_id, "task": task_id, "why": note})
    for other in decided.all():
        if other != task_id:
            write_event(tx, job_id, "alarm", f"task {other} is not adopted: {note}", who=who)


_IS_IT = candidates.c.task_id == bindparam("task")
_DECIDE = (
    update(candidates)
    .where(candidates.c.submission_id == bindparam("submission"), one_of(candidates.c.state, CandidateState.OPEN))
    .values(
        state=case((_IS_IT, CandidateState.ADOPTED), else_=CandidateState.REFUSED),
        note=case((_IS_IT, candidates.c.note), else_=bindparam("why", type_=candidates.c.note.type)),
    )
    .returning(candidates.c.task_id)
)


def give_up(tx: Connection, job_id: str, *, version: int, who: str) -> None:
    """Refuse the open candidates of a job whose looks at them do not survive; time decides about the job again."""
    still = select(submissions.c.id).join(jobs, jobs.c.id == submissions.c.job_id)
    still = still.where(jobs.c.id == job_id, jobs.c.version == version)
    mine = candidates.c.submission_id.in_(still) & (candidates.c.state == CandidateState.OPEN)
    note = "looks at its record did not survive"
    refused = update(candidates).where(mine).values(state=CandidateState.REFUSED, note=note)
    for task_id in tx.scalars(refused.returning(candidates.c.task_id)).all():
        write_event(tx, job_id, "alarm", f"task {task_id} is not adopted: {note}", who=who)
    look_later(tx, job_id, version=version, due=clock())


def look_later(tx: Connection, job_id: str, *, version: int, due: Any) -> bool:
    """Say when a job that was looked at for its candidate, claimed with `version`, is due again (a time or `clock(…)`).

    One that had ended is due no more when no candidate is left; one that a sweep has put back in line waits for its turn.
    False, with nothing changed, where the look was overtaken.
    """
    mine = (jobs.c.id == job_id) & (jobs.c.version == version)
    tx.execute(select(jobs.c.id).where(mine).with_for_update())  # then whoever named one meanwhile is seen
    when = due if isinstance(due, ColumnElement) else literal(due, jobs.c.due_at.type)
    in_line = (jobs.c.state == JobState.QUEUED) & jobs.c.line_at.is_not(None)
    over = or_((jobs.c.state == JobState.FAIL) & ~NAMED, in_line)
    later = update(jobs).where(mine).values(due_at=case((over, null()), else_=when), executions=0)
    return bool(tx.execute(later).rowcount)
