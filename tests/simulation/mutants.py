"""Mutants: the product with one promise broken. Each must turn a named invariant red, or the simulation proves nothing.

`python -m tests.simulation.mutants` runs seeds against each until the judge speaks, and exits 1 if one survives.
A mutant's docstring is what it does wrong; `caught_by` names the invariants that may find it.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, func, select, update
from urllib3.exceptions import ReadTimeoutError

from kiejobs import decisions
from kiejobs.answers import Accepted, NotSent, Outcome, Unknown
from kiejobs.db import accounts, candidates, copies, intake, ledger, looks
from kiejobs.db.clock import clock
from kiejobs.db.tables import jobs, outputs, submissions
from kiejobs.decisions import change
from kiejobs.jobs import JobState, OutputState, SubmissionState
from kiejobs.kie.client import KieClient
from kiejobs.lifecycle import Event
from kiejobs.nudge import Nudge
from kiejobs.producer import KieJobs
from kiejobs.storage import transfer
from tests.simulation.run import shared_database, simulate
from workers.steps import adopt, poll, store

MOST_SEEDS = 600


@dataclass(frozen=True)
class Mutant:
    """One broken promise."""

    name: str
    broken: Callable[[], AbstractContextManager[Any]]
    caught_by: tuple[str, ...]
    world: dict[str, Any]
    """Traits of the worlds in which it shows itself soonest."""
    seen_in: int
    """The seed that is tried before all others, because it was seen there; worth naming where that was far."""

    @property
    def says(self) -> str:
        """What it does wrong, in a sentence."""
        return (self.broken.__doc__ or "").strip()


@dataclass(frozen=True)
class Hunt:
    """How a mutant was found; `caught_by` is None where it survived."""

    mutant: Mutant
    caught_by: str | None
    seed: int | None
    words: str


MUTANTS: list[Mutant] = []


def mutant(
    *caught_by: str, seen_in: int = 0, **world: Any
) -> Callable[[Callable[[], Iterator[Any]]], Callable[[], AbstractContextManager[Any]]]:
    """Enter a mutant into the list."""

    def enter(made: Callable[[], Iterator[Any]]) -> Callable[[], AbstractContextManager[Any]]:
        manager = contextmanager(made)
        MUTANTS.append(Mutant(made.__name__, manager, caught_by, world, seen_in))
        return manager

    return enter


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@mutant("I1")
def resubmit_on_unknown() -> Iterator[Any]:
    """An unknown outcome is taken for one that never left, and sent again."""
    original = ledger.settle

    def settle(tx: Connection, submission_id: str, outcome: Outcome, **given: Any) -> Any:
        never_left = NotSent(outcome.message) if isinstance(outcome, Unknown) else outcome
        return original(tx, submission_id, never_left, **given)

    with patch.object(ledger, "settle", settle):
        yield


@mutant("I1", slow_answers=True)
def retry_the_post() -> Iterator[Any]:
    """The client sends a create call again after a timeout, as HTTP libraries can."""
    original = KieClient._call

    def call(self: KieClient, session: Any, wanted: Any, *given: Any, **named: Any) -> Any:
        client = type(self)._call_once  # type: ignore[attr-defined]
        try:
            return client(self, session, wanted, *given, **named)
        except (TimeoutError, ReadTimeoutError):
            return client(self, session, wanted, *given, **named)

    from tests.simulation.kie import SimulatedClient

    assert original is not SimulatedClient._call
    with (
        patch.object(SimulatedClient, "_call_once", SimulatedClient._call, create=True),
        patch.object(SimulatedClient, "_call", call),
    ):
        yield


@mutant("I1")
def lapse_to_queued() -> Iterator[Any]:
    """A create call that never reported goes back in line instead of being parked."""

    def lapse(tx: Connection, job_id: str, *, pace: Any, who: str) -> bool:
        row = tx.execute(select(jobs).where(jobs.c.id == job_id, jobs.c.state == JobState.SUBMITTING)).first()
        if row is None or row.due_at is None:
            return False
        mine = submissions.c.id == row.submission_id
        tx.execute(update(submissions).where(mine).values(state=SubmissionState.UNKNOWN))
        again = change(JobState.SUBMITTING, Event.DEFERRED, "in line again", in_line=True)
        return bool(ledger.write_change(tx, job_id, JobState.SUBMITTING, again, who=who))

    with patch.object(ledger, "lapse", lapse):
        yield


@mutant("I3", seen_in=140, callbacks=True, slow_answers=True, quick=True, jobs=4, create_limit=20)
def settle_overwrites_a_task_id() -> Iterator[Any]:
    """A second task id for one create call is written over the first."""
    original = ledger._is_news

    def is_news(state: str, outcome: Outcome) -> bool:
        return isinstance(outcome, Accepted) or original(state, outcome)

    with patch.object(ledger, "_is_news", is_news):
        yield


@mutant("I3", "I8", callbacks=True, forgers=True, slow_answers=True, orders=4, jobs=4)
def trust_the_callback() -> Iterator[Any]:
    """Whatever task a callback names is adopted without a look at its record."""
    with patch.object(adopt, "_refused", lambda *_, **__: None):
        yield


# ── the budget ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _counting(where: Callable[[Any], Any], since: Callable[[float], Any]) -> Callable[..., int]:
    def free_creates(tx: Connection, account: str, budget: accounts.Budget, standing: Any = None) -> int:
        row = tx.execute(
            select(accounts.accounts.c.paused_until, clock().label("now")).where(accounts.accounts.c.name == account)
        ).first()
        if row and row.paused_until and row.paused_until > row.now:
            return 0
        recent = (submissions.c.account == account) & (submissions.c.sending_at > since(budget.window_s))
        used = tx.scalar(select(func.count()).where(recent, where(submissions))) or 0
        return max(budget.limit - used, 0)

    return free_creates


@mutant("I9", seen_in=69, create_limit=1, jobs=4, moods=2)
def refused_creates_are_free() -> Iterator[Any]:
    """Creates that Kie refused are not counted against the limit."""
    counted = (SubmissionState.SENDING, SubmissionState.ACCEPTED, SubmissionState.UNKNOWN)
    free = _counting(lambda table: table.c.state.in_(counted), lambda window_s: clock(-window_s))
    with _everywhere("free_creates", free):
        yield


@mutant("I9", create_limit=1, jobs=4, skewed=True)
def the_workers_clock_counts() -> Iterator[Any]:
    """The budget's window is measured by the worker's clock instead of the database's."""

    def since(window_s: float) -> Any:
        world = shared_database().world
        assert world is not None
        skew_s = world.current.process.wall_skew_s if world.current else 0.0
        return (world.moment + timedelta(seconds=skew_s - window_s)).replace(tzinfo=UTC)

    with _everywhere("free_creates", _counting(lambda table: table.c.id.is_not(None), since)):
        yield


