"""Each mutant breaks one promise; the simulation must see it, or it would not see the real thing either."""

import pytest

from tests.simulation.mutants import MUTANTS, Mutant, hunt
from tests.simulation.run import simulate

QUICK = 200
"""Worlds within which each must be seen; `python -m tests.simulation.mutants` gives the figures."""


@pytest.mark.parametrize("prey", MUTANTS, ids=lambda one: one.name)
def test_a_mutant_turns_its_invariant_red(prey: Mutant) -> None:
    """A named invariant catches the mutant within two hundred worlds."""
    found = hunt(prey, most=QUICK)
    assert found.caught_by in prey.caught_by, f"{prey.name} survived: {prey.says} {found.words}"


def test_what_a_mutant_broke_is_whole_again_afterwards() -> None:
    """A mutant lives only inside its block, so the next test tries the product itself."""
    for prey in MUTANTS:
        with prey.broken():
            pass
    assert [simulate(seed).broken for seed in range(10)] == [None] * 10
