"""What an API family is: how to create, how to read, and what its words mean. One file per family implements this.

Pure. A family describes calls and reads answers; `client` makes the calls. An unknown status word is read as pending,
never guessed, and never crashes; a missing or oddly typed field means "not there".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kiejobs.answers import Accepted, Outcome, Snapshot
from kiejobs.kie.adoption import Echo
from kiejobs.kie.envelope import Envelope, refusal


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP call to Kie, without host and key."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None


def common_link(url: str) -> Call:
    """POST /api/v1/common/download-url: a link of 20 minutes. Source: https://docs.kie.ai/common-api/download-url."""
    return Call("POST", "/api/v1/common/download-url", body={"url": url})


def flat(path: str, fields: Mapping[str, Any], callback_url: str | None) -> Call:
    """A create call of the dedicated APIs: its parameters stand in the body itself, with `callBackUrl` beside them."""
    return Call("POST", path, body={**fields, **({"callBackUrl": callback_url} if callback_url else {})})


def given(request: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a request."""
    return dict(request.get("input") or {})


def accepted(task_id: str | None, answer: Envelope) -> Outcome:
    """Take a named task for accepted; classify an answer without one by its code."""
    return Accepted(task_id) if task_id else refusal(answer)


class Family(Protocol):
    """One of Kie's APIs."""

    @property
    def name(self) -> str:
        """The family's name, as the job's row has it."""

    @property
    def models(self) -> frozenset[str]:
        """The model ids that this family makes; the jobs API makes whatever no other family does."""

    @property
    def create_deadline_s(self) -> float | None:
        """The total time of a create call in seconds, where it is not the usual one."""

    @property
    def readable(self) -> frozenset[int]:
        """The codes, beside 200, with which an answer to `read` says something of the task; others are no answer."""

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Call:
        """Describe the call that buys a generation. `request` has `input` and, where it is sent, its `submission`."""

    def created(self, answer: Envelope, request: dict[str, Any]) -> Outcome:
        """Say what the answer to `create` means. Whatever the code: a task id that Kie names is a task that it made."""

    def read(self, task_id: str) -> Call:
        """Describe the call that reads a task's record."""

    def snapshot(self, envelope: Envelope) -> Snapshot:
        """Say in our words what a record says."""

    def fresh_link(self, task_id: str, url: str) -> Call:
        """Describe the call that gives a new link to a file that Kie made."""

    def asked(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        """Say what of a request the task's record echoes, in the record's own words."""

    def echo(self, record: Any) -> Echo:
        """Read what a task's record (the envelope's `data`) says of the request that made it."""
