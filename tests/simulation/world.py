"""A world in one thread: virtual time, actors that hand over at every outside effect, faults by the seed.

Whoever acts (a worker's step, a producer, the receiver of callbacks) runs in a greenlet of its own. Before each outside
effect (a call to Kie, a put, a publish, a transaction) it gives way, and the world decides who is next and what goes
wrong. After each effect the judge looks. The same seed gives the same run, effect by effect.
"""

import random
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

from kiejobs.errors import KieJobsError

EPOCH = datetime(2026, 1, 5, 12)  # noqa: DTZ001 - SQLite's text has no zone, UTC is meant
MAX_STEPS = 60_000

T = TypeVar("T")

BEFORE = ("crash before", "fails", "pause before")
AFTER = ("crash after", "reply lost", "pause after")
FAULTS = BEFORE + AFTER


def plain(job_id: str) -> str:
    """A job's id as SQLite keeps it: 32 digits."""
    return job_id.replace("-", "")


class Crash(BaseException):
    """The process that runs this actor is killed: nothing of ours may catch it."""


class Violation(BaseException):
    """An invariant does not hold; nothing of the product may catch it. The first word of the text is its number."""


@dataclass
class Process:
    """One operating-system process: it dies, freezes and has a clock of its own, with everything that runs in it."""

    name: str
    slots: int = 100
    alive: bool = True
    frozen_until: float = 0.0
    wall_skew_s: float = 0.0
    monotonic_from: float = 0.0
    running: list["Actor"] = field(default_factory=list)
    runtime: Any = None


@dataclass(eq=False)
class Actor:
    """One thread of a process, while it does one thing."""

    name: str
    process: Process
    message: Any = None
    dead: bool = False
    claimed: int | None = None
    """The version of the row (a job, or an output) that it claimed."""
    unsure: bool = False
    """Whether it looks for a candidate: then it brings facts, which no fence stops."""
    asked: int = 0
    """Calls to Kie."""
    thread: greenlet | None = None


@dataclass(frozen=True)
class Traits:
    """What kind of world a seed makes. Each run has some faults and not others, so that rare pairs meet."""

    rate: float
    weights: tuple[int, ...]
    chaos_s: float
    jobs: int
    processes: int
    slots: int
    callbacks: bool
    resubmit: bool
    create_limit: int
    timeout_s: float
    salvage_s: float
    two_beats: bool
    skewed: bool
    quick: bool
    """Kie makes most things within seconds."""
    slow_answers: bool
    """Kie answers creates only after many seconds."""
    moods: int
    orders: int
    forgers: bool
    poison: bool
    ages: bool
    """The run ends only after the fourteen days that a parked job waits."""


def draw_traits(rng: random.Random) -> Traits:
    """Draw a world from a seed's numbers."""
    callbacks = rng.random() < 0.6
    resubmit = callbacks and rng.random() < 0.25
    poison = rng.random() < 0.03
    timeout_s = rng.choice((30.0, 45.0, 45.0, 60.0, 120.0))
    return Traits(
        rate=rng.choice((0.0, 0.02, 0.05, 0.05, 0.1, 0.1, 0.2)),
        weights=tuple(rng.choice((0, 1, 1, 3)) for _ in FAULTS),
        chaos_s=rng.choice((60.0, 2400.0, 4800.0) if resubmit else (60.0, 120.0, 300.0, 600.0)),
        jobs=rng.choice((1, 1, 1, 1, 1, 1, 2, 2, 3, 4)),
        processes=rng.choice((1, 2, 2, 3)),
        slots=rng.choice((2, 3)),
        callbacks=callbacks,
        resubmit=resubmit,
        create_limit=rng.choice((1, 2, 3, 20)),
        timeout_s=timeout_s,
        salvage_s=timeout_s + rng.choice((300.0, 300.0, 600.0)),
        two_beats=rng.random() < 0.2,
        skewed=rng.random() < 0.3,
        quick=rng.random() < 0.7,
        slow_answers=rng.random() < 0.2,
        moods=rng.choice((0, 0, 1, 2)),
        orders=rng.choice((0, 0, 1, 2, 4)),
        forgers=rng.random() < 0.3,
        poison=poison,
        ages=not poison and rng.random() < 0.05,
    )


