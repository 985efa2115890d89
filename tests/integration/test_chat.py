"""Chat as a job: answered in the create call, kept as files, and never asked twice when an answer is lost.

On real HTTP against a simulated Kie, with both databases. What counts is what the rows say, what lies in storage, and
how many calls the simulator saw.
"""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from sqlalchemy import update

from kiejobs.answers import Answered, Result
from kiejobs.db import ledger
from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import candidates
from kiejobs.errors import Reason
from kiejobs.jobs import Job, JobState, SubmissionState
from kiejobs.kie.families import family
from kiejobs.nudge import create_nudge, poll_nudge, store_nudge
from kiejobs.producer import KieJobs
from kiejobs.simulator import Simulator
from tests.factories import (
    Nudges,
    account_row,
    act,
    age,
    age_account,
    alarms_of,
    alter,
    job_row,
    make_job,
    outputs_of,
    submission_row,
    submissions_of,
    work,
)
from workers.aside import Aside
from workers.runtime import Runtime
from workers.steps.submit import record, submit
from workers.sweeps.pump import pump
from workers.sweeps.stale import sweep

S = JobState

ASKING: dict[str, Callable[[str], dict[str, Any]]] = {
    "gpt-5-2": lambda words: {"messages": [{"role": "user", "content": words}]},
    "gemini-2.5-flash": lambda words: {"messages": [{"role": "user", "content": [{"type": "text", "text": words}]}]},
    "gemini-3-5-flash": lambda words: {"contents": [{"role": "user", "parts": [{"text": words}]}]},
    "claude-haiku-4-5": lambda words: {"messages": [{"role": "user", "content": words}]},
    "gpt-5-4": lambda words: {"input": words},
    "gpt-5-codex": lambda words: {"input": [{"role": "user", "content": words}]},
    "grok-4-3": lambda words: {"input": words},
}
"""One model of each endpoint, and how it is asked."""


@pytest.fixture
def rt(simulator: Simulator, database: Database, runtime: Callable[..., Runtime]) -> Runtime:
    """A runtime that leads to the simulator."""
    return runtime(database)


def enqueue(rt: Runtime, words: str = "Say hello", model: str = "gpt-5-2", **more: Any) -> Job:
    jobs = KieJobs(rt.settings, database=rt.database, publish=Nudges())
    return jobs.enqueue(model, ASKING[model](words) | more)


def state(rt: Runtime, job_id: str) -> S:
    return S(job_row(rt.database, job_id).state)


def calls(simulator: Simulator) -> int:
    return len(simulator.ledger()["creates"])  # type: ignore[arg-type]


def content(rt: Runtime, row: Any) -> bytes:
    return (Path(rt.settings.storage) / row.key).read_bytes()


def begun(rt: Runtime, job: Job) -> ledger.Intent:
    """The intent of a worker that is in the middle of its create call."""
    with rt.database.write() as tx:
        intent = ledger.begin(tx, job.id, "default", rt.budget("default"), deadline_s=602.0, who="a worker")
    assert isinstance(intent, ledger.Intent)
    return intent


def answered(rt: Runtime, intent: ledger.Intent) -> Answered:
    """Make the create call of an intent, and write nothing down."""
    client = rt.client("default")
    assert client is not None
    outcome = client.create(family(intent.family), intent.model, intent.request)
    assert isinstance(outcome, Answered)
    return outcome


