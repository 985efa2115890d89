"""Never pays twice, never loses a result: adoption, cancel, retry, accounts, fallbacks and caps, on real HTTP."""

import pytest
import requests
from sqlalchemy import select

from kiejobs import KieJobs
from kiejobs.db import accounts, candidates, spend
from kiejobs.db.tables import jobs as jobs_table
from kiejobs.errors import InvalidInput, JobNotFound, NotPossible
from kiejobs.jobs import JobState, OutputState
from kiejobs.kie.callbacks import submission_of, task_id_of, token
from kiejobs.nudge import POLL
from tests.factories import age, alter, alter_outputs, events_of, finish, job_row, submission_row, submissions_of, work
from workers.steps.submit import submit
from workers.sweeps.accounts import watch
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
        with rt.database.write() as tx:
            from sqlalchemy import update

            from kiejobs.db.clock import clock
            from kiejobs.db.tables import candidates

            tx.execute(update(candidates).values(created_at=clock(-100)))
        work(rt, [nudge_for(rt, job.id)], at_most=1)
        assert any("shows no such task" in line.note for line in jobs.timeline(job.id))
        assert jobs.get(job.id).phase == "unconfirmed"

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

    def test_a_late_fact_after_the_resend_was_sent_is_surplus(self, rt, jobs):
        """Two tasks were bought; the job follows the second, the first is an alarm with its id."""
        from kiejobs.answers import Accepted
        from kiejobs.db import ledger

        job = send(rt, jobs, "x [[http-after=502]] [[duration=30]]")
        first = job_row(rt.database, job.id).submission_id
        jobs.retry(job.id, pay=True)
        rt.publish.take()
        submit(rt, job.id)
        with rt.database.write() as tx:
            ledger.settle(tx, first, Accepted("surplus-task"), pace=rt.pace("default"), busy_s=1, who="zombie")
        assert any(line.kind == "alarm" and "surplus-task" in line.note for line in jobs.timeline(job.id))
        assert submission_row(rt.database, first).state == "accepted"
        assert job_row(rt.database, job.id).provider_task_id != "surplus-task"

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
