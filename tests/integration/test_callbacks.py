"""Callbacks from Kie, over the gateway's own route: hints that hurry or adopt, and nothing that is believed."""

import base64
import hmac
import json
import time
import uuid

import pytest
from sqlalchemy import select, update

from kiejobs import KieJobs
from kiejobs.answers import Accepted, Unknown
from kiejobs.db import callbacks, candidates, ledger, orders, rescue
from kiejobs.db.clock import clock
from kiejobs.db.tables import callbacks as log
from kiejobs.db.tables import candidates as candidate_rows
from kiejobs.db.tables import jobs as job_rows
from kiejobs.db.tables import submissions
from kiejobs.errors import DatabaseUnavailable
from kiejobs.jobs import JobState, SubmissionState
from kiejobs.kie.callbacks import token
from kiejobs.nudge import POLL
from tests.factories import (
    PATH_LOST,
    age,
    alarms_of,
    alter,
    everything,
    finish,
    job_row,
    make_job,
    make_submission,
    race,
    submission_row,
    submissions_of,
    work,
)
from tests.gateways import Caller, running
from workers.steps.poll import poll
from workers.steps.submit import submit
from workers.sweeps.stale import sweep

SECRET = "s" * 32
HMAC_KEY = "kie-hmac-key"
MODEL = "z-image"


@pytest.fixture
def rt(runtime, database, simulator):
    return runtime(database, public_url="https://gate.example", callback_secret=SECRET)


@pytest.fixture
def jobs(rt, nudges):
    return KieJobs(rt.settings, database=rt.database, publish=nudges, who="tester")


@pytest.fixture
def gate(rt, nudges):
    with running(rt.settings, rt.database, nudges) as at:
        yield Caller(at)


@pytest.fixture
def signed_gate(rt, runtime, database, nudges):
    keyed = runtime(
        database, public_url="https://gate.example", callback_secret=SECRET, webhook_hmac_key=HMAC_KEY
    ).settings
    with running(keyed, database, nudges) as at:
        yield Caller(at)


def address(submission_id):
    return f"/callbacks/kie/{token(submission_id, SECRET)}"


def body_of(task_id, **data):
    return {"code": 200, "msg": "success", "data": {"taskId": task_id, "state": "success", **data}}


def signed(task_id, *, at_s=None, key=HMAC_KEY):
    stamp = str(int(time.time() if at_s is None else at_s))
    digest = hmac.new(key.encode(), f"{task_id}.{stamp}".encode(), "sha256").digest()
    return {"X-Webhook-Timestamp": stamp, "X-Webhook-Signature": base64.b64encode(digest).decode()}


def logged(database):
    with database.read() as connection:
        return [(row.verdict, row.task_id) for row in connection.execute(select(log).order_by(log.c.id))]


def candidates_of(database):
    with database.read() as connection:
        return [(row.task_id, row.state) for row in connection.execute(select(candidate_rows))]


def send(rt, jobs, prompt):
    """Enqueue and do the create call only."""
    job = jobs.enqueue(MODEL, {"prompt": prompt})
    rt.publish.take()
    submit(rt, job.id)
    rt.publish.take()
    return jobs.get(job.id)


def creates(simulator):
    return [create for create in simulator.ledger()["creates"] if create["accepted"]]


