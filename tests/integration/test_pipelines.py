"""Jobs that need another job's output: waiting, going on, failing with it, and what Kie is told.

Against a simulated Kie over real HTTP, with both databases. What counts is what the rows say and what the simulator saw.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
import requests
from sqlalchemy import select, update

from kiejobs.db import parents
from kiejobs.db.clock import clock
from kiejobs.db.copies import settle_job
from kiejobs.db.session import Database
from kiejobs.db.tables import accounts, jobs, outputs, payloads
from kiejobs.errors import InvalidInput, Reason
from kiejobs.jobs import Job, JobState
from kiejobs.producer import KieJobs
from kiejobs.references import FROM
from kiejobs.simulator import Simulator
from tests.factories import (
    Nudges,
    age,
    alter_outputs,
    events_of,
    finish,
    job_row,
    make_job,
    outputs_of,
    race,
    work,
)
from workers.runtime import Runtime
from workers.steps.submit import submit
from workers.sweeps.pump import pump
from workers.sweeps.stale import sweep

S = JobState


@pytest.fixture
def rt(simulator: Simulator, database: Database, runtime: Callable[..., Runtime]) -> Runtime:
    """A runtime that leads to the simulator."""
    return runtime(database, upload_url=simulator.base_url)


def producer(rt: Runtime, tenant: str = "default") -> KieJobs:
    return KieJobs(rt.settings, database=rt.database, publish=Nudges(), tenant=tenant)


def child_of(rt: Runtime, *ids: str, tenant: str = "default", **more: Any) -> Job:
    """A job that takes the first output of each of these."""
    given = {"prompt": "animate it", "image_urls": [{FROM: {"job": one}} for one in ids]}
    return producer(rt, tenant).enqueue("any/image-to-video", given, validate="off", **more)


def parent(rt: Runtime, prompt: str = "a cat") -> Job:
    return producer(rt).enqueue("z-image", {"prompt": prompt}, validate="off")


def run(rt: Runtime, simulator: Simulator, job_id: str) -> None:
    """Bring a job in line to its end."""
    submit(rt, job_id)
    finish(simulator, job_row(rt.database, job_id).provider_task_id)
    work(rt)


def creates(simulator: Simulator) -> list[dict[str, Any]]:
    return simulator.ledger()["creates"]  # type: ignore[return-value]


def asked(simulator: Simulator) -> dict[str, Any]:
    """What the last create call asked for, as the task's record has it."""
    query, key = {"taskId": creates(simulator)[-1]["taskId"]}, {"Authorization": "Bearer test-key-0001"}
    record = requests.get(f"{simulator.base_url}/api/v1/jobs/recordInfo", params=query, headers=key, timeout=5).json()
    given: dict[str, Any] = json.loads(json.loads(record["data"]["param"])["input"])
    return given


# ── waiting and going on ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_child_waits_out_of_the_line_and_goes_on_with_its_parent(rt: Runtime, simulator: Simulator) -> None:
    """Nothing is bought before; afterwards Kie is given its own URL of the parent's output."""
    first = parent(rt)
    second = child_of(rt, first.id)
    row = job_row(rt.database, second.id)
    assert (row.state, row.line_at, row.held) == (S.QUEUED, None, f"waits for job {first.id}")
    assert submit(rt, second.id) is None
    run(rt, simulator, first.id)
    assert job_row(rt.database, first.id).state == S.SUCCESS
    assert job_row(rt.database, second.id).line_at is not None
    run(rt, simulator, second.id)
    assert job_row(rt.database, second.id).state == S.SUCCESS
    assert asked(simulator)["image_urls"] == [outputs_of(rt.database, first.id)[0].url]
    assert len(creates(simulator)) == 2


def test_a_child_of_a_finished_job_stands_in_line_at_once(rt: Runtime, simulator: Simulator) -> None:
    """There is nothing to wait for."""
    first = parent(rt)
    run(rt, simulator, first.id)
    second = child_of(rt, first.id)
    assert job_row(rt.database, second.id).line_at is not None


