"""Never pays twice, never loses a result: adoption, cancel, retry, accounts, fallbacks and caps, on real HTTP."""

from itertools import pairwise

import pytest
import requests
from sqlalchemy import select, update

from kiejobs import KieJobs
from kiejobs.db import accounts, candidates, spend
from kiejobs.db.clock import clock
from kiejobs.db.tables import candidates as candidate_rows
from kiejobs.db.tables import jobs as jobs_table
from kiejobs.errors import InvalidInput, JobNotFound, KieThrottled, KieUnavailable, KieUnreadable, NotPossible
from kiejobs.jobs import JobState, OutputState
from kiejobs.kie.callbacks import submission_of, task_id_of, token
from kiejobs.nudge import POLL
from tests.factories import (
    age,
    alter,
    alter_outputs,
    events_of,
    finish,
    job_row,
    now,
    submission_row,
    submissions_of,
    work,
)
from workers.steps.submit import submit
from workers.sweeps.accounts import watch
from workers.sweeps.prune import prune
from workers.sweeps.pump import pump
from workers.sweeps.stale import sweep

MODEL = "z-image"


@pytest.fixture
def rt(runtime, database, simulator):
    return runtime(database)


@pytest.fixture
def jobs(rt, nudges):
    return KieJobs(rt.settings, database=rt.database, publish=nudges, who="tester")


def creates(simulator):
    return [create for create in simulator.ledger()["creates"] if create["accepted"]]


def send(rt, jobs, prompt="a cat", **options):
    """Enqueue and do the create call only."""
    job = jobs.enqueue(MODEL, {"prompt": prompt}, **options)
    rt.publish.take()
    submit(rt, job.id)
    rt.publish.take()
    return jobs.get(job.id)


def named_ago(rt, seconds):
    """Let all candidates have been named so many seconds ago."""
    with rt.database.write() as tx:
        tx.execute(update(candidate_rows).values(created_at=clock(-seconds)))


@pytest.fixture
def unreadable(rt, monkeypatch):
    """A task id to which Kie answers with a code that says nothing of a task."""
    client = rt.client("default")
    record = client.record

    def answer(family, task_id, **options):
        if task_id == "typo":
            raise KieUnreadable("Kie answered 400: taskId is invalid")
        return record(family, task_id, **options)

    monkeypatch.setattr(client, "record", answer)
    return "typo"