# ── the whole way ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [None, False, True], ids=["unsaid", "whole", "stream"])
@pytest.mark.parametrize("model", ASKING)
def test_every_endpoint_answers_and_the_answer_is_kept(
    rt: Runtime, simulator: Simulator, model: str, stream: bool | None
) -> None:
    """The words as plain text, the whole answer as JSON, the credits where they are named; one call in all."""
    job = enqueue(rt, "Grüße aus Köln", model, **({} if stream is None else {"stream": stream}))
    submit(rt, job.id)
    assert state(rt, job.id) is S.STORING
    work(rt)
    assert state(rt, job.id) is S.SUCCESS
    words, whole = outputs_of(rt.database, job.id)
    assert [(row.role, row.key.rpartition(".")[2]) for row in (words, whole)] == [
        ("result", "txt"),
        ("document", "json"),
    ]
    assert words.media_type == "text/plain; charset=utf-8"
    assert content(rt, words).decode() == "A simulated answer to: Grüße aus Köln"
    assert "Köln" in json.dumps(json.loads(content(rt, whole)), ensure_ascii=False)
    (call,) = submissions_of(rt.database, job.id)
    assert (call.state, call.provider_task_id) == (SubmissionState.ACCEPTED, None)
    assert "simulated" in call.answer  # as it came, be it in pieces
    assert calls(simulator) == 1
    assert simulator.ledger()["queries"] == []


def test_credits_are_those_that_the_answer_names(rt: Runtime) -> None:
    """They stand in the ledger and in the job."""
    job = enqueue(rt, model="claude-haiku-4-5")
    submit(rt, job.id)
    assert float(submissions_of(rt.database, job.id)[0].credits) == 0.02


def test_an_answer_tells_how_it_went(rt: Runtime) -> None:
    """No task, no waiting: from the call to the copies at once."""
    job = enqueue(rt)
    submit(rt, job.id)
    work(rt)
    told = [line.to_state for line in KieJobs(rt.settings, database=rt.database).timeline(job.id) if line.to_state]
    assert told == ["queued", "submitting", "storing", "success"]
    assert job_row(rt.database, job.id).found_by == "answer"


def test_each_output_is_kept_by_a_message_of_its_own(rt: Runtime, nudges: Nudges) -> None:
    """And a copy whose message was lost is made by the sweep."""
    job = enqueue(rt)
    submit(rt, job.id)
    assert [one.task_id for one in nudges.take()] == [f"{job.id}.store.0", f"{job.id}.store.1"]
    age(rt.database, job.id, 3600)
    sweep(rt)
    work(rt)
    assert state(rt, job.id) is S.SUCCESS


def test_a_copy_that_is_made_twice_is_one_file(rt: Runtime) -> None:
    """The second message finds nothing to do."""
    job = enqueue(rt)
    submit(rt, job.id)
    assert act(rt, store_nudge(job.id, 0))
    assert not act(rt, store_nudge(job.id, 0))
    assert state(rt, job.id) is S.STORING
    assert act(rt, store_nudge(job.id, 1))
    assert state(rt, job.id) is S.SUCCESS


# ── answers that are none ────────────────────────────────────────────────────────────────────────────────────────────

