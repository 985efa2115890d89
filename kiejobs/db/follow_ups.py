"""Operations on an earlier generation: filling in Kie's ids from one of our jobs, when the request is accepted.

Extending a video or taking a song's WAV is a create call that names Kie's task, and sometimes a part of it. The caller
names our job; its row knows the rest. A job of another tenant is none, and one that is not finished is refused.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from kiejobs.db.tables import jobs, outputs
from kiejobs.errors import InvalidInput
from kiejobs.jobs import JobState


@dataclass(frozen=True, slots=True)
class FollowUp:
    """The job an operation works on, and the fields that are filled in from it."""

    job: str
    output: int | None
    """Which of its outputs is meant; None where the caller names none: the first, or all where the operation can."""
    account: str | None
    """The account the caller chose; None: the parent's, the only one that can work."""
    families: tuple[str, ...]
    task: str | None
    part: str | None = None
    index: str | None = None
    takes_all: bool = False
    """Whether the operation works on the whole task where no `part` is named."""


def filled_in(tx: Connection, follow: FollowUp, given: dict[str, Any], *, tenant: str) -> tuple[str, dict[str, Any]]:
    """Return the account and the input with Kie's ids in it; InvalidInput says what is wrong with the job named."""
    parent = tx.execute(select(jobs).where(jobs.c.id == follow.job, jobs.c.tenant == tenant)).first()
    if parent is None:
        raise _refused(follow, f"there is no job {follow.job}", "one of your finished jobs")
    if parent.state != JobState.SUCCESS or parent.provider_task_id is None:
        raise _refused(follow, f"job {follow.job} is {parent.state}", "a job that ended with success")
    if parent.family not in follow.families:
        made_by = f"job {follow.job} was made by the API family {parent.family}"
        raise _refused(follow, made_by, f"a job of {' or '.join(follow.families)}")
    if follow.account not in (None, parent.account):
        raise InvalidInput(
            f"job {follow.job} belongs to account {parent.account}", field="account", allowed=parent.account
        )
    filled = given | ({follow.task: parent.provider_task_id} if follow.task else {})
    if follow.part and not (follow.takes_all and follow.output is None):
        filled[follow.part] = _part(tx, follow)
    if follow.index:
        filled[follow.index] = _index(tx, follow)
    return parent.account, filled


_MADE = select(outputs.c.position, outputs.c.role, outputs.c.ref).order_by(outputs.c.position)


def _part(tx: Connection, follow: FollowUp) -> str:
    rows = tx.execute(_MADE.where(outputs.c.job_id == follow.job)).all()
    parts = {row.position: str(row.ref) for row in rows if row.ref is not None}
    return parts[_chosen(follow, list(parts))]


def _index(tx: Connection, follow: FollowUp) -> int:
    """Count as Kie does: among the results alone, without what lies beside them."""
    rows = tx.execute(_MADE.where(outputs.c.job_id == follow.job)).all()
    results = [row.position for row in rows if row.role == "result"]
    return results.index(_chosen(follow, results))


def _chosen(follow: FollowUp, possible: list[int]) -> int:
    """Return the output that is meant, the first where none is named."""
    asked = follow.output if follow.output is not None else next(iter(possible), 0)
    if asked not in possible:
        raise InvalidInput(
            f"output {asked} of job {follow.job} is no part that Kie can be told of",
            field="input.output",
            given=follow.output,
            allowed=", ".join(map(str, possible)) or "a job with parts that Kie names",
        )
    return asked


def _refused(follow: FollowUp, why: str, allowed: str) -> InvalidInput:
    return InvalidInput(f"input.job: {why}", field="input.job", given=follow.job, allowed=allowed)
