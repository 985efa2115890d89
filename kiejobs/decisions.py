"""What should happen now: facts in, one `Change` out.

Pure: no clock, no database, no randomness; ages and jitter are arguments. A `Change` is a value that names the event,
the state after it and when the row is due again; the repository writes it, fenced by the version that was claimed.
Waiting is never failing: trouble in reaching Kie, throttling and unknown words only decide when to look again.
"""

from dataclasses import dataclass, replace
from decimal import Decimal

from kiejobs import pacing
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
    Snapshot,
    Unknown,
)
from kiejobs.errors import Reason
from kiejobs.jobs import BY_PRODUCTS, Claim, JobState, OutputState, SubmissionState
from kiejobs.lifecycle import Event, after, may
from kiejobs.pacing import Schedule

VISIBLE_AFTER_S = 90.0
"""How long Kie may not show a fresh task before that is an answer."""

MAX_EXECUTIONS = 5
"""Claims in a row without a finished step before a job is taken for poison."""

SETTLE_EVERY_S = 60.0
"""How often the sweep looks whether a `storing` job's outputs are all there."""

HOLD_S = 60.0
"""How long a job whose model is switched off stays out of the line."""

UNCONFIRMED_FOR_S = 14 * 86400.0
"""How long an unknown create call is waited on: as long as Kie would keep what it made."""

MAX_RESULTS = 100
"""As many files of one generation are stored, far more than any model makes: what comes beyond is a broken answer."""

EMPTY_RESULT_LOOKS = 5
"""How often a `success` without any result is asked again before it is a failure of Kie's."""


NOT_BILLED = "canceled before anything was bought"
BILLED = "canceled; Kie had taken the task, so it is billed, and its result will not be stored"


@dataclass(frozen=True, slots=True)
class Pace:
    """What the moment says about waiting: settings, the account's crowd, the caller's jitter in -1 … 1."""

    timeout_s: float = 600.0
    salvage_s: float = 86400.0
    crowd_s: float = 0.0
    jitter: float = 0.0
    callbacks: bool = False
    schedule: Schedule | None = None
    """When to look at jobs of this model, where that was learned; else the ladder tells."""
    resend_after_s: float | None = None
    """Seconds after which an unknown create call is sent again, where that was opted into; None: never."""


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a job: what happened, where it leads, when to look again.

    `due_in_s` None means that no time brings the job further: it stands in line, waits for a person, or has ended.
    """

    event: Event
    state: JobState
    note: str
    due_in_s: float | None = None
    reason: Reason | None = None
    code: str | None = None
    message: str | None = None
    word: str | None = None
    progress: float | None = None
    trouble: bool = False
    odd: bool = False
    """Kie used a word that no documentation names: its record is kept, for whoever has to learn it."""
    empty: bool = False
    """The look found a success without any result."""
    late: bool = False
    in_line: bool = False
    credits: Decimal | None = None
    results: tuple[Result, ...] = ()
    alarm: str | None = None
    """What a person should see beside the change."""


def change(state: JobState, event: Event, note: str, **details: object) -> Change:
    """Make a change along the lifecycle's table; IllegalChange where the table has none."""
    return replace(Change(event, after(state, event), note), **details)  # type: ignore[arg-type]


# ── after the create call ────────────────────────────────────────────────────────────────────────────────────────────


def submission_after(outcome: Outcome) -> SubmissionState:
    """Say what an outcome makes of its submission. `Busy` is a refusal: nothing was made."""
    match outcome:
        case Accepted() | Answered():
            return SubmissionState.ACCEPTED
        case Refused() | Busy():
            return SubmissionState.REFUSED
        case NotSent():
            return SubmissionState.NOT_SENT
        case Unknown():
            return SubmissionState.UNKNOWN


