"""Query pacing: jobs in flight divided by reads per second, and a rate that learns from Kie."""

import pytest

from kiejobs.errors import DatabaseUnavailable
from tests.factories import Ticker
from workers.crowd import Crowd


class Flight:
    """How many jobs are in flight, and how often that was asked."""

    def __init__(self, jobs: int = 0) -> None:
        self.jobs, self.asked = jobs, 0

    def __call__(self) -> int:
        self.asked += 1
        return self.jobs


def crowd(limit_per_s: float = 10.0, jobs: int = 0) -> tuple[Crowd, Flight, Ticker]:
    flight, ticker = Flight(jobs), Ticker()
    return Crowd(limit_per_s, flight, monotonic=ticker), flight, ticker


@pytest.mark.parametrize(("jobs", "limit_per_s", "wait_s"), [(0, 10, 0), (10, 10, 1), (600, 10, 60), (3, 0.5, 6)])
def test_the_least_wait_is_jobs_by_reads_per_second(jobs: int, limit_per_s: float, wait_s: float) -> None:
    """Then all of them together stay within the limit."""
    assert crowd(limit_per_s, jobs)[0].wait_s() == wait_s


def test_jobs_are_counted_once_in_ten_seconds() -> None:
    """Not once per look."""
    made, flight, ticker = crowd(jobs=100)
    assert [made.wait_s() for _ in range(50)] == [10.0] * 50
    flight.jobs = 200
    ticker.advance(9.9)
    assert (made.wait_s(), flight.asked) == (10.0, 1)
    ticker.advance(0.1)
    assert (made.wait_s(), flight.asked) == (20.0, 2)


def test_a_throttled_read_halves_the_rate_at_most_once_in_ten_seconds() -> None:
    """A burst of refusals is one piece of news."""
    made, _, ticker = crowd()
    for _ in range(16):
        made.throttled()
    assert made.rate_per_s() == 5
    ticker.advance(10)
    made.throttled()
    assert made.rate_per_s() == 2.5


def test_the_rate_never_falls_below_one() -> None:
    """Nor below the limit that is set, where that is less."""
    for limit_per_s, floor in ((10, 1), (0.5, 0.5)):
        made, _, ticker = crowd(limit_per_s)
        for _ in range(10):
            made.throttled()
            ticker.advance(10)
        assert made.rate_per_s() == floor


def test_each_quiet_minute_gives_one_read_back_up_to_the_limit() -> None:
    """And no more than the limit, however long it is quiet."""
    made, _, ticker = crowd()
    made.throttled()
    for expected in (5, 6, 7):
        assert made.rate_per_s() == expected
        ticker.advance(59)
        assert made.rate_per_s() == expected
        ticker.advance(1)
    ticker.advance(3600)
    assert made.rate_per_s() == 10


def test_a_refusal_begins_the_quiet_minute_anew() -> None:
    """Also one that does not halve the rate."""
    made, _, ticker = crowd()
    made.throttled()
    ticker.advance(5)
    made.throttled()
    ticker.advance(59)
    assert made.rate_per_s() == 5
    ticker.advance(1)
    assert made.rate_per_s() == 6


def test_a_lower_rate_stretches_the_wait_at_once() -> None:
    """With the same count of jobs."""
    made, _, _ = crowd(jobs=100)
    assert made.wait_s() == 10
    made.throttled()
    assert made.wait_s() == 20


def test_a_count_that_failed_is_taken_again() -> None:
    """A database that was away for a moment must not make ten seconds without pacing."""
    made, flight, _ = crowd(jobs=100)
    calls = iter([True])

    def count() -> int:
        if next(calls, False):
            raise DatabaseUnavailable("for a moment")
        return flight()

    made._count = count
    with pytest.raises(DatabaseUnavailable):
        made.wait_s()
    assert made.wait_s() == 10
