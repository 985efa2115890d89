"""The tables. A job's row is narrow and hot; what polls never read (request, record) lies in `payloads`.

`jobs` says what must happen next and when: `state`, `due_at`, `version`. `submissions` is the money ledger and, counted
over a sliding window, the rate limiter. `events` is append-only. Columns for accounts, adoption and spend belong to the
contract and are written by the parts that own them.
"""

from enum import StrEnum
from functools import partial
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
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
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.types import TypeDecorator

from kiejobs.db.clock import UtcTime, clock
from kiejobs.jobs import JobState
from kiejobs.writable import writable


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


Id = Uuid(as_uuid=False)
Serial = BigInteger().with_variant(Integer, "sqlite")
Words, Json, Time, Credits = AnyText(), AnyJson(), UtcTime(), Numeric(14, 4)
NotNull = partial(Column, nullable=False)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""The schema, with names for constraints so that migrations can speak of them."""


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index of the rows that a condition holds for."""
    return Index(name, *columns, unique=unique, postgresql_where=text(where), sqlite_where=text(where))


jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    NotNull("tenant", Words),
    NotNull("account", Words),
    NotNull("model", Words),
    NotNull("family", Words),
    NotNull("priority", Words),
    NotNull("state", Words),
    NotNull("version", Integer, default=0),
    Column("due_at", Time),
    Column("line_at", Time),
    # Why a queued job is out of the line.
    Column("held", Words),
    # Rescues since the last claim.
    NotNull("nudges", Integer, default=0),
    # Not nudged again before this moment.
    Column("renudge_at", Time),
    NotNull("created_at", Time),
    Column("accepted_at", Time),
    Column("ended_at", Time),
    Column("submission_id", Id),
    Column("provider_task_id", Words),
    # What brought the result or the failure to light: `callback`, `poll`, `sweep` or `answer`.
    Column("found_by", Words),
    NotNull("polls", Integer, default=0),
    NotNull("troubles", Integer, default=0),
    NotNull("empty_looks", Integer, default=0),
    Column("word", Words),
    Column("progress", Double),
    NotNull("executions", Integer, default=0),
    Column("reason", Words),
    Column("code", Words),
    Column("message", Words),
    NotNull("late", Boolean, default=False),
    NotNull("cancel_requested", Boolean, default=False),
    # Who opted into the next create call of a job that may have been bought before, and why.
    Column("approved_by", Words),
    Column("approved_why", Words),
    Column("credits", Credits),
    NotNull("sequence", Integer, default=0),
    Column("callback_url", Words),
    Column("idempotency_key", Words),
    NotNull("request_hash", Words),
    # Of what would be bought alone, without what the caller keeps beside it: how an earlier same generation is found.
    Column("input_hash", Words),
    _partial("ix_jobs_line", "account", "line_at", "id", where="state = 'queued' AND line_at IS NOT NULL"),
    _partial(
        "ix_jobs_lane_last", "account", "tenant", "priority", "line_at", where="state = 'queued' AND due_at IS NULL"
    ),
    _partial("ix_jobs_due", "due_at", where="due_at IS NOT NULL"),
    _partial("ix_jobs_in_flight", "account", where="state = 'waiting'"),
    Index("ix_jobs_recent", "tenant", "created_at", "id"),
    Index("ix_jobs_created", "created_at", "id"),
    Index("ix_jobs_ended", "ended_at"),
    Index("ix_jobs_same", "tenant", "input_hash", "created_at"),
    UniqueConstraint("tenant", "idempotency_key"),
    UniqueConstraint("account", "provider_task_id"),
)
"""One generation: where it stands and when it is due."""

payloads = Table(
    "payloads",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    NotNull("request", Json),
    Column("record", Json),
    # The input as it goes to Kie, its files and its parents' outputs replaced by URLs, and until when those live.
    Column("prepared", Json),
)
"""What a job asked for and what Kie last said, in full. Never read by polls."""

parents = Table(
    "parents",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("parent_id", Id, primary_key=True),
    Index("ix_parents_parent", "parent_id"),
)
"""A job that needs another job's output before it can be sent."""

