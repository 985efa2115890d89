"""What should happen now: every outcome and every snapshot in every state, and what never ends a job."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiejobs.answers import (
    Accepted,
    Answered,
    Broken,
    Busy,
    Finished,
    NotSent,
    NotVisible,
    Outcome,
    Pending,
    Refused,
    Result,
    Scope,
    Unknown,
)
from kiejobs.decisions import (
    EMPTY_RESULT_LOOKS,
    HOLD_S,
    MAX_RESULTS,
    Pace,
    Settled,
    after_create,
    after_poll,
    after_trouble,
    after_unconfirmed,
    lapsed,
    next_choice,
    poisoned,
    settle,
    submission_after,
)
from kiejobs.errors import Reason
from kiejobs.jobs import BY_PRODUCTS, ENDED, Claim, JobState, OutputState, SubmissionState
from kiejobs.jobs import JobState as S
from kiejobs.lifecycle import Event, IllegalChange

PACE = Pace()
ACCEPTED = Accepted("task-1")
REFUSED = Refused("422", "no such size", Scope.JOB, Reason.INVALID_INPUT)
REFUSED_MODEL = Refused("505", "switched off", Scope.MODEL, Reason.REFUSED)
REFUSED_ACCOUNT = Refused("402", "no credits", Scope.ACCOUNT, Reason.CREDITS)
BUSY = Busy("429", "too often")
NOT_SENT = NotSent("refused connection")
UNKNOWN = Unknown("Kie answered 500", "500")
OUTCOMES: list[Outcome] = [ACCEPTED, REFUSED, REFUSED_MODEL, REFUSED_ACCOUNT, BUSY, NOT_SENT, UNKNOWN]
FOLLOWING = (S.SUBMITTING, S.UNCONFIRMED)
RESULT = Result("result", url="https://files.example/0.png")


def named(value: object) -> str:
    scope = getattr(value, "scope", None)
    return f"{type(value).__name__}{'-' + scope if scope else ''}" if not isinstance(value, str) else str(value)


def claim(state: S = S.WAITING, elapsed_s: float = 10.0, **more: Any) -> Claim:
    fields: dict[str, Any] = {
        "id": "018f3a5e-7c1d-7e6a-9b0f-2d4c6e8a0b1c",
        "version": 7,
        "state": state,
        "tenant": "default",
        "account": "default",
        "model": "z-image",
        "family": "jobs",
        "task_id": "task-1",
        "created_at": datetime(2026, 3, 9, tzinfo=UTC),
        "elapsed_s": elapsed_s,
        "polls": 1,
        "troubles": 0,
        "last_word": None,
        "executions": 1,
        "cancel_requested": False,
    }
    return Claim(**fields | more)


def states(state: S, outcome: Outcome, *, cancel: bool = False, lost: bool = False) -> list[S]:
    return [step.state for step in after_create(state, outcome, pace=PACE, cancel=cancel, lost=lost)]


# ── after the create call ────────────────────────────────────────────────────────────────────────────────────────────

EXPECTED: dict[tuple[str, S], S] = {
    ("Accepted", S.QUEUED): S.WAITING,  # a late fact withdraws an opted-in resend
    ("Accepted", S.SUBMITTING): S.WAITING,
    ("Accepted", S.UNCONFIRMED): S.WAITING,
    ("Refused-job", S.SUBMITTING): S.FAIL,
    ("Refused-job", S.UNCONFIRMED): S.FAIL,
    ("Unknown", S.SUBMITTING): S.UNCONFIRMED,
}
EXPECTED |= dict.fromkeys(product(("Refused-model", "Refused-account", "Busy", "NotSent"), FOLLOWING), S.QUEUED)


@pytest.mark.parametrize(("outcome", "state"), list(product(OUTCOMES, JobState)), ids=named)
def test_every_outcome_in_every_state_leads_where_the_contract_says(outcome: Outcome, state: S) -> None:
    """Where the contract says nothing the job does not move: the fact is only recorded."""
    expected = EXPECTED.get((named(outcome), state))
    assert states(state, outcome) == ([expected] if expected else [])


@pytest.mark.parametrize(("outcome", "state"), list(product(OUTCOMES, JobState)), ids=named)
def test_a_cancel_is_applied_when_the_outcome_is_known(outcome: Outcome, state: S) -> None:
    """Nothing bought: canceled. Bought: waiting, then canceled and said to be billed. Unknown: remembered."""
    found = after_create(state, outcome, pace=PACE, cancel=True)
    usual = EXPECTED.get((named(outcome), state))
    if usual is S.QUEUED:
        assert [step.state for step in found] == [S.CANCELED]
        assert "before anything was bought" in found[-1].note
    elif usual is S.WAITING:
        assert [step.state for step in found] == [S.WAITING, S.CANCELED]
        assert "billed" in found[-1].note
    else:
        assert [step.state for step in found] == ([usual] if usual else [])


@pytest.mark.parametrize("state", [state for state in JobState if state is not S.FAIL])
def test_lost_changes_nothing_but_a_failure(state: S) -> None:
    """The mark is about failed jobs alone."""
    assert states(state, ACCEPTED, lost=True) == states(state, ACCEPTED)


def test_a_late_task_id_takes_back_a_lost_submission_and_no_other_failure() -> None:
    """`fail` is left by a fact only where nobody knew whether the create had been taken."""
    assert states(S.FAIL, ACCEPTED, lost=True) == [S.WAITING]
    assert states(S.FAIL, ACCEPTED, lost=False) == []
    assert all(states(S.FAIL, outcome, lost=True) == [] for outcome in OUTCOMES if outcome is not ACCEPTED)


def test_an_accepted_job_is_looked_at_after_two_seconds() -> None:
    """The first rung, and never a guess that it is already done."""
    (step,) = after_create(S.SUBMITTING, ACCEPTED, pace=PACE, cancel=False)
    assert (step.event, step.due_in_s) == (Event.ACCEPTED, 2.0)
    assert "task-1" in step.note


def test_a_refusal_says_why() -> None:
    """Reason, Kie's code and message end in the row."""
    (step,) = after_create(S.SUBMITTING, REFUSED, pace=PACE, cancel=False)
    assert (step.reason, step.code, step.message) == (Reason.INVALID_INPUT, "422", "no such size")
    assert step.due_in_s is None


