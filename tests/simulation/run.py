"""One run: a seed in, a report out. `python -m tests.simulation.replay SEED` shows it effect by effect."""

import gc
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from kiejobs.nudge import PUMP, SWEEP, Nudge
from kiejobs.pacing import REDELIVER_S
from tests.simulation.actors import Beat, Fleet, People, Receiver, settings_for
from tests.simulation.bucket import Bucket
from tests.simulation.database import SimulatedDatabase
from tests.simulation.inbox import Inbox
from tests.simulation.invariants import Judge
from tests.simulation.kie import Kie
from tests.simulation.world import Violation, World

SETTLES_WITHIN_S = 6000.0
"""How long after the last fault (and after the salvage) a run may take to come to rest."""

PARKED_FOR_S = 14 * 86400.0
QUIET_S = 1500.0

_database: SimulatedDatabase | None = None


@dataclass
class Report:
    """What a run came to."""

    seed: int
    counts: Counter[str]
    trace: Callable[[], str]
    broken: str | None = None
    """The invariant that does not hold, its number first."""
    lasted_s: float = 0.0
    effects: int = 0
    complaints: dict[str, str] = field(default_factory=dict)


def shared_database() -> SimulatedDatabase:
    """This process's simulated database: made once, emptied for every run."""
    global _database
    if _database is None:
        _database = SimulatedDatabase()
    return _database


def simulate(seed: int, **traits: Any) -> Report:
    """Run one seed's world to its end and judge it; `traits` replace what the seed would draw."""
    world = World(seed)
    world.traits = replace(world.traits, **traits)
    database = shared_database()
    database.reset(world)
    with _as_in(world):
        broken, complaints = None, {}
        try:
            complaints = _play(world, database)
        except Violation as violation:
            broken = str(violation)
        except Exception as error:
            broken = f"BUG a step raised {type(error).__name__}: {error}"
            world.note(broken)
            if logging.getLogger("simulation").isEnabledFor(logging.DEBUG):
                raise
        finally:
            world.after_effect = lambda: None
            world.calm = True
            world.bury()
            database.world = None
    return Report(seed, world.counts, world.told, broken, world.now_s, len(world.trace), complaints)


def _play(world: World, database: SimulatedDatabase) -> dict[str, str]:
    traits = world.traits
    settings = settings_for(traits)
    kie, bucket = Kie(world), Bucket(world, database.refuse_inside)
    inbox = Inbox(world)
    judge = Judge(world, database, kie=kie, bucket=bucket, inbox=inbox)
    fleet = Fleet(world, settings, database, kie=kie, bucket=bucket, inbox=inbox, judge=judge)
    receiver = Receiver(world, database, fleet.broker, judge)
    kie.call_back, kie.on_record, world.on_crash = receiver.call, judge.on_record, fleet.crashed
    beats = [Beat(world, fleet.broker, judge) for _ in range(2 if traits.two_beats else 1)]

    def after_effect() -> None:
        judge.look()
        for beat in beats:
            beat.plan()

    world.after_effect = after_effect
    people = People(world, settings, database, kie=kie, judge=judge, fleet=fleet)
    people.begin(receiver)
    if world.random.random() < 0.2:  # a sweep out of turn finds nothing to harm
        spare = Nudge(world.random.choice((PUMP, SWEEP)), {}, "spare")
        world.at(world.random.uniform(0, traits.chaos_s), lambda spare=spare: fleet.broker.send(spare))
    world.at(traits.chaos_s, lambda: _calm(world))
    world.run(lambda: world.calm)
    bound_s = world.now_s + traits.salvage_s + SETTLES_WITHIN_S
    quiet_s = QUIET_S
    if traits.ages:
        bound_s += PARKED_FOR_S
        quiet_s += PARKED_FOR_S

    def at_rest() -> bool:
        if judge.someone_is_untold() and world.now_s < bound_s + sum(REDELIVER_S):
            return False
        if world.now_s > bound_s:
            return True
        if world.actors or fleet.broker.under_way or judge.in_line_at() is not None:
            return False
        due = judge.due_at()
        return due is None or due > world.now_s + quiet_s

    world.run(at_rest)
    judge.at_rest()
    return judge.complaints


def _calm(world: World) -> None:
    world.calm = True
    world.note("the faults end here")


@contextmanager
def _as_in(world: World) -> Iterator[None]:
    """Give the product the world's chance and time where it asks the operating system: ids, and one short wait."""
    waiting = SimpleNamespace(Event=lambda: SimpleNamespace(wait=world.sleep))
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    collecting = gc.isenabled()
    gc.disable()
    try:
        with patch.object(uuid, "uuid4", world.uuid), patch("workers.steps.submit.threading", waiting):
            yield
    finally:
        logging.disable(level)
        if collecting:
            gc.enable()
