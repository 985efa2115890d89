"""What Kie answered, in one vocabulary: the outcome of a create call and the snapshot of a task's record.

Families turn wire shapes into these values, `decisions` turns these values into changes, so neither knows the other's
trade. Pure. Transport trouble while *reading* is no answer and arrives as an exception; while *creating* it is an
outcome, because it decides whether money may have been spent.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from kiejobs.errors import Reason


class Scope(StrEnum):
    """Whom a refusal concerns."""

    JOB = "job"
    MODEL = "model"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class Accepted:
    """Kie made the task (and charges for it)."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The family answers at once: the result came with the create call itself (and is charged for)."""

    results: tuple["Result", ...]
    answer: str
    """The whole answer as it came, for the ledger."""
    credits: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Kie definitely made no task: this request, this model or this account is refused."""

    code: str
    message: str
    scope: Scope
    reason: Reason
    try_another: bool = False
    """Whether another model may be bought instead: no credits for this one, switched off, or not known to Kie."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Kie made no task because it was asked too often; the account waits, the job keeps its place."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request never left: nothing can have been made."""

    message: str
    unreachable: bool = False
    """Whether Kie could not be reached: then others need not try at once."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A task may or may not have been made. Never sent again by itself."""

    message: str
    code: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


Outcome = Accepted | Answered | Refused | Busy | NotSent | Unknown


@dataclass(frozen=True, slots=True)
class Result:
    """One thing Kie made: a URL to copy, or a document that came inside the record."""

    role: str
    url: str | None = None
    document: str | None = None
    ref: str | None = None
    """Kie's own id of this part, such as a song's `audioId`: what follow-up operations name."""
    lives_s: float = 14 * 86400.0
    """How long Kie says the URL lives, in seconds. Source: https://docs.kie.ai, getting started."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Still working. `known` is False for a word that no documentation names: waited on, shown, never guessed."""

    word: str
    progress: float | None = None
    known: bool = True


@dataclass(frozen=True, slots=True)
class Finished:
    """Made. Results in Kie's order."""

    results: tuple[Result, ...]
    credits: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """Kie gave up on the task."""

    code: str
    message: str
    reason: Reason
    credits: Decimal | None = None


@dataclass(frozen=True, slots=True)
class NotVisible:
    """Kie does not show the task (yet)."""

    message: str


Snapshot = Pending | Finished | Broken | NotVisible