@pytest.mark.parametrize("outcome", [REFUSED_ACCOUNT, BUSY, NOT_SENT], ids=named)
def test_a_deferred_job_keeps_its_place_in_line(outcome: Outcome) -> None:
    """Waiting is not failing, and costs no place."""
    (step,) = after_create(S.SUBMITTING, outcome, pace=PACE, cancel=False)
    assert step.in_line
    assert step.due_in_s is None
    assert step.reason is None


def test_a_job_whose_model_is_switched_off_leaves_the_line_for_a_while() -> None:
    """Else it would stand before everybody and be refused for ever."""
    (step,) = after_create(S.SUBMITTING, REFUSED_MODEL, pace=PACE, cancel=False)
    assert not step.in_line
    assert step.due_in_s == HOLD_S


def test_an_unknown_outcome_is_parked_for_as_long_as_kie_keeps_files() -> None:
    """Nothing by itself sends it again; after 14 days it is written off."""
    (step,) = after_create(S.SUBMITTING, UNKNOWN, pace=PACE, cancel=False)
    assert (step.state, step.due_in_s, step.in_line) == (S.UNCONFIRMED, 14 * 86400, False)
    assert (step.code, step.message) == ("500", "Kie answered 500")


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (ACCEPTED, SubmissionState.ACCEPTED),
        (REFUSED, SubmissionState.REFUSED),
        (REFUSED_MODEL, SubmissionState.REFUSED),
        (REFUSED_ACCOUNT, SubmissionState.REFUSED),
        (BUSY, SubmissionState.REFUSED),
        (NOT_SENT, SubmissionState.NOT_SENT),
        (UNKNOWN, SubmissionState.UNKNOWN),
    ],
    ids=named,
)
def test_a_submission_becomes_what_its_outcome_says(outcome: Outcome, expected: SubmissionState) -> None:
    """Busy is a refusal: nothing was made."""
    assert submission_after(outcome) is expected


