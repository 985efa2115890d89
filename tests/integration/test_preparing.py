"""Making inputs ready under concurrency and under fire: one worker at a time, never for ever, never for a job that is gone.

Against a simulated Kie over real HTTP, with both databases. What counts is what the rows say and what the simulator saw.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import update

from kiejobs.answers import Accepted, Refused, Scope, Unknown
from kiejobs.db import candidates, ledger, preparing
from kiejobs.db.session import Database
from kiejobs.db.tables import payloads
from kiejobs.decisions import MAX_EXECUTIONS
from kiejobs.errors import InvalidInput, Reason
from kiejobs.jobs import Job, JobState
from kiejobs.nudge import SUBMIT, poll_nudge
from kiejobs.producer import KieJobs
from kiejobs.references import FROM
from kiejobs.simulator import Simulator
from tests.factories import Nudges, age, events_of, finish, job_row, race, work
from workers.aside import Aside
from workers.runtime import Runtime
from workers.steps.poll import poll
from workers.steps.prepare import prepare
from workers.steps.submit import submit
from workers.sweeps.pump import pump
from workers.sweeps.stale import sweep

S = JobState
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000b49444154789c6360000200000500017a"
    "5eab3f0000000049454e44ae426082"
)


@pytest.fixture
def rt(simulator: Simulator, database: Database, runtime: Callable[..., Runtime]) -> Runtime:
    """A runtime that leads to the simulator."""
    return runtime(database, upload_url=simulator.base_url)


def producer(rt: Runtime) -> KieJobs:
    return KieJobs(rt.settings, database=rt.database, publish=Nudges())


def with_file(rt: Runtime, **more: Any) -> Job:
    return producer(rt).enqueue("any/model", {"image": PNG}, validate="off", **more)


class Instead:
    """A storage whose reading does something else first."""

    def __init__(self, rt: Runtime, first: Callable[[], None]) -> None:
        self.store, self.first = rt.store, first
        rt.__dict__["store"] = self

    @contextmanager
    def read(self, key: str) -> Iterator[Any]:
        self.first()
        with self.store.read(key) as content:
            yield content

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class Killed(BaseException):
    """The worker is gone."""


def test_one_worker_makes_a_jobs_inputs_ready(rt: Runtime, simulator: Simulator) -> None:
    """Whoever else is nudged for it leaves it alone, and so does the pump: it stands out of the line meanwhile."""
    job = with_file(rt)
    seen: list[Any] = []

    def look() -> None:
        seen.append((submit(rt, job.id), pump(rt), job_row(rt.database, job.id)))

    Instead(rt, look)
    assert submit(rt, job.id) is not None
    outcome, nudged, row = seen[0]
    assert (len(seen), outcome, nudged, row.line_at, row.held) == (1, None, 0, None, preparing.PREPARING)
    assert len(simulator.ledger()["uploads"]) == 1  # type: ignore[arg-type]
    assert job_row(rt.database, job.id).state == S.WAITING


def test_what_somebody_made_ready_meanwhile_is_not_made_again(rt: Runtime, simulator: Simulator) -> None:
    """Who saw the job unprepared comes too late; the job stands in line again, as before."""
    job = with_file(rt)
    version = job_row(rt.database, job.id).version
    assert [prepare(rt, job.id, version), prepare(rt, job.id, version)] == [True, False]
    assert len(simulator.ledger()["uploads"]) == 1  # type: ignore[arg-type]


def test_eight_at_once_upload_once_and_buy_once(rt: Runtime, simulator: Simulator) -> None:
    """The claim lets one through."""
    job = with_file(rt)
    outcome = race(*[lambda: submit(rt, job.id)] * 8)
    assert not outcome.errors
    assert len(simulator.ledger()["uploads"]) == 1  # type: ignore[arg-type]
    assert len(simulator.ledger()["creates"]) == 1  # type: ignore[arg-type]


def test_the_job_keeps_its_place_in_line(rt: Runtime) -> None:
    """Uploading is no reason to stand behind those who came later."""
    job = with_file(rt)
    before = job_row(rt.database, job.id).line_at
    assert prepare(rt, job.id)
    assert job_row(rt.database, job.id).line_at == before


def test_inputs_that_kill_their_worker_are_quarantined(rt: Runtime, simulator: Simulator) -> None:
    """A worker dies with them five times; the sixth does not try. Nothing was bought."""
    job = with_file(rt)

    def die() -> None:
        raise Killed

    Instead(rt, die)
    for _ in range(MAX_EXECUTIONS):
        with pytest.raises(Killed):
            submit(rt, job.id)
        age(rt.database, job.id, 3600)
        sweep(rt)
    assert submit(rt, job.id) is None
    row = job_row(rt.database, job.id)
    assert (row.state, row.reason) == (S.FAIL, Reason.QUARANTINED)
    assert not simulator.ledger()["creates"]


def test_a_storage_that_is_away_is_no_poison(rt: Runtime, simulator: Simulator) -> None:
    """However often it is tried; and the timeline hears of it once."""
    cut_off = Runtime(
        rt.settings.model_copy(update={"upload_url": "http://127.0.0.1:9"}),
        Nudges(),
        database=rt.database,
        store=rt.store,
    )
    job = with_file(rt)
    for _ in range(MAX_EXECUTIONS + 2):
        assert submit(cut_off, job.id) is None
        age(rt.database, job.id, 60)
        sweep(rt)
    assert events_of(rt.database, job.id).count("held") == 1
    assert submit(rt, job.id) is not None
    assert job_row(rt.database, job.id).state == S.WAITING


def test_a_job_that_is_canceled_meanwhile_stays_canceled(rt: Runtime, simulator: Simulator) -> None:
    """Nothing is written over it, and nothing is bought."""
    job = with_file(rt)
    Instead(rt, lambda: producer(rt).cancel(job.id))
    assert submit(rt, job.id) is None
    row = job_row(rt.database, job.id)
    assert (row.state, row.line_at) == (S.CANCELED, None)
    assert "prepared" not in events_of(rt.database, job.id)
    assert not simulator.ledger()["creates"]


def bought_again(rt: Runtime) -> tuple[Job, Callable[[], None]]:
    """A job in line for a second create call, its inputs to be made ready; and what names the task of the first one."""
    job = producer(rt).enqueue("any/model", {"image": PNG, "prompt": "[[reset]]"}, validate="off")
    assert isinstance(submit(rt, job.id), Unknown)
    unsure = job_row(rt.database, job.id)
    producer(rt).retry(job.id, pay=True)
    with rt.database.write() as tx:
        tx.execute(update(payloads).values(prepared=None))

    def name() -> None:
        with rt.database.write() as tx:
            candidates.name(tx, job_row(rt.database, job.id), unsure.submission_id, "a-task", source="callback")

    return job, name


def test_a_job_for_which_a_task_was_named_meanwhile_stays_out_of_the_line(rt: Runtime, simulator: Simulator) -> None:
    """The look at the named task decides first: nothing is bought before."""
    job, name = bought_again(rt)
    Instead(rt, name)
    assert submit(rt, job.id) is None
    row = job_row(rt.database, job.id)
    assert (row.state, row.line_at, row.held) == (S.QUEUED, None, candidates.HELD)
    assert len(simulator.ledger()["creates"]) == 1  # type: ignore[arg-type]


def test_a_job_for_which_a_task_was_named_meanwhile_is_not_ended_by_its_inputs(
    rt: Runtime, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its inputs cannot be had any more; what was bought with them before may still come."""
    job, name = bought_again(rt)

    def fail(*_: Any) -> Any:
        name()
        raise InvalidInput("the file is gone", field="input")

    monkeypatch.setattr("workers.steps.prepare.replaced", fail)
    assert submit(rt, job.id) is None
    row = job_row(rt.database, job.id)
    assert (row.state, row.held, row.due_at is None) == (S.QUEUED, candidates.HELD, False)


