"""A broker that loses, doubles, delays and reorders what it is given, and is flushed now and then.

A message with a countdown is held by the worker that fetched it and is due by that worker's wall clock, as Celery does
it. What a dead worker held comes back after a while; what it had begun comes back only where it is acknowledged late.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kiejobs.nudge import SUBMIT, Nudge
from tests.simulation.world import Process, World

RESTORED_AFTER_S = 120.0


@dataclass
class Broker:
    """Nudges on their way."""

    world: World
    workers: Callable[[], list[Process]]
    deliver: Callable[[Process, Nudge], None]
    under_way: int = 0
    flushes: int = 0
    down: tuple[float, float] = field(default=(0.0, 0.0))

    def __post_init__(self) -> None:
        rng, chaos_s = self.world.random, self.world.traits.chaos_s
        if rng.random() < 0.2:
            start = rng.uniform(0, chaos_s)
            self.down = (start, start + rng.uniform(1, 60))
        if rng.random() < 0.2:
            self.world.at(rng.uniform(0, chaos_s), self.flush)

    def flush(self) -> None:
        """Lose every message that no worker holds."""
        self.flushes += 1
        self.world.counts["broker flushes"] += 1
        self.world.note("the broker is flushed")

    def publish(self, nudges: Iterable[Nudge]) -> None:
        """What steps are given to publish with: it may lose messages, it never raises."""
        given = list(nudges)
        if given:
            self.world.effect("publish " + ", ".join(one.task_id[-12:] for one in given), lambda: self._take(given))

    def _take(self, nudges: list[Nudge]) -> None:
        world = self.world
        if not world.calm and self.down[0] <= world.now_s < self.down[1]:
            world.counts["nudges lost"] += len(nudges)
            world.note("the broker is down")
            return
        sender = world.current.process if world.current else None
        skew_s = sender.wall_skew_s if sender else 0.0
        for nudge in nudges:
            if world.chance(world.traits.rate):
                world.counts["nudges lost"] += 1
                world.note(f"{nudge.task_id[-12:]} is lost")
                continue
            copies = 2 if world.chance(world.traits.rate) else 1
            world.counts["nudges doubled"] += copies - 1
            for _ in range(copies):
                late_s = world.random.uniform(0, 90) if world.chance(world.traits.rate) else 0.0
                self.send(nudge, world.random.uniform(0, 0.05) + late_s, sender_skew_s=skew_s)

    def send(self, nudge: Nudge, in_s: float = 0.0, *, sender_skew_s: float = 0.0) -> None:
        """Bring a message to some worker."""
        flushes, expires_at = self.flushes, None
        if nudge.expires_s is not None:
            expires_at = self.world.now_s + nudge.expires_s
        self.under_way += 1
        self.world.at(in_s, lambda: self._arrive(nudge, flushes, expires_at, sender_skew_s))

    def _arrive(self, nudge: Nudge, flushes: int, expires_at: float | None, sender_skew_s: float) -> None:
        world = self.world
        if flushes != self.flushes or (expires_at is not None and world.now_s > expires_at):
            self.under_way -= 1
            return
        free = [one for one in self.workers() if one.alive and len(one.running) < one.slots]
        awake = [one for one in free if one.frozen_until <= world.now_s]
        chosen = free if world.chance(0.1) else awake
        if not chosen:
            asleep_s = min((one.frozen_until for one in self.workers()), default=0.0) - world.now_s
            world.at(
                max(world.random.uniform(0.5, 3), asleep_s),
                lambda: self._arrive(nudge, flushes, expires_at, sender_skew_s),
            )
            return
        worker = world.random.choice(chosen)
        if nudge.countdown_s:
            wait_s = max(nudge.countdown_s + sender_skew_s - worker.wall_skew_s, 0.0)
            world.at(wait_s, lambda: self._ring(worker, nudge))
            return
        self.under_way -= 1
        self.deliver(worker, nudge)

    def _ring(self, worker: Process, nudge: Nudge) -> None:
        """The time of a held message has come, by its worker's clock."""
        self.under_way -= 1
        if worker.alive:
            self.deliver(worker, nudge)
        else:
            self.come_back(nudge)

    def come_back(self, nudge: Nudge) -> None:
        """Deliver again what a dead worker held and never acknowledged."""
        self.world.counts["redeliveries"] += 1
        soon = Nudge(nudge.task, nudge.kwargs, nudge.task_id)
        self.send(soon, self.world.random.uniform(1, RESTORED_AFTER_S))


def acknowledged_late(nudge: Nudge) -> bool:
    """Whether a message survives the worker that began it."""
    return nudge.task == SUBMIT