def test_a_chain_of_any_length_goes_on_link_by_link(rt: Runtime, simulator: Simulator) -> None:
    """Each link is sent when the one before it is stored, by the pump as well as by a nudge."""
    chain = [parent(rt)]
    for _ in range(4):
        chain.append(child_of(rt, chain[-1].id))
    submit(rt, chain[0].id)
    for job in chain:
        if job is not chain[0]:
            assert pump(rt) == 1
            work(rt, at_most=1)
        finish(simulator, job_row(rt.database, job.id).provider_task_id)
        work(rt)
    assert [job_row(rt.database, job.id).state for job in chain] == [S.SUCCESS] * 5
    assert len(creates(simulator)) == 5


def test_a_child_of_two_waits_for_both(rt: Runtime, simulator: Simulator) -> None:
    """In the order in which they end."""
    first, second = parent(rt, "one"), parent(rt, "two")
    child = child_of(rt, first.id, second.id)
    run(rt, simulator, second.id)
    assert job_row(rt.database, child.id).line_at is None
    run(rt, simulator, first.id)
    assert job_row(rt.database, child.id).line_at is not None
    run(rt, simulator, child.id)
    urls = [outputs_of(rt.database, job.id)[0].url for job in (first, second)]
    assert asked(simulator)["image_urls"] == urls


def test_all_results_of_a_job_stand_in_a_list(rt: Runtime, simulator: Simulator) -> None:
    """`"output": "all"` is every result, in Kie's order."""
    first = parent(rt, "[[outputs=3]]")
    run(rt, simulator, first.id)
    given = {"prompt": "join them", "image_urls": {FROM: {"job": first.id, "output": "all"}}}
    second = producer(rt).enqueue("any/model", given, validate="off")
    run(rt, simulator, second.id)
    assert asked(simulator)["image_urls"] == [row.url for row in outputs_of(rt.database, first.id)]


def test_one_reference_becomes_a_list_where_the_field_takes_one(rt: Runtime, simulator: Simulator) -> None:
    """The catalogue knows which fields do."""
    first = parent(rt)
    run(rt, simulator, first.id)
    given = {"prompt": "animate it", "image_urls": {FROM: first.id}, "duration": "5", "sound": False}
    second = producer(rt).enqueue("kling-2.6/image-to-video", given)
    run(rt, simulator, second.id)
    assert asked(simulator)["image_urls"] == [outputs_of(rt.database, first.id)[0].url]


def test_the_sweep_brings_a_child_back_whose_parents_word_was_lost(rt: Runtime, simulator: Simulator) -> None:
    """However it came to miss its parent's end."""
    first = parent(rt)
    run(rt, simulator, first.id)
    child = child_of(rt, first.id)
    held = {"line_at": None, "due_at": clock(parents.LOOK_S), "held": "waits"}
    with rt.database.write() as tx:
        tx.execute(jobs.update().where(jobs.c.id == child.id).values(**held))
    age(rt.database, child.id, parents.LOOK_S + 1)
    sweep(rt)
    assert job_row(rt.database, child.id).line_at is not None


def test_the_sweep_leaves_a_child_waiting_whose_parent_runs(rt: Runtime, simulator: Simulator) -> None:
    """It may stand in line for a moment, but nothing is bought."""
    first = parent(rt)
    child = child_of(rt, first.id)
    age(rt.database, child.id, parents.LOOK_S + 1)
    sweep(rt)
    assert submit(rt, child.id) is None
    row = job_row(rt.database, child.id)
    assert (row.line_at, row.held) == (None, f"waits for job {first.id}")
    assert not creates(simulator)


def test_a_child_that_comes_while_its_parent_ends_is_never_left_behind(database: Database, rt: Runtime) -> None:
    """Twenty times: whoever is first, the child stands in line or is refused, and none waits for a job that is over."""
    for _ in range(20):
        made = make_job(database, S.STORING, urls=(), documents=("{}",))

        def end(job_id: str = made.id) -> None:
            with database.write() as tx:
                tx.execute(outputs.update().where(outputs.c.job_id == job_id).values(state="stored", key="k"))
                settle_job(tx, job_id, who="test")

        outcome = race(end, lambda job_id=made.id: child_of(rt, job_id))
        assert not outcome.errors
        child = next(job for job in outcome.results if job is not None)
        assert job_row(database, made.id).state == S.SUCCESS
        assert job_row(database, child.id).line_at is not None


