"""What a family is: what one of Kie's APIs documents of itself, and all that this simulator asks of it.

A family is a table of operations (the calls that start something) and two drawings: the record of a task as its query
call shows it, and the body of its callback. Families know no HTTP, no timers and no credits; `provider` does.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from kiejobs.simulator.fields import Body, Field
from kiejobs.simulator.models import Kind
from kiejobs.simulator.scenarios import Scenario

if TYPE_CHECKING:
    from kiejobs.simulator.orders import Order
    from kiejobs.simulator.tasks import Look, Task

Files = tuple[Kind, ...]
"""The kind of each result file, by index."""


class Refusal(NamedTuple):
    """A call that changed nothing; `page` means the gateway's HTML with that status instead of an envelope."""

    code: int
    msg: str = ""
    data: object = None
    page: bool = False


class Stage(NamedTuple):
    """A callback before the last one: its name, and the share of the generation after which it comes."""

    name: str
    share: float


def no_rule(body: Body) -> str:
    """Nothing to say about the fields together."""
    return ""


def top_texts(given: Body) -> str:
    """The texts among the parameters."""
    return "\n".join(value for value in given.values() if isinstance(value, str))


def no_files(model: str, given: Body, scenario: Scenario) -> Files:
    """An operation that leaves no file behind."""
    return ()


def several(kind: Kind, usual: int = 1) -> Callable[[str, Body, Scenario], Files]:
    """So many files of one kind, or as many as the scenario says."""
    return lambda model, given, scenario: (kind,) * (scenario.outputs or usual)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call that starts something, as its page describes it."""

    path: str
    model: str
    """How the ledger calls it where the body names no model."""
    fields: tuple[Field, ...] = ()
    rule: Callable[[Body], str] = no_rule
    price: Callable[[str], float] | float = 0.0
    files: Callable[[str, Body, Scenario], Files] = no_files
    texts: Callable[[Body], str] = top_texts
    """Where markers are looked for."""
    prompt: Callable[[Body], str] = no_rule
    """What the ledger shows where the body has no prompt under a usual name."""
    callback_required: bool = False
    wrapped: bool = False
    """The parameters are in `input`, beside `model` and `callBackUrl`."""
    parent: str = ""
    """The field that names the finished task it works on."""
    parent_of: str = ""
    """The only family whose tasks will do; any, if empty."""
    song: str = ""
    """The field that names a song; one that nobody made is accepted, and fails later."""
    once: bool = False
    """A second one for the same parent and audio is a conflict."""
    answer: "Callable[[Order], object] | None" = None
    """Makes the `data` of a call that is answered at once and has no task."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What else its family wants to know of it."""

    def costs(self, model: str) -> float:
        """Credits for one call."""
        return self.price(model) if callable(self.price) else self.price


NO_RECORD = Refusal(422, "recordInfo is null")


class Family(ABC):
    """One of Kie's APIs; what most have in common is given, each says otherwise where its page does."""

    name: str
    operations: tuple[Operation, ...] = ()
    record_path = ""
    unknown: Refusal | None = NO_RECORD
    """What the query says of a task it does not know; None is code 200 with data null."""
    stages: tuple[Stage, ...] = ()
    short_lived: Mapping[int, float] = MappingProxyType({})
    """Result files, by index, that are gone after so many seconds."""

    @abstractmethod
    def record(self, task: "Task", look: "Look") -> dict[str, object]:
        """The `data` of the query."""

    @abstractmethod
    def callback(self, task: "Task", look: "Look") -> dict[str, object]:
        """The whole body of the callback."""
