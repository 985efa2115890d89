"""Tasks: one generation from its order to its end, and what a query may see of it.

A task settles once, when its time is over or a test finishes it; until then what is seen depends on its age. How the
record is drawn is its family's affair. Knows nothing of HTTP, credits or timers.
"""

import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from kiejobs.simulator.accounts import Account
from kiejobs.simulator.codes import failure
from kiejobs.simulator.family import Files
from kiejobs.simulator.orders import Order
from kiejobs.simulator.scenarios import Scenario

TASKS_KEPT = 100_000
_WAITING_SHARE = 1 / 3
"""The part of a generation that is spent in `waiting`, before `generating`."""

WAITING, GENERATING, SUCCESS, FAIL = "waiting", "generating", "success", "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one query or callback sees of a task."""

    state: str
    """waiting, generating, success, fail, or the odd word a scenario wants to be seen."""
    links: tuple[str, ...] = ()
    """Where its result files are, by index."""
    stage: str = ""
    """Which callback before the last this is for."""
    empty: bool = False
    """The result is to be left out although it is there."""
    expired: bool = False
    """The files are gone."""

    @property
    def made(self) -> bool:
        """Whether the result is to be shown."""
        return self.state == SUCCESS and not self.empty


@dataclass(slots=True, eq=False)
class Task:
    """One accepted create."""

    order: Order
    files: Files
    duration_s: float
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    created_s: float = field(default_factory=time.monotonic)
    created_at_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    settled_s: float | None = None
    link_refreshed: bool = False
    children: "dict[tuple[str, str], Task]" = field(default_factory=dict)
    _spent: Counter[str] | None = None

    @property
    def account(self) -> Account:
        """Who pays."""
        return self.order.account

    @property
    def scenario(self) -> Scenario:
        """What is out of the ordinary about it."""
        return self.order.scenario

    @property
    def follow_up(self) -> Scenario:
        """What is to be out of the ordinary about tasks that build on it."""
        return self.order.follow_up

    @property
    def price(self) -> float:
        """Credits it was charged."""
        return self.order.price

    @property
    def failed(self) -> bool:
        """Whether it is to end in failure."""
        return self.scenario.fail is not None

    @property
    def failure(self) -> tuple[str, str]:
        """Its failCode and failMsg, once it failed."""
        return failure(self.scenario.fail or "")

    @property
    def made(self) -> bool:
        """Whether it has ended well."""
        return self.settled_s is not None and not self.failed

    @property
    def age_s(self) -> float:
        """Seconds since it was accepted."""
        return time.monotonic() - self.created_s

    @property
    def progress(self) -> float:
        """How much of it is done, from 0 to 1."""
        if self.settled_s is not None:
            return 1.0
        return min(0.99, self.age_s / self.duration_s) if self.duration_s else 0.99

    @property
    def took_s(self) -> float:
        """Seconds from its create to its end."""
        return (self.settled_s or self.created_s) - self.created_s

    @property
    def completed_at_ms(self) -> int | None:
        """When it ended, if it did."""
        return None if self.settled_s is None else self.created_at_ms + int(self.took_s * 1000)

    @property
    def final(self) -> str:
        """The state it ends in."""
        return FAIL if self.failed else SUCCESS

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

    def grow_older(self, seconds: float) -> None:
        """Let so much time have passed since its end."""
        if self.settled_s is not None:
            self.settled_s -= seconds
            self.created_s -= seconds
            self.created_at_ms -= int(seconds * 1000)

    def state(self) -> str:
        """The state to report to this query; some scenarios depend on how often it was asked."""
        if self.settled_s is None:
            if self.age_s < self.duration_s * _WAITING_SHARE:
                return WAITING
            return self.scenario.odd_state or GENERATING
        if self.failed:
            return FAIL
        if self.scenario.odd_state and self.first("odd-state", 1):
            return self.scenario.odd_state
        if self.scenario.regress and not self.first("success", 1) and self.first("regress", 1):
            return WAITING
        return SUCCESS


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