# ── failing with the parent ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_failed_parent_fails_all_that_wait_for_it(rt: Runtime, simulator: Simulator) -> None:
    """Down the whole chain, with a reason that names the parent; nothing is bought."""
    first = parent(rt, "[[fail=500]]")
    second = child_of(rt, first.id)
    third = child_of(rt, second.id)
    run(rt, simulator, first.id)
    rows = [job_row(rt.database, job.id) for job in (second, third)]
    assert [(row.state, row.reason) for row in rows] == [(S.FAIL, Reason.PARENT)] * 2
    assert first.id in rows[0].message
    assert second.id in rows[1].message
    assert len(creates(simulator)) == 1


def test_a_long_chain_fails_without_a_stack(rt: Runtime) -> None:
    """Two thousand links, one transaction."""
    made = make_job(rt.database, S.WAITING)
    count = 2000 if rt.database.sqlite else 300
    links = [make_job(rt.database, S.QUEUED, line_at=None).id for _ in range(count)]
    with rt.database.write() as tx:
        parents.expect(tx, list(zip(links, [made.id, *links], strict=False)))
    producer(rt).cancel(made.id)
    assert job_row(rt.database, links[-1]).reason == Reason.PARENT


def test_families_that_end_and_grow_at_once_never_wait_in_a_circle(rt: Runtime) -> None:
    """Grandparents are given up while jobs come that need them, their children and grandchildren, in any order."""
    for _ in range(5):
        old = [parent(rt).id for _ in range(3)]
        middle = [child_of(rt, *pair).id for pair in ((old[2], old[0]), (old[1], old[2]), (old[0], old[1]))]
        young = [child_of(rt, middle[2], old[0], middle[0]).id, child_of(rt, middle[1], middle[0], old[2]).id]

        def grow(ids: tuple[str, ...]) -> None:
            asked = {"image_urls": [{FROM: {"job": one}} for one in ids]}
            request = {"model": "any/image-to-video", "input": asked, "validate": "off"}
            with suppress(InvalidInput):  # one of them had ended
                producer(rt).accept([request, request | {"metadata": {"second": 1}}])

        ends = [partial(producer(rt).cancel, one) for one in old]
        grows = [partial(grow, (young[0], middle[1], old[2])), partial(grow, (old[1], young[1], middle[0]))]
        grows += [partial(grow, (middle[2], young[0], old[0])), partial(grow, (young[1], old[0], old[1]))]
        assert not race(*ends, *grows).errors
    with rt.database.read() as tx:
        assert set(tx.scalars(select(jobs.c.state))) == {S.CANCELED, S.FAIL}


def test_a_child_that_is_canceled_does_not_come_back(rt: Runtime, simulator: Simulator) -> None:
    """Its parent's end changes nothing about it."""
    first = parent(rt)
    second = child_of(rt, first.id)
    producer(rt).cancel(second.id)
    run(rt, simulator, first.id)
    assert job_row(rt.database, second.id).state == S.CANCELED
    assert len(creates(simulator)) == 1


@pytest.mark.parametrize("state", [S.FAIL, S.CANCELED])
def test_a_parent_that_ended_without_output_is_refused_at_enqueue(rt: Runtime, state: S) -> None:
    """Nothing is stored."""
    made = make_job(rt.database, state)
    with pytest.raises(InvalidInput, match=f"ended as {state}"):
        child_of(rt, made.id)


def test_a_parent_of_another_tenant_is_no_job(rt: Runtime) -> None:
    """As if it were not there."""
    made = make_job(rt.database, S.SUCCESS, tenant="other")
    with pytest.raises(InvalidInput, match="there is no job"):
        child_of(rt, made.id)


def test_an_output_that_is_not_there_fails_the_child(rt: Runtime, simulator: Simulator) -> None:
    """It is known only when the parent has ended; nothing is bought."""
    first = parent(rt)
    second = producer(rt).enqueue("any/model", {"image": {FROM: {"job": first.id, "output": 7}}}, validate="off")
    run(rt, simulator, first.id)
    submit(rt, second.id)
    row = job_row(rt.database, second.id)
    assert (row.state, row.reason) == (S.FAIL, Reason.PARENT)
    assert "has no output 7" in row.message
    assert len(creates(simulator)) == 1


# ── addresses that Kie can fetch ─────────────────────────────────────────────────────────────────────────────────────


