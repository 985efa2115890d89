"""When to look, learned from how long a model's generations took (`KIEJOBS_PACING=learned`).

Pure. A look is worth its call when the generations that may have ended since the last one would together have waited
longer than the calls of all that still run: that rule alone puts the first look near the early ones and many where most
end; behind them few follow. A schedule is only given where, on durations it was not learned from, it needs fewer calls
than the ladder and has a lower median lag; else the ladder stays.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import accumulate
from statistics import mean, median

from kiejobs.pacing import LEAST_GAP_S, MAX_WAIT_S, Schedule, next_look_s

AT_LEAST = 20
"""Fewer durations than this teach nothing."""

AT_MOST = 200
"""As many of the latest durations are learned from."""

USUAL = 0.95
"""The share of durations, the shorter ones, that looks are placed for: behind them the ladder goes on, doubled."""

PRICES_S: tuple[float, ...] = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Seconds of a result's waiting that one call may be worth; the best of these is taken."""

BETTER = 0.8
"""Of the ladder's calls and of its median lag a schedule may have so much at most: a sample is not the future."""

SLOWEST = 1.5
"""A generation is called late when it takes so many times as long as the slowest one known, never before the setting."""

_FOREVER_S = 86400.0


@dataclass(frozen=True, slots=True)
class Replay:
    """What a way of looking costs over many generations."""

    calls: float
    """Looks per generation."""
    median_lag_s: float
    """Between the end at Kie and the look that finds it."""
    mean_lag_s: float


def learn(durations_s: Sequence[float]) -> Schedule | None:
    """Learn a schedule from durations in seconds; None where the ladder does as well, or too little is known."""
    known = sorted(took_s for took_s in durations_s if 0 < took_s < _FOREVER_S)
    if len(known) < AT_LEAST:
        return None
    ladder = replay(known, None)
    costs = {price_s: _judged(known, price_s) for price_s in PRICES_S}
    better = [price_s for price_s in PRICES_S if _is_better(costs[price_s], ladder)]
    if not better:
        return None
    best_s = min(better, key=lambda price_s: _share(costs[price_s], ladder))
    return Schedule(_looks(known, best_s), SLOWEST * known[-1])


def _judged(known: list[float], price_s: float) -> Replay:
    """Say what a price leads to: what is learned from one half of the durations is replayed on the other."""
    halves = known[::2], known[1::2]
    costs = [replay(halves[1 - n], Schedule(_looks(halves[n], price_s), 0.0)) for n in (0, 1)]
    return Replay(*(mean(values) for values in zip(*(astuple(cost) for cost in costs), strict=True)))


def replay(durations_s: Sequence[float], schedule: Schedule | None) -> Replay:
    """Say what looking by this schedule (None: by the ladder) costs for generations that take so long."""
    longest_s = max(durations_s)
    looks_s = [0.0]
    while looks_s[-1] < longest_s:
        looks_s.append(looks_s[-1] + next_look_s(looks_s[-1], timeout_s=_FOREVER_S, schedule=schedule))
    found = [bisect_left(looks_s, took_s) for took_s in durations_s]
    lags_s = [looks_s[index] - took_s for index, took_s in zip(found, durations_s, strict=True)]
    return Replay(mean(found), median(lags_s), mean(lags_s))


def _looks(durations_s: list[float], price_s: float) -> tuple[float, ...]:
    """Place the looks, one after the other: each where the waiting that it ends is worth the calls that it makes."""
    known = durations_s[: round(len(durations_s) * USUAL)]
    sums = [0.0, *accumulate(known)]
    looks: list[float] = []
    at_s, ended = 0.0, 0
    while ended < len(known):
        at_s = min(max(_worth_it_s(known, sums, ended, price_s), at_s + LEAST_GAP_S), at_s + MAX_WAIT_S)
        looks.append(at_s)
        ended = bisect_right(known, at_s)
    return tuple(looks)


def _worth_it_s(known: list[float], sums: list[float], ended: int, price_s: float) -> float:
    """Say when those that end next have waited, together, for as long as one call for each that still runs is worth."""
    worth_s = price_s * (len(known) - ended)
    for upto in range(ended + 1, len(known) + 1):
        at_s = (worth_s + sums[upto] - sums[ended]) / (upto - ended)
        if upto == len(known) or at_s <= known[upto]:
            return at_s
    raise AssertionError("the last one always returns")


def _is_better(cost: Replay, than: Replay) -> bool:
    fewer, sooner = cost.calls <= BETTER * than.calls, cost.median_lag_s <= BETTER * than.median_lag_s
    return fewer and sooner and cost.mean_lag_s <= than.mean_lag_s


def _share(cost: Replay, of: Replay) -> float:
    return cost.calls / of.calls + cost.median_lag_s / of.median_lag_s