# ── after a look ─────────────────────────────────────────────────────────────────────────────────────────────────────

FINISHED = Finished((RESULT,), Decimal("4.5"))
EMPTY = Finished(())
BROKEN = Broken("501", "Generation failed.", Reason.GENERATION, Decimal(0))
PENDING = Pending("generating", 0.5)
ODD = Pending("daydreaming", known=False)
NOT_VISIBLE = NotVisible("recordInfo is null")


@pytest.mark.parametrize(
    ("snapshot", "state", "event"),
    [
        (FINISHED, S.WAITING, Event.PRODUCED),
        (FINISHED, S.TIMEOUT, Event.PRODUCED),
        (BROKEN, S.WAITING, Event.BROKE),
        (BROKEN, S.TIMEOUT, Event.BROKE),
        (EMPTY, S.WAITING, Event.SEEN),
        (EMPTY, S.TIMEOUT, Event.SEEN),
        (PENDING, S.WAITING, Event.SEEN),
        (PENDING, S.TIMEOUT, Event.SEEN),
        (ODD, S.WAITING, Event.SEEN),
        (ODD, S.TIMEOUT, Event.SEEN),
        (NOT_VISIBLE, S.WAITING, Event.SEEN),
        (NOT_VISIBLE, S.TIMEOUT, Event.SEEN),
    ],
    ids=named,
)
def test_every_snapshot_leads_where_the_contract_says(snapshot: Any, state: S, event: Event) -> None:
    """Results are stored, a failure is believed, everything else is looked at again."""
    found = after_poll(claim(state, 10 if state is S.WAITING else 700), snapshot, PACE)
    assert found.event is event
    if event is Event.SEEN:
        assert found.state is state
        assert found.due_in_s is not None


@pytest.mark.parametrize("snapshot", [FINISHED, BROKEN, PENDING, NOT_VISIBLE], ids=named)
@pytest.mark.parametrize("state", [state for state in JobState if state not in (S.WAITING, S.TIMEOUT)])
def test_a_look_belongs_to_waiting_and_timeout_alone(snapshot: Any, state: S) -> None:
    """A snapshot in any other state is a bug and raises."""
    with pytest.raises(IllegalChange):
        after_poll(claim(state), snapshot, PACE)


def test_results_credits_and_lateness_travel_with_the_change() -> None:
    """A success after the timeout is marked as late; one before is not."""
    early, late = after_poll(claim(), FINISHED, PACE), after_poll(claim(S.TIMEOUT, 700), FINISHED, PACE)
    assert early.results == late.results == (RESULT,)
    assert early.credits == Decimal("4.5")
    assert (early.late, late.late) == (False, True)
    assert early.due_in_s == 60, "the sweep settles a storing job without a message"


def test_a_record_without_end_is_bounded_and_says_so() -> None:
    """A hundred are stored; that there were more is told, whether they came by a look or with the answer itself."""
    many = tuple(Result("result", url=f"https://files.example/{number}.png") for number in range(100_000))
    answered = Answered(many, "{}")
    for found in (
        after_poll(claim(), Finished(many), PACE),
        after_create(S.SUBMITTING, answered, pace=PACE, cancel=False)[0],
    ):
        assert found.results == many[:MAX_RESULTS]
        assert "named 100000 results; the first 100 are stored" in (found.alarm or "")
    enough = after_poll(claim(), Finished(many[:MAX_RESULTS]), PACE)
    assert (len(enough.results), enough.alarm) == (MAX_RESULTS, None)


def test_a_failure_of_kies_keeps_its_code_and_message() -> None:
    """The producer reads Kie's own words."""
    found = after_poll(claim(), BROKEN, PACE)
    assert (found.reason, found.code, found.message) == (Reason.GENERATION, "501", "Generation failed.")
    assert found.credits == 0, "a refund is known credits, not unknown ones"


