"""Looks at Kie's record: claiming the right to one, and writing what came of it. Two statements for an ordinary look.

Statements of everyday work are made once and executed with parameters: SQLAlchemy takes ten times as long to put one
together as the driver takes to send it.
"""

from collections.abc import Collection
from functools import cache
from typing import Any

from sqlalchemy import Executable, Float, bindparam, case, false, func, or_, select, true, update

from kiejobs.db import spend
from kiejobs.db.candidates import NAMED
from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import in_state, jobs, payloads
from kiejobs.db.timeline import write_change, write_look
from kiejobs.decisions import MAX_EXECUTIONS, Change, poisoned
from kiejobs.jobs import Claim, JobState
from kiejobs.kie.callbacks import without_tokens
from kiejobs.lifecycle import Event

WATCHED = (JobState.WAITING, JobState.TIMEOUT)
UNSURE = (JobState.SUBMITTING, JobState.UNCONFIRMED, JobState.QUEUED, JobState.FAIL)
"""Looked at only while somebody has named a task that may be theirs."""

FINDS = (Event.PRODUCED, Event.BROKE)
"""What a look may bring to light."""

_LOOKED_AT = or_(in_state(*WATCHED), in_state(*UNSURE) & NAMED)


def claim(
    database: Database,
    job_id: str,
    version: int,
    *,
    claim_s: float,
    first_claim_s: float | None = None,
    accounts: Collection[str] | None = None,
) -> Claim | None:
    """Take the one look that `version` stands for; None where it was taken, or the job has moved on.

    The row is due again for the sweeps after `claim_s`, or `first_claim_s` where Kie answered the last look, or there was
    none. With `accounts`, the ones that this process has keys for, only their jobs; others are left as they are.
    """
    statement = _claim(None if accounts is None else tuple(accounts))
    with database.single() as connection:
        lasts = {"claim_s": claim_s, "first_claim_s": claim_s if first_claim_s is None else first_claim_s}
        row = connection.execute(statement, {"job": job_id, "of_version": version, **lasts}).first()
    return _claimed(row) if row else None


@cache
def _claim(accounts: tuple[str, ...] | None) -> Executable:
    mine = true() if accounts is None else or_(false(), *(jobs.c.account == account for account in accounts))
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("job"), jobs.c.version == bindparam("of_version"), mine, _LOOKED_AT)
        .values(
            version=jobs.c.version + 1,
            executions=jobs.c.executions + 1,
            polls=jobs.c.polls + 1,
            nudges=0,
            renudge_at=None,
            due_at=clock(_LASTS_S),
        )
        .returning(*_COLUMNS, clock().label("now"))
    )


_ANSWERED = in_state(*WATCHED) & (jobs.c.troubles == 0)
_LASTS_S = case((_ANSWERED, bindparam("first_claim_s", type_=Float())), else_=bindparam("claim_s", type_=Float()))
_COLUMNS = (
    jobs.c.id,
    jobs.c.version,
    jobs.c.state,
    jobs.c.tenant,
    jobs.c.account,
    jobs.c.model,
    jobs.c.family,
    jobs.c.provider_task_id,
    jobs.c.created_at,
    jobs.c.accepted_at,
    jobs.c.polls,
    jobs.c.troubles,
    jobs.c.empty_looks,
    jobs.c.word,
    jobs.c.executions,
    jobs.c.cancel_requested,
)


def _claimed(row: Any) -> Claim:
    return Claim(
        id=row.id,
        version=row.version,
        state=JobState(row.state),
        tenant=row.tenant,
        account=row.account,
        model=row.model,
        family=row.family,
        task_id=row.provider_task_id,
        created_at=row.created_at,
        elapsed_s=(row.now - row.accepted_at).total_seconds() if row.accepted_at else 0.0,
        polls=row.polls,
        troubles=row.troubles,
        empty_looks=row.empty_looks,
        last_word=row.word,
        executions=row.executions,
        cancel_requested=row.cancel_requested,
    )


def write(
    database: Database, claim: Claim, change: Change, *, record: dict[str, Any] | None, who: str, by: str = "poll"
) -> bool:
    """Write what a look brought, fenced by the claim; False, with nothing changed, where the claim was overtaken.

    A look that only sets the next one is one statement. A new word, the first trouble and every change of state also
    get their line in the timeline. `by` is what made the look happen now; the job keeps it where that ends the waiting.
    """
    if change.event is Event.SEEN and not _worth_telling(claim, change):
        with database.single() as connection:
            return write_look(connection, claim.id, change, version=claim.version)
    found: dict[str, Any] = {"found_by": by} if change.event in FINDS else {}
    with database.write() as tx:
        if not write_change(tx, claim.id, claim.state, change, who=who, version=claim.version, **found):
            return False
        if change.credits is not None:
            spend.learned(tx, claim.id, change.credits)
        if record is not None and (change.event is not Event.SEEN or change.odd):
            tx.execute(_RECORD, {"job": claim.id, "record": without_tokens(record)})
    return True


_RECORD = update(payloads).where(payloads.c.job_id == bindparam("job"))


def _worth_telling(claim: Claim, change: Change) -> bool:
    first_trouble = change.trouble and claim.troubles == 0
    return first_trouble or (change.word is not None and change.word != claim.last_word)


def survived(database: Database, claim: Claim) -> None:
    """Take a look that was overtaken, alive, out of the count of those that killed their worker."""
    with database.single() as connection:
        connection.execute(_SURVIVED, {"job": claim.id})


_SURVIVED = (
    update(jobs).where(jobs.c.id == bindparam("job"), jobs.c.executions > 0).values(executions=jobs.c.executions - 1)
)


def quarantine(database: Database, claim: Claim, *, who: str) -> bool:
    """End a job that too many executions did not survive."""
    with database.write() as tx:
        return write_change(tx, claim.id, claim.state, poisoned(claim.state), who=who, version=claim.version)


def is_poison(claim: Claim) -> bool:
    """Say whether this claim is one too many."""
    return claim.executions > MAX_EXECUTIONS


_IN_FLIGHT = select(func.count()).where(jobs.c.account == bindparam("account"), in_state(JobState.WAITING))


def in_flight(database: Database, account: str) -> int:
    """Count the account's jobs that are being looked at."""
    with database.read() as connection:
        return connection.scalar(_IN_FLIGHT, {"account": account}) or 0