class TestHurrying:
    def test_a_callback_makes_a_waiting_job_due_now_and_says_so_to_the_look(self, gate, rt, database):
        """Due at once, nudged as a callback's, version untouched, the body kept."""
        made = make_job(database, JobState.WAITING, due_at=clock(30))
        answer = gate.post(address(made.submission_id), json=body_of(made.task_id))
        assert (answer.status_code, answer.json()) == (200, {"received": "accepted"})
        row = job_row(database, made.id)
        assert row.version == made.version
        with database.read() as connection:
            assert row.due_at <= connection.scalar(select(clock()))
        (one,) = rt.publish.of(POLL)
        assert one.kwargs == {"job_id": made.id, "version": made.version, "by": "callback"}
        with database.read() as connection:
            kept = connection.execute(select(log)).one()
        assert json.loads(kept.body) == body_of(made.task_id)

    @pytest.mark.parametrize("by", ["poll", "callback", "sweep"])
    def test_what_made_the_look_happen_is_kept_with_the_result(self, rt, jobs, simulator, by):
        """Written in the transaction that moves the job on; an ordinary look writes nothing of it."""
        job = send(rt, jobs, "[[duration=30]] [[outputs=1]] [[no-callback]]")
        poll(rt, job.id, job_row(rt.database, job.id).version, by=by)
        assert job_row(rt.database, job.id).found_by is None
        finish(simulator, job.provider_task_id)
        poll(rt, job.id, job_row(rt.database, job.id).version, by=by)
        row = job_row(rt.database, job.id)
        assert (row.state, row.found_by) == ("storing", by)

    def test_a_failure_has_its_finder_too(self, rt, jobs, simulator):
        """Whatever ends the waiting."""
        job = send(rt, jobs, "[[fail=500]] [[duration=0]] [[no-callback]]")
        poll(rt, job.id, job_row(rt.database, job.id).version, by="callback")
        assert (job_row(rt.database, job.id).state, job_row(rt.database, job.id).found_by) == ("fail", "callback")

    def test_the_sweep_says_that_it_was_the_sweep(self, rt, jobs, simulator):
        """A lost lane is found by the rescue, and counted as such."""
        job = send(rt, jobs, "[[duration=30]] [[outputs=1]] [[no-callback]]")
        finish(simulator, job.provider_task_id)
        age(rt.database, job.id, 20)
        sweep(rt)
        work(rt, at_most=1)
        assert job_row(rt.database, job.id).found_by == "sweep"

    def test_a_second_and_a_simultaneous_callback_change_nothing_more(self, gate, rt, database):
        """Kie repeats itself: answered 200, kept once, nudged once."""
        made = make_job(database, JobState.WAITING, due_at=clock(30))
        content = json.dumps(body_of(made.task_id)).encode()
        outcome = race(
            *[
                lambda: callbacks.receive(database, made.submission_id, task_id=made.task_id, stage=False, body=content)
                for _ in range(5)
            ]
        )
        assert outcome.errors == []
        assert sorted(str(one.verdict) for one in outcome.results) == ["accepted"] + ["known"] * 4
        before = everything(database)
        assert gate.post(address(made.submission_id), data=content).json() == {"received": "known"}
        assert everything(database) == before
        assert logged(database) == [("accepted", made.task_id)]
        assert rt.publish.of(POLL) == []

    def test_a_look_that_runs_is_followed_by_one_more_and_never_by_a_third(self, gate, rt, database):
        """It may have read the record too early; but callbacks never use up the executions that find poison."""
        made = make_job(database, JobState.WAITING, due_at=clock(40), executions=1)
        before = job_row(database, made.id)
        gate.post(address(made.submission_id), json=body_of(made.task_id))
        (one,) = rt.publish.take()
        assert one.countdown_s == callbacks.AGAIN_S
        assert job_row(database, made.id) == before
        alter(database, made.id, executions=2)
        gate.post(address(made.submission_id), json=body_of(made.task_id, again=True))
        assert rt.publish.take() == []

    @pytest.mark.parametrize("state", [JobState.STORING, JobState.SUCCESS, JobState.FAIL])
    def test_a_late_callback_for_a_job_that_moved_on_changes_nothing(self, gate, rt, database, state):
        """Kept, answered, that is all."""
        made = make_job(database, state)
        before = everything(database)
        assert gate.post(address(made.submission_id), json=body_of(made.task_id)).json() == {"received": "known"}
        assert everything(database) == before
        assert rt.publish.sent == []

    @pytest.mark.parametrize("kind", ["text", "first"])
    def test_a_stage_is_kept_and_nudges_nothing(self, gate, rt, database, kind):
        """The task goes on; its end calls again."""
        made = make_job(database, JobState.WAITING)
        before = everything(database)
        told = {"code": 200, "data": {"callbackType": kind, "task_id": made.task_id, "data": []}}
        assert gate.post(address(made.submission_id), json=told).json() == {"received": "stage"}
        assert (everything(database), rt.publish.sent) == (before, [])
        told["data"]["callbackType"] = "complete"
        assert gate.post(address(made.submission_id), json=told).json() == {"received": "accepted"}

    def test_the_table_says_who_finished_the_jobs(self, database):
        """Counted since a moment, by what brought the end to light; what ended without being found is not counted."""
        from kiejobs.db import reads

        for found_by in ("callback", "callback", "poll", None):
            make_job(database, JobState.SUCCESS, found_by=found_by)
        old = make_job(database, JobState.SUCCESS, found_by="sweep")
        age(database, old.id, 7200)
        with database.read() as connection:
            hour_ago = connection.scalar(select(clock(-3600)))
        assert reads.finished_by(database, hour_ago) == {"callback": 2, "poll": 1}
        assert reads.finished_by(database, None) == {"callback": 2, "poll": 1, "sweep": 1}