@pytest.mark.parametrize("snapshot", [PENDING, ODD, NOT_VISIBLE, EMPTY, None], ids=named)
def test_the_timeout_is_told_at_exactly_600_seconds(snapshot: Any) -> None:
    """Whether Kie answers (a snapshot) or not (None)."""
    before, at = claim(elapsed_s=599.999), claim(elapsed_s=600.0)
    look = (lambda c: after_trouble(c, "502", PACE)) if snapshot is None else (lambda c: after_poll(c, snapshot, PACE))
    assert look(before).event is Event.SEEN
    told = look(at)
    assert (told.event, told.state, told.due_in_s) == (Event.TIMED_OUT, S.TIMEOUT, 60.0)
    assert "10 minutes" in told.note


@pytest.mark.parametrize("snapshot", [PENDING, ODD, NOT_VISIBLE, EMPTY, None], ids=named)
def test_the_tail_ends_at_exactly_24_hours(snapshot: Any) -> None:
    """Whether Kie answers or not; one moment before, looking goes on."""
    before, at = claim(S.TIMEOUT, 86399.999), claim(S.TIMEOUT, 86400.0)
    look = (lambda c: after_trouble(c, "502", PACE)) if snapshot is None else (lambda c: after_poll(c, snapshot, PACE))
    assert look(before).event is Event.SEEN
    ended = look(at)
    assert (ended.event, ended.state) == (Event.GIVEN_UP, S.FAIL)
    assert ended.reason in (Reason.NO_RESULT, Reason.UNKNOWN_TASK)
    assert (ended.reason is Reason.UNKNOWN_TASK) == (snapshot is NOT_VISIBLE)


@pytest.mark.parametrize("elapsed_s", [600.0, 86400.0, 10**7])
def test_a_result_is_taken_however_late_it_comes(elapsed_s: float) -> None:
    """The timeout is a notice, not the end: promise 2."""
    assert after_poll(claim(S.WAITING, elapsed_s), FINISHED, PACE).state is S.STORING
    assert after_poll(claim(S.TIMEOUT, elapsed_s), FINISHED, PACE).state is S.STORING


def test_a_job_nobody_looked_at_for_a_day_is_told_of_the_timeout_before_it_ends() -> None:
    """Workers were down for two days: the producer still gets both notices, in order."""
    first = after_poll(claim(S.WAITING, 2 * 86400.0), PENDING, PACE)
    assert first.event is Event.TIMED_OUT
    assert after_poll(claim(S.TIMEOUT, 2 * 86400.0), PENDING, PACE).event is Event.GIVEN_UP


def test_other_limits_are_the_settings() -> None:
    """`KIEJOBS_POLL_TIMEOUT_S` and `KIEJOBS_SALVAGE_S`."""
    pace = Pace(timeout_s=20.0, salvage_s=100.0)
    assert after_poll(claim(elapsed_s=19.9), PENDING, pace).event is Event.SEEN
    assert after_poll(claim(elapsed_s=20.0), PENDING, pace).event is Event.TIMED_OUT
    assert after_poll(claim(S.TIMEOUT, 100.0), PENDING, pace).event is Event.GIVEN_UP


def test_a_fresh_task_that_kie_does_not_show_is_no_trouble_for_90_seconds() -> None:
    """After that it is, which stretches the waits and still fails nothing."""
    fresh, old = (
        after_poll(claim(elapsed_s=89.9), NOT_VISIBLE, PACE),
        after_poll(claim(elapsed_s=90), NOT_VISIBLE, PACE),
    )
    assert (fresh.state, fresh.trouble) == (S.WAITING, False)
    assert (old.state, old.trouble) == (S.WAITING, True)


def test_a_success_without_a_result_is_asked_again_and_then_fails() -> None:
    """Kie sometimes says success a little before the links are there."""
    for looks in range(EMPTY_RESULT_LOOKS):
        assert after_poll(claim(empty_looks=looks), EMPTY, PACE).state is S.WAITING
    ended = after_poll(claim(empty_looks=EMPTY_RESULT_LOOKS), EMPTY, PACE)
    assert (ended.state, ended.reason) == (S.FAIL, Reason.RESULT_INVALID)