class TestAdoption:
    def test_an_unknown_create_is_adopted_when_its_task_is_named(self, rt, jobs, simulator):
        """The answer was lost; a person names the task, Kie's record agrees, the result is stored."""
        job = send(rt, jobs, "lost answer [[no-task-id]] [[duration=30]] [[outputs=1]]")
        assert job.phase == "unconfirmed"
        task = creates(simulator)[0]["taskId"]
        jobs.adopt(job.id, task)
        work(rt, at_most=1)
        finish(simulator, task)
        work(rt, [nudge_for(rt, job.id)])
        assert jobs.get(job.id).phase == "success"
        assert len(creates(simulator)) == 1
        assert [row.state for row in submissions_of(rt.database, job.id)] == ["accepted"]

    def test_a_foreign_task_is_refused_with_an_alarm(self, rt, jobs, simulator):
        """Another prompt's task is not ours, whoever says so."""
        foreign = send(rt, jobs, "somebody else's [[no-task-id]]")
        task = creates(simulator)[0]["taskId"]
        mine = send(rt, jobs, "mine [[no-task-id]]")
        jobs.adopt(mine.id, task)
        work(rt)
        assert jobs.get(mine.id).phase == "unconfirmed"
        assert any(line.kind == "alarm" and "another 'prompt'" in line.note for line in jobs.timeline(mine.id))
        assert jobs.get(foreign.id).phase == "unconfirmed"

    def test_a_task_of_another_job_is_refused(self, rt, jobs, simulator):
        """Two jobs with the same request: a bound task cannot be taken away."""
        first = send(rt, jobs, "twin [[duration=30]]")
        second = send(rt, jobs, "twin [[duration=30]]")
        alter(rt.database, second.id, state="unconfirmed", provider_task_id=None, due_at=None)
        with rt.database.write() as tx:
            from sqlalchemy import update

            from kiejobs.db.tables import submissions

            lost = {"state": "unknown", "provider_task_id": None}
            tx.execute(update(submissions).where(submissions.c.job_id == second.id).values(**lost))
        jobs.adopt(second.id, jobs.get(first.id).provider_task_id)
        work(rt, at_most=1)
        assert jobs.get(second.id).phase == "unconfirmed"
        assert any("belongs to another create call" in line.note for line in jobs.timeline(second.id))

    def test_a_task_that_kie_does_not_show_is_refused_after_its_grace(self, rt, jobs):
        """A typing error does not park the job for ever behind an open candidate."""
        job = send(rt, jobs, "x [[no-task-id]]")
        jobs.adopt(job.id, "f" * 32)
        work(rt, at_most=1)
        assert "candidate" in events_of(rt.database, job.id)
        named_ago(rt, 100)
        work(rt, [nudge_for(rt, job.id)], at_most=1)
        assert any("shows no such task" in line.note for line in jobs.timeline(job.id))
        assert jobs.get(job.id).phase == "unconfirmed"

    def test_a_task_id_that_kie_cannot_read_keeps_no_other_from_being_adopted(self, rt, jobs, simulator, unreadable):
        """A typing error, then the right one: they are looked at in turn."""
        job = send(rt, jobs, "lost answer [[no-task-id]] [[duration=30]]")
        jobs.adopt(job.id, unreadable)
        jobs.adopt(job.id, creates(simulator)[0]["taskId"])
        work(rt, [nudge_for(rt, job.id)] * 2, at_most=2)
        assert jobs.get(job.id).phase == "waiting"
        assert any(f"{unreadable} is not adopted" in line.note for line in jobs.timeline(job.id))

    def test_a_task_id_that_kie_cannot_read_is_asked_for_less_and_less_and_then_no_more(self, rt, jobs, unreadable):
        """What stays open for ever would keep time from deciding about the job, and cost a read every few seconds."""
        job = send(rt, jobs, "lost answer [[no-task-id]]")
        jobs.adopt(job.id, unreadable)
        waits = []
        for age_s in (1, 1000, 100_000, 3 * 86400 + 1):
            named_ago(rt, age_s)
            work(rt, [nudge_for(rt, job.id)], at_most=1)
            row = job_row(rt.database, job.id)
            waits.append((row.due_at - now(rt.database)).total_seconds())
        assert waits == pytest.approx([5, 100, 600, 0], abs=2)
        assert any("could not be read: Kie answered 400" in line.note for line in jobs.timeline(job.id))
        sweep(rt)
        assert (job_row(rt.database, job.id).due_at - now(rt.database)).total_seconds() > 13 * 86400
        jobs.adopt(job.id, unreadable)  # who is sure may name it again
        assert jobs.get(job.id).phase == "unconfirmed"

    @pytest.mark.parametrize("error", [KieThrottled, KieUnavailable])
    def test_a_named_task_is_not_refused_because_kie_does_not_answer(self, rt, jobs, monkeypatch, error):
        """However long ago it was named: perhaps all workers stood still, and this is the first look."""

        def silent(*_, **__):
            raise error("no answer")

        job = send(rt, jobs, "lost answer [[no-task-id]]")
        jobs.adopt(job.id, "the-task")
        named_ago(rt, 4 * 86400)
        monkeypatch.setattr(rt.client("default"), "record", silent)
        work(rt, [nudge_for(rt, job.id)], at_most=1)
        assert not [line for line in jobs.timeline(job.id) if line.kind == "alarm"]
        with rt.database.read() as connection:
            assert connection.scalar(select(candidate_rows.c.state)) == "open"

    def test_the_sender_that_wakes_up_later_agrees_or_raises_an_alarm(self, rt, jobs, simulator):
        """The late fact is merged whatever its version; a second, different task id never overwrites the first."""
        from kiejobs.answers import Accepted
        from kiejobs.db import ledger

        job = send(rt, jobs, "zombie [[no-task-id]] [[duration=30]]")
        task = creates(simulator)[0]["taskId"]
        jobs.adopt(job.id, task)
        work(rt, at_most=1)
        row = job_row(rt.database, job.id)
        for named in (task, "another-task"):
            with rt.database.write() as tx:
                ledger.settle(tx, row.submission_id, Accepted(named), pace=rt.pace("default"), busy_s=1, who="zombie")
        assert job_row(rt.database, job.id).provider_task_id == task
        assert job_row(rt.database, job.id).version == row.version
        assert any(line.kind == "alarm" and "another-task" in line.note for line in jobs.timeline(job.id))

    def test_only_an_unconfirmed_job_adopts(self, rt, jobs):
        """A job that is waiting has its task already; another tenant's job does not exist."""
        job = send(rt, jobs, "[[duration=30]]")
        with pytest.raises(NotPossible):
            jobs.adopt(job.id, "f" * 32)
        with pytest.raises(JobNotFound):
            KieJobs(rt.settings, tenant="other", database=rt.database).adopt(job.id, "f" * 32)

    def test_a_candidate_while_the_call_is_in_flight_leaves_the_sender_its_time(self, rt, jobs, simulator):
        """A callback may come before our own commit: adopted once, and the sender's answer changes nothing."""
        from kiejobs.db import ledger

        job = jobs.enqueue(MODEL, {"prompt": "early [[duration=30]]"})
        with rt.database.write() as tx:
            intent = ledger.begin(tx, job.id, "default", rt.budget("default"), deadline_s=30, who="sender")
        body = {"model": MODEL, "input": {"prompt": "early [[duration=30]]"}}
        head = {"Authorization": "Bearer test-key-0001"}
        made = requests.post(f"{simulator.base_url}/api/v1/jobs/createTask", json=body, headers=head, timeout=5).json()
        task = made["data"]["taskId"]
        with rt.database.write() as tx:
            row = tx.execute(select(jobs_table).where(jobs_table.c.id == job.id).with_for_update()).one()
            assert candidates.name(tx, row, intent.submission_id, task, source="callback")
        rt.publish.take()
        from kiejobs.nudge import poll_nudge

        work(rt, [poll_nudge(job.id, row.version)], at_most=1)
        assert jobs.get(job.id).phase == "waiting"
        from kiejobs.answers import Accepted

        with rt.database.write() as tx:
            pace = rt.pace("default")
            assert ledger.settle(tx, intent.submission_id, Accepted(task), pace=pace, busy_s=1, who="sender") is None
        assert jobs.get(job.id).provider_task_id == task