submissions = Table(
    "submissions",
    metadata,
    Column("id", Id, primary_key=True),
    NotNull("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), index=True),
    NotNull("seq", Integer),
    NotNull("tenant", Words),
    NotNull("account", Words),
    NotNull("model", Words),
    NotNull("state", Words),
    NotNull("request_hash", Words),
    NotNull("sending_at", Time),
    NotNull("deadline_at", Time),
    Column("settled_at", Time),
    Column("provider_task_id", Words),
    Column("code", Words),
    Column("message", Words),
    Column("evidence", Json),
    # Credits set aside for the tenant's daily cap until the true figure is known.
    Column("estimate", Credits),
    Column("credits", Credits),
    # What of them is in the counter `credits_spent`.
    Column("credits_counted", Credits),
    Column("answer", Words),
    Column("resend_of", Id),
    Column("approved_by", Words),
    Column("approved_why", Words),
    Index("ix_submissions_budget", "account", "sending_at"),
    Index("ix_submissions_spend", "tenant", "sending_at"),
    Index("ix_submissions_price", "model", "credits"),
    _partial("uq_submissions_open", "job_id", unique=True, where="state = 'sending'"),
    UniqueConstraint("account", "provider_task_id"),
)
"""One create call: written before it is made, settled by what became of it."""

candidates = Table(
    "candidates",
    metadata,
    Column("id", Id, primary_key=True),
    NotNull("submission_id", Id, ForeignKey("submissions.id", ondelete="CASCADE")),
    NotNull("task_id", Words),
    NotNull("source", Words),
    NotNull("state", Words),
    Column("note", Words),
    NotNull("created_at", Time),
    UniqueConstraint("submission_id", "task_id"),
)
"""A task id that somebody named for a submission; a read of Kie's record decides."""

outputs = Table(
    "outputs",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    # The output's index; a row has a method of that name.
    Column("position", Integer, primary_key=True),
    NotNull("role", Words),
    NotNull("state", Words),
    NotNull("version", Integer, default=0),
    Column("due_at", Time),
    NotNull("nudges", Integer, default=0),
    Column("renudge_at", Time),
    NotNull("attempts", Integer, default=0),
    # Tries that brought bytes which are no result.
    NotNull("refusals", Integer, default=0),
    # Tries that the storage failed, or something else of ours: no fault of the source.
    NotNull("storage_troubles", Integer, default=0, server_default=text("0")),
    NotNull("executions", Integer, default=0),
    Column("url", Words),
    Column("document", Words),
    # Kie's own id of this part (a song's `audioId`), which follow-up operations name.
    Column("ref", Words),
    # When the source link is expected to die.
    Column("expires_at", Time),
    NotNull("link_expired", Boolean, default=False),
    # The link that was refused last: another one, if there is one, is tried before it.
    Column("refused_url", Words),
    NotNull("received_bytes", BigInteger, default=0),
    # The size that the source named when the copy began.
    Column("expected_bytes", BigInteger),
    Column("key", Words),
    Column("media_type", Words),
    Column("size_bytes", BigInteger),
    Column("sha256", Words),
    Column("reason", Words),
    Column("error", Words),
    Column("stored_at", Time),
    _partial("ix_outputs_due", "due_at", where="due_at IS NOT NULL"),
    _partial("ix_outputs_dying", "expires_at", where="state = 'pending'"),
)
"""One result file. `due_at` is both the next try and, while a copy runs, the end of its lease."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Id, primary_key=True),
    NotNull("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE")),
    NotNull("sequence", Integer),
    NotNull("kind", Words),
    NotNull("url", Words),
    NotNull("state", Words),
    NotNull("version", Integer, default=0),
    Column("due_at", Time),
    NotNull("nudges", Integer, default=0),
    Column("renudge_at", Time),
    NotNull("attempts", Integer, default=0),
    NotNull("body", Json),
    Column("error", Words),
    NotNull("created_at", Time),
    Column("delivered_at", Time),
    UniqueConstraint("job_id", "sequence"),
    _partial("ix_deliveries_due", "due_at", where="due_at IS NOT NULL"),
    _partial("ix_deliveries_gave_up", "created_at", where="state = 'gave_up'"),
)
"""One message to a producer, with a life of its own: a failed one is never a state of the job."""

endpoints = Table(
    "endpoints",
    metadata,
    Column("tenant", Words, primary_key=True),
    Column("url", Words, primary_key=True),
    # Told of every job of the tenant that names no address of its own.
    NotNull("is_default", Boolean, default=False),
    # Since when it answers 410 Gone; nothing more is sent there until a person enables it.
    Column("disabled_at", Time),
)
"""An address that a tenant's messages go to, as far as there is something to remember of it."""

events = Table(
    "events",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    NotNull("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE")),
    NotNull("at", Time, default=clock()),
    NotNull("kind", Words),
    NotNull("who", Words),
    Column("from_state", Words),
    Column("to_state", Words),
    NotNull("note", Words),
    Column("detail", Json),
    Index("ix_events_job", "job_id", "id"),
)
"""One line of a timeline. Append-only, written in the transaction of the change it tells."""

callbacks = Table(
    "callbacks",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    NotNull("at", Time, default=clock()),
    Column("submission_id", Id),
    Column("task_id", Words),
    # What became of it: `accepted`, `known`, `stage`, or why it was refused.
    Column("verdict", Words),
    NotNull("body_sha256", Words),
    NotNull("body", Words),
    Index("ix_callbacks_at", "at"),
    Index("ix_callbacks_submission", "submission_id"),
)
"""One callback from Kie as it came, capped. A hint, never a source of state."""

accounts = Table(
    "accounts",
    metadata,
    Column("name", Words, primary_key=True),
    Column("paused_at", Time),
    Column("paused_until", Time),
    NotNull("pause_s", Double, default=0.0),
    Column("pause_code", Words),
    Column("pause_note", Words),
    Column("models_paused", Json),
    Column("credits", Credits),
    Column("checked_at", Time),
    Column("baseline_credits", Credits),
    Column("baseline_at", Time),
    # When the last look is due that was asked for out of turn.
    Column("asked_look_at", Time),
)
"""One Kie account: the row that submits lock, and why its creates wait."""

counters = Table(
    "counters",
    metadata,
    Column("name", Words, primary_key=True),
    Column("label", Words, primary_key=True),
    NotNull("value", Double),
)
"""One figure that only rises: what no row tells, added up over all processes and kept over restarts."""

durations = Table(
    "durations",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    NotNull("model", Words),
    NotNull("at", Time),
    NotNull("took_s", Double),
    Index("ix_durations_latest", "model", "id"),
)
"""How long one generation took at Kie, by Kie's own clock."""

pulses = Table(
    "pulses",
    metadata,
    Column("name", Words, primary_key=True),
    NotNull("at", Time),
)
"""When a periodic task last ran; how `doctor` knows that beat is alive."""


def one_of(column: ColumnElement[Any], *words: StrEnum) -> ColumnElement[bool]:
    """Compare a column with words of our own, as literals in the SQL text: partial indexes and plans need them there."""
    literals: list[ColumnElement[str]] = [literal_column(f"'{word}'") for word in words]
    return column == literals[0] if len(literals) == 1 else column.in_(literals)


def in_state(*states: JobState) -> ColumnElement[bool]:
    """Compare a job's state with literals in the SQL text."""
    return one_of(jobs.c.state, *states)