class TestAdopting:
    def test_a_lost_answer_is_adopted_by_the_callback_alone(self, gate, rt, jobs, simulator):
        """Nobody does anything: parked, named by Kie, looked at, stored."""
        job = send(rt, jobs, "lost [[no-task-id]] [[duration=30]] [[outputs=1]] [[no-callback]]")
        assert job.phase == "unconfirmed"
        task = creates(simulator)[0]["taskId"]
        finish(simulator, task)
        submission = submissions_of(rt.database, job.id)[0].id
        assert gate.post(address(submission), json=body_of(task)).json() == {"received": "accepted"}
        work(rt)
        found = jobs.get(job.id)
        assert (found.phase, found.provider_task_id) == ("success", task)
        assert job_row(rt.database, job.id).found_by == "callback"
        assert candidates_of(rt.database) == [(task, "adopted")]
        assert len(creates(simulator)) == 1

    def test_an_early_callback_waits_for_nothing_and_the_senders_answer_decides_it(self, gate, rt, jobs, database):
        """Before our own commit: a candidate; the create call's answer with the same task closes it."""
        made = make_job(database, JobState.SUBMITTING)
        task = uuid.uuid4().hex
        assert gate.post(address(made.submission_id), json=body_of(task)).json() == {"received": "accepted"}
        with database.write() as tx:
            ledger.settle(tx, made.submission_id, Accepted(task), pace=rt.pace("default"), busy_s=1, who="sender")
        assert (job_row(database, made.id).state, candidates_of(database)) == ("waiting", [(task, "adopted")])
        assert alarms_of(database, made.id) == []

    def test_a_task_that_was_named_during_the_call_is_looked_at_when_the_answer_is_lost(self, gate, rt, database):
        """The callback came first: the parked job is due for the look, not in fourteen days."""
        made = make_job(database, JobState.SUBMITTING)
        gate.post(address(made.submission_id), json=body_of("named"))
        with database.write() as tx:
            lost = Unknown("the answer was cut off")
            ledger.settle(tx, made.submission_id, lost, pace=rt.pace("default"), busy_s=1, who="sender")
        assert job_row(database, made.id).state == "unconfirmed"
        rt.publish.take()
        sweep(rt)
        assert [nudge.kwargs["job_id"] for nudge in rt.publish.of(POLL)] == [made.id]

    def test_a_task_that_was_named_during_the_call_is_looked_at_when_the_sender_is_dead(self, gate, rt, database):
        """The same where nobody reports: the look did not decide in time, and the call lapses."""
        made = make_job(database, JobState.SUBMITTING)
        gate.post(address(made.submission_id), json=body_of("named"))
        age(database, made.id, 120)
        with database.write() as tx:
            assert ledger.lapse(tx, made.id, pace=rt.pace("default"), who="sweep")
        rt.publish.take()
        sweep(rt)
        assert [nudge.kwargs["job_id"] for nudge in rt.publish.of(POLL)] == [made.id]

    def test_a_senders_answer_with_another_task_is_an_alarm(self, gate, rt, database):
        """Kie made two of one call, or somebody lies: the answer counts, the other one is told."""
        made = make_job(database, JobState.SUBMITTING)
        gate.post(address(made.submission_id), json=body_of("the-other"))
        with database.write() as tx:
            ledger.settle(tx, made.submission_id, Accepted("mine"), pace=rt.pace("default"), busy_s=1, who="sender")
        assert submission_row(database, made.submission_id).provider_task_id == "mine"
        assert candidates_of(database) == [("the-other", "refused")]
        assert ["the-other" in note for note in alarms_of(database, made.id)] == [True]

    def test_an_opted_in_resend_in_line_is_withdrawn_by_the_earlier_task(self, gate, rt, jobs, simulator):
        """The callback comes while the second create call waits its turn: nothing more is bought."""
        job = send(rt, jobs, "lost [[no-task-id]] [[duration=30]] [[outputs=1]] [[no-callback]]")
        jobs.retry(job.id, pay=True)
        rt.publish.take()
        task = creates(simulator)[0]["taskId"]
        finish(simulator, task)
        first = submissions_of(rt.database, job.id)[0].id
        assert gate.post(address(first), json=body_of(task)).json() == {"received": "accepted"}
        submit(rt, job.id)  # its turn comes meanwhile
        assert len(creates(simulator)) == 1
        work(rt)
        assert jobs.get(job.id).phase == "success"
        assert [row.state for row in submissions_of(rt.database, job.id)] == ["accepted"]
        assert job_row(rt.database, job.id).held is None

    def test_a_resend_whose_earlier_call_was_named_wrongly_comes_back_in_line(self, gate, rt, jobs, simulator):
        """A foreign task is refused with an alarm, and the order to pay again stands."""
        foreign = send(rt, jobs, "somebody else's [[no-task-id]] [[no-callback]]")
        task = creates(simulator)[0]["taskId"]
        job = send(rt, jobs, "mine [[no-task-id]] [[no-callback]]")
        jobs.retry(job.id, pay=True)
        rt.publish.take()
        gate.post(address(submissions_of(rt.database, job.id)[0].id), json=body_of(task))
        assert job_row(rt.database, job.id).line_at is None
        sweep(rt)  # the nudge may be lost: an open candidate is looked at first
        assert job_row(rt.database, job.id).line_at is None
        work(rt)
        assert any("not adopted" in note for note in alarms_of(rt.database, job.id))
        sweep(rt)
        row = job_row(rt.database, job.id)
        assert (row.state, row.line_at is None, row.approved_by) == ("queued", False, "tester")
        submit(rt, job.id)
        assert len(submissions_of(rt.database, job.id)) == 2
        assert jobs.get(foreign.id).phase == "unconfirmed"

    def test_a_call_that_was_written_off_is_adopted_after_all(self, gate, rt, jobs, simulator):
        """Given up after 14 days, then its task is named; the record agrees, so the job waits again."""
        job = send(rt, jobs, "lost [[no-task-id]] [[duration=30]] [[outputs=1]] [[no-callback]]")
        task = creates(simulator)[0]["taskId"]
        alter(rt.database, job.id, state="fail", reason="submission_lost", due_at=None, ended_at=clock())
        with rt.database.write() as tx:
            off = {"state": SubmissionState.WRITTEN_OFF}
            tx.execute(update(submissions).where(submissions.c.job_id == job.id).values(**off))
        submission = submissions_of(rt.database, job.id)[0].id
        gate.post(address(submission), json=body_of(task))
        rt.publish.take()  # lost: the sweep finds it
        age(rt.database, job.id, 1)
        sweep(rt)
        work(rt, at_most=1)
        assert jobs.get(job.id).phase == "waiting"
        assert jobs.get(job.id).ended_at is None

    def test_a_given_up_job_with_a_wrong_name_stays_given_up(self, gate, rt, database):
        """Refused, and never due again."""
        made = make_job(database, JobState.FAIL, path=PATH_LOST)
        with database.write() as tx:
            off = {"state": SubmissionState.WRITTEN_OFF}
            tx.execute(update(submissions).where(submissions.c.id == made.submission_id).values(**off))
        gate.post(address(made.submission_id), json=body_of("f" * 32))
        with database.write() as tx:
            tx.execute(update(candidate_rows).values(created_at=clock(-100)))
        work(rt)
        row = job_row(database, made.id)
        assert (row.state, row.due_at) == ("fail", None)
        assert candidates_of(database) == [("f" * 32, "refused")]

    def test_a_call_that_the_job_follows_no_more_is_an_alarm_and_nothing_else(self, gate, rt, database):
        """The resend is followed; that the first one was taken after all is billed, and told once."""
        made = make_job(database, JobState.WAITING)
        earlier = make_submission(database, made.id, state=SubmissionState.UNKNOWN, seq=0)
        for word in ("one", "two"):
            answer = gate.post(address(earlier), json=body_of("earlier-task", word=word))
            assert answer.json() == {"received": "surplus"}
        assert len(alarms_of(database, made.id)) == 1
        assert job_row(database, made.id).provider_task_id == made.task_id
        assert rt.publish.sent == []

    def test_a_person_may_name_the_task_of_a_resend_in_line(self, rt, jobs, simulator):
        """As long as nothing more is bought."""
        job = send(rt, jobs, "lost [[no-task-id]] [[duration=30]] [[no-callback]]")
        jobs.retry(job.id, pay=True)
        rt.publish.take()
        jobs.adopt(job.id, creates(simulator)[0]["taskId"])
        work(rt, at_most=1)
        assert jobs.get(job.id).phase == "waiting"