def nudge_for(rt, job_id):
    from kiejobs.nudge import poll_nudge

    return poll_nudge(job_id, job_row(rt.database, job_id).version)


class TestCallbackTokens:
    def test_a_token_names_its_submission_and_nothing_else_does(self):
        """Forged, cut and foreign tokens are refused."""
        mine = "0b8f3c1e-58a2-4b0e-9d7c-3d0f6a2a1e11"
        made = token(mine, "secret-of-ours")
        assert submission_of(made, "secret-of-ours") == mine
        for forged in (made[:-1], mine, "", made + "0", made.replace("0b8f", "0b8e"), "x.y", made.upper()):
            assert submission_of(forged, "secret-of-ours") is None
        assert submission_of(made, "another-secret") is None

    @pytest.mark.parametrize(
        ("body", "task"),
        [
            ({"data": {"taskId": "a"}}, "a"),
            ({"data": {"task_id": "a"}, "taskId": "a"}, "a"),
            ({"taskId": "a", "data": None}, "a"),
            ({"taskId": "a", "data": {"taskId": "b"}}, None),
            ({"data": {"taskId": 7}}, None),
            ({"data": {"taskId": "x" * 101}}, None),
            ([], None),
            ("text", None),
        ],
    )
    def test_the_task_id_is_found_in_every_spelling_and_contradictions_are_refused(self, body, task):
        """Kie's own pages disagree about the field's name."""
        assert task_id_of(body) == task

    def test_the_callback_address_goes_to_kie(self, runtime, database, simulator, nudges):
        """With a public URL each submission has an address of its own."""
        rt = runtime(database, public_url="https://gate.example", callback_secret="s" * 20)
        jobs = KieJobs(rt.settings, database=database, publish=nudges)
        job = send(rt, jobs, "with callback [[no-callback]]")
        sent = creates(simulator)[0]["callBackUrl"]
        submission = submissions_of(database, job.id)[0].id
        assert sent == f"https://gate.example/callbacks/kie/{token(submission, 's' * 20)}"