def test_a_success_with_by_products_alone_is_as_empty_as_one_with_nothing() -> None:
    """A record whose song or video is not there yet may have its cover; a copy with a watermark is a result."""
    cover, marked = (
        Result("cover", url="https://files.example/c.png"),
        Result("watermark", url="https://x.example/w.mp4"),
    )
    assert after_poll(claim(), Finished((cover,)), PACE).state is S.WAITING
    assert after_poll(claim(empty_looks=EMPTY_RESULT_LOOKS), Finished((cover,)), PACE).reason is Reason.RESULT_INVALID
    assert after_poll(claim(), Finished((marked, cover)), PACE).state is S.STORING


words = st.text(max_size=30)
troubles = st.integers(0, 10_000)


@given(words, st.floats(0, 86399), troubles, st.sampled_from([S.WAITING, S.TIMEOUT]), st.none() | st.floats(0, 1))
def test_an_unknown_word_never_ends_a_job(
    word: str, elapsed_s: float, failures: int, state: S, progress: float | None
) -> None:
    """Within the 24 hours a word nobody documented is waited on, whatever it is."""
    found = after_poll(claim(state, elapsed_s, troubles=failures), Pending(word, progress, known=False), PACE)
    assert found.state not in ENDED
    assert found.word == word
    assert found.due_in_s is not None
    assert "unknown word" in found.note


@given(st.floats(0, 86399), troubles, st.sampled_from([S.WAITING, S.TIMEOUT]), st.floats(-1, 1), st.floats(0, 1000))
def test_trouble_never_fails_a_job(elapsed_s: float, failures: int, state: S, jitter: float, crowd_s: float) -> None:
    """A thousand 502s in a row only make the waits longer."""
    pace = Pace(jitter=jitter, crowd_s=crowd_s)
    found = after_trouble(claim(state, elapsed_s, troubles=failures), "Kie answered 502", pace)
    assert found.state not in ENDED
    assert found.trouble
    assert found.due_in_s is not None
    assert found.reason is None


@given(st.integers(0, 20))
def test_each_trouble_waits_longer_than_the_one_before(failures: int) -> None:
    """2^n of the rung, at most a minute."""
    first, second = (after_trouble(claim(troubles=n), "502", PACE).due_in_s or 0 for n in (failures, failures + 1))
    assert first <= second <= 60
    assert after_trouble(claim(troubles=0), "502", PACE).due_in_s == 4


# ── from rows alone ──────────────────────────────────────────────────────────────────────────────────────────────────

STORED = Settled("result", OutputState.STORED)
WAITS = Settled("result", OutputState.PENDING)
SPOILT = Settled("result", OutputState.FAILED, Reason.RESULT_INVALID, "no media")
LOST = Settled("origin", OutputState.FAILED, Reason.RESULT_EXPIRED, "gone")


def test_a_storing_job_waits_for_every_output() -> None:
    """Also for those after a failed one: what can be stored, is."""
    assert settle([STORED, WAITS]) is None
    assert settle([SPOILT, WAITS]) is None


def test_all_outputs_stored_is_success_and_one_spoilt_is_failure() -> None:
    """The failure carries the output's own reason and number."""
    done = settle([STORED, STORED])
    assert done is not None
    assert done.state is S.SUCCESS
    spoilt = settle([STORED, SPOILT])
    assert spoilt is not None
    assert (spoilt.state, spoilt.reason, spoilt.message) == (S.FAIL, Reason.RESULT_INVALID, "output 1: no media")


def test_a_lost_by_product_does_not_fail_the_job() -> None:
    """The result itself is stored; the note says what is not there. Alone it is no result."""
    done = settle([LOST, STORED])
    assert done is not None
    assert (done.state, done.note) == (S.SUCCESS, "1 file(s) stored and verified, 1 by-product(s) lost")
    alone = settle([LOST])
    assert alone is not None
    assert alone.state is S.FAIL
    assert settle([LOST, WAITS]) is None