@contextmanager
def _everywhere(name: str, replacement: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for module in (accounts, ledger):
            stack.enter_context(patch.object(module, name, replacement))
        yield


# ── fences ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@mutant("I5", "I4", seen_in=83, rate=0.2)
def no_fence_on_the_looks_write() -> Iterator[Any]:
    """What a look brought is written whatever the row's version is by now."""
    change_it, look_at_it = looks.write_change, looks.write_look

    def write_change(tx: Connection, job_id: str, before: JobState, step: Any, *, who: str, version: int) -> bool:
        return change_it(tx, job_id, before, step, who=who)

    def write_look(tx: Connection, job_id: str, step: Any, *, version: int) -> bool:
        now = tx.scalar(select(jobs.c.version).where(jobs.c.id == job_id))
        return look_at_it(tx, job_id, step, version=now)

    with patch.object(looks, "write_change", write_change), patch.object(looks, "write_look", write_look):
        yield


@mutant("I10")
def claim_without_version() -> Iterator[Any]:
    """A nudge claims the row as it is, whatever version the nudge was sent for."""
    original = looks.claim

    def claim(database: Any, job_id: str, version: int, **given: Any) -> Any:
        with database.read() as tx:
            now = tx.scalar(select(jobs.c.version).where(jobs.c.id == job_id))
        return original(database, job_id, now, **given)

    with patch.object(looks, "claim", claim):
        yield


@mutant("I2", jobs=4)
def close_without_locking_the_job() -> Iterator[Any]:
    """The closing transaction counts the other outputs as they were before it had the job to itself."""
    settle_job = copies.settle_job

    def close_stored(database: Any, claim: Any, **given: Any) -> bool:
        others = (outputs.c.job_id == claim.job_id) & (outputs.c.position != claim.index)
        with database.read() as tx:
            mine = list(tx.scalars(select(outputs.c.state).where(others)))
        database.world.sleep(database.world.random.uniform(0, 0.5))  # as long as two transactions overlap elsewhere
        with patch.object(copies, "settle_job", lambda tx, job_id, who: _settle_by(mine, tx, job_id, who)):
            # The patch is in force for the whole process, so it must not give way: the claim is closed here and now.
            return _in_one_go(database, original, claim, given)

    def _settle_by(states: list[Any], tx: Connection, job_id: str, who: str) -> bool:
        if any(state == OutputState.PENDING for state in states):
            return False
        return settle_job(tx, job_id, who=who)

    original = copies.close_stored
    with patch.object(store.copies, "close_stored", close_stored):
        yield


def _in_one_go(database: Any, do: Callable[..., bool], claim: Any, given: dict[str, Any]) -> bool:
    world = database.world
    actor, world.current = world.current, None
    try:
        done = do(database, claim, **given)
    finally:
        world.current = actor
    world.end("write", None, None)
    return done


# ── nothing is lost ──────────────────────────────────────────────────────────────────────────────────────────────────


@mutant("I2")
def publish_without_a_row() -> Iterator[Any]:
    """A producer's promise is a message alone; the row is made by the worker that gets it."""

    def enter(self: KieJobs, new: list[intake.NewJob]) -> Any:
        from uuid import uuid4

        given = [intake.NewJob(**{**_fields(one), "id": str(uuid4())}) for one in new]

        def make(database: Any) -> None:
            intake.enter(database, given, spacing_s=lambda account: 1.0, nudge_below=20)

        self._publisher([Nudge("kiejobs.enter", {"do": make}, task_id=str(one.id)) for one in given])
        return [SimpleNamespace(job=SimpleNamespace(id=one.id), created=True) for one in given]

    with patch.object(KieJobs, "_accept", enter):
        yield


def _fields(job: intake.NewJob) -> dict[str, Any]:
    return {name: getattr(job, name) for name in job.__dataclass_fields__}


@mutant("I2")
def the_sweep_forgets_looks() -> Iterator[Any]:
    """Looks whose nudge was lost are never nudged again."""
    from workers.sweeps import stale

    with patch.object(stale, "_nudge_polls", lambda rt: 0):
        yield


@mutant("I2")
def trouble_fails_a_job() -> Iterator[Any]:
    """A look that brought no answer ends the job."""

    def after_trouble(claim: Any, note: str, pace: Any) -> Any:
        return decisions._ended(claim.state, Event.BROKE, decisions.Reason.NO_RESULT, "", note)

    with patch.object(poll, "after_trouble", after_trouble):
        yield


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@mutant("I6", jobs=4)
def skip_the_check_of_the_bytes() -> Iterator[Any]:
    """A copy is taken for whole without looking at its length or its end."""
    unchecked = {"_check_length": lambda self: None}
    with (
        patch.multiple(transfer._Source, **unchecked),
        patch.object(transfer.Ending, "missing", lambda self: None),
    ):
        yield


@mutant("I6", jobs=4)
def skip_the_check_of_the_object() -> Iterator[Any]:
    """A put is believed without asking the store what it holds."""
    with patch.object(transfer, "_confirmed", lambda store, stored: stored):
        yield


@mutant("I2", "I6")
def success_with_the_first_output() -> Iterator[Any]:
    """A job is done when its first file is stored."""

    def settle(rows: list[Any]) -> Any:
        if not any(one.state == OutputState.STORED for one in rows):
            return None
        return change(JobState.STORING, Event.STORED, "one is enough")

    with patch.object(copies, "settle", settle):
        yield


@mutant("I2")
def forget_the_task_named_during_the_call() -> Iterator[Any]:
    """A job is parked for days although a callback has named its task."""
    with patch.object(candidates, "look_now", lambda tx, job_id: None):
        yield


# ── the hunt ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def hunt(prey: Mutant, *, most: int = MOST_SEEDS) -> Hunt:
    """Run seeds against a mutant until one of its invariants goes red."""
    said = ""
    with prey.broken():
        for seed in (prey.seen_in, *range(most)):
            found = simulate(seed, **prey.world).broken
            if found is None:
                continue
            said = found
            if found.split()[0] in prey.caught_by:
                return Hunt(prey, found.split()[0], seed, found)
    return Hunt(prey, None, None, said)


def main() -> int:
    """Hunt every mutant, or those that are named."""
    wanted = sys.argv[1:]
    unknown = set(wanted) - {one.name for one in MUTANTS}
    if unknown:
        print(f"no such mutant: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    print(f"{'mutant':38} | caught by | seed | what was seen")
    survivors = 0
    for one in MUTANTS:
        if wanted and one.name not in wanted:
            continue
        result = hunt(one)
        survivors += result.caught_by is None
        seed = "" if result.seed is None else result.seed
        print(f"{one.name:38} | {result.caught_by or 'SURVIVES':9} | {seed:>4} | {result.words[:110]}", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