def test_a_process_that_ends_gives_the_job_back(rt: Runtime) -> None:
    """Another one goes on at once."""
    job = with_file(rt)
    rt.stopping.set()
    assert submit(rt, job.id) is None
    row = job_row(rt.database, job.id)
    assert row.line_at is not None
    assert row.held is None


def test_an_upload_that_runs_when_the_process_ends_is_given_up(rt: Runtime, simulator: Simulator) -> None:
    """It would keep the process for as long as it takes; another one begins it anew."""
    job = with_file(rt)
    storage = Instead(rt, rt.stopping.set)
    assert submit(rt, job.id) is None
    assert job_row(rt.database, job.id).line_at is not None
    assert not simulator.ledger()["uploads"]
    storage.first = rt.stopping.clear
    rt.stopping.clear()
    assert prepare(rt, job.id)


def test_uploads_hold_none_of_the_workers_threads(rt: Runtime, simulator: Simulator) -> None:
    """They are made aside; the job goes on by a message, and the next one waits for a place."""
    rt.aside = Aside(at_once=1)
    job, other = with_file(rt), producer(rt).enqueue("any/model", {"image": PNG, "n": 2}, validate="off")
    others: list[Any] = []
    Instead(rt, lambda: others.append(submit(rt, other.id)))
    assert submit(rt, job.id) is None
    for _ in range(200):
        if rt.publish.of(SUBMIT):  # type: ignore[attr-defined]
            break
        rt.stopping.wait(0.05)
    work(rt)
    assert job_row(rt.database, job.id).state == S.WAITING
    assert "as many long calls" in job_row(rt.database, other.id).held