class TestCancel:
    def test_a_queued_job_is_canceled_unpaid(self, rt, jobs, simulator):
        """Nothing was bought, and the message says so."""
        job = jobs.enqueue(MODEL, {"prompt": "x"})
        assert "before anything was bought" in jobs.cancel(job.id).message
        assert jobs.cancel(job.id).phase == "canceled"
        submit(rt, job.id)
        assert simulator.ledger()["creates"] == []

    def test_a_waiting_job_is_canceled_and_billed(self, rt, jobs):
        """Kie has no cancel: the money is gone, and the message says so."""
        job = send(rt, jobs, "[[duration=30]]")
        assert "billed" in jobs.cancel(job.id).message
        work(rt, [nudge_for(rt, job.id)])
        assert jobs.get(job.id).phase == "canceled"

    def test_a_cancel_during_the_call_is_applied_when_the_outcome_is_known(self, rt, jobs):
        """Accepted: canceled and billed. Refused for now: canceled unpaid."""
        from kiejobs.answers import Accepted, Busy
        from kiejobs.db import ledger

        for outcome, words in ((Accepted("t1"), "billed"), (Busy("429", "slow down"), "before anything")):
            job = jobs.enqueue(MODEL, {"prompt": "x"})
            with rt.database.write() as tx:
                intent = ledger.begin(tx, job.id, "default", rt.budget("default"), deadline_s=30, who="sender")
            assert jobs.cancel(job.id).phase == "submitting"
            with rt.database.write() as tx:
                ledger.settle(tx, intent.submission_id, outcome, pace=rt.pace("default"), busy_s=1, who="sender")
            assert jobs.get(job.id).phase == "canceled"
            assert words in jobs.timeline(job.id)[-1].note
            assert words in jobs.get(job.id).message

    def test_a_storing_job_cannot_be_canceled(self, rt, jobs, simulator):
        """Its results are known and being stored."""
        job = send(rt, jobs, "[[duration=30]] [[outputs=1]]")
        finish(simulator, job.provider_task_id)
        work(rt, [nudge_for(rt, job.id)], at_most=1)
        with pytest.raises(NotPossible):
            jobs.cancel(job.id)