class TestForging:
    @pytest.mark.parametrize("given", ["x", "x.y", f"{uuid.UUID(int=1)}.{'0' * 32}", "%2e%2e", "ü"])
    def test_an_unknown_atis_answered_404_and_leaves_no_trace(self, gate, database, given):
        """A flood of them costs no row, no database, not even the reading of the body."""
        answer = gate.post(f"/callbacks/kie/{given}", data=b"x" * 300_000)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
        assert logged(database) == []

    def test_an_atwhose_job_was_forgotten_is_404(self, gate, database):
        """Made by us, for rows that are no more."""
        assert gate.post(address(str(uuid.uuid4())), json=body_of("a")).status_code == 404
        assert logged(database) == []

    @pytest.mark.parametrize(
        ("headers", "why"),
        [
            (lambda task: {}, "not signed"),
            (lambda task: signed(task, key="another"), "its signature is not Kie's"),
            (lambda task: signed("another-task"), "its signature is not Kie's"),
            (lambda task: signed(task, at_s=time.time() - 301), "signed more than"),
            (lambda task: signed(task, at_s=time.time() + 330), "signed more than"),
            (lambda task: signed(task) | {"X-Webhook-Timestamp": "soon"}, "no Unix time"),
            (lambda task: signed(task) | {"X-Webhook-Signature": "!!"}, "its signature is not Kie's"),
        ],
    )
    def test_with_a_key_only_kies_own_fresh_signature_counts(self, signed_gate, rt, database, headers, why):
        """Fails closed; what was refused is in the log and nowhere else."""
        made = make_job(database, JobState.WAITING)
        before = everything(database)
        answer = signed_gate.post(
            address(made.submission_id), json=body_of(made.task_id), headers=headers(made.task_id)
        )
        assert answer.status_code == 403
        assert why in answer.json()["detail"]
        assert (everything(database), rt.publish.sent) == (before, [])
        assert [verdict.startswith("refused: ") for verdict, _ in logged(database)] == [True]

    def test_a_true_signature_passes_and_a_refused_one_does_not_stand_in_its_way(self, signed_gate, rt, database):
        """Kie signs each repeat anew, over the same body."""
        made = make_job(database, JobState.WAITING)
        for number in range(9):
            signed_gate.post(address(made.submission_id), json=body_of(made.task_id, number=number))
        assert len(logged(database)) == callbacks.REFUSED_PER_SUBMISSION
        told = body_of(made.task_id, number=0)
        answer = signed_gate.post(address(made.submission_id), json=told, headers=signed(made.task_id))
        assert answer.json() == {"received": "accepted"}

    def test_the_key_counts_without_an_api_key_in_the_gateway(self, database, nudges, settings):
        """A gateway needs no key to buy with, and still refuses what is not signed."""
        from kiejobs.settings import Settings

        own = settings.model_dump() | {"api_key": None, "webhook_hmac_key": HMAC_KEY, "callback_secret": SECRET}
        made = make_job(database, JobState.WAITING)
        keyless = Settings(_env_file=None, **own)
        with running(keyless, database, nudges) as at:
            assert Caller(at).post(address(made.submission_id), json=body_of(made.task_id)).status_code == 403

    def test_swapped_addresses_under_a_true_signature_are_never_fetched(self, signed_gate, rt, jobs, simulator):
        """The body is a hint: the result comes from Kie's record, whatever the body says."""
        job = send(rt, jobs, "[[duration=30]] [[outputs=1]] [[no-callback]]")
        task = job.provider_task_id
        evil = "http://127.0.0.1:9/evil.png"
        told = body_of(task, resultJson=json.dumps({"resultUrls": [evil]}), info={"resultUrls": [evil]})
        submission = submissions_of(rt.database, job.id)[0].id
        assert signed_gate.post(address(submission), json=told, headers=signed(task)).status_code == 200
        work(rt, at_most=3)
        assert jobs.get(job.id).phase == "waiting"  # Kie says that it goes on
        finish(simulator, task)
        age(rt.database, job.id, 60)
        poll(rt, job.id, job_row(rt.database, job.id).version)
        work(rt)
        assert jobs.get(job.id).phase == "success"
        with rt.database.read() as connection:
            from kiejobs.db.tables import outputs

            assert [url for url in connection.scalars(select(outputs.c.url)) if "evil" in url] == []

    def test_another_tenants_task_under_ones_own_atchanges_no_row(self, gate, rt, database):
        """Neither a waiting nor a parked job takes a task that belongs to somebody else."""
        theirs = make_job(database, JobState.WAITING, tenant="theirs")
        for state in (JobState.WAITING, JobState.UNCONFIRMED):
            mine = make_job(database, state, tenant="mine")
            before = everything(database)
            answer = gate.post(address(mine.submission_id), json=body_of(theirs.task_id))
            assert answer.json() == {"received": "contradicts"}
            after = everything(database)
            assert before.pop("events")[0] + 1 == after.pop("events")[0]  # the alarm
            assert after == before
            assert "names task" in alarms_of(database, mine.id)[0]
        assert candidates_of(database) == []
        assert rt.publish.sent == []

    def test_another_task_than_the_bound_one_is_one_alarm_and_no_change(self, gate, rt, database):
        """I3: recorded, told once, never an overwrite."""
        made = make_job(database, JobState.WAITING)
        for number in range(3):
            gate.post(address(made.submission_id), json=body_of("second", number=number))
        assert submission_row(database, made.submission_id).provider_task_id == made.task_id
        assert len(alarms_of(database, made.id)) == 1
        assert logged(database) == [("contradicts", "second")] * 3

    def test_one_submission_keeps_a_bounded_number(self, gate, rt, database):
        """A leaked address fills no disk and asks Kie no more often."""
        made = make_job(database, JobState.WAITING)
        verdicts = [
            gate.post(address(made.submission_id), json=body_of(made.task_id, number=number)).json()["received"]
            for number in range(callbacks.KEPT_PER_SUBMISSION + 3)
        ]
        assert verdicts == ["accepted"] * callbacks.KEPT_PER_SUBMISSION + ["dropped"] * 3
        assert len(logged(database)) == callbacks.KEPT_PER_SUBMISSION
        assert len(rt.publish.of(POLL)) == callbacks.KEPT_PER_SUBMISSION


