"""The tables. A job's row is narrow and hot; what polls never read (request, record) lies in `payloads`.

`jobs` says what must happen next and when: `state`, `due_at`, `version`. `submissions` is the money ledger and, counted
over a sliding window, the rate limiter. `events` is append-only. Columns for accounts, adoption and spend belong to the
contract and are written by the parts that own them.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    literal_column,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.types import TypeDecorator

from kiejobs.db.clock import UtcTime, clock
from kiejobs.jobs import JobState
from kiejobs.writable import writable

Id = Uuid(as_uuid=False)
Serial = BigInteger().with_variant(Integer, "sqlite")


class AnyText(TypeDecorator[str]):
    """Text from anywhere: what no database takes is left out when it is written."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        """Write a text."""
        return writable(value)


class AnyJson(TypeDecorator[dict[str, Any]]):
    """JSON from anywhere: what no database takes is left out when it is written."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: dict[str, Any] | None, dialect: Dialect) -> Any:
        """Write an object."""
        return writable(value)


class Base(DeclarativeBase):
    """The schema, with names for constraints so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {
        datetime: UtcTime(),
        dict[str, Any]: AnyJson(),
        Decimal: Numeric(14, 4),
        str: AnyText(),
    }


class JobRow(Base):
    """One generation: where it stands and when it is due."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant: Mapped[str]
    account: Mapped[str]
    model: Mapped[str]
    family: Mapped[str]
    priority: Mapped[str]
    state: Mapped[str]
    version: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime | None]
    line_at: Mapped[datetime | None]
    held: Mapped[str | None]
    """Why a queued job is out of the line."""
    nudges: Mapped[int] = mapped_column(default=0)
    """Rescues since the last claim."""
    renudge_at: Mapped[datetime | None]
    """Not nudged again before this moment."""
    created_at: Mapped[datetime]
    accepted_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    submission_id: Mapped[str | None] = mapped_column(Id)
    provider_task_id: Mapped[str | None]
    found_by: Mapped[str | None]
    """What brought the result or the failure to light: `callback`, `poll`, `sweep` or `answer`."""
    polls: Mapped[int] = mapped_column(default=0)
    troubles: Mapped[int] = mapped_column(default=0)
    empty_looks: Mapped[int] = mapped_column(default=0)
    word: Mapped[str | None]
    progress: Mapped[float | None]
    executions: Mapped[int] = mapped_column(default=0)
    reason: Mapped[str | None]
    code: Mapped[str | None]
    message: Mapped[str | None]
    late: Mapped[bool] = mapped_column(default=False)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    approved_by: Mapped[str | None]
    """Who opted into the next create call of a job that may have been bought before, and why."""
    approved_why: Mapped[str | None]
    credits: Mapped[Decimal | None]
    sequence: Mapped[int] = mapped_column(default=0)
    callback_url: Mapped[str | None]
    idempotency_key: Mapped[str | None]
    request_hash: Mapped[str]
    input_hash: Mapped[str | None]
    """Of what would be bought alone, without what the caller keeps beside it: how an earlier same generation is found."""

    __table_args__ = (
        Index(
            "ix_jobs_line",
            "account",
            "line_at",
            "id",
            postgresql_where=text("state = 'queued' AND line_at IS NOT NULL"),
            sqlite_where=text("state = 'queued' AND line_at IS NOT NULL"),
        ),
        Index(
            "ix_jobs_lane_last",
            "account",
            "tenant",
            "priority",
            "line_at",
            postgresql_where=text("state = 'queued' AND due_at IS NULL"),
            sqlite_where=text("state = 'queued' AND due_at IS NULL"),
        ),
        Index(
            "ix_jobs_due",
            "due_at",
            postgresql_where=text("due_at IS NOT NULL"),
            sqlite_where=text("due_at IS NOT NULL"),
        ),
        Index(
            "ix_jobs_in_flight",
            "account",
            postgresql_where=text("state = 'waiting'"),
            sqlite_where=text("state = 'waiting'"),
        ),
        Index("ix_jobs_recent", "tenant", "created_at", "id"),
        Index("ix_jobs_created", "created_at", "id"),
        Index("ix_jobs_ended", "ended_at"),
        Index("ix_jobs_same", "tenant", "input_hash", "created_at"),
        UniqueConstraint("tenant", "idempotency_key"),
        UniqueConstraint("account", "provider_task_id"),
    )