class TestRetry:
    def test_storing_again_is_free_while_kie_has_the_result(self, rt, jobs, simulator):
        """The output failed for good; the cause is mended; nothing is bought."""
        job = send(rt, jobs, "[[duration=30]] [[outputs=1]]")
        finish(simulator, job.provider_task_id)
        work(rt, [nudge_for(rt, job.id)], at_most=1)
        rt.publish.take()
        alter_outputs(rt.database, job.id, state=OutputState.FAILED, reason="result_invalid", error="odd", due_at=None)
        alter(rt.database, job.id, state=JobState.FAIL, reason="result_invalid", due_at=None)
        jobs.retry(job.id)
        work(rt)
        assert jobs.get(job.id).phase == "success"
        assert len(creates(simulator)) == 1

    def test_buying_again_needs_to_be_said(self, rt, jobs, simulator):
        """A failed generation costs again; the ledger says who ordered it and why."""
        job = send(rt, jobs, "[[fail=500]] [[duration=30]]")
        finish(simulator, job.provider_task_id)
        work(rt, [nudge_for(rt, job.id)])
        assert jobs.get(job.id).phase == "fail"
        with pytest.raises(NotPossible) as refused:
            jobs.retry(job.id)
        assert "--pay" in refused.value.remedy
        jobs.retry(job.id, pay=True, why="the customer asked")
        work(rt, at_most=1)
        assert jobs.get(job.id).phase == "waiting"
        second = submissions_of(rt.database, job.id)[1]
        assert (second.approved_by, second.approved_why) == ("tester", "the customer asked")
        assert second.resend_of == submissions_of(rt.database, job.id)[0].id
        assert len(creates(simulator)) == 2

    def test_a_resend_of_an_unknown_create_warns_that_it_may_pay_twice(self, rt, jobs):
        """The person is told before and the timeline afterwards."""
        job = send(rt, jobs, "x [[http=502]]")
        assert job.phase == "unconfirmed"
        with pytest.raises(NotPossible) as refused:
            jobs.retry(job.id)
        assert "twice" in str(refused.value)
        jobs.retry(job.id, pay=True)
        assert any("twice" in line.note for line in jobs.timeline(job.id))

    def test_a_late_fact_withdraws_an_opted_in_resend(self, rt, jobs):
        """The first create's task turns up while the resend still stands in line: it is followed, nothing is bought."""
        from kiejobs.answers import Accepted
        from kiejobs.db import ledger

        job = send(rt, jobs, "x [[http=502]]")
        submission = job_row(rt.database, job.id).submission_id
        jobs.retry(job.id, pay=True)
        with rt.database.write() as tx:
            ledger.settle(tx, submission, Accepted("late"), pace=rt.pace("default"), busy_s=1, who="zombie")
        assert jobs.get(job.id).phase == "waiting"
        assert submit(rt, job.id) is None

    def test_of_two_calls_that_turn_out_to_have_bought_the_first_to_be_known_is_followed(self, rt, jobs):
        """Sent twice by order, and both unknown: what is known to be paid is stored, the other is an alarm with its id."""
        from kiejobs.answers import Accepted
        from kiejobs.db import ledger

        job = send(rt, jobs, "x [[http-after=502]] [[duration=30]]")
        jobs.retry(job.id, pay=True)
        rt.publish.take()
        submit(rt, job.id)
        first, second = (row.id for row in submissions_of(rt.database, job.id))
        assert job_row(rt.database, job.id).submission_id == second
        for submission, task in ((first, "first-task"), (second, "second-task")):
            with rt.database.write() as tx:
                ledger.settle(tx, submission, Accepted(task), pace=rt.pace("default"), busy_s=1, who="zombie")
            assert submission_row(rt.database, submission).state == "accepted"
        row = job_row(rt.database, job.id)
        assert (row.state, row.provider_task_id, row.submission_id) == ("waiting", "first-task", first)
        (alarm,) = [line.note for line in jobs.timeline(job.id) if line.kind == "alarm"]
        assert "second-task" in alarm

    def test_the_policy_resends_once_and_only_after_half_an_hour(self, runtime, database, simulator, nudges):
        """KIEJOBS_ON_UNCONFIRMED=resubmit is recorded as what it is; a second unknown stays parked."""
        rt = runtime(database, public_url="https://gate.example", callback_secret="s" * 20, on_unconfirmed="resubmit")
        jobs = KieJobs(rt.settings, database=database, publish=nudges)
        job = send(rt, jobs, "x [[http=502]]")
        sweep(rt)
        assert jobs.get(job.id).phase == "unconfirmed"
        age(database, job.id, 1900)
        sweep(rt)
        assert jobs.get(job.id).phase == "queued"
        submit(rt, job.id)
        assert jobs.get(job.id).phase == "unconfirmed"
        assert submissions_of(database, job.id)[1].approved_by == "policy"
        age(database, job.id, 90000)
        sweep(rt)
        assert jobs.get(job.id).phase == "unconfirmed"

    def test_a_parked_job_is_written_off_when_kie_has_nothing_left(self, rt, jobs):
        """14 days later nobody has named the task: the job ends, and says why."""
        job = send(rt, jobs, "x [[http=502]]")
        age(rt.database, job.id, 14 * 86400 + 60)
        sweep(rt)
        job = jobs.get(job.id)
        assert (job.phase, job.reason) == ("fail", "submission_lost")