def test_a_dying_url_is_replaced_by_an_upload(rt: Runtime, simulator: Simulator) -> None:
    """Kie's own URL is used while it lives; then our copy is brought back to Kie."""
    first = parent(rt)
    run(rt, simulator, first.id)
    second = child_of(rt, first.id)
    alter_outputs(rt.database, first.id, expires_at=clock(3600))
    run(rt, simulator, second.id)
    url = asked(simulator)["image_urls"][0]
    assert url != outputs_of(rt.database, first.id)[0].url
    assert url.startswith("http")
    assert job_row(rt.database, second.id).state == S.SUCCESS


@pytest.mark.parametrize(("hours", "is_kies"), [(17, True), (19, False)])
def test_a_url_of_yesterday_is_not_relied_on(rt: Runtime, simulator: Simulator, hours: int, is_kies: bool) -> None:
    """One page of Kie's promises 14 days, another a day: our copy is sure, and sending it costs nothing."""
    first = parent(rt)
    run(rt, simulator, first.id)
    age(rt.database, first.id, hours * 3600)
    run(rt, simulator, child_of(rt, first.id).id)
    assert (asked(simulator)["image_urls"] == [outputs_of(rt.database, first.id)[0].url]) is is_kies


def test_all_of_a_job_that_makes_named_parts_is_its_parts(rt: Runtime, simulator: Simulator) -> None:
    """The stems of a song, say; never what lies beside them."""
    first = parent(rt, "[[outputs=3]]")
    run(rt, simulator, first.id)
    vocals, drums, origin = outputs_of(rt.database, first.id)
    with rt.database.write() as tx:
        for row, role in ((vocals, "vocals"), (drums, "drums"), (origin, "origin")):
            here = (outputs.c.job_id == first.id) & (outputs.c.position == row.position)
            tx.execute(update(outputs).where(here).values(role=role))
    given = {"prompt": "mix them", "audio_urls": {FROM: {"job": first.id, "output": "all"}}}
    run(rt, simulator, producer(rt).enqueue("any/model", given, validate="off").id)
    assert asked(simulator)["audio_urls"] == [vocals.url, drums.url]


def test_inputs_are_made_ready_once_and_again_when_they_die(rt: Runtime, simulator: Simulator) -> None:
    """A job that is put off keeps its URLs; after three days in line it gets new ones."""
    job = producer(rt).enqueue("any/model", {"image": PNG, "prompt": "[[refuse=402]]"}, validate="off")
    submit(rt, job.id)
    assert events_of(rt.database, job.id).count("prepared") == 1
    first = asked_of(rt, job.id)
    alter_due(rt, job.id)
    submit(rt, job.id)
    assert asked_of(rt, job.id) == first
    expire(rt, job.id)
    alter_due(rt, job.id)
    submit(rt, job.id)
    assert events_of(rt.database, job.id).count("prepared") == 2
    assert asked_of(rt, job.id) != first


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000b49444154789c6360000200000500017a"
    "5eab3f0000000049454e44ae426082"
)


def asked_of(rt: Runtime, job_id: str) -> str:
    with rt.database.read() as tx:
        _, prepared = parents.request_of(tx, job_id)
    return str(prepared["input"]["image"]) if prepared else ""


def alter_due(rt: Runtime, job_id: str) -> None:
    """Open the account again and put the job in line."""
    with rt.database.write() as tx:
        tx.execute(accounts.update().values(paused_at=None, paused_until=None))
        tx.execute(jobs.update().where(jobs.c.id == job_id).values(line_at=clock(), due_at=None))


def expire(rt: Runtime, job_id: str) -> None:
    with rt.database.write() as tx:
        _, prepared = parents.request_of(tx, job_id)
        assert prepared is not None
        soon = datetime.fromisoformat(prepared["until"]) - timedelta(days=3)
        tx.execute(
            payloads.update().where(payloads.c.job_id == job_id).values(prepared=prepared | {"until": soon.isoformat()})
        )


def test_a_file_is_kept_at_enqueue_and_uploaded_when_its_turn_comes(rt: Runtime, simulator: Simulator) -> None:
    """The same file is the same request; the simulator serves what it was given."""
    mine = producer(rt)
    first = mine.enqueue("any/model", {"image": PNG}, validate="off", idempotency_key="k")
    again = mine.enqueue("any/model", {"image": PNG}, validate="off", idempotency_key="k")
    assert first.id == again.id
    run(rt, simulator, first.id)
    assert requests.get(asked(simulator)["image"], timeout=5).content == PNG


