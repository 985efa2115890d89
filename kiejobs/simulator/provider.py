"""The provider: what a create, a query and the end of a generation mean for tasks, credits and the ledger.

Everything happens on one event loop, so there are no locks and an answer is all or nothing. A create is charged when
it is accepted and refunded when its task fails; two equal creates are two tasks, because Kie has no idempotency.
Knows the bodies of requests, but not how answers travel.
"""

import asyncio
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kiejobs.simulator.accounts import Account, Accounts
from kiejobs.simulator.callbacks import Callback, Courier
from kiejobs.simulator.codes import INVALID, NO_CREDITS, TOO_FAST, UNAUTHORIZED
from kiejobs.simulator.ledger import Ledger
from kiejobs.simulator.scenarios import Scenario, UnknownScenario, parse_scenario
from kiejobs.simulator.tasks import Task, Tasks, param_of, to_json

LINK_LIFE_S = 20 * 60
"""How long a link from download-url works."""


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


class Refusal(NamedTuple):
    """A call that changed nothing; `page` means the gateway's HTML with that status instead of an envelope."""

    code: int
    msg: str = ""
    page: bool = False


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
        """A Kie nobody has called yet; `files_url` is set once the port is known."""
        self.rules = rules
        self.files_url = ""
        self.ledger = Ledger()
        self.tasks = Tasks()
        self.accounts = Accounts(
            rules.keys, rules.credits, rules.create_limit, rules.create_window_s, rules.query_limit_per_s
        )
        self.barrier = Barrier()
        self.courier = Courier(self.ledger, rules.hmac_key)
        self._secret = secrets.token_bytes(32)

    def create(self, authorization: str, raw: bytes) -> Task | Refusal:
        """Make a task of a createTask body, or say why not; either is written down."""
        account = self.accounts.of(authorization)
        body = _read_json(raw)
        made = self._judge(account, body)
        accepted = isinstance(made, Task)
        given = body.get("input") if isinstance(body, dict) else None
        self.ledger.add(
            "creates",
            account=account.name if account else None,
            model=body.get("model") if isinstance(body, dict) else None,
            prompt=_prompt_of(given) if isinstance(given, dict) else "",
            body_sha256=hashlib.sha256(raw).hexdigest(),
            accepted=accepted,
            taskId=made.id if isinstance(made, Task) else None,
            code=_code_answered(made.scenario) if isinstance(made, Task) else made.code,
            credits=made.price if isinstance(made, Task) else 0.0,
            callBackUrl=body.get("callBackUrl") if isinstance(body, dict) else None,
        )
        return made

    def _judge(self, account: Account | None, body: object) -> Task | Refusal:
        if account is None:
            return Refusal(UNAUTHORIZED)
        if not account.creates.admits(time.monotonic()):
            self.ledger.violated("create")
            return Refusal(TOO_FAST)
        if (problem := _problem_of(body)) or not isinstance(body, dict):
            return Refusal(INVALID, problem)
        try:
            scenario = parse_scenario(_texts_of(body["input"]))
        except UnknownScenario as error:
            return Refusal(INVALID, str(error))
        if scenario.refuse:
            return Refusal(scenario.refuse)
        if scenario.http:
            return Refusal(scenario.http, page=True)
        return self._charge(account, self._make(account, body, scenario))

    def _make(self, account: Account, body: dict[str, Any], scenario: Scenario) -> Task:
        url = body.get("callBackUrl")
        param = param_of(body["model"], body["input"], url)
        duration_s = self.rules.duration_s if scenario.duration is None else scenario.duration
        return Task(account.name, body["model"], param, url, scenario, duration_s)

    def _charge(self, account: Account, task: Task) -> Task | Refusal:
        if not account.pays(task.price):
            return Refusal(NO_CREDITS)
        self.tasks.add(task)
        asyncio.get_running_loop().call_later(task.duration_s, self.settle, task)
        return task

    def settle(self, task: Task) -> None:
        """End a generation: refund it if it failed, call back if that was asked for. Only the first time counts."""
        if self.tasks.get(task.id) is not task or not task.settle():
            return
        account = self.accounts.named(task.account)
        if task.failed:
            account.is_refunded(task.price)
        if task.callback_url is not None and not task.scenario.no_callback:
            body = to_json(self._callback_of(task)).encode()
            for _ in range(task.scenario.dup_callback or 1):
                self.courier.send(Callback(task.callback_url, task.id, body))

    def _callback_of(self, task: Task) -> dict[str, object]:
        record = task.record("fail" if task.failed else "success", self.files_url)
        code, msg = (501, record["failMsg"]) if task.failed else (200, "success")
        return {"code": code, "msg": msg, "data": record}

    def query(self, authorization: str, task_id: str) -> dict[str, object] | Refusal:
        """The record of a task as this query sees it."""
        account = self.accounts.of(authorization)
        seen = self._look(account, task_id)
        code = seen.code if isinstance(seen, Refusal) else 200
        self.ledger.add("queries", account=account.name if account else None, taskId=task_id, code=code)
        return seen

    def _look(self, account: Account | None, task_id: str) -> dict[str, object] | Refusal:
        if account is None:
            return Refusal(UNAUTHORIZED)
        if not account.queries.admits(time.monotonic()):
            self.ledger.violated("query")
            return Refusal(TOO_FAST)
        task = self.tasks.get(task_id)
        if task is None or task.age_s < (task.scenario.null_record or 0):
            return Refusal(INVALID, "recordInfo is null")
        scenario = task.scenario
        if scenario.poll_429 and task.first("poll-429", scenario.poll_429):
            return Refusal(TOO_FAST)
        if scenario.poll_http and task.first("poll-http", scenario.poll_http.times):
            return Refusal(scenario.poll_http.status, page=True)
        state = task.look()
        empty = scenario.empty_result and state == "success" and task.first("empty-result", 2)
        return task.record(state, self.files_url, empty=empty)

    def fresh_link(self, url: str) -> str | None:
        """A link to the same file that works for 20 minutes, or None if `url` is not one of ours."""
        path, _, _ = url.removeprefix(self.files_url).partition("?")
        if not url.startswith(f"{self.files_url}/f/") or (task := self.task_of(path)) is None:
            return None
        task.link_refreshed = True
        expires = str(int(time.time()) + LINK_LIFE_S)
        return f"{self.files_url}{path}?token={expires}.{self._seal(path, expires)}"

    def opens(self, path: str, token: str) -> bool:
        """Whether a token is one of ours for this path, and still good."""
        expires, _, seal = token.partition(".")
        genuine = hmac.compare_digest(seal.encode(), self._seal(path, expires).encode())
        return genuine and int(expires) > time.time()

    def _seal(self, path: str, expires: str) -> str:
        return hmac.new(self._secret, f"{path}.{expires}".encode(), hashlib.sha256).hexdigest()

    def task_of(self, path: str) -> Task | None:
        """The finished task whose result file is at `/f/<taskId>/<n>.<ext>`."""
        task = self.tasks.get(path.removeprefix("/f/").partition("/")[0])
        if task is None or task.settled_s is None or task.failed:
            return None
        known = (f"/f/{task.id}/{index}.{kind}" for index, kind in enumerate(task.files))
        return task if path in known else None

    def forget(self) -> None:
        """Begin anew: no tasks, no ledger, full balances, nothing held."""
        self.tasks.clear()
        self.accounts.clear()
        self.courier.forget()
        self.ledger.clear()
        self.barrier.opened.set()


