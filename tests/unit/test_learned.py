"""Learned pacing: where the looks go, what they save, and when the ladder stays."""

import random
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiejobs.learned import AT_LEAST, BETTER, SLOWEST, learn, replay
from kiejobs.pacing import LEAST_GAP_S, MAX_WAIT_S, Schedule, next_look_s


def lognormal(median_s: float, sigma: float, count: int, seed: int = 7) -> list[float]:
    """Durations as most models' are: many near the median, a tail behind it."""
    rng = random.Random(seed)
    return [rng.lognormvariate(log(median_s), sigma) for _ in range(count)]


@pytest.mark.parametrize(("median_s", "sigma"), [(20, 0.3), (60, 0.25), (90, 0.5), (300, 0.2)])
def test_a_schedule_looks_less_often_and_finds_sooner(median_s: float, sigma: float) -> None:
    """On generations that it was not learned from."""
    schedule = learn(lognormal(median_s, sigma, 200))
    assert schedule is not None
    others = lognormal(median_s, sigma, 2000, seed=8)
    ours, ladder = replay(others, schedule), replay(others, None)
    assert ours.calls < 0.9 * ladder.calls
    assert ours.median_lag_s < 0.9 * ladder.median_lag_s
    assert ours.mean_lag_s <= ladder.mean_lag_s


def test_the_looks_are_dense_where_most_end_and_few_elsewhere() -> None:
    """First near the early ones, then many, then few."""
    known = lognormal(60, 0.15, 200)
    schedule = learn(known)
    assert schedule is not None
    looks = schedule.looks_s
    known.sort()
    assert known[0] < looks[0] < known[30]
    assert looks[-1] < known[198]
    early = sum(look < known[50] for look in looks) / known[50]
    middle = sum(known[50] <= look <= known[150] for look in looks) / (known[150] - known[50])
    assert middle > 4 * early
    assert schedule.wait_s(looks[-1]) is None


def test_durations_without_a_pattern_leave_the_ladder() -> None:
    """Where anything may take any time, nothing is better by enough."""
    rng = random.Random(3)
    assert learn([rng.expovariate(1 / 60) + 3 for _ in range(200)]) is None


def test_a_few_durations_teach_nothing() -> None:
    """Nor do those that cannot be."""
    assert learn(lognormal(60, 0.2, AT_LEAST - 1)) is None
    assert learn([0.0, -1.0, 1e9] * 20) is None


def test_a_job_is_called_late_by_the_slowest_that_is_known() -> None:
    """The runtime never calls it late before the setting."""
    known = lognormal(900, 0.1, 100)
    schedule = learn(known)
    assert schedule is not None
    assert schedule.late_s == pytest.approx(SLOWEST * max(known))


@settings(deadline=None)  # of the machine's speed, this says nothing
@given(st.lists(st.floats(0.5, 3000), min_size=AT_LEAST, max_size=60))
def test_a_schedule_keeps_its_bounds(durations_s: list[float]) -> None:
    """Looks rise by at least a second and at most what a message may wait, and reach the slowest."""
    schedule = learn(durations_s)
    if schedule is None:
        return
    gaps = [late - early for early, late in zip((0.0, *schedule.looks_s), schedule.looks_s, strict=False)]
    assert all(LEAST_GAP_S - 1e-6 <= gap <= MAX_WAIT_S + 1e-6 for gap in gaps)
    ours, ladder = replay(durations_s, schedule), replay(durations_s, None)
    assert ours.calls <= ladder.calls / BETTER


def test_the_wait_is_what_is_left_until_the_next_look() -> None:
    """A look that came late is not made up for; behind the last one the ladder goes on, doubled."""
    schedule = Schedule((10.0, 12.0, 20.0), 30.0)

    def wait(elapsed_s: float, **more: float) -> float:
        return next_look_s(elapsed_s, timeout_s=600.0, schedule=schedule, **more)  # type: ignore[arg-type]

    assert wait(0) == 10
    assert wait(0, jitter=1.0) == 10
    assert wait(10.2) == pytest.approx(1.8)
    assert wait(11.8) == pytest.approx(8.2)
    assert wait(20) == 4
    assert wait(200) == 30
    assert wait(0, troubles=1) == 20
    assert wait(0, crowd_s=15.0) == 15
    assert next_look_s(0, timeout_s=7.0, schedule=schedule) == 7
