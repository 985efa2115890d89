"""What a soak is judged by: values read from Kie's ledger, the rows, the stored bytes and the producers' inbox."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Create:
    """A create call as Kie's ledger has it. `charged` is what Kie's record of the task says it cost in the end."""

    label: str
    at: float
    account: str
    task_id: str | None
    charged: float = 0.0

    @property
    def accepted(self) -> bool:
        """Whether Kie made a task."""
        return self.task_id is not None


@dataclass(frozen=True)
class Job:
    """A job's row. `label` is the word that its prompt, and so its create call, carries."""

    id: str
    label: str
    phase: str
    polls: int = 0
    reason: str | None = None
    tenant: str = "default"


@dataclass(frozen=True)
class Submission:
    """A row of our own ledger."""

    id: str
    job_id: str
    state: str
    task_id: str | None = None
    credits: float | None = None
    approved: bool = False


@dataclass(frozen=True)
class Output:
    """A row for one file, and the digest of the bytes that are found under its key."""

    job_id: str
    index: int
    state: str
    key: str | None = None
    recorded_sha256: str | None = None
    stored_sha256: str | None = None
    attempts: int = 1


@dataclass(frozen=True)
class Move:
    """A change of state as the timeline tells it."""

    job_id: str
    before: str | None
    after: str


@dataclass(frozen=True)
class Message:
    """A row for one message to a producer."""

    id: str
    job_id: str
    sequence: int
    kind: str
    state: str
    address: str
    attempts: int = 0
    due_in_s: float | None = None
    """Counted from the moment of the reading; negative where it is overdue."""


@dataclass(frozen=True)
class Arrival:
    """A message as it came to a producer's server, once; in the order of `Facts.arrivals`."""

    id: str
    address: str
    status: int | None
    """What the server answered; None where it hung up."""
    signed: bool
    """Whether every secret of ours signed it."""
    tells_secret: bool
    digest: str
    """Of all that was told."""
    job_id: str
    sequence: int
    kind: str
    phase: str
    label: str
    tenant: str
    files: tuple[tuple[int, str | None, str | None], ...] = ()
    """Index, key and SHA-256 of each output."""
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """All that a soak is judged by."""

    acknowledged: Mapping[str, str]
    """Label → the job id that the producer was told."""
    creates: tuple[Create, ...]
    jobs: tuple[Job, ...]
    submissions: tuple[Submission, ...]
    outputs: tuple[Output, ...]
    moves: tuple[Move, ...]
    """In the order of each timeline."""
    served: Mapping[str, tuple[str, ...]]
    """Task id → the SHA-256 of each file as Kie serves it, by index."""
    unknown_spend: frozenset[str]
    """Submissions that the product lists as having cost nobody knows what."""
    spent: float
    """What left the accounts' balances at Kie."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Label → the address that the order named for messages."""
    messages: tuple[Message, ...] = ()
    """In the order of their sequence."""
    arrivals: tuple[Arrival, ...] = ()
    callbacks_refused: int = 0
    """Callbacks that Kie made and the gateway called forged."""
    queries: int = 0
    violations: int = 0
    leaks: int = 0
    secrets_in_logs: int = 0
    sometimes: Mapping[str, int] = field(default_factory=dict)