def after_create(state: JobState, outcome: Outcome, *, pace: Pace, cancel: bool, lost: bool = False) -> list[Change]:
    """Turn the outcome of a create call into the job's changes, from the state the job is in *now*.

    An outcome is a fact: it may come when the job has long moved on. An empty list means that the job does not follow
    this submission any more and the fact is only recorded. `lost` says that a failed job failed as `submission_lost`,
    the one failure that a task id takes back. `cancel` applies a cancel that was asked for while the call was in flight.
    """
    match outcome:
        case Accepted():
            changes = _accepted(state, outcome, pace, lost=lost)
        case Answered() if may(state, Event.ANSWERED):
            changes = [_answered(state, outcome)]
        case Refused(scope=Scope.JOB) if may(state, Event.REFUSED):
            changes = [_ended(state, Event.REFUSED, outcome.reason, outcome.code, outcome.message)]
        case Refused() | Busy() | NotSent() if cancel and may(state, Event.DEFERRED):
            changes = [change(state, Event.CANCELED, NOT_BILLED, message=NOT_BILLED)]
        case Refused(scope=Scope.MODEL) if may(state, Event.DEFERRED):
            changes = [change(state, Event.DEFERRED, _deferred_note(outcome), due_in_s=HOLD_S, message=outcome.message)]
        case Refused() | Busy() | NotSent() if may(state, Event.DEFERRED):
            changes = [change(state, Event.DEFERRED, _deferred_note(outcome), in_line=True)]
        case Unknown() if may(state, Event.LOST):
            changes = [_parked(state, pace, outcome.message, outcome.code)]
        case _:
            changes = []
    if cancel and changes and may(changes[-1].state, Event.CANCELED) and isinstance(outcome, Accepted):
        changes.append(change(changes[-1].state, Event.CANCELED, BILLED, message=BILLED))
    return changes


def _accepted(state: JobState, outcome: Accepted, pace: Pace, *, lost: bool) -> list[Change]:
    if not may(state, Event.ACCEPTED) or (state is JobState.FAIL and not lost):
        return []
    wait_s = pacing.next_look_s(
        0.0, timeout_s=pace.timeout_s, crowd_s=pace.crowd_s, jitter=pace.jitter, schedule=pace.schedule
    )
    return [change(state, Event.ACCEPTED, f"Kie took the task as {outcome.task_id}", due_in_s=wait_s)]


def _answered(state: JobState, outcome: Answered) -> Change:
    note = f"Kie answered at once with {len(outcome.results)} result(s)"
    told = {"credits": outcome.credits, "progress": 1.0, **_kept(outcome.results)}
    return change(state, Event.ANSWERED, note, due_in_s=SETTLE_EVERY_S, **told)


def _kept(results: tuple[Result, ...]) -> dict[str, object]:
    """Choose what is stored; what is left out is told, never passed over in silence."""
    if len(results) <= MAX_RESULTS:
        return {"results": results}
    said = f"Kie named {len(results)} results; the first {MAX_RESULTS} are stored, the rest stand in its answer"
    return {"results": results[:MAX_RESULTS], "alarm": said}


def _parked(state: JobState, pace: Pace, message: str, code: str | None = None) -> Change:
    due_in_s = UNCONFIRMED_FOR_S if pace.resend_after_s is None else pace.resend_after_s
    note = f"nobody knows whether Kie took the create call: {message}"
    return change(state, Event.LOST, note, due_in_s=due_in_s, code=code, message=message)


def next_choice(outcome: Outcome, chosen: int, choices: int) -> int | None:
    """Say which of the request's models is tried next after a refusal; None where none is left or none would help."""
    if isinstance(outcome, Refused) and outcome.try_another and chosen + 1 < choices:
        return chosen + 1
    return None


