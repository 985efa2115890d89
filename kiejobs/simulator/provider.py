"""The provider: what a create, a query and the end of a generation mean for tasks, credits and the ledger.

Everything happens on one event loop, so there are no locks and an answer is all or nothing. A create is charged when
it is accepted and refunded when its task fails; two equal creates are two tasks, because Kie has no idempotency.
Knows the bodies of requests, but not how answers travel.
"""

import asyncio
import hashlib
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from kiejobs.simulator.accounts import Account, Accounts
from kiejobs.simulator.callbacks import Callback, Courier
from kiejobs.simulator.codes import INVALID, NO_CREDITS, TOO_FAST, UNAUTHORIZED
from kiejobs.simulator.families.songs import knows_song
from kiejobs.simulator.family import Family, Operation, Refusal, Stage
from kiejobs.simulator.ledger import Ledger
from kiejobs.simulator.links import Links
from kiejobs.simulator.orders import (
    Order,
    asked_of,
    conflict_of,
    parent_of,
    problem_with,
    read_json,
    scenarios_of,
    to_json,
    unreachable,
)
from kiejobs.simulator.scenarios import Scenario
from kiejobs.simulator.tasks import GENERATING, SUCCESS, Look, Task, Tasks
from kiejobs.simulator.uploads import Uploads


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How this Kie behaves when no scenario says otherwise."""

    duration_s: float = 6.0
    create_limit: int = 20
    create_window_s: float = 10.0
    query_limit_per_s: int = 0
    file_ttl_s: float = 86400
    credits: float = 10000.0
    keys: Mapping[str, str] | Collection[str] | None = None
    hmac_key: str | None = None


class Barrier:
    """While it is held, answers of accepted creates wait behind it."""

    def __init__(self) -> None:
        """Begin open."""
        self.waiting = 0
        self.opened = asyncio.Event()
        self.opened.set()

    @property
    def held(self) -> bool:
        """Whether answers have to wait."""
        return not self.opened.is_set()


class Provider:
    """One Kie: accounts, tasks, ledger, links."""

    def __init__(self, rules: Rules) -> None:
        """A Kie nobody has called yet."""
        self.rules = rules
        self.ledger = Ledger()
        self.tasks = Tasks()
        self.uploads = Uploads()
        self.links = Links(self.tasks, self.uploads, rules.file_ttl_s)
        self.accounts = Accounts(
            rules.keys, rules.credits, rules.create_limit, rules.create_window_s, rules.query_limit_per_s
        )
        self.barrier = Barrier()
        self.courier = Courier(self.ledger, rules.hmac_key)

    def create(self, authorization: str, family: Family, operation: Operation, raw: bytes) -> Task | Refusal:
        """Make a task of a create body, or say why not; either is written down."""
        account, body = self.accounts.of(authorization), read_json(raw)
        order = self._judge(account, family, operation, body)
        made = self.start(order) if isinstance(order, Order) and _is_paid(order) else order
        made = Refusal(NO_CREDITS) if isinstance(made, Order) else made
        self._write_create(account, (family, operation), raw, made)
        return made

    def serve(self, authorization: str, family: Family, operation: Operation, raw: bytes) -> Order | Refusal:
        """Charge for a call that is answered at once, or say why not; either is written down."""
        account, body = self.accounts.of(authorization), read_json(raw)
        order = self._judge(account, family, operation, body)
        if isinstance(order, Order) and not _is_paid(order):
            order = Refusal(NO_CREDITS)
        self._write_create(account, (family, operation), raw, order)
        return order

    def _write_create(
        self, account: Account | None, call: tuple[Family, Operation], raw: bytes, made: Task | Order | Refusal
    ) -> None:
        family, operation = call
        asked = asked_of(operation, read_json(raw))
        refused = isinstance(made, Refusal)
        self.ledger.add(
            "creates",
            account=account.name if account else None,
            family=family.name,
            path=operation.path,
            model=asked.model or None,
            prompt=asked.prompt,
            body_sha256=hashlib.sha256(raw).hexdigest(),
            accepted=not refused,
            taskId=made.id if isinstance(made, Task) else None,
            code=made.code if isinstance(made, Refusal) else _code_answered(made.scenario),
            credits=0.0 if isinstance(made, Refusal) else made.price,
            callBackUrl=asked.callback_url,
        )

    def _judge(self, account: Account | None, family: Family, operation: Operation, body: object) -> Order | Refusal:
        if account is None:
            return Refusal(UNAUTHORIZED)
        if not account.creates.admits(time.monotonic()):
            self.ledger.violated("create")
            return Refusal(TOO_FAST)
        if problem := problem_with(operation, body):
            return Refusal(INVALID, problem)
        asked = asked_of(operation, body)
        parent = parent_of(operation, asked, self.tasks, account)
        if isinstance(parent, Refusal):
            return parent
        scenarios = scenarios_of(asked.texts, parent)
        if isinstance(scenarios, Refusal):
            return scenarios
        order = Order(
            account=account,
            family=family,
            operation=operation,
            model=asked.model,
            given=asked.given,
            callback_url=asked.callback_url or None,
            scenario=scenarios[0],
            follow_up=scenarios[1],
            parent=parent,
        )
        return self._refusal_of(order) or self._unless_in_vain(order)

    def _refusal_of(self, order: Order) -> Refusal | None:
        """What a scenario, a file that is not there, or an earlier order has against it."""
        if order.scenario.refuse:
            return Refusal(order.scenario.refuse)
        if order.scenario.http:
            return Refusal(order.scenario.http, page=True)
        return unreachable(order.given, self.links.files_url, self.links.leads_to_a_file) or conflict_of(order)

    def _unless_in_vain(self, order: Order) -> Order:
        """The order; if it names a song that nobody made it is accepted, as seen at Kie, and will fail."""
        song = order.given.get(order.operation.song) if order.operation.song else None
        if song is None or order.scenario.fail or knows_song(self.tasks, song):
            return order
        return replace(order, scenario=replace(order.scenario, fail="400"))

    def start(self, order: Order) -> Task:
        """Begin a generation; it has been paid for."""
        duration_s = self.rules.duration_s if order.scenario.duration is None else order.scenario.duration
        files = order.operation.files(order.model, order.given, order.scenario)
        task = Task(order, files, duration_s)
        self.tasks.add(task)
        if order.parent is not None:
            order.parent.children[order.subject] = task
        loop = asyncio.get_running_loop()
        loop.call_later(duration_s, self.settle, task)
        for stage in order.family.stages if not task.failed else ():
            loop.call_later(duration_s * stage.share, self._reach, task, stage)
        return task

    def settle(self, task: Task) -> None:
        """End a generation: refund it if it failed, call back if that was asked for. Only the first time counts."""
        if self.tasks.get(task.id) is not task or not task.settle():
            return
        if task.failed:
            task.account.is_refunded(task.price)
        self._call_back(task, self.final_look(task))

    def _reach(self, task: Task, stage: Stage) -> None:
        """Call back for a part of a generation, unless it has ended meanwhile."""
        if self.tasks.get(task.id) is task and task.settled_s is None:
            self._call_back(task, Look(state=GENERATING, links=self.links.of(task), stage=stage.name))

    def _call_back(self, task: Task, look: Look) -> None:
        if task.order.callback_url is None or task.scenario.no_callback:
            return
        body = to_json(task.order.family.callback(task, look)).encode()
        for _ in range(task.scenario.dup_callback or 1):
            callback = Callback(task.order.callback_url, task.id, body)
            asyncio.get_running_loop().call_later(task.scenario.late_callback or 0, self.courier.send, callback)

    def final_look(self, task: Task) -> Look:
        """The task as it is at its end."""
        return Look(state=task.final, links=self.links.of(task), expired=self.links.are_gone(task))

    def query(self, authorization: str, family: Family, task_id: str, path: str) -> object:
        """The record of a task as this query sees it, None where the family shows nothing, or a `Refusal`."""
        account = self.accounts.of(authorization)
        seen = self.refused_look(account) or self._look(family, task_id)
        self.write_query(account, task_id, path, seen.code if isinstance(seen, Refusal) else 200)
        return seen

    def write_query(self, account: Account | None, task_id: str, path: str, code: int) -> None:
        """Write one look into the ledger."""
        self.ledger.add("queries", account=account.name if account else None, taskId=task_id, code=code, path=path)

    def refused_look(self, account: Account | None) -> Refusal | None:
        """Why this account may not look now."""
        if account is None:
            return Refusal(UNAUTHORIZED)
        if account.queries.admits(time.monotonic()):
            return None
        self.ledger.violated("query")
        return Refusal(TOO_FAST)

    def _look(self, family: Family, task_id: str) -> object:
        task = self.tasks.get(task_id)
        if task is None or task.order.family is not family or task.age_s < (task.scenario.null_record or 0):
            return family.unknown
        if troubled := self.trouble(task):
            return troubled
        state = task.state()
        empty = state == SUCCESS and task.scenario.empty_result and task.first("empty-result", 2)
        look = Look(state=state, links=self.links.of(task), empty=empty, expired=self.links.are_gone(task))
        return family.record(task, look)

    def trouble(self, task: Task) -> Refusal | None:
        """What the scenario puts in the way of the first looks."""
        scenario = task.scenario
        if scenario.poll_429 and task.first("poll-429", scenario.poll_429):
            return Refusal(TOO_FAST)
        if scenario.poll_http and task.first("poll-http", scenario.poll_http.times):
            return Refusal(scenario.poll_http.status, page=True)
        return None

    def forget(self) -> None:
        """Begin anew: no tasks, no uploads, no ledger, full balances, nothing held."""
        self.tasks.clear()
        self.uploads.clear()
        self.accounts.clear()
        self.courier.forget()
        self.ledger.clear()
        self.barrier.opened.set()


def _is_paid(order: Order) -> bool:
    return order.account.pays(order.price)


def _code_answered(scenario: Scenario) -> int | None:
    """The code an accepted create is answered with; None when the answer never arrives whole."""
    if scenario.hang or scenario.reset or scenario.cut_header or scenario.cut_body:
        return None
    return scenario.http_after or 200
