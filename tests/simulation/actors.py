"""Who acts: workers that run the real steps and sweeps, beats, producers and people, the receiver of Kie's callbacks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from kiejobs.db import callbacks as callback_log
from kiejobs.errors import DatabaseUnavailable, IdempotencyConflict, JobNotFound, NotPossible
from kiejobs.jobs import OutputClaim
from kiejobs.kie import callbacks
from kiejobs.nudge import NOTIFY, POLL, PUMP, STORE, SUBMIT, SWEEP, Nudge, poll_nudge
from kiejobs.producer import KieJobs
from kiejobs.settings import Settings
from tests.simulation.broker import Broker, acknowledged_late
from tests.simulation.bucket import Bucket
from tests.simulation.database import SimulatedDatabase
from tests.simulation.inbox import URL, Inbox
from tests.simulation.invariants import Judge
from tests.simulation.kie import Downloads, Kie, SimulatedClient
from tests.simulation.world import Crash, Process, Traits, Violation, World, plain
from workers.leases import Lease, Leases
from workers.runtime import Runtime
from workers.steps.notify import notify
from workers.steps.poll import poll
from workers.steps.store import store
from workers.steps.submit import submit
from workers.sweeps.pump import pump
from workers.sweeps.stale import sweep

PUBLIC_URL = "https://us.simulated"
SECRET = "the simulation's own callback secret"
PUMP_EVERY_S, SWEEP_EVERY_S, HEARTBEAT_S = 1.0, 10.0, 15.0
MODEL = "z-image"

_settings: dict[Any, Settings] = {}


def settings_for(traits: Traits) -> Settings:
    """Make a run's settings; they are slow to check, so equal ones are kept."""
    key = (traits.callbacks, traits.resubmit, traits.create_limit, traits.timeout_s, traits.salvage_s)
    if key not in _settings:
        _settings[key] = Settings(
            _env_file=None,
            api_key="simulated-key",
            base_url="https://kie.simulated",
            data_dir=Path("nowhere"),
            public_url=PUBLIC_URL if traits.callbacks else None,
            callback_secret=SECRET,
            webhook_secrets="whsec_" + "c2ltdWxhdGlvbiBzZWNyZXQgMTIzNDU2",
            on_unconfirmed="resubmit" if traits.resubmit else "park",
            create_limit=traits.create_limit,
            poll_timeout_s=traits.timeout_s,
            salvage_s=traits.salvage_s,
        )
    return _settings[key]


class _Ordered(dict[Any, None]):
    """A set that remembers the order, so that equal seeds beat equal leases."""

    def add(self, one: Any) -> None:
        self[one] = None

    def discard(self, one: Any) -> None:
        self.pop(one, None)


class _Heart:
    """Stands where the heartbeat's thread would be: the world beats instead."""

    def is_alive(self) -> bool:
        return True


class SimulatedLeases(Leases):
    """The real leases; their heartbeat is an actor of the same process."""

    def __init__(self, runtime: Runtime, world: World, process: Process) -> None:
        super().__init__(runtime)
        self._running: Any = _Ordered()
        self._thread: Any = _Heart()
        self._world, self._process = world, process
        self._beating = False

    @contextmanager
    def keep(self, claim: OutputClaim) -> Iterator[Lease]:
        """Keep a claim's lease while the block runs, and see to it that the heart beats."""
        with super().keep(claim) as lease:
            if not self._beating:
                self._beating = True
                self._world.at(HEARTBEAT_S, self._beat)
            yield lease

    def _renew(self, lease: Lease) -> None:
        before = lease.lost
        super()._renew(lease)
        self._world.counts["leases lost"] += lease.lost and not before

    def _beat(self) -> None:
        self._beating = bool(self._running) and self._process.alive
        if self._beating:
            self._world.spawn(f"heart of {self._process.name}", self._process, self.beat)
            self._world.at(HEARTBEAT_S, self._beat)