class TestRefresh:
    def test_refresh_looks_now(self, rt, jobs, simulator):
        """The next look is not waited for."""
        job = send(rt, jobs, "[[duration=30]] [[outputs=1]]")
        finish(simulator, job.provider_task_id)
        jobs.refresh(job.id)
        assert [one.task for one in rt.publish.sent] == [POLL]
        work(rt)
        assert jobs.get(job.id).phase == "success"

    def test_asked_for_looks_keep_to_their_part_of_the_query_limit(self, rt, jobs, simulator):
        """However often somebody asks: a quarter of it, over all jobs; the later ones wait, or nothing changes."""
        waiting = [send(rt, jobs, f"{number} [[duration=30]]") for number in range(4)]
        for _ in range(20):
            for job in waiting:
                jobs.refresh(job.id)
        at = sorted(job_row(rt.database, job.id).due_at for job in waiting)
        gaps_s = [(after - before).total_seconds() for before, after in pairwise(at)]
        assert gaps_s == pytest.approx([0.4] * 3, abs=0.002)
        assert all(events_of(rt.database, job.id).count("refreshed") == 1 for job in waiting)

    def test_no_more_tasks_can_be_named_than_anybody_can_mean(self, rt, jobs):
        """Each costs a read at Kie; the same one may be named again."""
        job = send(rt, jobs, "x [[no-task-id]]")
        for number in range(20):
            jobs.adopt(job.id, f"task-{number}")
        with pytest.raises(NotPossible, match="20 other tasks"):
            jobs.adopt(job.id, "task-20")
        jobs.adopt(job.id, "task-3")
        with rt.database.write() as tx:  # those that were wrong keep nobody from naming the right one
            tx.execute(update(candidate_rows).values(state="refused"))
        jobs.adopt(job.id, "task-20")


class TestSlowTail:
    def test_a_late_result_is_stored_and_marked(self, rt, jobs, simulator):
        """Ten minutes are a notice, not the end: no second create, `late` is set."""
        job = send(rt, jobs, "[[duration=30]] [[outputs=1]]")
        age(rt.database, job.id, 601)
        work(rt, [nudge_for(rt, job.id)], at_most=1)
        assert jobs.get(job.id).state == "timeout"
        rt.publish.take()
        finish(simulator, job.provider_task_id)
        age(rt.database, job.id, 75)
        sweep(rt)
        work(rt)
        found = jobs.get(job.id)
        assert (found.phase, found.late) == ("success", True)
        assert len(creates(simulator)) == 1


