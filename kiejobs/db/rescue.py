"""What the sweeps read and mark: rows whose time has passed without anybody acting on them.

A rescue never claims and never touches `version`; it only finds rows, remembers that it nudged them (each time with a
doubled gap) and lets the step's own claim decide. Safe to run twice, or from two beats at once.
"""

from dataclasses import dataclass
from functools import cache

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Integer,
    Table,
    bindparam,
    delete,
    func,
    or_,
    select,
    update,
)

from kiejobs.db.accounts import forget_spend
from kiejobs.db.candidates import NAMED
from kiejobs.db.clock import clock
from kiejobs.db.copies import lock_job, settle_job
from kiejobs.db.inserts import insert_into
from kiejobs.db.session import Database
from kiejobs.db.tables import callbacks, in_state, jobs, one_of, outputs, pulses
from kiejobs.decisions import SETTLE_EVERY_S
from kiejobs.jobs import JobState, OutputState
from kiejobs.pacing import renudge_s

BATCH = 500
"""Rows per kind that one sweep rescues."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """A row that should have been acted on."""

    job_id: str
    account: str
    version: int
    nudges: int
    index: int = 0


def overdue_jobs(database: Database, state: JobState, *, grace_s: float, limit: int = BATCH) -> list[Overdue]:
    """List jobs of one state that are past due by more than the grace, tenant by tenant in turn, oldest first.

    So ten thousand of one tenant, which wait for its daily cap, hold up no other's.
    """
    with database.read() as connection:
        rows = connection.execute(_overdue(state), {"ago_s": -grace_s, "limit": limit}).all()
    return [Overdue(row.id, row.account, row.version, row.nudges) for row in rows]


@cache
def _overdue(state: JobState) -> Executable:
    turn = func.row_number().over(partition_by=(jobs.c.account, jobs.c.tenant), order_by=jobs.c.due_at)
    query = select(jobs.c.id, jobs.c.account, jobs.c.version, jobs.c.nudges).where(in_state(state), _is_late(jobs))
    return query.order_by(turn, jobs.c.due_at).limit(bindparam("limit"))


def _is_late(table: Table) -> ColumnElement[bool]:
    rested = or_(table.c.renudge_at.is_(None), table.c.renudge_at < clock())
    return (table.c.due_at < clock("ago_s")) & rested


_PENDING = one_of(outputs.c.state, OutputState.PENDING)
_OVERDUE_OUTPUTS = (
    select(outputs.c.job_id, outputs.c.position, outputs.c.version, outputs.c.nudges)
    .where(_is_late(outputs), _PENDING)
    .order_by(outputs.c.expires_at.asc().nulls_last(), outputs.c.due_at)
    .limit(bindparam("limit"))
)


def overdue_outputs(database: Database, *, grace_s: float, limit: int = BATCH) -> list[Overdue]:
    """List pending outputs that are past due, or whose lease has lapsed, by more than the grace: soonest to die first."""
    with database.read() as connection:
        rows = connection.execute(_OVERDUE_OUTPUTS, {"ago_s": -grace_s, "limit": limit}).all()
    return [Overdue(row.job_id, "", row.version, row.nudges, row.position) for row in rows]


def mark_nudged(database: Database, rows: list[Overdue]) -> list[Overdue]:
    """Remember that these jobs are nudged now; the next rescue of each waits twice as long.

    Returns those that nobody else has nudged or claimed meanwhile: of two sweeps at once, one nudges a row.
    """
    with database.write() as tx:
        return [row for row in rows if _mark(tx, _MARK_JOB, row)]


def mark_outputs_nudged(database: Database, rows: list[Overdue]) -> list[Overdue]:
    """Remember that these outputs are nudged now; returns those that nobody else took meanwhile."""
    with database.write() as tx:
        return [row for row in rows if _mark(tx, _MARK_OUTPUT, row)]


def _marked(table: Table, mine: ColumnElement[bool]) -> Executable:
    unchanged = (table.c.version == bindparam("of_version")) & (table.c.nudges == bindparam("of_nudges"))
    marks = {"nudges": table.c.nudges + 1, "renudge_at": clock("again_in_s")}
    return update(table).where(mine, unchanged).values(**marks)


_JOB = jobs.c.id == bindparam("job")
_MARK_JOB = _marked(jobs, _JOB)
_MARK_OUTPUT = _marked(
    outputs, (outputs.c.job_id == bindparam("job")) & (outputs.c.position == bindparam("index", type_=Integer()))
)


def _mark(tx: Connection, statement: Executable, row: Overdue) -> bool:
    unchanged = {"job": row.job_id, "index": row.index, "of_version": row.version, "of_nudges": row.nudges}
    return bool(tx.execute(statement, unchanged | {"again_in_s": renudge_s(row.nudges)}).rowcount)


def settle_storing(database: Database, job_id: str, *, who: str) -> bool:
    """Settle a `storing` job from its outputs, without a message; else look again in a minute."""
    with database.write() as tx:
        if lock_job(tx, job_id) is not JobState.STORING:
            return False
        if settle_job(tx, job_id, who=who):
            return True
        tx.execute(_LOOK_LATER, {"job": job_id})
    return False


_LOOK_LATER = update(jobs).where(_JOB).values(due_at=clock(SETTLE_EVERY_S))


def back_in_line(database: Database, job_id: str) -> bool:
    """Put a job that was held out of the line back, at its end; False where it waits for a look at a candidate.

    Locked first: a statement that waits for a row looks at the row anew, but at the candidates as they were before.
    """
    with database.write() as tx:
        tx.execute(_LOCK, {"job": job_id})
        return bool(tx.execute(_BACK, {"job": job_id}).rowcount)


_LOCK = select(jobs.c.id).where(_JOB).with_for_update()
_BACK = (
    update(jobs)
    .where(_JOB, in_state(JobState.QUEUED), jobs.c.line_at.is_(None), ~NAMED)
    .values(line_at=clock(), due_at=None, held=None)
)


def take_from_line(tx: Connection, ids: list[str], *, quiet_s: float) -> list[str]:
    """Of these jobs, mark and return those that were not nudged within the last `quiet_s` seconds."""
    taken = set(tx.scalars(_TAKE, {"ids": ids, "quiet_s": quiet_s}).all())
    return [job_id for job_id in ids if job_id in taken]


_TAKE = (
    update(jobs)
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)), in_state(JobState.QUEUED))
    .where(or_(jobs.c.renudge_at.is_(None), jobs.c.renudge_at < clock()))
    .values(renudge_at=clock("quiet_s"))
    .returning(jobs.c.id)
)


def forget_jobs(database: Database, *, older_s: float, limit: int = BATCH) -> int:
    """Delete jobs that ended longer ago than that, with all their rows; return how many."""
    with database.write() as tx:
        before = tx.scalar(select(clock(-older_s)))  # a value, so that PostgreSQL uses the index
        ids = list(tx.scalars(select(jobs.c.id).where(jobs.c.ended_at < before, jobs.c.due_at.is_(None)).limit(limit)))
        if not ids:
            return 0
        forget_spend(tx, ids)
        return tx.execute(delete(jobs).where(jobs.c.id.in_(ids))).rowcount


def forget_callbacks(database: Database, *, older_s: float) -> None:
    """Delete raw callbacks that came longer ago than that."""
    with database.write() as tx:
        tx.execute(delete(callbacks).where(callbacks.c.at < clock(-older_s)))


def beat(database: Database, name: str) -> None:
    """Remember that a periodic task ran now."""
    with database.write() as tx:
        if not tx.execute(_BEAT, {"pulse": name}).rowcount:
            made = insert_into(tx, pulses).values(name=name, at=clock())
            tx.execute(made.on_conflict_do_nothing())


_PULSE = pulses.c.name == bindparam("pulse")
_BEAT = update(pulses).where(_PULSE).values(at=clock())
_LAST_BEAT = select(pulses.c.at, clock().label("now")).where(_PULSE)


def last_beat_age_s(database: Database, name: str) -> float | None:
    """Return how many seconds ago a periodic task last ran; None where it never did."""
    with database.read() as connection:
        row = connection.execute(_LAST_BEAT, {"pulse": name}).first()
    return (row.now - row.at).total_seconds() if row else None
