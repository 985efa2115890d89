"""What learned pacing saves beside the ladder: `python -m benchmarks.pacing [--small]`.

Durations are synthetic, seeded, and stated here: nobody's recordings are shipped. Log-normal ones with the medians of
images, short and long videos and music, narrow and wide; two speeds mixed; and three without a pattern, where the ladder
should stay. Of each, 200 are learned from and 20,000 others replayed; calls per generation and the median time from the
end at Kie to the look that finds it are compared with the ladder's 2, 5 and 15 seconds. No clock and no chance beside the
seed takes part, so the figures are the same on every machine.
"""

import random
from collections.abc import Callable
from math import log
from typing import Any

from benchmarks.figures import Figure, options, tell
from kiejobs.learned import AT_MOST, learn, replay

Draw = Callable[[random.Random], float]


def _usual(median_s: float, sigma: float) -> Draw:
    return lambda rng: rng.lognormvariate(log(median_s), sigma)


def _two_speeds(rng: random.Random) -> float:
    return _usual(30, 0.15)(rng) if rng.random() < 0.6 else _usual(150, 0.15)(rng)


LEARNABLE: dict[str, Draw] = {
    "image, 8 s": _usual(8, 0.25),
    "image, 20 s": _usual(20, 0.3),
    "short video, 60 s": _usual(60, 0.25),
    "short video, 90 s, wide": _usual(90, 0.5),
    "music, 130 s": _usual(130, 0.3),
    "long video, 300 s": _usual(300, 0.2),
    "long video, 500 s, wide": _usual(500, 0.4),
    "two speeds, 30 and 150 s": _two_speeds,
}
WITHOUT_PATTERN: dict[str, Draw] = {
    "very wide, 60 s": _usual(60, 1.0),
    "exponential, mean 60 s": lambda rng: 3 + rng.expovariate(1 / 60),
    "short and wide, 5 s": _usual(5, 1.0),
}


def compared(draw: Draw, replayed: int) -> dict[str, Any]:
    """Learn from some, replay others; `calls` and `lag` as shares of the ladder's."""
    rng = random.Random(7)
    schedule = learn([draw(rng) for _ in range(AT_MOST)])
    others = [draw(rng) for _ in range(replayed)]
    ladder, ours = replay(others, None), replay(others, schedule)
    return {
        "learned": schedule is not None,
        "calls": ours.calls / ladder.calls,
        "lag": ours.median_lag_s / ladder.median_lag_s,
        "of_calls": round(ladder.calls, 2),
        "of_median_lag_s": round(ladder.median_lag_s, 2),
        "mean_lag": ours.mean_lag_s / ladder.mean_lag_s,
    }


def main() -> None:
    """Compare and judge."""
    replayed = 2000 if options(__doc__).parse_args().small else 20000
    found = {name: compared(draw, replayed) for name, draw in (LEARNABLE | WITHOUT_PATTERN).items()}
    taught = [found[name] for name in LEARNABLE]
    beside = "of the ladder's; the worst of " + ", ".join(LEARNABLE)
    best = min(one["calls"] for one in taught), min(one["lag"] for one in taught)
    stayed = sum(not found[name]["learned"] for name in WITHOUT_PATTERN)
    figures = [
        Figure("calls per generation, learned / ladder", max(one["calls"] for one in taught), "×", at_most=1,
               beside=f"{beside}; the best is {best[0]:.2f}"),
        Figure("median lag, learned / ladder", max(one["lag"] for one in taught), "×", at_most=1,
               beside=f"the best is {best[1]:.2f}"),
        Figure("sets with a pattern that were not learned", sum(not one["learned"] for one in taught), at_most=0),
        Figure("sets without a pattern where the ladder stayed", stayed, beside=f"of {len(WITHOUT_PATTERN)}"),
    ]  # fmt: skip
    tell(found, figures)


if __name__ == "__main__":
    main()