class TestAccounts:
    @pytest.mark.parametrize("code", ["401", "402", "433", "455"])
    def test_an_account_wide_refusal_pauses_creates_and_nothing_else(self, rt, jobs, simulator, code):
        """The job waits in line with its place; a look at another job goes on; probation ends the pause."""
        other = send(rt, jobs, "[[duration=30]]")
        job = send(rt, jobs, f"x [[refuse={code}]]")
        assert job.phase == "queued"
        account = jobs.accounts()[0]
        assert (account.pause_code, account.free_creates) == (code, 0)
        assert submit(rt, job.id) is None
        work(rt, [nudge_for(rt, other.id)], at_most=1)
        assert jobs.get(other.id).polls == 1
        assert [line.kind for line in jobs.timeline(job.id)].count("alert") == 1

    def test_a_pause_doubles_on_probation_and_ends_with_an_accepted_create(self, rt, jobs, database):
        """One create passes at a time; refused again: twice as long and no second alert."""
        from tests.factories import account_row, age_account

        job = send(rt, jobs, "x [[refuse=402]]")
        age_account(database, "default", 61)
        assert jobs.accounts()[0].free_creates == 1
        submit(rt, job.id)
        assert account_row(database).pause_s == 120
        assert [line.kind for line in jobs.timeline(job.id)].count("alert") == 1
        age_account(database, "default", 121)
        jobs.cancel(job.id)
        good = jobs.enqueue(MODEL, {"prompt": "fine [[duration=30]]"})
        submit(rt, good.id)
        assert jobs.get(good.id).phase == "waiting"
        assert account_row(database).pause_code is None

    def test_a_switched_off_model_pauses_alone(self, rt, jobs, simulator):
        """505: jobs of this model leave the line, others are sent."""
        off = send(rt, jobs, "x [[refuse=505]]")
        second = jobs.enqueue(MODEL, {"prompt": "y"})
        other = jobs.enqueue("grok-imagine/text-to-image", {"prompt": "y [[duration=30]]"})
        submit(rt, second.id)
        submit(rt, other.id)
        assert jobs.get(other.id).phase == "waiting"
        assert job_row(rt.database, off.id).line_at is None
        assert "switched off" in jobs.get(second.id).message
        assert len(simulator.ledger()["creates"]) == 2

    def test_two_accounts_work_side_by_side(self, runtime, database, simulator, nudges):
        """A job stays with the account that it was given; one account's pause does not touch the other."""
        rt = runtime(database, accounts={"second": {"key": "second-key-0002"}})
        jobs = KieJobs(rt.settings, database=database, publish=nudges)
        send(rt, jobs, "x [[refuse=402]]")
        job = send(rt, jobs, "[[duration=30]]", account="second")
        assert job.phase == "waiting"
        assert creates(simulator)[0]["account"] == "second-key-0002"

    def test_a_worker_without_the_key_leaves_the_row(self, rt, jobs):
        """It pauses nothing and sends nothing; a worker with the key will."""
        job = jobs.enqueue(MODEL, {"prompt": "x"}, account="elsewhere")
        assert submit(rt, job.id) is None
        assert jobs.get(job.id).phase == "queued"

    def test_balances_are_read_and_drift_is_shown(self, rt, jobs, simulator):
        """What left the balance and no submission explains is drift."""
        watch(rt)
        job = send(rt, jobs, "[[duration=30]] [[outputs=1]]")
        finish(simulator, job.provider_task_id)
        work(rt, [nudge_for(rt, job.id)])
        head = {"Authorization": "Bearer test-key-0001"}
        body = {"model": MODEL, "input": {"prompt": "behind our back"}}
        requests.post(f"{simulator.base_url}/api/v1/jobs/createTask", json=body, headers=head, timeout=5)
        watch(rt)
        assert jobs.accounts()[0].drift_credits == pytest.approx(4.0)
        later = send(rt, jobs, "[[duration=30]] [[outputs=1]]")  # no reading of the balance has it yet
        finish(simulator, later.provider_task_id)
        work(rt, [nudge_for(rt, later.id)])
        assert jobs.accounts()[0].drift_credits == pytest.approx(4.0)
        watch(rt)
        assert jobs.accounts()[0].drift_credits == pytest.approx(4.0)
        for one in (job, later):  # forgotten after the retention, they are no drift
            alter(rt.database, one.id, state="success", due_at=None, ended_at=clock(-181 * 86400))
        assert prune(rt) == 2
        assert jobs.accounts()[0].drift_credits == pytest.approx(4.0)