class PayloadRow(Base):
    """What a job asked for and what Kie last said, in full. Never read by polls."""

    __tablename__ = "payloads"

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    request: Mapped[dict[str, Any]]
    record: Mapped[dict[str, Any] | None]
    prepared: Mapped[dict[str, Any] | None]
    """The input as it goes to Kie, its files and its parents' outputs replaced by URLs, and until when those live."""


class ParentRow(Base):
    """A job that needs another job's output before it can be sent."""

    __tablename__ = "parents"

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    parent_id: Mapped[str] = mapped_column(Id, primary_key=True)

    __table_args__ = (Index("ix_parents_parent", "parent_id"),)


class SubmissionRow(Base):
    """One create call: written before it is made, settled by what became of it."""

    __tablename__ = "submissions"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    seq: Mapped[int]
    tenant: Mapped[str]
    account: Mapped[str]
    model: Mapped[str]
    state: Mapped[str]
    request_hash: Mapped[str]
    sending_at: Mapped[datetime]
    deadline_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]
    provider_task_id: Mapped[str | None]
    code: Mapped[str | None]
    message: Mapped[str | None]
    evidence: Mapped[dict[str, Any] | None]
    estimate: Mapped[Decimal | None]
    """Credits set aside for the tenant's daily cap until the true figure is known."""
    credits: Mapped[Decimal | None]
    credits_counted: Mapped[Decimal | None]
    """What of them is in the counter `credits_spent`."""
    answer: Mapped[str | None]
    resend_of: Mapped[str | None] = mapped_column(Id)
    approved_by: Mapped[str | None]
    approved_why: Mapped[str | None]

    __table_args__ = (
        Index("ix_submissions_budget", "account", "sending_at"),
        Index("ix_submissions_spend", "tenant", "sending_at"),
        Index("ix_submissions_price", "model", "credits"),
        Index(
            "uq_submissions_open",
            "job_id",
            unique=True,
            postgresql_where=text("state = 'sending'"),
            sqlite_where=text("state = 'sending'"),
        ),
        UniqueConstraint("account", "provider_task_id"),
    )


class CandidateRow(Base):
    """A task id that somebody named for a submission; a read of Kie's record decides."""

    __tablename__ = "candidates"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    submission_id: Mapped[str] = mapped_column(Id, ForeignKey("submissions.id", ondelete="CASCADE"))
    task_id: Mapped[str]
    source: Mapped[str]
    state: Mapped[str]
    note: Mapped[str | None]
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("submission_id", "task_id"),)


class OutputRow(Base):
    """One result file. `due_at` is both the next try and, while a copy runs, the end of its lease."""

    __tablename__ = "outputs"

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    """The output's index; a row has a method of that name."""
    role: Mapped[str]
    state: Mapped[str]
    version: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime | None]
    nudges: Mapped[int] = mapped_column(default=0)
    renudge_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    refusals: Mapped[int] = mapped_column(default=0)
    """Tries that brought bytes which are no result."""
    storage_troubles: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """Tries that the storage failed, or something else of ours: no fault of the source."""
    executions: Mapped[int] = mapped_column(default=0)
    url: Mapped[str | None]
    document: Mapped[str | None]
    ref: Mapped[str | None]
    """Kie's own id of this part (a song's `audioId`), which follow-up operations name."""
    expires_at: Mapped[datetime | None]
    """When the source link is expected to die."""
    link_expired: Mapped[bool] = mapped_column(default=False)
    refused_url: Mapped[str | None]
    """The link that was refused last: another one, if there is one, is tried before it."""
    received_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    expected_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """The size that the source named when the copy began."""
    key: Mapped[str | None]
    media_type: Mapped[str | None]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None]
    reason: Mapped[str | None]
    error: Mapped[str | None]
    stored_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "ix_outputs_due",
            "due_at",
            postgresql_where=text("due_at IS NOT NULL"),
            sqlite_where=text("due_at IS NOT NULL"),
        ),
        Index(
            "ix_outputs_dying",
            "expires_at",
            postgresql_where=text("state = 'pending'"),
            sqlite_where=text("state = 'pending'"),
        ),
    )


class DeliveryRow(Base):
    """One message to a producer, with a life of its own: a failed one is never a state of the job."""

    __tablename__ = "deliveries"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"))
    sequence: Mapped[int]
    kind: Mapped[str]
    url: Mapped[str]
    state: Mapped[str]
    version: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime | None]
    nudges: Mapped[int] = mapped_column(default=0)
    renudge_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    body: Mapped[dict[str, Any]]
    error: Mapped[str | None]
    created_at: Mapped[datetime]
    delivered_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("job_id", "sequence"),
        Index(
            "ix_deliveries_due",
            "due_at",
            postgresql_where=text("due_at IS NOT NULL"),
            sqlite_where=text("due_at IS NOT NULL"),
        ),
        Index(
            "ix_deliveries_gave_up",
            "created_at",
            postgresql_where=text("state = 'gave_up'"),
            sqlite_where=text("state = 'gave_up'"),
        ),
    )


