"""What an API family is: how to create, how to read, and what its words mean. One file per family implements this.

Pure. A family describes calls and reads answers; `client` makes the calls. An unknown status word is read as pending,
never guessed, and never crashes; a missing or oddly typed field means "not there".
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

from kiejobs.answers import Snapshot
from kiejobs.kie.adoption import Echo
from kiejobs.kie.envelope import Envelope


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP call to Kie, without host and key."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None


class Family(Protocol):
    """One of Kie's APIs."""

    @property
    def name(self) -> str:
        """The family's name, as the job's row has it."""

    @property
    def create_deadline_s(self) -> float | None:
        """The total time of a create call in seconds, where it is not the usual one."""

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Call:
        """Describe the call that buys a generation. `request` has `input` and what else the family needs."""

    def task_id(self, envelope: Envelope) -> str | None:
        """Find the new task's id in the answer to `create`; None where there is none."""

    def read(self, task_id: str) -> Call:
        """Describe the call that reads a task's record."""

    def snapshot(self, envelope: Envelope) -> Snapshot:
        """Say in our words what a record says."""

    def echo(self, record: Any) -> Echo:
        """Read what a task's record (the envelope's `data`) says of the request that made it."""