class TestBodies:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"no json",
            b"[]",
            b"null",
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"data": ' * 5000 + b"1" + b"}" * 5000,
            b'{"taskId": ' + b"9" * 5000 + b"}",
            b'{"taskId": {"a": 1}}',
            b'{"taskId": "a", "data": {"taskId": "b"}}',
            b'{"taskId": "a\\u0000b"}',
            b'{"taskId": "' + b"a" * 101 + b'"}',
        ],
    )
    def test_what_names_no_task_is_refused_and_kept(self, gate, rt, database, content):
        """A problem as the answer, never a 500, whatever the bytes are."""
        made = make_job(database, JobState.WAITING)
        answer = gate.post(address(made.submission_id), data=content)
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
        assert logged(database) == [("refused: it names no task, or two", None)]
        assert rt.publish.sent == []

    @pytest.mark.parametrize(
        "told",
        [{"taskId": "T"}, {"task_id": "T"}, {"data": {"taskId": "T"}}, {"data": {"task_id": "T"}, "taskId": "T"}],
    )
    def test_every_spelling_of_the_id_is_understood(self, gate, database, told):
        """Kie's families disagree."""
        made = make_job(database, JobState.WAITING, task_id="T")
        assert gate.post(address(made.submission_id), json=told).json() == {"received": "accepted"}

    def test_a_large_body_is_refused_and_a_long_one_kept_in_part(self, gate, database):
        """Bounds on what is read and on what is stored."""
        made = make_job(database, JobState.WAITING)
        assert gate.post(address(made.submission_id), data=b"x" * 300_000).status_code == 413
        assert logged(database) == []
        gate.post(address(made.submission_id), json=body_of(made.task_id, long="é" * 30_000))
        with database.read() as connection:
            assert len(connection.execute(select(log.c.body)).scalar_one()) <= callbacks.KEPT_BYTES


