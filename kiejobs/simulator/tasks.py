"""Tasks: one generation from waiting to success or fail, and the record Kie shows of it.

A task settles once, when its time is over or a test finishes it; until then the record depends on its age. The record
has the fields and the JSON-in-JSON of real answers. Knows nothing of HTTP, credits or timers.
"""

import json
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kiejobs.simulator.codes import failure
from kiejobs.simulator.models import PRICES, Kind, kind_of, usual_outputs
from kiejobs.simulator.results import files_of, result_of
from kiejobs.simulator.scenarios import Scenario

TASKS_KEPT = 100_000
_WAITING_SHARE = 1 / 3
"""The part of a generation that is spent in `waiting`, before `generating`."""


def to_json(value: object) -> str:
    """Compact JSON text, as Kie writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(slots=True, eq=False)
class Task:
    """One accepted create."""

    account: str
    model: str
    param: str
    callback_url: str | None
    scenario: Scenario
    duration_s: float
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    created_s: float = field(default_factory=time.monotonic)
    created_at_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    settled_s: float | None = None
    link_refreshed: bool = False
    _spent: Counter[str] | None = None

    @property
    def kind(self) -> Kind:
        """What its files are."""
        return kind_of(self.model)

    @property
    def price(self) -> float:
        """Credits it was charged."""
        return PRICES[self.kind]

    @property
    def failed(self) -> bool:
        """Whether it is to end in `fail`."""
        return self.scenario.fail is not None

    @property
    def files(self) -> tuple[Kind, ...]:
        """The kinds of its result files, by index."""
        return files_of(self.kind, self.scenario, usual_outputs(self.model))

    @property
    def age_s(self) -> float:
        """Seconds since it was accepted."""
        return time.monotonic() - self.created_s

    def first(self, name: str, times: int) -> bool:
        """True the first so many times it is asked for `name`."""
        self._spent = self._spent or Counter()
        self._spent[name] += 1
        return self._spent[name] <= times

    def settle(self) -> bool:
        """Finish it now; False if it was finished before."""
        if self.settled_s is not None:
            return False
        self.settled_s = time.monotonic()
        return True

    def look(self) -> str:
        """The state to report to this query; some scenarios depend on how often it was asked."""
        if self.settled_s is None:
            if self.age_s < self.duration_s * _WAITING_SHARE:
                return "waiting"
            return self.scenario.odd_state or "generating"
        if self.failed:
            return "fail"
        if self.scenario.odd_state and self.first("odd-state", 1):
            return self.scenario.odd_state
        if self.scenario.regress and not self.first("success", 1) and self.first("regress", 1):
            return "waiting"
        return "success"

    def record(self, state: str, files_url: str, *, empty: bool = False) -> dict[str, object]:
        """The `data` of recordInfo and of a callback, in the given state."""
        done = self.settled_s is not None and state in ("success", "fail")
        took_s = (self.settled_s or 0) - self.created_s
        fail_code, fail_msg = failure(self.scenario.fail) if state == "fail" and self.scenario.fail else (None, None)
        return {
            "taskId": self.id,
            "model": self.model,
            "state": state,
            "param": self.param,
            "resultJson": to_json(self._result(files_url)) if state == "success" and not empty else "",
            "failCode": fail_code,
            "failMsg": fail_msg,
            "costTime": round(took_s) if done else None,
            "completeTime": self.created_at_ms + int(took_s * 1000) if done else None,
            "createTime": self.created_at_ms,
            "creditsConsumed": 0.0 if state == "fail" else self.price,
        }

    def _result(self, files_url: str) -> dict[str, object]:
        links = [f"{files_url}/f/{self.id}/{index}.{kind}" for index, kind in enumerate(self.files)]
        return result_of(links, self.id, self.created_at_ms, self.scenario)


def param_of(model: str, given: dict[str, Any], callback_url: str | None) -> str:
    """The `param` text of a record: the request as JSON whose `input` is JSON text again, with what Kie adds."""
    param: dict[str, object] = {"input": to_json({**given, "nsfw_checker": given.get("nsfw_checker", False)})}
    if callback_url is not None:
        param["callBackUrl"] = callback_url
    return to_json(param | {"model": model})


class Tasks:
    """All tasks by id; the oldest finished ones make room."""

    def __init__(self) -> None:
        """Begin with none."""
        self._tasks: dict[str, Task] = {}

    def add(self, task: Task) -> None:
        """Keep a new task."""
        self._tasks[task.id] = task
        if len(self._tasks) > TASKS_KEPT:
            oldest = next(iter(self._tasks))
            if self._tasks[oldest].settled_s is not None:
                del self._tasks[oldest]

    def get(self, task_id: str) -> Task | None:
        """The task, if it is known."""
        return self._tasks.get(task_id)

    def clear(self) -> None:
        """Forget them all."""
        self._tasks.clear()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        """Oldest first."""
        return iter(self._tasks.values())
