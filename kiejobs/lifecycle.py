"""What may happen to a job: one literal table from (state, event) to the next state.

Pure. `after(state, event)` raises on anything that is not in the table, because an illegal change is a bug; a change
that comes too late is weather and is stopped by the row's version, not here. `docs/lifecycle.md` is drawn from TABLE.
"""

from enum import StrEnum

from kiejobs.jobs import JobState as S


class Event(StrEnum):
    """What happened, in the past tense."""

    SENT = "sent"
    DEFERRED = "deferred"
    REFUSED = "refused"
    ACCEPTED = "accepted"
    ANSWERED = "answered"
    LOST = "lost"
    RESEND_APPROVED = "resend_approved"
    WRITTEN_OFF = "written_off"
    SEEN = "seen"
    PRODUCED = "produced"
    BROKE = "broke"
    TIMED_OUT = "timed_out"
    GIVEN_UP = "given_up"
    STORED = "stored"
    UNSTORABLE = "unstorable"
    REJECTED = "rejected"
    QUARANTINED = "quarantined"
    CANCELED = "canceled"
    BOUGHT_AGAIN = "bought_again"
    RESTORED = "restored"


MEANING: dict[Event, str] = {
    Event.SENT: "the intent is committed; the create call may be in flight",
    Event.DEFERRED: "the create was refused for now, or never left; the job is in line again",
    Event.REFUSED: "Kie refused the request for good",
    Event.ACCEPTED: "Kie's task id is known",
    Event.ANSWERED: "a family that answers at once gave its result",
    Event.LOST: "nobody knows whether Kie took the create call",
    Event.RESEND_APPROVED: "a person or an explicit policy opted into sending again",
    Event.WRITTEN_OFF: "the unknown create call was given up",
    Event.SEEN: "a look at Kie's record: still working, or no answer",
    Event.PRODUCED: "Kie's results are known",
    Event.BROKE: "Kie says that the generation failed",
    Event.TIMED_OUT: "the 10 minutes are over; the producer is told, looking goes on",
    Event.GIVEN_UP: "the slow tail is over without a result",
    Event.STORED: "every output is stored and verified",
    Event.UNSTORABLE: "an output can never be stored",
    Event.REJECTED: "the job can never be sent",
    Event.QUARANTINED: "five executions in a row did not survive the job",
    Event.CANCELED: "the producer gave up",
    Event.BOUGHT_AGAIN: "a person paid for a new generation",
    Event.RESTORED: "a person asked to store the result again",
}

TABLE: dict[tuple[S, Event], S] = {
    (S.QUEUED, Event.SENT): S.SUBMITTING,
    (S.QUEUED, Event.CANCELED): S.CANCELED,
    (S.QUEUED, Event.REJECTED): S.FAIL,
    (S.QUEUED, Event.QUARANTINED): S.FAIL,
    (S.QUEUED, Event.ACCEPTED): S.WAITING,  # a late fact about an earlier submission withdraws an opted-in resend
    (S.QUEUED, Event.ANSWERED): S.STORING,  # likewise
    (S.SUBMITTING, Event.ACCEPTED): S.WAITING,
    (S.SUBMITTING, Event.ANSWERED): S.STORING,
    (S.SUBMITTING, Event.DEFERRED): S.QUEUED,
    (S.SUBMITTING, Event.REFUSED): S.FAIL,
    (S.SUBMITTING, Event.LOST): S.UNCONFIRMED,
    (S.SUBMITTING, Event.CANCELED): S.CANCELED,
    (S.UNCONFIRMED, Event.ACCEPTED): S.WAITING,
    (S.UNCONFIRMED, Event.ANSWERED): S.STORING,
    (S.UNCONFIRMED, Event.DEFERRED): S.QUEUED,  # the sender itself reports that nothing left
    (S.UNCONFIRMED, Event.RESEND_APPROVED): S.QUEUED,
    (S.UNCONFIRMED, Event.REFUSED): S.FAIL,
    (S.UNCONFIRMED, Event.WRITTEN_OFF): S.FAIL,
    (S.UNCONFIRMED, Event.CANCELED): S.CANCELED,
    (S.WAITING, Event.SEEN): S.WAITING,
    (S.WAITING, Event.PRODUCED): S.STORING,
    (S.WAITING, Event.BROKE): S.FAIL,
    (S.WAITING, Event.QUARANTINED): S.FAIL,
    (S.WAITING, Event.TIMED_OUT): S.TIMEOUT,
    (S.WAITING, Event.CANCELED): S.CANCELED,
    (S.TIMEOUT, Event.SEEN): S.TIMEOUT,
    (S.TIMEOUT, Event.PRODUCED): S.STORING,
    (S.TIMEOUT, Event.BROKE): S.FAIL,
    (S.TIMEOUT, Event.QUARANTINED): S.FAIL,
    (S.TIMEOUT, Event.GIVEN_UP): S.FAIL,
    (S.TIMEOUT, Event.CANCELED): S.CANCELED,
    (S.TIMEOUT, Event.BOUGHT_AGAIN): S.QUEUED,
    (S.STORING, Event.STORED): S.SUCCESS,
    (S.STORING, Event.UNSTORABLE): S.FAIL,
    (S.STORING, Event.QUARANTINED): S.FAIL,
    (S.FAIL, Event.BOUGHT_AGAIN): S.QUEUED,
    (S.FAIL, Event.RESTORED): S.STORING,
    (S.FAIL, Event.ACCEPTED): S.WAITING,  # only where the reason was `submission_lost`: see decisions.after_create
}


class IllegalChange(Exception):
    """The code asked for a change that the table does not have. A bug, never weather."""


def after(state: S, event: Event) -> S:
    """Return the state that follows `event` in `state`; IllegalChange where the table has none."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise IllegalChange(f"a job in {state} cannot have {event}") from None


def may(state: S, event: Event) -> bool:
    """Say whether `event` is possible in `state`."""
    return (state, event) in TABLE
