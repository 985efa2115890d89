"""The nouns: a generation job, its submissions, outputs and deliveries, and the words for their states.

Pure values and enums. Nothing here knows a database, a clock or Kie. The row's `state` is the fine word of this page;
the word shown to producers is `public_state(state)`, with the fine one beside it as `phase`.
"""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from kiejobs.errors import Reason

DEFAULT_ACCOUNT = "default"
DEFAULT_TENANT = "default"


class JobState(StrEnum):
    """The fine state of a job, as the row has it. `lifecycle` says which follows which."""

    QUEUED = "queued"
    SUBMITTING = "submitting"
    UNCONFIRMED = "unconfirmed"
    WAITING = "waiting"
    TIMEOUT = "timeout"
    STORING = "storing"
    SUCCESS = "success"
    FAIL = "fail"
    CANCELED = "canceled"


class PublicState(StrEnum):
    """The five words producers see, the vocabulary of Kie's own documentation plus `timeout` and `canceled`."""

    WAITING = "waiting"
    SUCCESS = "success"
    FAIL = "fail"
    TIMEOUT = "timeout"
    CANCELED = "canceled"


BY_PRODUCTS = frozenset({"origin", "cover", "watermark", "first_frame", "last_frame", "linked"})
"""Roles of outputs that come beside the result itself: one that cannot be copied is given up, and the job succeeds."""

ENDED = frozenset({JobState.SUCCESS, JobState.FAIL, JobState.CANCELED})
"""States in which nothing more happens by itself."""

UNWELL = (JobState.FAIL, JobState.TIMEOUT, JobState.UNCONFIRMED)
"""States in which a job has an error to tell of, with what can be done about it."""

_PUBLIC = {
    JobState.SUCCESS: PublicState.SUCCESS,
    JobState.FAIL: PublicState.FAIL,
    JobState.TIMEOUT: PublicState.TIMEOUT,
    JobState.CANCELED: PublicState.CANCELED,
}


def public_state(state: JobState) -> PublicState:
    """Say a fine state in the producers' words: everything unfinished is `waiting`."""
    return _PUBLIC.get(state, PublicState.WAITING)


class SubmissionState(StrEnum):
    """One create call at Kie: `sending` is written before the call, the rest is what became of it."""

    SENDING = "sending"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"
    WRITTEN_OFF = "written_off"


class CandidateState(StrEnum):
    """A task id that somebody named for a submission."""

    OPEN = "open"
    ADOPTED = "adopted"
    REFUSED = "refused"


class OutputState(StrEnum):
    """One result file."""

    PENDING = "pending"
    STORED = "stored"
    FAILED = "failed"


class DeliveryState(StrEnum):
    """One message to a producer."""

    PENDING = "pending"
    DELIVERED = "delivered"
    GAVE_UP = "gave_up"


class Priority(StrEnum):
    """`batch` stands ten minutes further back in line than `interactive`."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to act once on a job, and what a step needs for it. `version` fences the write that follows."""

    id: str
    version: int
    state: JobState
    tenant: str
    account: str
    model: str
    family: str
    task_id: str | None
    created_at: datetime
    elapsed_s: float
    """Seconds since Kie's task id became known, by the database's clock; 0 before."""
    polls: int
    troubles: int
    """Looks in a row that brought no answer."""
    last_word: str | None
    executions: int
    """Claims in a row that no finished step has cleared."""
    cancel_requested: bool
    empty_looks: int = 0
    """Looks that found a success without any result."""


@dataclass(frozen=True, slots=True)
class OutputClaim:
    """The right to copy one result file once. `version` fences the closing transaction."""

    job_id: str
    index: int
    role: str
    version: int
    url: str | None
    document: str | None
    """The result itself where Kie gave content instead of a URL."""
    link_expired: bool
    """Whether a link was refused before: the next one is asked of Kie."""
    attempts: int
    refusals: int
    """What tries cost that brought bytes which are no result: `setbacks.Setback.costs`, added up."""
    tenant: str
    account: str
    model: str
    family: str
    task_id: str | None
    created_at: datetime
    age_s: float
    """Seconds since Kie's task id became known."""
    executions: int
    dies_in_s: float | None = None
    """Seconds until the source link is expected to die; None where there is no link, or nobody knows."""
    refused_url: str | None = None
    """The link that was refused last."""
    storage_troubles: int = 0
    """Tries, of `attempts`, that failed for the storage's sake."""


@dataclass(frozen=True, slots=True)
class Output:
    """One file of a finished generation, as producers see it."""

    index: int
    state: OutputState
    role: str
    """What Kie called it: `result`, `watermark`, `first_frame`, `cover` …"""
    key: str | None = None
    url: str | None = None
    """Where the stored file can be read: `s3://bucket/key` or a file path; None until stored."""
    media_type: str | None = None
    size_bytes: int | None = None
    received_bytes: int = 0
    """Bytes copied so far, as of the last heartbeat."""
    sha256: str | None = None
    error: str | None = None
    expires_at: datetime | None = None
    """When Kie's own link is expected to die; of interest until the file is stored."""
    expected_bytes: int | None = None
    """How many bytes there are to copy, where the source says so."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a job's timeline, written in the transaction of the change it tells."""

    at: datetime
    kind: str
    who: str
    from_state: str | None
    to_state: str | None
    note: str
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """A generation as producers see it. Times are aware UTC, `credits` is None while unknown (which is not zero)."""

    id: str
    tenant: str
    account: str
    model: str
    phase: JobState
    created_at: datetime
    reason: Reason | None = None
    code: str | None = None
    message: str | None = None
    progress: float | None = None
    polls: int = 0
    found_by: str | None = None
    """What brought its end at Kie to light: `callback`, `poll`, `sweep`, or `answer` (the create call itself)."""
    late: bool = False
    provider_task_id: str | None = None
    accepted_at: datetime | None = None
    ended_at: datetime | None = None
    credits: Decimal | None = None
    place_in_line: int | None = None
    outputs: tuple[Output, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    reused: bool = False
    """Whether the request that returned this job was answered with an earlier one's."""

    @property
    def state(self) -> PublicState:
        """The producers' word for where the job stands."""
        return public_state(self.phase)

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the job by itself."""
        return self.phase in ENDED