class Fleet:
    """The worker processes: they die, are started again, and do what messages say."""

    def __init__(
        self,
        world: World,
        settings: Settings,
        database: SimulatedDatabase,
        *,
        kie: Kie,
        bucket: Bucket,
        inbox: Inbox,
        judge: Judge,
    ) -> None:
        self.world, self.settings, self.database = world, settings, database
        self.kie, self.bucket, self.inbox, self.judge = kie, bucket, inbox, judge
        self.broker = Broker(world, self.workers, self.perform)
        self._processes: list[Process] = []
        for number in range(world.traits.processes):
            self._start(f"worker {number + 1}")

    def workers(self) -> list[Process]:
        """The processes that live."""
        return self._processes

    def _start(self, name: str) -> None:
        world, rng = self.world, self.world.random
        process = Process(name, slots=world.traits.slots, monotonic_from=rng.uniform(0, 1e6))
        if world.traits.skewed and rng.random() < 0.5:
            process.wall_skew_s = rng.uniform(-4000, 4000)
        runtime = Runtime(
            self.settings,
            self.broker.publish,
            database=self.database,
            store=self.bucket,  # type: ignore[arg-type]
            monotonic=lambda: world.now_s + process.monotonic_from,
            jitter=lambda: rng.uniform(-1, 1),
        )
        runtime.who = name
        runtime._clients = {"default": SimulatedClient(world, self.kie, process, self.database.refuse_inside)}
        runtime.leases = SimulatedLeases(runtime, world, process)
        runtime.downloads = Downloads(world, self.kie, self.database.refuse_inside)  # type: ignore[assignment]
        runtime.webhooks = self.inbox  # type: ignore[assignment]
        process.runtime = runtime
        self._processes.append(process)

    def crashed(self, process: Process) -> None:
        """Start a new process in a dead one's place, after a while."""
        if process in self._processes:
            self._processes.remove(process)
            self.world.at(self.world.random.uniform(0.5, 40), lambda: self._start(process.name))

    def perform(self, process: Process, nudge: Nudge) -> None:
        """Do what a message says, in a thread of the worker that has it."""
        name = f"{process.name} {nudge.task.removeprefix('kiejobs.')[:6]}"
        died = partial(self.broker.come_back, nudge) if acknowledged_late(nudge) else lambda: None
        self.world.spawn(name, process, partial(self._do, process, nudge), message=nudge, died=died)

    def _do(self, process: Process, nudge: Nudge) -> None:
        rt, kwargs = process.runtime, nudge.kwargs
        self.world.note(f"begins {kwargs.get('job_id', '')[:8]} {kwargs.get('version', kwargs.get('index', ''))}")
        match nudge.task:
            case task if task == SUBMIT:
                submit(rt, kwargs["job_id"])
            case task if task == POLL:
                self._poll(process, kwargs)
            case task if task == STORE:
                store(rt, kwargs["job_id"], kwargs["index"])
            case task if task == NOTIFY:
                notify(rt, kwargs["delivery_id"])
            case task if task == PUMP:
                pump(rt)
            case task if task == SWEEP:
                sweep(rt)
            case _:
                nudge.kwargs["do"](self.database)  # a mutant's own message

    def _poll(self, process: Process, kwargs: dict[str, Any]) -> None:
        actor = self.world.current
        assert actor is not None
        if self.world.traits.poison:
            process.runtime._clients["default"] = _Poison(self.world, self.kie, process, self.database.refuse_inside)
        brought = poll(process.runtime, **kwargs)
        if brought is None and actor.claimed is None:
            self.world.counts["stale nudges"] += 1
        elif brought is None and actor.asked and not actor.unsure:
            self.world.counts["stale writes fenced off"] += 1


class _Poison(SimulatedClient):
    """A client whose every record kills the process that reads it."""

    def record(self, *_: Any, **__: Any) -> Any:
        """Die, as a worker dies of a file that takes all its memory."""
        world = self._world
        assert world.current is not None
        world.counts["poisoned looks"] += 1
        world.kill(world.current.process)
        raise Crash