@pytest.mark.parametrize("refers", ["first", "second"])
def test_of_several_models_only_one_may_refer_to_another_job(rt: Runtime, simulator: Simulator, refers: str) -> None:
    """The other one's input needs nothing made ready, and is sent all the same."""
    first = producer(rt).enqueue("z-image", {"prompt": "a cat"}, validate="off")
    submit(rt, first.id)
    finish(simulator, job_row(rt.database, first.id).provider_task_id)
    work(rt)
    plain, with_parent = {"prompt": "[[refuse=505]]"}, {"prompt": "[[refuse=505]]", "image": {FROM: first.id}}
    inputs = [with_parent, plain] if refers == "first" else [plain, with_parent]
    inputs[1] = inputs[1] | {"prompt": "a dog"}
    asked = {"model": "any/one", "input": inputs[0], "validate": "off"}
    asked |= {"fallbackModels": [{"model": "any/two", "input": inputs[1]}]}
    job = producer(rt).enqueue_request(asked)
    submit(rt, job.id)
    submit(rt, job.id)
    row = job_row(rt.database, job.id)
    assert (row.state, row.model) == (S.WAITING, "any/two")
    assert events_of(rt.database, job.id).count("prepared") <= 2


@pytest.mark.parametrize("how", ["named", "reported"])
def test_a_late_task_of_the_first_model_is_followed_as_such(rt: Runtime, simulator: Simulator, how: str) -> None:
    """Meanwhile the next model, of another API family, stood in line: the job goes back to the one that was bought."""
    asked = {"model": "any/one", "input": {"prompt": "[[reset]]"}, "validate": "off"}
    asked |= {"fallbackModels": [{"model": "veo3_fast", "input": {"prompt": "b"}}]}
    job = producer(rt).enqueue_request(asked)
    submit(rt, job.id)
    first, task_id = job_row(rt.database, job.id).submission_id, simulator.ledger()["creates"][0]["taskId"]  # type: ignore[index]
    producer(rt).retry(job.id, pay=True)
    with rt.database.write() as tx:
        again = ledger.begin(tx, job.id, "default", rt.budget("default"), deadline_s=30.0, who="a worker")
        assert isinstance(again, ledger.Intent)
        poor = Refused("402", "no credits", Scope.ACCOUNT, Reason.CREDITS, try_another=True)
        ledger.settle(tx, again.submission_id, poor, pace=rt.pace("default"), busy_s=1, who="a worker")
    assert job_row(rt.database, job.id).model == "veo3_fast"
    with rt.database.write() as tx:
        if how == "named":
            candidates.name(tx, job_row(rt.database, job.id), first, task_id, source="callback")
        else:
            ledger.settle(tx, first, Accepted(task_id), pace=rt.pace("default"), busy_s=1, who="a slow worker")
    if how == "named":
        poll(rt, job.id, job_row(rt.database, job.id).version)
    row = job_row(rt.database, job.id)
    assert (row.state, row.model, row.family, row.provider_task_id) == (S.WAITING, "any/one", "jobs", task_id)
    finish(simulator, task_id)
    work(rt, [poll_nudge(job.id, row.version)])
    assert job_row(rt.database, job.id).state == S.SUCCESS
    assert len(simulator.ledger()["creates"]) == 1  # type: ignore[arg-type]
