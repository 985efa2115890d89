"""Show one run effect by effect: `python -m tests.simulation.replay SEED [trait=value …]`. Exit 1 where it breaks.

`--mutant NAME` replays against a mutant, in the world that it is hunted in.
"""

import sys
from ast import literal_eval
from contextlib import nullcontext
from typing import Any

from tests.simulation.mutants import MUTANTS
from tests.simulation.run import simulate


def main() -> int:
    """Replay one seed."""
    given = sys.argv[1:]
    broken: Any = nullcontext
    traits: dict[str, Any] = {}
    if "--mutant" in given:
        place = given.index("--mutant")
        prey = next(one for one in MUTANTS if one.name == given[place + 1])
        broken, traits = prey.broken, dict(prey.world)
        del given[place : place + 2]
    seed, *changed = given
    traits |= {name: literal_eval(value) for name, _, value in (text.partition("=") for text in changed)}
    with broken():
        report = simulate(int(seed), **traits)
    print(report.trace())
    for words in report.complaints.values():
        print(f"known: {words}")
    print(f"\nseed {report.seed}: {report.broken or 'every invariant holds'}")
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
