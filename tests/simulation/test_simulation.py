"""Whole runs: the real steps, sweeps and repository in worlds where everything outside goes wrong, seed by seed."""

import pytest

from tests.simulation.many import run_many
from tests.simulation.run import simulate

SEEDS = 300
"""A quarter of a minute on two idle cores; `python -m tests.simulation.many FIRST COUNT` runs as many as wanted."""
MANY_SEEDS = 5000
"""Of `make long`."""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seeds", [SEEDS, pytest.param(MANY_SEEDS, marks=pytest.mark.long)])
def test_every_invariant_holds_in_every_world(seeds: int) -> None:
    """No seed breaks an invariant; a broken one shows its trace and how to replay it."""
    total = run_many(0, seeds)
    print(f"{total.seeds} seeds in {total.took_s:.0f} s, {total.seeds / total.took_s:.0f} a second")
    for seed, words in total.broken[:3]:
        print(f"\nseed {seed}: {words}\n{simulate(seed).trace()}")
        print(f"\nReplay it with: python -m tests.simulation.replay {seed}")
    assert not total.broken
    assert not total.missing(), "a run that never met these proves nothing"
    assert not total.complaints


def test_a_seed_gives_the_same_run_again() -> None:
    """A trace can be replayed: nothing but the seed decides, not even what ran before."""
    first = [simulate(seed).trace() for seed in range(10)]
    again = [simulate(seed).trace() for seed in reversed(range(10))]
    assert first == again[::-1]


def test_a_broken_run_says_which_invariant_and_where() -> None:
    """The judge's words begin with the invariant's number, and the trace leads up to them."""
    from tests.simulation.mutants import resubmit_on_unknown

    with resubmit_on_unknown():
        found = next(report for seed in range(200) if (report := simulate(seed)).broken)
    assert found.broken is not None
    assert found.broken.startswith("I1 ")
    assert "Kie takes" in found.trace()
