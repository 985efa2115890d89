"""When to look again: the ladder, its limits, and the gaps of rescues and copies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiejobs import pacing
from kiejobs.pacing import look_timeout_s, next_look_s, renudge_s, retry_copy_s, rung_s, tail_s

TIMEOUT_S = 600.0


def wait(elapsed_s: float, **more: float) -> float:
    return next_look_s(elapsed_s, timeout_s=TIMEOUT_S, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("elapsed_s", "expected_s"),
    [(0, 2), (29.999, 2), (30, 5), (30.001, 5), (119.999, 5), (120, 15), (120.001, 15), (584, 15)],
)
def test_the_ladder_is_2_then_5_then_15_seconds(elapsed_s: float, expected_s: float) -> None:
    """Until 30 s, until 120 s, then."""
    assert wait(elapsed_s) == expected_s


@pytest.mark.parametrize(("elapsed_s", "expected_s"), [(0, 2), (29.999, 2), (30, 10), (119, 10), (120, 30)])
def test_callbacks_double_the_rungs_after_30_seconds(elapsed_s: float, expected_s: float) -> None:
    """The first half minute stays as it is."""
    assert rung_s(elapsed_s, callbacks=True) == expected_s


@pytest.mark.parametrize(
    ("elapsed_s", "expected_s"), [(600, 60), (7199.9, 60), (7200, 600), (86399, 600), (1_000_000, 600)]
)
def test_the_slow_tail_is_a_minute_until_two_hours_then_ten(elapsed_s: float, expected_s: float) -> None:
    """After the timeout."""
    assert tail_s(elapsed_s) == expected_s


@pytest.mark.parametrize(("troubles", "expected_s"), [(0, 2), (1, 4), (2, 8), (3, 16), (4, 32), (5, 60), (50, 60)])
def test_trouble_doubles_the_rung_up_to_a_minute(troubles: int, expected_s: float) -> None:
    """Rung times 2 to the power of looks without an answer."""
    assert wait(0, troubles=troubles) == expected_s


def test_a_thousand_troubles_are_no_overflow() -> None:
    """2 to the power of a thousand is never computed as a wait."""
    assert wait(0, troubles=100_000) == 60


def test_a_crowd_stretches_every_wait() -> None:
    """Jobs in flight divided by reads per second is the least wait, also above a minute."""
    assert wait(0, crowd_s=7.5) == 7.5
    assert wait(130, crowd_s=7.5) == 15
    assert wait(0, crowd_s=100) == 100


@given(st.floats(0, 500), st.floats(-1, 1), st.floats(0, 90))
def test_jitter_moves_a_wait_by_at_most_a_tenth(elapsed_s: float, jitter: float, crowd_s: float) -> None:
    """Minus or plus 10 %."""
    plain, moved = wait(elapsed_s, crowd_s=crowd_s), wait(elapsed_s, crowd_s=crowd_s, jitter=jitter)
    assert plain * 0.9 - 1e-9 <= moved <= plain * 1.1 + 1e-9


def test_jitter_is_a_tenth_at_its_ends() -> None:
    """The whole range is used."""
    assert wait(0, jitter=1) == pytest.approx(2.2)
    assert wait(0, jitter=-1) == pytest.approx(1.8)
    assert pacing.JITTER == 0.1


@given(st.floats(0, 600), st.integers(0, 30), st.floats(0, 10_000), st.floats(-1, 1), st.booleans())
def test_the_look_that_finds_the_timeout_is_never_late(
    elapsed_s: float, troubles: int, crowd_s: float, jitter: float, callbacks: bool
) -> None:
    """No trouble, crowd or jitter carries the next look beyond the timeout."""
    wait_s = next_look_s(
        elapsed_s, timeout_s=TIMEOUT_S, troubles=troubles, crowd_s=crowd_s, jitter=jitter, callbacks=callbacks
    )
    assert wait_s >= 0
    assert elapsed_s + wait_s <= TIMEOUT_S + 1e-6


def test_a_job_beyond_its_timeout_is_looked_at_now() -> None:
    """A negative wait would be a time in the past."""
    assert wait(700) == 0


@pytest.mark.parametrize(
    ("nudges", "expected_s"), [(0, 10), (1, 20), (2, 40), (3, 80), (4, 160), (5, 300), (6, 300), (10_000, 300)]
)
def test_a_row_that_does_not_answer_is_nudged_less_and_less(nudges: int, expected_s: float) -> None:
    """10 s, doubling to 300 s."""
    assert renudge_s(nudges) == expected_s


@pytest.mark.parametrize(
    ("attempts", "expected_s"), [(0, 5), (1, 5), (2, 10), (3, 20), (7, 320), (8, 600), (9, 600), (1000, 600)]
)
def test_a_copy_is_tried_again_after_5_seconds_doubling_to_10_minutes(attempts: int, expected_s: float) -> None:
    """`attempts` is how many there were."""
    assert retry_copy_s(attempts) == expected_s


def test_a_copy_is_put_off_however_often_it_was_tried() -> None:
    """Two weeks of ten-minute waits are 2016 attempts; the wait must be a number for each of them."""
    assert retry_copy_s(2016) == 600


@pytest.mark.parametrize(
    ("troubles", "http_timeout_s", "expected_s"), [(0, 30, 10), (1, 30, 30), (5, 30, 30), (0, 4, 4), (1, 4, 4)]
)
def test_a_look_takes_ten_seconds_at_most_unless_kie_was_slower_than_that(troubles, http_timeout_s, expected_s):
    assert look_timeout_s(troubles, http_timeout_s=http_timeout_s) == expected_s