class TestFallbacks:
    def test_the_next_model_is_bought_when_the_first_is_refused_for_credits(self, rt, jobs, simulator):
        """Nothing pauses, and the timeline says which one was bought."""
        cheaper = {"model": "grok-imagine/text-to-image", "input": {"prompt": "cheap [[duration=30]]"}}
        job = send(rt, jobs, "dear [[refuse=402]]", fallback_models=[cheaper])
        assert job.phase == "queued"
        submit(rt, job.id)
        found = jobs.get(job.id)
        assert (found.phase, found.model) == ("waiting", "grok-imagine/text-to-image")
        assert creates(simulator)[0]["prompt"] == "cheap [[duration=30]]"
        assert jobs.accounts()[0].pause_code is None
        assert any("next is grok-imagine" in line.note for line in jobs.timeline(job.id))

    def test_when_all_are_refused_the_first_is_waited_for(self, rt, jobs):
        """The account pauses by the last refusal, and the job asks for what it wanted first."""
        second = {"model": "grok-imagine/text-to-image", "input": {"prompt": "b [[refuse=402]]"}}
        job = send(rt, jobs, "a [[refuse=505]]", fallback_models=[second])
        submit(rt, job.id)
        found = jobs.get(job.id)
        assert (found.phase, found.model) == ("queued", MODEL)
        assert jobs.accounts()[0].pause_code == "402"

    def test_a_bad_input_is_no_reason_for_another_model(self, rt, jobs):
        """422 about a parameter fails the job."""
        job = send(rt, jobs, "x [[refuse=422]]", fallback_models=["grok-imagine/text-to-image"])
        assert job.phase == "fail"

    def test_a_fallback_is_checked_like_the_first(self, jobs):
        """A wrong field in a fallback is refused at enqueue."""
        with pytest.raises(InvalidInput):
            jobs.enqueue(MODEL, {"prompt": "x"}, fallback_models=[{"model": "z-image", "input": {"prompt": 7}}])


class TestSpend:
    def test_credits_come_from_the_record_and_null_is_not_zero(self, rt, jobs, simulator):
        """What Kie reports is summed up; what it does not is listed as unknown."""
        job = send(rt, jobs, "[[duration=30]] [[outputs=1]]")
        finish(simulator, job.provider_task_id)
        work(rt, [nudge_for(rt, job.id)])
        lost = send(rt, jobs, "x [[http=502]]")
        total = jobs.spend()[0]
        assert (total.creates, float(total.credits), total.unknown) == (2, 4.0, 1)
        assert [entry.job_id for entry in jobs.unknown_spend()] == [lost.id]

    def test_a_cap_is_not_passed_by_concurrent_creates(self, runtime, database, simulator, nudges):
        """Cap 10, price 4 (learned from the first): two are bought, the others wait out of the line and say why."""
        rt = runtime(database, spend_caps={"default": 10.0})
        jobs = KieJobs(rt.settings, database=database, publish=nudges)
        first = send(rt, jobs, "[[duration=30]] [[outputs=1]]")
        held = send(rt, jobs, "[[duration=30]] [[outputs=1]]")
        assert "price nobody knows" in held.message
        finish(simulator, first.provider_task_id)
        work(rt, [nudge_for(rt, first.id)])
        more = [jobs.enqueue(MODEL, {"prompt": f"{n} [[duration=30]]"}) for n in range(8)]
        from tests.factories import race

        race(*[lambda job=job: submit(rt, job.id) for job in more])
        assert len(creates(simulator)) == 2
        waiting = [jobs.get(job.id) for job in more if jobs.get(job.id).phase == "queued"]
        assert len(waiting) == 7
        assert all("cap" in (job.message or "") for job in waiting)

    def test_a_held_job_comes_back_into_line(self, runtime, database, simulator, nudges):
        """Its next look is due: the sweep puts it in line, and the pump nudges it."""
        rt = runtime(database, spend_caps={"default": 0.5})
        jobs = KieJobs(rt.settings, database=database, publish=nudges)
        send(rt, jobs, "[[duration=30]]")
        job = send(rt, jobs, "[[duration=30]]")
        assert job_row(database, job.id).line_at is None
        age(database, job.id, 700)
        sweep(rt)
        assert job_row(database, job.id).line_at is not None
        assert pump(rt) == 1


def test_a_database_account_listing_needs_no_rows(sqlite):
    """An account that is only set up is shown, with its whole budget."""
    assert accounts.listed(sqlite, {"new": accounts.Budget(20, 10.5)})[0].free_creates == 20
    assert spend.unknown(sqlite) == []
