"""Messages on their way: a receiver that hangs holds few threads, one that answers is not slowed down."""

import threading
from contextlib import ExitStack

import pytest

from workers.receivers import IN_ALL, TO_ONE, Receivers


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def receivers(clock: Clock) -> Receivers:
    return Receivers(clock)


def test_a_receiver_that_hangs_has_its_slots_and_no_more(receivers: Receivers, clock: Clock) -> None:
    """Who comes to slow ones is sent away at once; another receiver has slots of its own."""
    with ExitStack() as hanging:
        assert all(hanging.enter_context(receivers.slot("slow")) for _ in range(TO_ONE))
        clock.now_s += 1.0
        with receivers.slot("slow") as free, receivers.slot("other") as others:
            assert (free, others) == (False, True)
    with receivers.slot("slow") as free:
        assert free


def test_many_receivers_that_hang_hold_no_more_than_half_of_the_threads(receivers: Receivers, clock: Clock) -> None:
    with ExitStack() as hanging:
        assert all(hanging.enter_context(receivers.slot(str(number))) for number in range(IN_ALL))
        clock.now_s += 1.0
        with receivers.slot("another") as free:
            assert not free
    with receivers.slot("another") as free:
        assert free


def test_a_slot_is_waited_for_where_those_ahead_are_quick(receivers: Receivers) -> None:
    """Twenty at once to one receiver that answers: each gets through, never more than its slots at a time."""
    busy, most, got, counting = 0, 0, 0, threading.Lock()

    def send() -> None:
        nonlocal busy, most, got
        with receivers.slot("quick") as free:
            with counting:
                busy += 1
                most, got = max(most, busy), got + free
            with counting:
                busy -= 1

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert got == 20
    assert most <= TO_ONE


def test_a_message_that_fails_gives_its_slot_back(receivers: Receivers, clock: Clock) -> None:
    for _ in range(TO_ONE + 1):
        with pytest.raises(RuntimeError), receivers.slot("x") as free:
            assert free
            clock.now_s += 1.0
            raise RuntimeError