FAILING: dict[str, tuple[S, SubmissionState, Reason | None]] = {
    "[[refuse=422]]": (S.FAIL, SubmissionState.REFUSED, Reason.INVALID_INPUT),
    "[[refuse=401]]": (S.QUEUED, SubmissionState.REFUSED, None),
    "[[refuse=402]]": (S.QUEUED, SubmissionState.REFUSED, None),
    "[[refuse=429]]": (S.QUEUED, SubmissionState.REFUSED, None),
    "[[refuse=500]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
    "[[http=502]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
    "[[reset]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
    "[[cut-body]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
    "[[stream-error=500]]": (S.UNCONFIRMED, SubmissionState.UNKNOWN, None),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("words", FAILING)
def test_what_is_no_answer_is_never_a_success_and_never_asked_again(
    rt: Runtime, simulator: Simulator, words: str, stream: bool
) -> None:
    """A refusal ends or waits; an answer that broke off stands as unknown, whatever of it came."""
    expected, submission, reason = FAILING[words]
    job = enqueue(rt, f"{words} tell me a long story", stream=stream)
    submit(rt, job.id)
    row = job_row(rt.database, job.id)
    assert (S(row.state), row.reason) == (expected, reason)
    assert submissions_of(rt.database, job.id)[0].state == submission
    assert outputs_of(rt.database, job.id) == []
    for _ in range(2):
        age(rt.database, job.id, 700)
        submit(rt, job.id) if expected is not S.QUEUED else None
        pump(rt)
        sweep(rt)
    assert calls(simulator) == 1


@pytest.mark.parametrize("model", ASKING)
@pytest.mark.parametrize("words", ["[[cut-body]]", "[[stream-error=500]]"])
def test_a_stream_without_its_end_is_unknown_in_every_dialect(rt: Runtime, words: str, model: str) -> None:
    """And what came of it is kept beside the submission: it was paid for."""
    job = enqueue(rt, f"{words} one two three four five six", model, stream=True)
    submit(rt, job.id)
    assert state(rt, job.id) is S.UNCONFIRMED
    (call,) = submissions_of(rt.database, job.id)
    assert (call.state, call.answer) == (SubmissionState.UNKNOWN, None)
    assert call.evidence is None or "text" in call.evidence


def test_an_answer_that_takes_longer_than_a_usual_call_is_waited_for(
    simulator: Simulator, database: Database, runtime: Callable[..., Runtime]
) -> None:
    """Ten minutes are for chat what half a minute is for a task; the lapse waits as long."""
    rt = runtime(database, http_timeout_s=0.3)
    job = enqueue(rt, "[[duration=0.9]] think")
    submit(rt, job.id)
    assert state(rt, job.id) is S.STORING
    (call,) = submissions_of(database, job.id)
    assert 600 < (call.deadline_at - call.sending_at).total_seconds() < 610


# ── crashes, cancels, resends ────────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_that_dies_with_the_answer_leaves_a_visible_unknown(rt: Runtime, simulator: Simulator) -> None:
    """The answer is lost with it; nobody asks again by itself, however long it takes."""
    job = enqueue(rt)
    answered(rt, begun(rt, job))
    age(rt.database, job.id, 600)
    sweep(rt)
    assert state(rt, job.id) is S.SUBMITTING
    for _ in range(4):
        age(rt.database, job.id, 86400 / 4)
        sweep(rt)
        pump(rt)
        work(rt, [create_nudge(job.id)])
    assert state(rt, job.id) is S.UNCONFIRMED
    assert submissions_of(rt.database, job.id)[0].state == SubmissionState.UNKNOWN
    assert calls(simulator) == 1


def test_an_answer_that_is_reported_after_the_lapse_is_kept(rt: Runtime, simulator: Simulator) -> None:
    """The worker only slept: its answer is a fact."""
    job = enqueue(rt)
    intent = begun(rt, job)
    outcome = answered(rt, intent)
    age(rt.database, job.id, 700)
    sweep(rt)
    assert state(rt, job.id) is S.UNCONFIRMED
    record(rt, intent, outcome)
    assert state(rt, job.id) is S.STORING
    work(rt)
    assert state(rt, job.id) is S.SUCCESS
    assert calls(simulator) == 1
    assert alarms_of(rt.database, job.id) == []


def test_an_answer_that_cannot_be_written_is_cried_out_without_its_words(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says which job lost it; what was said is nobody's business there."""
    job = enqueue(rt, "my secret")
    intent = begun(rt, job)
    outcome = answered(rt, intent)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(ledger, "settle", broken)
    with pytest.raises(RuntimeError):
        record(rt, intent, outcome)
    assert f"UNWRITTEN ANSWER: job {job.id}, submission {intent.submission_id}" in caplog.text
    assert "secret" not in caplog.text


def test_an_answer_is_written_once(rt: Runtime) -> None:
    """Reported twice, it makes two outputs, not four."""
    job = enqueue(rt)
    intent = begun(rt, job)
    outcome = answered(rt, intent)
    record(rt, intent, outcome)
    before = job_row(rt.database, job.id).version
    record(rt, intent, outcome)
    assert job_row(rt.database, job.id).version == before
    assert len(outputs_of(rt.database, job.id)) == 2


def test_a_cancel_during_the_call_comes_too_late_for_an_answer(rt: Runtime) -> None:
    """It is paid and here: it is kept, and the job says so."""
    job = enqueue(rt)
    intent = begun(rt, job)
    KieJobs(rt.settings, database=rt.database, publish=Nudges()).cancel(job.id)
    assert state(rt, job.id) is S.SUBMITTING
    record(rt, intent, answered(rt, intent))
    assert state(rt, job.id) is S.STORING
    work(rt)
    assert state(rt, job.id) is S.SUCCESS


def test_a_cancel_during_a_call_that_is_refused_for_now_is_carried_out(rt: Runtime, simulator: Simulator) -> None:
    """Nothing was bought."""
    job = enqueue(rt, "[[refuse=429]]")
    intent = begun(rt, job)
    KieJobs(rt.settings, database=rt.database, publish=Nudges()).cancel(job.id)
    client = rt.client("default")
    assert client is not None
    record(rt, intent, client.create(family("chat"), intent.model, intent.request))
    assert state(rt, job.id) is S.CANCELED
    assert calls(simulator) == 1


def test_an_answer_withdraws_an_opted_in_resend(rt: Runtime, simulator: Simulator) -> None:
    """The first call's answer turns up while the second stands in line: it is kept, and nothing is asked again."""
    job = enqueue(rt)
    intent = begun(rt, job)
    outcome = answered(rt, intent)
    age(rt.database, job.id, 700)
    sweep(rt)
    KieJobs(rt.settings, database=rt.database, publish=Nudges()).retry(job.id, pay=True)
    assert state(rt, job.id) is S.QUEUED
    record(rt, intent, outcome)
    assert state(rt, job.id) is S.STORING
    assert submit(rt, job.id) is None
    work(rt)
    assert state(rt, job.id) is S.SUCCESS
    assert calls(simulator) == 1
    assert job_row(rt.database, job.id).submission_id == intent.submission_id


def test_an_answer_after_the_resend_was_sent_is_surplus(rt: Runtime, simulator: Simulator) -> None:
    """Two answers were bought; the job follows the second, the first is an alarm and stays in the ledger."""
    job = enqueue(rt)
    intent = begun(rt, job)
    outcome = answered(rt, intent)
    age(rt.database, job.id, 700)
    sweep(rt)
    KieJobs(rt.settings, database=rt.database, publish=Nudges()).retry(job.id, pay=True)
    submit(rt, job.id)
    record(rt, intent, outcome)
    work(rt)
    assert state(rt, job.id) is S.SUCCESS
    assert [call.state for call in submissions_of(rt.database, job.id)] == ["accepted", "accepted"]
    assert all(call.answer for call in submissions_of(rt.database, job.id))
    assert len(outputs_of(rt.database, job.id)) == 2
    assert len(alarms_of(rt.database, job.id)) == 1
    assert calls(simulator) == 2


def test_a_task_that_somebody_names_for_a_chat_is_refused(rt: Runtime, nudges: Nudges) -> None:
    """A chat has no task: adoption finds none, whatever id is given."""
    job = enqueue(rt, "[[cut-body]] a b c d", stream=True)
    submit(rt, job.id)
    jobs = KieJobs(rt.settings, database=rt.database, publish=nudges)
    jobs.adopt(job.id, "330a9433fd309e9e18df1c567ae38471")
    work(rt, at_most=1)
    with rt.database.write() as tx:
        tx.execute(update(candidates).values(created_at=clock(-100)))
    work(rt, [poll_nudge(job.id, job_row(rt.database, job.id).version)], at_most=1)
    assert state(rt, job.id) is S.UNCONFIRMED
    assert any("shows no such task" in line.note for line in jobs.timeline(job.id))


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_ends_an_accounts_pause_as_a_task_does(rt: Runtime) -> None:
    """After the pause one call passes on probation; it was answered, so all others pass."""
    first, second = enqueue(rt, "[[refuse=402]]"), enqueue(rt)
    submit(rt, first.id)
    assert account_row(rt.database).pause_code == "402"
    alter(rt.database, first.id, state=S.CANCELED)  # else it would be first again
    age_account(rt.database, "default", 61)
    submit(rt, second.id)
    assert state(rt, second.id) is S.STORING
    assert account_row(rt.database).pause_code is None


def test_a_document_that_is_no_text_keeps_its_type(database: Database, runtime: Callable[..., Runtime]) -> None:
    """An answer whose words are a JSON object is a JSON file."""
    rt = runtime(database)
    made = make_job(database, S.SUBMITTING, model="gpt-5-2", family="chat")
    words = (Result("result", document='{"mood": "calm"}'), Result("document", document='{"choices": []}'))
    with database.write() as tx:
        ledger.settle(
            tx, made.submission_id or "", Answered(words, "{}"), pace=rt.pace("default"), busy_s=1, who="a worker"
        )
    for index in range(2):
        assert act(rt, store_nudge(made.id, index))
    assert [row.media_type for row in outputs_of(database, made.id)] == ["application/json", "application/json"]
    assert submission_row(database, made.submission_id).answer == "{}"


def test_a_late_answer_takes_a_held_job_out_of_the_line(rt: Runtime, simulator: Simulator) -> None:
    """A person had ordered another call; it is not made, and nothing says any more why the job was held."""
    job = enqueue(rt, "[[stream-error=500]] one", stream=True)
    submit(rt, job.id)
    unsure = job_row(rt.database, job.id)
    assert unsure.state == S.UNCONFIRMED
    KieJobs(rt.settings, database=rt.database, publish=Nudges()).retry(job.id, pay=True)
    with rt.database.write() as tx:
        ledger.hold(tx, job.id, "a reason", 5.0, "a worker")
        late = Answered((Result("result", document="hello"),), "{}")
        ledger.settle(tx, unsure.submission_id, late, pace=rt.pace("default"), busy_s=1, who="a worker")
    row = job_row(rt.database, job.id)
    assert (row.state, row.held) == (S.STORING, None)
    assert submit(rt, job.id) is None


# ── aside ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_that_may_take_minutes_holds_none_of_the_workers_threads(rt: Runtime, simulator: Simulator) -> None:
    """It is made aside, at most so many at a time; the next one leaves the line and says why."""
    rt.aside = Aside(at_once=1)
    first, second = enqueue(rt, "[[slow=1]] one"), enqueue(rt, "two")
    assert submit(rt, first.id) is None
    assert job_row(rt.database, first.id).state == S.SUBMITTING
    assert submit(rt, second.id) is None
    row = job_row(rt.database, second.id)
    assert (row.state, row.line_at) == (S.QUEUED, None)
    assert "as many long calls" in row.held
    for thread in threading.enumerate():
        if thread.name.startswith("kiejobs-aside-"):
            thread.join(20)
    assert job_row(rt.database, first.id).state == S.STORING
    age(rt.database, second.id, 10)
    sweep(rt)
    assert submit(rt, second.id) is None
    for thread in threading.enumerate():
        if thread.name.startswith("kiejobs-aside-"):
            thread.join(20)
    assert job_row(rt.database, second.id).state == S.STORING


def test_a_place_is_given_back_by_whatever_was_not_sent(rt: Runtime) -> None:
    """A job whose turn has not come, and a database that breaks."""
    rt.aside = Aside(at_once=1)
    job = enqueue(rt, "one")
    with patch.object(ledger, "begin", side_effect=RuntimeError("broken")), pytest.raises(RuntimeError):
        submit(rt, job.id)
    assert rt.aside.take()