class Beat:
    """One beat: publishes the sweeps on their seconds, skipping those that would find nothing."""

    def __init__(self, world: World, broker: Broker, judge: Judge) -> None:
        self.world, self.broker, self.judge = world, broker, judge
        self._planned = float("inf")
        start = world.random.uniform(0, world.traits.chaos_s)
        self._away = (start, start + world.random.uniform(0, 100)) if world.random.random() < 0.2 else (0.0, 0.0)

    def plan(self) -> None:
        """Look when there is something to do; called after every effect."""
        next_s = min(self._next(self.judge.due_at(), SWEEP_EVERY_S), self._next(self.judge.in_line_at(), PUMP_EVERY_S))
        if next_s < self._planned:
            self._planned = next_s
            self.world.at(next_s - self.world.now_s, lambda: self._tick(next_s))

    def _next(self, at_s: float | None, every_s: float) -> float:
        if at_s is None:
            return float("inf")
        return (max(at_s, self.world.now_s) // every_s + 1) * every_s

    def _tick(self, planned: float) -> None:
        if planned != self._planned:
            return
        self._planned = float("inf")
        now_s = self.world.now_s
        if self.world.calm or not self._away[0] <= now_s < self._away[1]:
            due, line = self.judge.due_at(), self.judge.in_line_at()
            if due is not None and due < now_s and now_s % SWEEP_EVERY_S < 0.001:
                self.broker.send(Nudge(SWEEP, {}, "sweep", expires_s=SWEEP_EVERY_S))
            if line is not None and line < now_s:
                self.broker.send(Nudge(PUMP, {}, "pump", expires_s=PUMP_EVERY_S * 5))
        self.plan()


class Receiver:
    """What takes Kie's callbacks: it checks the token, notes the task id, and believes nothing else."""

    def __init__(self, world: World, database: SimulatedDatabase, broker: Broker, judge: Judge) -> None:
        self.world, self.database, self.broker, self.judge = world, database, broker, judge

    def call(self, url: str, body: dict[str, Any]) -> None:
        """Take one callback."""
        self.world.spawn("receiver", Process("gateway"), partial(self._receive, url, body))

    def _receive(self, url: str, body: dict[str, Any]) -> None:
        submission = callbacks.submission_of(url.rpartition("/")[2], SECRET)
        task_id = callbacks.task_id_of(body)
        if submission is None or task_id is None:
            self.world.counts["callbacks with a forged token"] += 1
            return
        self.world.note(f"callback names {task_id}")
        text = json.dumps(body).encode()
        received = callback_log.receive(self.database, submission, task_id=task_id, stage=False, body=text)
        if received is not None and received.hint is not None:
            hint = received.hint
            self.judge.hurried[plain(hint.job_id)] += 1
            self.broker.publish([poll_nudge(hint.job_id, hint.version, countdown_s=hint.countdown_s, by="callback")])


class People:
    """Producers that enqueue, persons that give orders, and forgers."""

    def __init__(
        self, world: World, settings: Settings, database: SimulatedDatabase, *, kie: Kie, judge: Judge, fleet: Fleet
    ) -> None:
        self.world, self.kie, self.judge, self.database = world, kie, judge, database
        self.broker, self.settings = fleet.broker, settings

    def begin(self, receiver: Receiver) -> None:
        """Plan the run's enqueues, orders and forgeries."""
        world, rng = self.world, self.world.random
        for number in range(world.traits.jobs):
            at_s = rng.uniform(0, 5) if rng.random() < 0.7 else rng.uniform(0, world.traits.chaos_s / 2)
            prompt = "the same for all" if rng.random() < 0.3 and world.traits.callbacks else f"job {number}"
            for _ in range(2 if rng.random() < 0.1 else 1):
                self._enqueue_at(at_s + rng.uniform(0, 0.05), number, prompt)
        for _ in range(world.traits.orders):
            world.at(rng.uniform(1, world.traits.chaos_s), self._order)
        if world.traits.forgers:
            for _ in range(3):
                world.at(rng.uniform(1, world.traits.chaos_s), lambda: self._forge(receiver))

    def _jobs(self, who: str) -> KieJobs:
        return KieJobs(self.settings, database=self.database, publish=self.broker.publish, who=who)

    def _enqueue_at(self, in_s: float, number: int, prompt: str) -> None:
        self.world.at(in_s, lambda: self._spawn("producer", partial(self._enqueue, number, prompt), number, prompt))

    def _spawn(self, name: str, todo: Any, number: int, prompt: str) -> None:
        again = partial(self._enqueue_at, 5.0, number, prompt)  # a producer that died asks again, with the same key
        self.world.spawn(name, Process(name), todo, died=again)

    def _enqueue(self, number: int, prompt: str) -> None:
        jobs, key = self._jobs("producer"), f"order-{number}"
        fallback = ["z-image"] if number % 4 == 3 else []
        url = URL if number % 2 else None
        while True:
            try:
                job = jobs.enqueue(
                    MODEL, self._input(prompt), idempotency_key=key, fallback_models=fallback, callback_url=url
                )
                break
            except DatabaseUnavailable:
                self.world.sleep(1.0)
        known = self.judge.acknowledged.setdefault(plain(job.id), key)
        self.world.note(f"promised {job.id[:8]} for {known}")
        if number == 0 and self.world.chance(0.1):
            try:
                jobs.enqueue(MODEL, self._input("another wish"), idempotency_key=key)
            except IdempotencyConflict:
                self.world.counts["conflicting enqueues refused"] += 1
                return
            raise Violation("I7 one key was taken for two requests")

    def _input(self, prompt: str) -> dict[str, Any]:
        return {"prompt": prompt, "aspect_ratio": "1:1"}

    def _order(self) -> None:
        self.world.spawn("person", Process("person"), self._give_order)

    def _give_order(self) -> None:
        rng = self.world.random
        if not self.judge.acknowledged:
            return
        job_id = rng.choice(sorted(self.judge.acknowledged))
        jobs = self._jobs("a person")
        what = rng.choice(("cancel", "retry", "pay", "pay", "refresh", "adopt", "adopt", "adopt another's"))
        self.judge.hurried[job_id] += 1
        self.world.note(f"orders {what} for {job_id[:8]}")
        try:
            self._carry_out(jobs, job_id, what)
            self.world.counts[f"orders: {what}"] += 1
        except (NotPossible, JobNotFound) as error:
            self.world.note(f"is told: {error}")

    def _carry_out(self, jobs: KieJobs, job_id: str, what: str) -> None:
        match what:
            case "cancel":
                jobs.cancel(job_id)
            case "retry" | "pay":
                jobs.retry(job_id, pay=what == "pay", why="the simulation wants it")
            case "refresh":
                jobs.refresh(job_id)
            case "adopt":
                mine = [task.id for task in self.kie.tasks.values() if task.job_id == job_id]
                if mine:
                    jobs.adopt(job_id, mine[-1])
            case _:
                jobs.adopt(job_id, self._foreign(job_id))

    def _foreign(self, job_id: str) -> str:
        """A task of somebody else: another job's, or one that a stranger made with nearly the same wish."""
        others = [task.id for task in self.kie.tasks.values() if task.job_id not in (None, job_id)]
        if others and self.world.random.random() < 0.5:
            return self.world.random.choice(others)
        wish = self._input(f"a stranger's {len(self.kie.tasks)}")
        return self.kie.stranger({"model": MODEL, "input": wish}).id

    def _forge(self, receiver: Receiver) -> None:
        """Post a callback that nobody at Kie sent: a true token with a foreign task, or a token that is none."""
        rng = self.world.random
        sent = sorted(self.judge.submissions)
        if not sent or not self.world.traits.callbacks:
            return
        row = self.judge.submissions[rng.choice(sent)]
        address = callbacks.callback_url(PUBLIC_URL, _dashed(row.id), SECRET if rng.random() < 0.8 else "guessed")
        self.world.counts["forged callbacks"] += 1
        receiver.call(address, {"data": {"taskId": self._foreign(row.job_id), "state": "success"}})


def _dashed(plain_id: str) -> str:
    return "-".join((plain_id[:8], plain_id[8:12], plain_id[12:16], plain_id[16:20], plain_id[20:]))