def _read_json(raw: bytes) -> object:
    """The body, or None if it is no JSON; half a surrogate pair, which JSON can spell but UTF-8 cannot, becomes `?`."""
    try:
        body: object = json.loads(raw)
    except ValueError:
        return None
    return json.loads(to_json(body).encode("utf-8", "replace")) if rb"\u" in raw else body


def _problem_of(body: object) -> str:
    """What is wrong with a createTask body; empty if nothing is."""
    if not isinstance(body, dict):
        return "The request body must be a JSON object"
    if not isinstance(body.get("model"), str) or not body["model"]:
        return "model is required"
    if not isinstance(body.get("input"), dict):
        return "input must be an object"
    if not isinstance(body.get("callBackUrl"), str | None):
        return "callBackUrl must be a string"
    return ""


def _prompt_of(given: dict[str, Any]) -> str:
    return next((given[name] for name in ("prompt", "text") if isinstance(given.get(name), str)), "")


def _texts_of(given: dict[str, Any]) -> str:
    """Every text of the input: a model without a prompt takes its markers in any other field."""
    return "\n".join(value for value in given.values() if isinstance(value, str))


def _code_answered(scenario: Scenario) -> int | None:
    """The code an accepted create is answered with; None when the answer never arrives whole."""
    if scenario.hang or scenario.reset or scenario.cut_header or scenario.cut_body:
        return None
    return scenario.http_after or 200
