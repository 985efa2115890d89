"""What may happen to a job: the code's table against a copy of the contract's."""

from itertools import product

import pytest

from kiejobs.jobs import ENDED, JobState
from kiejobs.jobs import JobState as S
from kiejobs.lifecycle import MEANING, TABLE, Event, IllegalChange, after, may

LEADS_TO: dict[S, set[S]] = {
    # `queued` to `storing`: a late answer of a family that answers at once withdraws a resend, as a late task does
    S.QUEUED: {S.SUBMITTING, S.CANCELED, S.FAIL, S.WAITING, S.STORING},
    S.SUBMITTING: {S.WAITING, S.QUEUED, S.FAIL, S.UNCONFIRMED, S.STORING, S.CANCELED},
    S.UNCONFIRMED: {S.WAITING, S.STORING, S.QUEUED, S.FAIL, S.CANCELED},
    S.WAITING: {S.WAITING, S.STORING, S.FAIL, S.TIMEOUT, S.CANCELED},
    # `timeout` to itself: a look in the slow tail, which the contract has in its words ("the slow tail still looks")
    S.TIMEOUT: {S.TIMEOUT, S.STORING, S.FAIL, S.CANCELED, S.QUEUED},
    S.STORING: {S.SUCCESS, S.FAIL},
    S.SUCCESS: set(),
    S.FAIL: {S.QUEUED, S.STORING, S.WAITING},
    S.CANCELED: set(),
}
"""The contract's table: which states a state is left to."""

EXPECTED: dict[tuple[S, str], S] = {
    (S.QUEUED, "sent"): S.SUBMITTING,
    (S.QUEUED, "canceled"): S.CANCELED,
    (S.QUEUED, "rejected"): S.FAIL,
    (S.QUEUED, "quarantined"): S.FAIL,
    (S.QUEUED, "accepted"): S.WAITING,
    (S.QUEUED, "answered"): S.STORING,
    (S.SUBMITTING, "accepted"): S.WAITING,
    (S.SUBMITTING, "answered"): S.STORING,
    (S.SUBMITTING, "deferred"): S.QUEUED,
    (S.SUBMITTING, "refused"): S.FAIL,
    (S.SUBMITTING, "lost"): S.UNCONFIRMED,
    (S.SUBMITTING, "canceled"): S.CANCELED,
    (S.UNCONFIRMED, "accepted"): S.WAITING,
    (S.UNCONFIRMED, "answered"): S.STORING,
    (S.UNCONFIRMED, "deferred"): S.QUEUED,
    (S.UNCONFIRMED, "resend_approved"): S.QUEUED,
    (S.UNCONFIRMED, "refused"): S.FAIL,
    (S.UNCONFIRMED, "written_off"): S.FAIL,
    (S.UNCONFIRMED, "canceled"): S.CANCELED,
    (S.WAITING, "seen"): S.WAITING,
    (S.WAITING, "produced"): S.STORING,
    (S.WAITING, "broke"): S.FAIL,
    (S.WAITING, "quarantined"): S.FAIL,
    (S.WAITING, "timed_out"): S.TIMEOUT,
    (S.WAITING, "canceled"): S.CANCELED,
    (S.TIMEOUT, "seen"): S.TIMEOUT,
    (S.TIMEOUT, "produced"): S.STORING,
    (S.TIMEOUT, "broke"): S.FAIL,
    (S.TIMEOUT, "quarantined"): S.FAIL,
    (S.TIMEOUT, "given_up"): S.FAIL,
    (S.TIMEOUT, "canceled"): S.CANCELED,
    (S.TIMEOUT, "bought_again"): S.QUEUED,
    (S.STORING, "stored"): S.SUCCESS,
    (S.STORING, "unstorable"): S.FAIL,
    (S.STORING, "quarantined"): S.FAIL,
    (S.FAIL, "bought_again"): S.QUEUED,
    (S.FAIL, "restored"): S.STORING,
    (S.FAIL, "accepted"): S.WAITING,
}
"""The same with the events that lead there, written out a second time on purpose."""

PAIRS = list(product(JobState, Event))


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=str)
def test_every_pair_is_in_the_contract_or_raises(state: S, event: Event) -> None:
    """No state has an event that the contract does not give it."""
    expected = EXPECTED.get((state, str(event)))
    assert may(state, event) == (expected is not None)
    if expected is not None:
        assert after(state, event) is expected
        return
    with pytest.raises(IllegalChange, match=f"a job in {state} cannot have {event}"):
        after(state, event)


@pytest.mark.parametrize("state", JobState)
def test_a_state_is_left_only_to_where_the_contract_says(state: S) -> None:
    """The events may be named as they like; where they lead is fixed."""
    assert {following for (before, _), following in TABLE.items() if before is state} == LEADS_TO[state]


@pytest.mark.parametrize("state", [S.SUCCESS, S.CANCELED])
def test_success_and_canceled_are_never_left(state: S) -> None:
    """I4: what is done stays done."""
    assert not any(may(state, event) for event in Event)


def test_only_a_person_or_a_late_task_id_takes_back_a_failure() -> None:
    """No retry of kiejobs' own leaves `fail`."""
    assert {event for event in Event if may(S.FAIL, event)} == {Event.BOUGHT_AGAIN, Event.RESTORED, Event.ACCEPTED}


def test_a_storing_job_cannot_be_canceled() -> None:
    """Its result is paid for and known; cancel is refused there."""
    assert not may(S.STORING, Event.CANCELED)


def test_no_event_sends_a_lost_create_again_without_an_approval() -> None:
    """I1: from `unconfirmed` into the line lead only the sender's own report and an approval."""
    back = {event for event in Event if may(S.UNCONFIRMED, event) and after(S.UNCONFIRMED, event) is S.QUEUED}
    assert back == {Event.DEFERRED, Event.RESEND_APPROVED}


def test_every_state_is_reached_and_every_event_has_a_meaning() -> None:
    """The page that is drawn from the table has no loose ends."""
    assert {*TABLE.values()} | {S.QUEUED} == {*JobState}
    assert {event for _, event in TABLE} == {*Event} == {*MEANING}
    assert {S.SUCCESS, S.FAIL, S.CANCELED} == ENDED