def after_unconfirmed(age_s: float, pace: Pace, *, resent: bool) -> Change | None:
    """Say what time makes of a parked job; None while it waits. A policy resends once, a person may do so again."""
    if pace.resend_after_s is not None and not resent and age_s >= pace.resend_after_s:
        note = f"sent again by the policy KIEJOBS_ON_UNCONFIRMED=resubmit after {age_s:.0f} s; it may be paid twice"
        return change(JobState.UNCONFIRMED, Event.RESEND_APPROVED, note, in_line=True)
    if age_s >= UNCONFIRMED_FOR_S:
        message = "nobody named Kie's task within 14 days; what it made is deleted by now"
        return _ended(JobState.UNCONFIRMED, Event.WRITTEN_OFF, Reason.SUBMISSION_LOST, "", message)
    return None


def _deferred_note(outcome: Refused | Busy | NotSent) -> str:
    match outcome:
        case NotSent():
            return f"not sent: {outcome.message}"
        case Busy():
            return f"Kie is asked too often ({outcome.code}): {outcome.message}"
        case Refused():
            return f"refused for the {outcome.scope} ({outcome.code}): {outcome.message}"


# ── after a look at Kie's record ─────────────────────────────────────────────────────────────────────────────────────


def after_poll(claim: Claim, snapshot: Snapshot, pace: Pace) -> Change:
    """Turn a look at Kie's record into the job's next change."""
    match snapshot:
        case Finished() if _lacks_the_result(snapshot) and claim.empty_looks < EMPTY_RESULT_LOOKS:
            return _seen(claim, "Kie says success but shows no result yet", pace, trouble=True, empty=True)
        case Finished() if _lacks_the_result(snapshot):
            message = "Kie says success but gave no result"
            return _ended(claim.state, Event.BROKE, Reason.RESULT_INVALID, "", message, credits=snapshot.credits)
        case Finished():
            note = f"{len(snapshot.results)} result(s) at Kie"
            return change(
                claim.state,
                Event.PRODUCED,
                note,
                due_in_s=SETTLE_EVERY_S,
                credits=snapshot.credits,
                late=claim.state is JobState.TIMEOUT,
                progress=1.0,
                **_kept(snapshot.results),
            )
        case Broken():
            return _ended(
                claim.state, Event.BROKE, snapshot.reason, snapshot.code, snapshot.message, credits=snapshot.credits
            )
        case NotVisible() if claim.elapsed_s < VISIBLE_AFTER_S:
            return _seen(claim, f"Kie does not show the task yet: {snapshot.message}", pace, word="not visible")
        case NotVisible() if claim.state is JobState.TIMEOUT and claim.elapsed_s >= pace.salvage_s:
            return _ended(claim.state, Event.GIVEN_UP, Reason.UNKNOWN_TASK, "", "Kie never showed the task")
        case NotVisible():
            return after_trouble(claim, f"Kie does not show the task: {snapshot.message}", pace)
        case Pending():
            word = snapshot.word if snapshot.known else f"{snapshot.word} (unknown word)"
            odd = not snapshot.known
            return _seen(claim, f"Kie says {word}", pace, word=snapshot.word, progress=snapshot.progress, odd=odd)


def _lacks_the_result(snapshot: Finished) -> bool:
    """Say whether there is nothing, or nothing but by-products: a song's cover is no song, a video's frame no video.

    A copy with a watermark is the result where there is no other.
    """
    return all(result.role in BY_PRODUCTS and result.role != "watermark" for result in snapshot.results)


def after_trouble(claim: Claim, note: str, pace: Pace) -> Change:
    """Turn a look that brought no answer into a longer wait. Never fails a job."""
    return _seen(claim, note, pace, trouble=True)