class World:
    """Time, chance and who is next."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.traits = draw_traits(self.random)
        self.now_s = 0.0
        self.calm = False
        self.counts: Counter[str] = Counter()
        self.trace: list[tuple[float, str, str]] = []
        self.current: Actor | None = None
        self.processes: list[Process] = []
        self.after_effect: Callable[[], None] = lambda: None
        self.on_crash: Callable[[Process], None] = lambda process: None
        self.actors: list[Actor] = []
        self.deaths: Counter[str] = Counter()
        """Job → how many actors died over it."""
        self._agenda: list[tuple[float, float, int, Callable[[], None]]] = []
        self._serial = count()
        self._main = getcurrent()

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def moment(self) -> datetime:
        """The database's time, without a zone."""
        return EPOCH + timedelta(seconds=self.now_s)

    def at(self, in_s: float, do: Callable[[], None]) -> None:
        """Do something later; what falls on the same moment comes in an order that chance decides."""
        heappush(self._agenda, (self.now_s + max(in_s, 0.0), self.random.random(), next(self._serial), do))

    def run(self, done: Callable[[], bool]) -> None:
        """Let things happen until `done` or until nothing is left to happen."""
        for _ in range(MAX_STEPS):
            if not self._agenda or done():
                return
            at_s, _, _, do = heappop(self._agenda)
            self.now_s = max(self.now_s, at_s)
            do()
        raise Violation(f"I2 the world does not come to rest within {MAX_STEPS} steps")

    def uuid(self) -> uuid.UUID:
        """A new id; the seed decides it, because rows are also ordered by ids."""
        return uuid.UUID(int=self.random.getrandbits(128), version=4)

    # ── actors ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def spawn(
        self,
        name: str,
        process: Process,
        todo: Callable[[], Any],
        *,
        message: Any = None,
        died: Callable[[], None] = lambda: None,
    ) -> Actor:
        """Let an actor begin now."""
        actor = Actor(name, process, message)

        def life() -> None:
            try:
                if actor.dead:
                    raise Crash
                todo()
            except Crash:
                died()
            except KieJobsError as error:
                self.note(f"gives up: {type(error).__name__}: {error}")
            finally:
                actor.dead = True
                process.running.remove(actor)
                self.actors.remove(actor)

        actor.thread = greenlet(life, self._main)
        process.running.append(actor)
        self.actors.append(actor)
        self.at(0.0, lambda: self._resume(actor))
        return actor

    def _resume(self, actor: Actor) -> None:
        assert actor.thread is not None
        if actor.thread.dead:
            return
        if actor.process.frozen_until > self.now_s and not actor.dead:
            self.at(actor.process.frozen_until - self.now_s, lambda: self._resume(actor))
            return
        self.current = actor
        try:
            actor.thread.switch()
        finally:
            self.current = None

    def sleep(self, seconds: float) -> None:
        """Give way: the actor goes on after so much time, if its process still lives."""
        actor = self.current
        if actor is None:
            raise RuntimeError("only an actor can wait")
        if actor.dead:
            raise Crash
        self.at(seconds, lambda: self._resume(actor))
        self._main.switch()
        if actor.dead:
            raise Crash

    def kill(self, process: Process) -> None:
        """Kill a process with all that runs in it."""
        process.alive = False
        for actor in process.running:
            actor.dead = True
            self.deaths[plain(str(getattr(actor.message, "kwargs", {}).get("job_id")))] += 1
        self.counts["crashes"] += 1
        self.on_crash(process)

    def freeze(self, process: Process) -> None:
        """Stop a process for minutes; afterwards it goes on as if nothing had been."""
        seconds = self.random.choice((5.0, 40.0, 90.0, 200.0, 2500.0)) * self.random.uniform(0.5, 1.5)
        process.frozen_until = self.now_s + seconds
        self.counts["pauses"] += 1
        self.note(f"{process.name} stands still for {seconds:.0f} s")

    def bury(self) -> None:
        """End what still runs, so that nothing of this run is left."""
        for actor in list(self.actors):
            actor.dead = True
            if actor.thread and not actor.thread.dead:
                self.current = actor
                with suppress(Crash):
                    actor.thread.throw(Crash)
        self.current = None

    # ── effects ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def chance(self, probability: float) -> bool:
        """Whether something that goes wrong now and then goes wrong now."""
        return not self.calm and self.random.random() < probability

    def begin(self, what: str, fails: Callable[[], Exception] | None, takes_s: float) -> str | None:
        """Come to an outside effect: wait, then meet what goes wrong before it."""
        self.sleep(self.random.random() * takes_s)
        fault = self._fault()
        if fault in BEFORE:
            self._meet(fault, what, fails)
        return fault

    def end(self, what: str, fault: str | None, lost: Callable[[], Exception] | None) -> None:
        """Leave an effect that has happened: the judge looks, then what goes wrong after it is met."""
        self.after_effect()
        if fault in AFTER:
            self._meet(fault, what, lost)

    def effect(
        self,
        what: str,
        do: Callable[[], T],
        *,
        fails: Callable[[], Exception] | None = None,
        lost: Callable[[], Exception] | None = None,
        takes_s: float = 0.2,
    ) -> T:
        """Do one thing outside, with all that may go wrong around it."""
        fault = self.begin(what, fails, takes_s)
        try:
            result = do()
        finally:
            self.note(what)
        self.end(what, fault, lost)
        return result

    def _fault(self) -> str | None:
        if self.calm or self.random.random() >= self.traits.rate or not any(self.traits.weights):
            return None
        return self.random.choices(FAULTS, self.traits.weights)[0]

    def _meet(self, fault: str | None, what: str, error: Callable[[], Exception] | None) -> None:
        actor = self.current
        assert actor is not None
        if fault in ("crash before", "crash after"):
            self.note(f"killed {fault.removeprefix('crash ')} {what}")
            self.kill(actor.process)
            raise Crash
        if fault in ("pause before", "pause after"):
            self.freeze(actor.process)
            self.sleep(0.0)
        elif error is not None:
            self.counts["replies lost" if fault == "reply lost" else "effects failed"] += 1
            self.note(f"{what}: {fault}")
            raise error()

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        self.trace.append((self.now_s, self.current.name if self.current else "world", text))

    def told(self) -> str:
        """The whole trace, for people."""
        return "\n".join(f"{at_s:12.3f}  {who:34} {text}" for at_s, who, text in self.trace)
