"""Orders: the body of a create call, read and judged, before anything is made or charged.

Reading is the same for every family: JSON, the operation's own fields, the files it points to, its parent, and the
scenario its texts ask for. What is wrong comes back as a `Refusal` with the code Kie documents.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kiejobs.simulator.codes import CONFLICT, INVALID, UNREACHABLE
from kiejobs.simulator.family import Family, Operation, Refusal
from kiejobs.simulator.fields import Body, problem_of
from kiejobs.simulator.scenarios import PLAIN, Scenario, UnknownScenario, parse_scenario

if TYPE_CHECKING:
    from kiejobs.simulator.accounts import Account
    from kiejobs.simulator.tasks import Task, Tasks

NO_PARENT = Refusal(INVALID, "Record does not exist")
NOT_READY = Refusal(INVALID, "record status is not success")
_PROMPTS = ("prompt", "text", "lyrics", "content", "fullLyrics")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The parts of a body that every family has; nothing in it has been checked."""

    model: str
    given: Body
    callback_url: Any
    texts: str
    """Every text of the parameters: a call without a prompt takes its markers in any other field."""
    prompt: str
    """What the ledger shows as the prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A create call that may be carried out."""

    account: "Account"
    family: Family
    operation: Operation
    model: str
    given: Body
    callback_url: str | None
    scenario: Scenario = PLAIN
    follow_up: Scenario = PLAIN
    parent: "Task | None" = None

    @property
    def price(self) -> float:
        """Credits it costs."""
        return self.operation.costs(self.model)

    @property
    def subject(self) -> tuple[str, str]:
        """What of its parent it works on: two orders with the same subject are the same piece of work."""
        return self.operation.path, str(self.given.get("audioId", self.given.get("index", 0)))


def read_json(raw: bytes) -> object:
    """The body, or None if it is no JSON; half a surrogate pair, which JSON can spell but UTF-8 cannot, becomes `?`."""
    try:
        body: object = json.loads(raw)
    except ValueError:
        return None
    return json.loads(to_json(body).encode("utf-8", "replace")) if rb"\u" in raw else body


def to_json(value: object) -> str:
    """Compact JSON text, as Kie writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def asked_of(operation: Operation, body: object) -> Asked:
    """The parts of a body, as far as it has them."""
    parts = body if isinstance(body, dict) else {}
    inside = parts.get("input") if operation.wrapped else {k: v for k, v in parts.items() if k != "callBackUrl"}
    given = inside if isinstance(inside, dict) else {}
    model = parts.get("model")
    texts = operation.texts(given)
    return Asked(
        model=model if isinstance(model, str) and model else operation.model,
        given=given,
        callback_url=parts.get("callBackUrl"),
        texts=texts,
        prompt=next((given[name] for name in _PROMPTS if isinstance(given.get(name), str)), operation.prompt(given)),
    )


def problem_with(operation: Operation, body: object) -> str:
    """What is wrong with a body by itself; empty if nothing is."""
    if not isinstance(body, dict):
        return "The request body must be a JSON object"
    if operation.wrapped and (not isinstance(body.get("model"), str) or not body["model"]):
        return "model is required"
    if operation.wrapped and not isinstance(body.get("input"), dict):
        return "input must be an object"
    if not isinstance(body.get("callBackUrl"), str | None):
        return "callBackUrl must be a string"
    if operation.callback_required and not body.get("callBackUrl"):
        return "Please enter callBackUrl."
    return problem_of(body, operation.fields) or operation.rule(body)


def scenarios_of(texts: str, parent: "Task | None") -> tuple[Scenario, Scenario] | Refusal:
    """What the texts ask of this call and of its follow-ups; a call that asks nothing does what its parent asked."""
    try:
        own, later = parse_scenario(texts), parse_scenario(texts, follow_up=True)
    except UnknownScenario as error:
        return Refusal(INVALID, str(error))
    if parent is not None and own is PLAIN and later is PLAIN:
        return parent.follow_up, parent.follow_up
    return own, later


def parent_of(operation: Operation, asked: Asked, tasks: "Tasks", account: "Account") -> "Task | Refusal | None":
    """The finished task this call works on, or why there is none."""
    name, family = parent_field(operation, asked.model)
    task_id = asked.given.get(name) if name else None
    if not task_id:
        return None
    task = tasks.get(task_id) if isinstance(task_id, str) else None
    if task is None or task.account is not account or (family and task.order.family.name != family):
        return NO_PARENT
    return task if task.made else NOT_READY


def parent_field(operation: Operation, model: str) -> tuple[str, str]:
    """Which field names the parent, and which family it must be of; of a wrapped call the model says so."""
    parents: Mapping[str, tuple[str, str]] = operation.notes.get("parents", {})
    return parents.get(model, (operation.parent, operation.parent_of))


def conflict_of(order: Order) -> Refusal | None:
    """The 409 of a piece of work that was ordered before; the cover's page says that it names the earlier task."""
    earlier = order.parent.children.get(order.subject) if order.parent and order.operation.once else None
    if earlier is None or earlier.failed:
        return None
    data = {"taskId": earlier.id} if order.operation.notes.get("conflict_names_task") else None
    return Refusal(CONFLICT, "", data)


def unreachable(given: Body, ours: str, exists: Callable[[str], bool]) -> Refusal | None:
    """The 451 of a body that points to a file on our own host which is not there, or no longer."""
    missing = (url for url in _links(given) if url.startswith(f"{ours}/") and not exists(url))
    return Refusal(UNREACHABLE) if next(missing, None) else None


def _links(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            yield from _links(child)