def _seen(claim: Claim, note: str, pace: Pace, *, trouble: bool = False, **details: object) -> Change:
    if claim.state is JobState.WAITING and claim.elapsed_s >= pace.timeout_s:
        tail_s = min(pacing.tail_s(claim.elapsed_s), max(pace.salvage_s - claim.elapsed_s, 0.0))
        minutes = f"{round(pace.timeout_s / 60, 1):g} minutes"
        note = f"no result after {minutes}; looking goes on more slowly. {note}"
        return change(claim.state, Event.TIMED_OUT, note, due_in_s=tail_s, trouble=trouble, **details)
    if claim.state is JobState.TIMEOUT and claim.elapsed_s >= pace.salvage_s:
        message = f"no result after {pace.salvage_s / 3600:g} hours. {note}"
        return _ended(claim.state, Event.GIVEN_UP, Reason.NO_RESULT, "", message)
    if claim.state is JobState.TIMEOUT:
        due_in_s = min(pacing.tail_s(claim.elapsed_s), pace.salvage_s - claim.elapsed_s)
    else:
        due_in_s = pacing.next_look_s(
            claim.elapsed_s,
            timeout_s=pace.timeout_s,
            troubles=claim.troubles + 1 if trouble else 0,
            crowd_s=pace.crowd_s,
            jitter=pace.jitter,
            callbacks=pace.callbacks,
            schedule=pace.schedule,
        )
    return change(claim.state, Event.SEEN, note, due_in_s=due_in_s, trouble=trouble, **details)


# ── from rows alone ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Settled:
    """One output as far as its job's end depends on it."""

    role: str
    state: OutputState
    reason: Reason | None = None
    error: str | None = None


def settle(outputs: list[Settled]) -> Change | None:
    """Say what a `storing` job's outputs make of it: nothing while one is pending, then success or failure.

    A by-product that is lost does not fail the job, as long as the result itself is stored.
    """
    if any(one.state is OutputState.PENDING for one in outputs):
        return None
    stored = [one for one in outputs if one.state is OutputState.STORED]
    for index, one in enumerate(outputs):
        if one.state is OutputState.FAILED and not _can_do_without(one, {output.role for output in stored}):
            said = f"output {index}: {one.error}"
            return _ended(JobState.STORING, Event.UNSTORABLE, one.reason or Reason.RESULT_INVALID, "", said)
    lost = len(outputs) - len(stored)
    note = f"{len(stored)} file(s) stored and verified" + (f", {lost} by-product(s) lost" if lost else "")
    return change(JobState.STORING, Event.STORED, note)


def _can_do_without(lost: Settled, stored: set[str]) -> bool:
    """Say whether a job whose outputs of these roles are stored succeeds without this one.

    A document alone does not stand for the files that it names, if there were any: they may be all that was bought.
    """
    enough = stored - BY_PRODUCTS
    if lost.role == "linked" and lost.reason is not Reason.RESULT_INVALID:
        enough -= {"document"}
    return lost.role in BY_PRODUCTS and bool(enough)


def poisoned(state: JobState) -> Change:
    """End a job that five executions in a row did not survive."""
    message = f"{MAX_EXECUTIONS} executions in a row ended without a result, most likely by killing their worker"
    return _ended(state, Event.QUARANTINED, Reason.QUARANTINED, "", message)


def orphaned(parent_id: str, state: JobState) -> Change:
    """End a job in line whose parent ended without the output that it needs."""
    message = f"job {parent_id}, whose output it needs, ended as {state}"
    return _ended(JobState.QUEUED, Event.REJECTED, Reason.PARENT, "", message)


def unusable(message: str, reason: Reason) -> Change:
    """End a job in line whose input can never be sent."""
    return _ended(JobState.QUEUED, Event.REJECTED, reason, "", message)


def lapsed(state: JobState, pace: Pace) -> Change:
    """Park a job whose create call has been in flight for longer than any call can take."""
    return _parked(state, pace, "the worker that sent it never reported; Kie may or may not have been paid")


def _ended(
    state: JobState, event: Event, reason: Reason, code: str, message: str, *, credits: Decimal | None = None
) -> Change:
    note = f"{reason}: {message}" if not code else f"{reason} ({code}): {message}"
    return change(state, event, note, reason=reason, code=code or None, message=message, credits=credits)