@pytest.mark.parametrize("role", sorted(BY_PRODUCTS))
@pytest.mark.parametrize("reason", [Reason.RESULT_EXPIRED, Reason.RESULT_INVALID, Reason.STORAGE, Reason.QUARANTINED])
def test_no_by_product_makes_a_paid_result_fail(role: str, reason: Reason) -> None:
    """A dead cover, frame, origin or link leaves the song, the video and the answer as good as they are."""
    done = settle([STORED, Settled(role, OutputState.FAILED, reason, "gone")])
    assert done is not None
    assert done.state is S.SUCCESS


def test_by_products_alone_are_no_result() -> None:
    """The song is lost, its cover is there."""
    lost = settle([Settled("cover", OutputState.STORED), SPOILT, LOST])
    assert lost is not None
    assert (lost.state, lost.message) == (S.FAIL, "output 1: no media")


def test_a_document_does_not_stand_for_the_files_that_it_names() -> None:
    """They may be all that was bought, such as the stems of a song; a link that never led to a file is another matter."""
    document, answer = Settled("document", OutputState.STORED), Settled("result", OutputState.STORED)
    gone = Settled("linked", OutputState.FAILED, Reason.RESULT_EXPIRED, "gone")
    stem = Settled("file", OutputState.FAILED, Reason.RESULT_INVALID, "a web page")
    page = Settled("linked", OutputState.FAILED, Reason.RESULT_INVALID, "a web page")
    ends = [settle(outputs) for outputs in ([document, gone], [document, stem], [document, page], [answer, gone])]
    assert [end and end.state for end in ends] == [S.FAIL, S.FAIL, S.SUCCESS, S.SUCCESS]


@pytest.mark.parametrize("state", [S.QUEUED, S.WAITING, S.TIMEOUT, S.STORING])
def test_poison_is_quarantined_from_wherever_it_strikes(state: S) -> None:
    """I16."""
    assert (poisoned(state).state, poisoned(state).reason) == (S.FAIL, Reason.QUARANTINED)


def test_a_lapsed_create_is_unconfirmed_never_in_line() -> None:
    """I1: nobody knows whether it was bought."""
    assert (lapsed(S.SUBMITTING, PACE).state, lapsed(S.SUBMITTING, PACE).in_line) == (S.UNCONFIRMED, False)
    with pytest.raises(IllegalChange):
        lapsed(S.WAITING, PACE)


@pytest.mark.parametrize("age_s", [0, 1800, 86400, 14 * 86400 - 0.001])
@pytest.mark.parametrize("resent", [False, True])
def test_a_parked_job_is_never_sent_again_by_itself(age_s: float, resent: bool) -> None:
    """I1: without an explicit policy time does nothing to it."""
    assert after_unconfirmed(age_s, PACE, resent=resent) is None


def test_a_parked_job_is_written_off_after_14_days() -> None:
    """What Kie made is deleted by then."""
    ended = after_unconfirmed(14 * 86400, PACE, resent=False)
    assert ended is not None
    assert (ended.event, ended.state, ended.reason) == (Event.WRITTEN_OFF, S.FAIL, Reason.SUBMISSION_LOST)


def test_the_policy_resends_once_and_says_who_decided() -> None:
    """Opted into, 30 minutes after the create; the second unknown outcome is a person's."""
    pace = Pace(resend_after_s=1800.0)
    assert after_unconfirmed(1799.999, pace, resent=False) is None
    again = after_unconfirmed(1800.0, pace, resent=False)
    assert again is not None
    assert (again.event, again.state, again.in_line) == (Event.RESEND_APPROVED, S.QUEUED, True)
    assert "KIEJOBS_ON_UNCONFIRMED" in again.note
    assert after_unconfirmed(1800.0, pace, resent=True) is None
    assert after_unconfirmed(14 * 86400, pace, resent=True) is not None


@pytest.mark.parametrize("outcome", OUTCOMES, ids=named)
def test_another_model_is_tried_only_after_a_refusal_that_it_may_escape(outcome: Outcome) -> None:
    """Never after an outcome that may have bought something."""
    assert next_choice(outcome, 0, 3) is None
    if isinstance(outcome, Refused):
        escaped = replace(outcome, try_another=True)
        assert [next_choice(escaped, chosen, 3) for chosen in range(3)] == [1, 2, None]