def test_a_database_that_is_away_asks_kie_to_call_again(rt, nudges, database, monkeypatch):
    """503 with Retry-After; the same callback is taken as new afterwards."""
    made = make_job(database, JobState.WAITING)

    def away(*_, **__):
        raise DatabaseUnavailable("the database does not answer: gone")

    with running(rt.settings, database, nudges) as at:
        client = Caller(at)
        with monkeypatch.context() as patch:
            patch.setattr(database.engine, "connect", away)
            patch.setattr(type(database), "read", away)
            patch.setattr(type(database), "write", away)
            answer = client.post(address(made.submission_id), json=body_of(made.task_id))
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        assert client.post(address(made.submission_id), json=body_of(made.task_id)).json() == {"received": "accepted"}


def test_a_candidate_whose_looks_do_not_survive_is_given_up(rt, database):
    """Five looks killed their workers: refused with an alarm, in whichever state the job is."""
    for state in (JobState.UNCONFIRMED, JobState.QUEUED):
        made = make_job(database, JobState.UNCONFIRMED, model=MODEL)
        if state is JobState.QUEUED:
            orders.retry(database, made.id, tenant="default", pay=True, who="t", why="t")
        with database.write() as tx:
            row = tx.execute(select(job_rows).where(job_rows.c.id == made.id)).one()
            assert candidates.name(tx, row, made.submission_id, f"task-{state}", source="callback")
        alter(database, made.id, executions=5)
        poll(rt, made.id, job_row(database, made.id).version)
        assert "did not survive" in alarms_of(database, made.id)[0]
        assert job_row(database, made.id).state == state
    assert [row.job_id for row in rescue.overdue_jobs(database, JobState.QUEUED, grace_s=-1)] == [made.id]


