"""Looks wait in the worker that looked before; nothing that waits there is lost or held up by it."""

from typing import Any

import pytest

from kiejobs.nudge import Nudge, poll_nudge, store_nudge
from tests.factories import Ticker
from workers.waiting import Waiting

JOB = "0189d6d6-0000-7000-8000-000000000001"


class Hub:
    """An event loop with a clock of the test's."""

    def __init__(self, clock: Ticker) -> None:
        self._clock = clock
        self.timers: list[tuple[float, Any, Any]] = []

    def call_soon(self, callback: Any, *args: Any) -> None:
        callback(*args)

    def call_later(self, delay_s: float, callback: Any, *args: Any) -> None:
        self.timers.append((self._clock() + delay_s, callback, args))

    def run(self) -> None:
        """Run every timer whose time has come."""
        now = self._clock()
        come = [timer for timer in self.timers if timer[0] <= now]
        self.timers = [timer for timer in self.timers if timer[0] > now]
        for _, callback, args in come:
            callback(*args)


class Worker:
    """A place for looks."""

    def __init__(self, clock: Ticker) -> None:
        self.hub = Hub(clock)
        self.free = True
        self.ran: list[Nudge] = []

    def run(self, nudge: Nudge) -> bool:
        if self.free:
            self.ran.append(nudge)
        return self.free


@pytest.fixture
def clock() -> Ticker:
    return Ticker()


@pytest.fixture
def broker() -> list[Nudge]:
    return []


@pytest.fixture
def waiting(clock: Ticker, broker: list[Nudge]) -> Waiting:
    return Waiting(broker.extend, monotonic=clock)


@pytest.fixture
def worker(clock: Ticker, waiting: Waiting) -> Worker:
    worker = Worker(clock)
    waiting.wait_in(worker)
    return worker


def test_a_look_waits_until_it_is_due_and_runs_here(
    waiting: Waiting, worker: Worker, broker: list[Nudge], clock: Ticker
) -> None:
    """The broker never hears of it."""
    look = poll_nudge(JOB, 3, countdown_s=5.0, polls=2)
    waiting.publish([look])
    clock.advance(4.9)
    worker.hub.run()
    assert worker.ran == []
    clock.advance(0.2)
    worker.hub.run()
    assert (worker.ran, broker) == ([look], [])
    waiting.hand_over()
    assert broker == [], "what has run is not handed over"


def test_what_is_due_now_and_what_is_no_look_goes_to_the_broker(
    waiting: Waiting, worker: Worker, broker: list[Nudge]
) -> None:
    """Another worker may be quicker, or be the only one that may."""
    sent = [poll_nudge(JOB, 3), store_nudge(JOB, 0), store_nudge(JOB, 1, countdown_s=9.0)]
    waiting.publish(sent)
    assert broker == sent


def test_without_a_place_everything_goes_to_the_broker(waiting: Waiting, broker: list[Nudge]) -> None:
    """A producer, a process of -P prefork, a worker for copies."""
    waiting.publish([poll_nudge(JOB, 3, countdown_s=5.0)])
    assert broker == [poll_nudge(JOB, 3, countdown_s=5.0)]


def test_a_look_that_no_thread_is_free_for_goes_to_the_broker(
    waiting: Waiting, worker: Worker, broker: list[Nudge], clock: Ticker
) -> None:
    """Another worker may have one."""
    worker.free = False
    waiting.publish([poll_nudge(JOB, 3, countdown_s=5.0, polls=7)])
    clock.advance(5.0)
    worker.hub.run()
    assert broker == [poll_nudge(JOB, 3, polls=7)]


def test_a_worker_that_is_stopped_hands_its_looks_over(
    waiting: Waiting, worker: Worker, broker: list[Nudge], clock: Ticker
) -> None:
    """With the time that is left; and what its last tasks publish is not kept any more."""
    waiting.publish([poll_nudge(JOB, 3, countdown_s=15.0)])
    clock.advance(5.0)
    waiting.hand_over()
    assert broker == [poll_nudge(JOB, 3, countdown_s=10.0)]
    waiting.publish([poll_nudge(JOB, 4, countdown_s=15.0)])
    assert broker[1:] == [poll_nudge(JOB, 4, countdown_s=15.0)]
    clock.advance(60.0)
    worker.hub.run()
    assert worker.ran == [], "its timers find nothing"


def test_a_new_connection_keeps_what_waits(waiting: Waiting, worker: Worker, clock: Ticker) -> None:
    """Celery drops callbacks and timers when it loses the broker; a look that was due meanwhile runs at once, and once."""
    look = poll_nudge(JOB, 3, countdown_s=5.0)
    waiting.publish([look])
    kept = worker.hub.timers
    clock.advance(20.0)
    worker.hub.timers = []
    waiting.wait_in(worker)
    worker.hub.timers += kept
    worker.hub.run()
    assert worker.ran == [look]