class EndpointRow(Base):
    """An address that a tenant's messages go to, as far as there is something to remember of it."""

    __tablename__ = "endpoints"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(primary_key=True)
    is_default: Mapped[bool] = mapped_column(default=False)
    """Told of every job of the tenant that names no address of its own."""
    disabled_at: Mapped[datetime | None]
    """Since when it answers 410 Gone; nothing more is sent there until a person enables it."""


class EventRow(Base):
    """One line of a timeline. Append-only, written in the transaction of the change it tells."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(default=clock())
    kind: Mapped[str]
    who: Mapped[str]
    from_state: Mapped[str | None]
    to_state: Mapped[str | None]
    note: Mapped[str]
    detail: Mapped[dict[str, Any] | None]

    __table_args__ = (Index("ix_events_job", "job_id", "id"),)


class CallbackRow(Base):
    """One callback from Kie as it came, capped. A hint, never a source of state."""

    __tablename__ = "callbacks"

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(default=clock())
    submission_id: Mapped[str | None] = mapped_column(Id)
    task_id: Mapped[str | None]
    verdict: Mapped[str | None]
    """What became of it: `accepted`, `known`, `stage`, or why it was refused."""
    body_sha256: Mapped[str]
    body: Mapped[str]

    __table_args__ = (Index("ix_callbacks_at", "at"), Index("ix_callbacks_submission", "submission_id"))


class AccountRow(Base):
    """One Kie account: the row that submits lock, and why its creates wait."""

    __tablename__ = "accounts"

    name: Mapped[str] = mapped_column(primary_key=True)
    paused_at: Mapped[datetime | None]
    paused_until: Mapped[datetime | None]
    pause_s: Mapped[float] = mapped_column(default=0.0)
    pause_code: Mapped[str | None]
    pause_note: Mapped[str | None]
    models_paused: Mapped[dict[str, Any] | None]
    credits: Mapped[Decimal | None]
    checked_at: Mapped[datetime | None]
    baseline_credits: Mapped[Decimal | None]
    baseline_at: Mapped[datetime | None]


class CounterRow(Base):
    """One figure that only rises: what no row tells, added up over all processes and kept over restarts."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]


class DurationRow(Base):
    """How long one generation took at Kie, by Kie's own clock."""

    __tablename__ = "durations"

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    model: Mapped[str]
    at: Mapped[datetime]
    took_s: Mapped[float]

    __table_args__ = (Index("ix_durations_latest", "model", "id"),)


class PulseRow(Base):
    """When a periodic task last ran; how `doctor` knows that beat is alive."""

    __tablename__ = "pulses"

    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


jobs: Table = JobRow.__table__  # type: ignore[assignment]
payloads: Table = PayloadRow.__table__  # type: ignore[assignment]
submissions: Table = SubmissionRow.__table__  # type: ignore[assignment]
parents: Table = ParentRow.__table__  # type: ignore[assignment]
endpoints: Table = EndpointRow.__table__  # type: ignore[assignment]
candidates: Table = CandidateRow.__table__  # type: ignore[assignment]
outputs: Table = OutputRow.__table__  # type: ignore[assignment]
deliveries: Table = DeliveryRow.__table__  # type: ignore[assignment]
events: Table = EventRow.__table__  # type: ignore[assignment]
callbacks: Table = CallbackRow.__table__  # type: ignore[assignment]
accounts: Table = AccountRow.__table__  # type: ignore[assignment]
durations: Table = DurationRow.__table__  # type: ignore[assignment]
counters: Table = CounterRow.__table__  # type: ignore[assignment]
pulses: Table = PulseRow.__table__  # type: ignore[assignment]


def one_of(column: ColumnElement[Any], *words: StrEnum) -> ColumnElement[bool]:
    """Compare a column with words of our own, as literals in the SQL text: partial indexes and plans need them there."""
    literals: list[ColumnElement[str]] = [literal_column(f"'{word}'") for word in words]
    return column == literals[0] if len(literals) == 1 else column.in_(literals)


def in_state(*states: JobState) -> ColumnElement[bool]:
    """Compare a job's state with literals in the SQL text."""
    return one_of(jobs.c.state, *states)