def test_what_is_no_media_is_no_input_file(rt: Runtime) -> None:
    """Nothing is bought with a broken file."""
    with pytest.raises(InvalidInput, match="no image, video"):
        producer(rt).enqueue("any/model", {"image": b"<html>"}, validate="off")
    with pytest.raises(InvalidInput, match="not whole"):
        producer(rt).enqueue("any/model", {"image": PNG[:-4]}, validate="off")


def test_a_kie_that_takes_no_uploads_just_now_costs_nothing(
    rt: Runtime, simulator: Simulator, runtime: Callable[..., Runtime]
) -> None:
    """The job leaves the line with the reason and is tried again."""
    cut_off = runtime(rt.database, upload_url="http://127.0.0.1:9")
    job = producer(rt).enqueue("any/model", {"image": PNG}, validate="off")
    assert submit(cut_off, job.id) is None
    row = job_row(rt.database, job.id)
    assert (row.state, row.line_at) == (S.QUEUED, None)
    assert "inputs are not ready" in row.held
    assert not creates(simulator)
    age(rt.database, job.id, 60)
    sweep(rt)
    run(rt, simulator, job.id)
    assert job_row(rt.database, job.id).state == S.SUCCESS


# ── operations on an earlier generation ──────────────────────────────────────────────────────────────────────────────


def finished(rt: Runtime, simulator: Simulator, model: str = "veo-3-1", **more: Any) -> Job:
    job = producer(rt).enqueue(model, {"prompt": "a cat"}, validate="off", **more)
    run(rt, simulator, job.id)
    assert job_row(rt.database, job.id).state == S.SUCCESS
    return job


def test_a_follow_up_names_our_job_and_kie_hears_of_its_own_task(rt: Runtime, simulator: Simulator) -> None:
    """The fields that the catalogue says are filled in, and ours are gone."""
    first = finished(rt, simulator)
    second = producer(rt).enqueue("veo/extend", {"job": first.id, "prompt": "it runs on"})
    run(rt, simulator, second.id)
    assert asked(simulator)["task_id"] == job_row(rt.database, first.id).provider_task_id
    assert "job" not in asked(simulator)
    assert job_row(rt.database, second.id).state == S.SUCCESS


def test_a_follow_up_may_name_an_output_and_kies_own_id_still_works(rt: Runtime) -> None:
    """The index goes where the model wants it; whoever knows Kie's task id may give it."""
    first = make_job(rt.database, S.SUCCESS, urls=["https://files.example/0.mp4", "https://files.example/1.mp4"])
    chosen = producer(rt).enqueue("veo/get-1080p-video", {"job": first.id, "output": 1})
    plain = producer(rt).enqueue("veo/get-1080p-video", {"taskId": "a-task-of-kie"})
    with rt.database.read() as tx:
        assert parents.request_of(tx, chosen.id)[0]["input"] == {"taskId": first.task_id, "index": 1}
        assert parents.request_of(tx, plain.id)[0]["input"] == {"taskId": "a-task-of-kie"}


@pytest.mark.parametrize("output", [1, 2, 99])
def test_only_a_result_that_is_there_can_be_chosen(rt: Runtime, output: int) -> None:
    """Kie counts the videos alone: not the cover beside them, and not what was never made."""
    first = make_job(rt.database, S.SUCCESS, documents=["{}"])
    with pytest.raises(InvalidInput) as refused:
        producer(rt).enqueue("veo/get-4k-video", {"job": first.id, "output": output})
    assert (refused.value.field, refused.value.allowed) == ("input.output", "0")


@pytest.mark.parametrize(
    ("model", "more", "filled"),
    [
        ("ai-music-api/extend", {"model": "V6"}, {"audio_id"}),
        ("ai-music-api/convert-to-wav-format", {}, {"task_id", "audio_id"}),
        ("ai-music-api/separate-vocals", {"type": "separate_vocal"}, {"task_id", "audio_id"}),
        ("ai-music-api/cover-generate", {}, {"task_id"}),
    ],
)
def test_a_song_of_the_jobs_api_is_worked_on_by_its_job(
    rt: Runtime, simulator: Simulator, model: str, more: dict[str, Any], filled: set[str]
) -> None:
    """The newer ids take task and song as the older ones do, in their own spelling; here it is the second song."""
    first = finished(rt, simulator, "ai-music-api/generate")
    second = producer(rt).enqueue(model, {"job": first.id, "output": 2, **more})
    run(rt, simulator, second.id)
    songs, given = outputs_of(rt.database, first.id), asked(simulator)
    known = {"task_id": job_row(rt.database, first.id).provider_task_id, "audio_id": songs[2].ref}
    assert given.pop("nsfw_checker") is False, "which Kie adds by itself"
    assert given == more | {name: known[name] for name in filled}
    assert songs[0].ref != songs[2].ref
    assert job_row(rt.database, second.id).state == S.SUCCESS