def test_the_database_keeps_no_address_that_could_be_called(gate, rt, jobs, simulator):
    """Kie repeats the address, with our proof in it, in its records and its callbacks; neither is kept with it."""
    job = send(rt, jobs, "a red door")
    with rt.database.read() as connection:
        sent = connection.execute(select(submissions)).one()
    finish(simulator, sent.provider_task_id)
    proof = token(sent.id, SECRET).partition(".")[2]
    told = body_of(sent.provider_task_id, param=json.dumps({"callBackUrl": f"https://gate.example{address(sent.id)}"}))
    assert gate.post(address(sent.id), json=told).json() == {"received": "accepted"}
    poll(rt, job.id, job_row(rt.database, job.id).version)
    with rt.database.read() as connection:
        kept = str([everything(rt.database), *connection.execute(select(log))])
    assert f"{sent.id}.***" in kept
    assert proof not in kept


@pytest.mark.parametrize("rung", [(10, 2, 2), (40, 5, 10), (200, 15, 30)])
def test_with_callbacks_on_the_waits_after_thirty_seconds_are_doubled(runtime, database, simulator, rung):
    """Looks are the safety net then: half as many, and none of them missing."""
    elapsed_s, alone_s, with_callbacks_s = rung
    on = {"public_url": "https://gate.example", "callback_secret": SECRET}
    for options, wait_s in (({}, alone_s), (on, with_callbacks_s)):
        rt = runtime(database, **options)
        job = send(rt, KieJobs(rt.settings, database=database, publish=rt.publish), "a red door")
        age(database, job.id, elapsed_s)
        poll(rt, job.id, job_row(database, job.id).version)
        (again,) = [one for one in rt.publish.take() if one.task == POLL]
        assert wait_s * 0.9 <= again.countdown_s <= wait_s * 1.1, (options, again)