def test_an_operation_on_all_of_a_task_names_no_part_unless_one_is_chosen(rt: Runtime) -> None:
    """Notes are made of every stem; a stem that Kie gave no id cannot be chosen."""
    stems = make_job(rt.database, S.SUCCESS, family="suno-stems")
    every = producer(rt).enqueue("suno/midi", {"job": stems.id})
    with rt.database.read() as tx:
        assert parents.request_of(tx, every.id)[0]["input"] == {"taskId": stems.task_id}
    with pytest.raises(InvalidInput, match="no part that Kie can be told of"):
        producer(rt).enqueue("suno/midi", {"job": stems.id, "output": 0})


def test_a_follow_up_goes_to_its_parents_account(rt: Runtime, runtime: Callable[..., Runtime]) -> None:
    """Only there the task is known; another account that was asked for is refused."""
    first = make_job(rt.database, S.SUCCESS, account="second")
    job = producer(rt).enqueue_request({"model": "veo/extend", "input": {"job": first.id, "prompt": "on"}})
    assert job.account == "second"
    with pytest.raises(InvalidInput) as refused:
        producer(rt).enqueue_request(
            {"model": "veo/extend", "input": {"job": first.id, "prompt": "on"}, "account": "third"}
        )
    assert refused.value.field == "account"


@pytest.mark.parametrize(
    "fallback", ["veo/get-1080p-video", {"model": "veo/get-1080p-video", "input": {"job": "PARENT"}}]
)
def test_a_fallback_takes_no_task_from_a_job(rt: Runtime, fallback: Any) -> None:
    """It would be sent without the task that it works on."""
    first = make_job(rt.database, S.SUCCESS)
    if not isinstance(fallback, str):
        fallback = fallback | {"input": {"job": first.id}}
    asked_for = {"model": "veo/get-4k-video", "input": {"job": first.id}, "fallbackModels": [fallback]}
    with pytest.raises(InvalidInput) as refused:
        producer(rt).enqueue_request(asked_for)
    assert refused.value.field == "fallbackModels"
    own = {"model": "veo/get-1080p-video", "input": {"taskId": first.task_id}}
    assert producer(rt).enqueue_request(asked_for | {"fallbackModels": [own]}).model == "veo/get-4k-video"


@pytest.mark.parametrize("state", [S.QUEUED, S.WAITING, S.STORING, S.TIMEOUT, S.FAIL, S.CANCELED])
def test_a_parent_that_is_not_finished_is_refused(rt: Runtime, state: S) -> None:
    """There is nothing to extend."""
    first = make_job(rt.database, state)
    with pytest.raises(InvalidInput, match=f"is {state}") as refused:
        producer(rt).enqueue("veo/extend", {"job": first.id, "prompt": "on"})
    assert refused.value.field == "input.job"


@pytest.mark.parametrize("given", ["no uuid", 7, None])
def test_a_parent_that_is_no_job_is_refused(rt: Runtime, given: Any) -> None:
    """Before anything is stored."""
    with pytest.raises(InvalidInput) as refused:
        producer(rt).enqueue("veo/extend", {"job": given, "prompt": "on"})
    assert refused.value.field == "input.job"


def test_a_parent_of_another_tenant_or_family_is_refused(rt: Runtime) -> None:
    """As if it were not there; and Kie would not know the task under this API."""
    foreign = make_job(rt.database, S.SUCCESS, tenant="other")
    with pytest.raises(InvalidInput, match="there is no job"):
        producer(rt).enqueue("veo/extend", {"job": foreign.id, "prompt": "on"})
    strange = make_job(rt.database, S.SUCCESS, family="suno")
    with pytest.raises(InvalidInput, match="API family suno"):
        producer(rt).enqueue("veo/extend", {"job": strange.id, "prompt": "on"})
