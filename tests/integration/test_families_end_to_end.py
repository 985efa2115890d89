"""Every id of the dedicated image and video APIs, from the line to storage, against a simulated Kie over real HTTP.

The same acceptance for all: one create, looks until it ends, every file stored under its role. Then what is odd about
one family or another, asked for by markers in the prompt. Chat and music have pages of their own.
"""

from collections.abc import Callable
from typing import Any

import pytest
import requests

from kiejobs.answers import Accepted
from kiejobs.db.session import Database
from kiejobs.errors import Reason
from kiejobs.jobs import Job, JobState
from kiejobs.kie.adoption import Sent, mismatch
from kiejobs.kie.families import FAMILIES, chosen
from kiejobs.nudge import create_nudge
from kiejobs.producer import KieJobs
from kiejobs.simulator import Simulator
from tests.factories import Nudges, act, alarms_of, finish, job_row, now, outputs_of, submissions_of, work
from workers.runtime import Runtime

S = JobState
VIDEO = "https://example.com/input.mp4"
PICTURE = ["https://example.com/cat.png"]
MUSIC_AND_CHAT = ("suno", "chat")

ASKED: dict[str, dict[str, Any]] = {
    "gpt4o-image": {"prompt": "a cat", "size": "1:1"},
    "flux-kontext-pro": {"prompt": "a cat", "aspectRatio": "16:9"},
    "flux-kontext-max": {"prompt": "a cat", "outputFormat": "png"},
    "veo3": {"prompt": "a cat", "aspect_ratio": "16:9"},
    "veo3_fast": {"prompt": "a cat", "aspect_ratio": "9:16", "duration": 8},
    "veo3_lite": {"prompt": "a cat", "duration": 4},
    "runway": {"prompt": "a cat", "duration": 5, "quality": "720p", "aspectRatio": "1:1"},
    "aleph": {"prompt": "a canal", "videoUrl": VIDEO, "aspectRatio": "16:9"},
    "luma-modify": {"prompt": "a canal", "videoUrl": VIDEO},
    "mj_txt2img": {"prompt": "a jet", "speed": "fast"},
    "mj_img2img": {"prompt": "a jet", "fileUrls": PICTURE},
    "mj_style_reference": {"prompt": "a jet", "fileUrls": PICTURE},
    "mj_omni_reference": {"prompt": "a jet", "fileUrls": PICTURE, "ow": 100},
    "mj_video": {"prompt": "a jet", "fileUrls": PICTURE, "motion": "high", "videoBatchSize": 2},
    "mj_video_hd": {"prompt": "a jet", "fileUrls": PICTURE, "motion": "low"},
    "jobs:runway": {"prompt": "a cat", "duration": 5, "quality": "720p", "aspect_ratio": "1:1"},
    "z-image": {"prompt": "a cat", "aspect_ratio": "1:1"},
}

FOLLOW_UPS: dict[str, tuple[str, dict[str, Any]]] = {
    "veo3/extend": ("veo3_fast", {"prompt": "it walks away"}),
    "veo3/1080p": ("veo3_fast", {"index": 0}),
    "veo3/4k": ("veo3", {}),
    "runway/extend": ("runway", {"prompt": "it walks away", "quality": "720p"}),
    "mj_upscale": ("mj_txt2img", {"imageIndex": 2}),
    "mj_vary": ("mj_txt2img", {"imageIndex": 4}),
}
"""The model whose finished task each works on, and what it is asked beside that."""

ROLES: dict[str, list[str]] = {
    "flux-kontext-pro": ["result", "origin"],
    "flux-kontext-max": ["result", "origin"],
    "veo3_fast": ["result", "origin"],
    "veo3/extend": ["result", "full"],
    "veo3/4k": ["result", "cover"],
    "runway": ["result", "cover"],
    "runway/extend": ["result", "cover"],
    "aleph": ["result", "cover"],
    "mj_video": ["result"] * 2,
    "mj_video_hd": ["result"],
    "mj_upscale": ["result"],
    **dict.fromkeys(("mj_txt2img", "mj_img2img", "mj_style_reference", "mj_omni_reference", "mj_vary"), ["result"] * 4),
}
"""What is stored, in order; one `result` where nothing else is said."""


@pytest.fixture
def rt(simulator: Simulator, sqlite: Database, runtime: Callable[..., Runtime]) -> Runtime:
    """A runtime that leads to the simulator."""
    return runtime(sqlite)


def enqueue(rt: Runtime, model: str, given: dict[str, Any], words: str = "", **more: Any) -> Job:
    """A job of this model; `words` are put behind its prompt."""
    given = given | ({"prompt": f"{given['prompt']} {words}"} if words else {})
    jobs = KieJobs(rt.settings, database=rt.database, publish=Nudges())
    return jobs.enqueue(model, given, validate="strict", **more)


def made(rt: Runtime, simulator: Simulator, job: Job) -> str:
    """Do all that workers do for a job, its generation over at once; return the state it ended in."""
    outcome = act(rt, create_nudge(job.id))
    assert isinstance(outcome, Accepted), outcome
    if ":" not in outcome.task_id:  # an upgrade has no task of Kie's that could be finished
        finish(simulator, outcome.task_id)
    work(rt)
    return str(job_row(rt.database, job.id).state)


def assert_stored(rt: Runtime, job: Job, roles: list[str]) -> None:
    rows = outputs_of(rt.database, job.id)
    assert [row.role for row in rows] == roles
    assert {row.state for row in rows} == {"stored"}
    assert all(row.size_bytes > 100 and f"/{job.id}/" in row.key for row in rows)
    assert alarms_of(rt.database, job.id) == []


def parent(rt: Runtime, simulator: Simulator, model: str) -> str:
    """A finished task of Kie's; whatever works on it takes no time."""
    job = enqueue(rt, model, ASKED[model], "[[next:duration=0]]")
    assert made(rt, simulator, job) == S.SUCCESS
    return str(job_row(rt.database, job.id).provider_task_id)


# ── the whole way ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_model_of_these_families_goes_the_whole_way_here() -> None:
    """A new id is added above, or this fails."""
    here = {model for each in FAMILIES if not each.name.startswith(MUSIC_AND_CHAT) for model in each.models}
    assert here <= set(ASKED) | set(FOLLOW_UPS)


@pytest.mark.parametrize("model", ASKED)
def test_a_generation_goes_from_the_line_to_storage(rt: Runtime, simulator: Simulator, model: str) -> None:
    """One create, by the family's own call, and every file under its role."""
    job = enqueue(rt, model, ASKED[model])
    family, _ = chosen(model)
    assert job_row(rt.database, job.id).family == family.name
    assert made(rt, simulator, job) == S.SUCCESS
    assert_stored(rt, job, ROLES.get(model, ["result"]))
    seen = simulator.ledger()
    assert [len(seen[what]) for what in ("creates", "leaks")] == [1, 0]  # type: ignore[arg-type]


@pytest.mark.parametrize("model", FOLLOW_UPS)
def test_a_follow_up_goes_from_the_line_to_storage(rt: Runtime, simulator: Simulator, model: str) -> None:
    """It names a finished task of Kie's, and is paid once."""
    of, more = FOLLOW_UPS[model]
    job = enqueue(rt, model, {"taskId": parent(rt, simulator, of), **more})
    assert made(rt, simulator, job) == S.SUCCESS
    assert_stored(rt, job, ROLES.get(model, ["result"]))
    assert len(submissions_of(rt.database, job.id)) == 1


# ── upgrades, which have no task of their own ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("model", ["veo3/1080p", "veo3/4k"])
def test_two_jobs_may_ask_for_the_same_upgrade(rt: Runtime, simulator: Simulator, model: str) -> None:
    """Each has a task id of its own making, so neither is taken for the other's; Kie makes one copy."""
    of = parent(rt, simulator, "veo3_fast")
    first, second = (enqueue(rt, model, {"taskId": of}, metadata={"order": n}) for n in (1, 2))
    assert {made(rt, simulator, job) for job in (first, second)} == {S.SUCCESS}
    assert all(alarms_of(rt.database, job.id) == [] for job in (first, second))
    paid = [create for create in simulator.ledger()["creates"] if "4k" in str(create)]  # type: ignore[attr-defined]
    assert len(paid) == (1 if model == "veo3/4k" else 0)


@pytest.mark.parametrize("model", ["veo3/1080p", "veo3/4k"])
def test_an_upgrade_that_is_not_ready_is_waited_for(rt: Runtime, simulator: Simulator, model: str) -> None:
    """ "Still processing" is an answer, to the create call and to every look; nothing ends by it."""
    job = enqueue(rt, "veo3", ASKED["veo3"], "[[next:duration=30]]")
    assert made(rt, simulator, job) == S.SUCCESS
    upgrade = enqueue(rt, model, {"taskId": job_row(rt.database, job.id).provider_task_id})
    assert isinstance(act(rt, create_nudge(upgrade.id)), Accepted)
    work(rt, at_most=5)
    row = job_row(rt.database, upgrade.id)
    assert row.state == S.WAITING
    assert "processing" in row.word


@pytest.mark.parametrize("model", ["veo3/1080p", "veo3/4k"])
def test_an_upgrade_of_nothing_is_refused_at_once(rt: Runtime, simulator: Simulator, model: str) -> None:
    """The same code as "still processing" in other words: certainly nothing was made."""
    job = enqueue(rt, model, {"taskId": "0" * 32})
    act(rt, create_nudge(job.id))
    row = job_row(rt.database, job.id)
    assert (row.state, row.reason) == (S.FAIL, Reason.INVALID_INPUT)


# ── what may go wrong in any family ──────────────────────────────────────────────────────────────────────────────────

ONE_OF_EACH = ["gpt4o-image", "flux-kontext-pro", "veo3", "runway", "aleph", "luma-modify", "mj_txt2img", "z-image"]
any_family = pytest.mark.parametrize("model", ONE_OF_EACH)


@any_family
@pytest.mark.parametrize(("code", "reason"), [("500", Reason.GENERATION), ("moderation", Reason.CONTENT)])
def test_a_failure_ends_the_job_with_its_reason(
    rt: Runtime, simulator: Simulator, model: str, code: str, reason: Reason
) -> None:
    """In the family's own words and flags."""
    job = enqueue(rt, model, ASKED[model], f"[[fail={code}]]")
    assert made(rt, simulator, job) == S.FAIL
    row = job_row(rt.database, job.id)
    assert row.reason == reason
    assert row.message


@any_family
def test_a_word_that_nobody_knows_is_waited_on(rt: Runtime, simulator: Simulator, model: str) -> None:
    """A new word between waiting and success costs a look and nothing else."""
    job = enqueue(rt, model, ASKED[model], "[[odd-state=POLISHING]]")
    assert made(rt, simulator, job) == S.SUCCESS
    assert_stored(rt, job, ROLES.get(model, ["result"]))


@any_family
def test_a_fresh_task_that_is_not_shown_yet_is_looked_at_again(rt: Runtime, simulator: Simulator, model: str) -> None:
    """ "recordInfo is null" is no failure in the first seconds."""
    job = enqueue(rt, model, ASKED[model], "[[null-record=60]]")
    act(rt, create_nudge(job.id))
    work(rt, at_most=3)
    assert job_row(rt.database, job.id).state == S.WAITING


@any_family
def test_a_success_without_its_result_is_asked_again(rt: Runtime, simulator: Simulator, model: str) -> None:
    """Twice empty, then there."""
    job = enqueue(rt, model, ASKED[model], "[[empty-result]]")
    assert made(rt, simulator, job) == S.SUCCESS
    assert_stored(rt, job, ROLES.get(model, ["result"]))


@any_family
def test_a_create_that_names_no_task_is_never_sent_again(rt: Runtime, simulator: Simulator, model: str) -> None:
    """Kie said yes, so it was perhaps paid: parked, one create."""
    job = enqueue(rt, model, ASKED[model], "[[no-task-id]]")
    act(rt, create_nudge(job.id))
    work(rt)
    assert job_row(rt.database, job.id).state == S.UNCONFIRMED
    assert len(simulator.ledger()["creates"]) == 1  # type: ignore[arg-type]


@any_family
def test_a_refused_link_is_asked_for_anew(rt: Runtime, simulator: Simulator, model: str) -> None:
    """By the family's own download-url call where it has one."""
    job = enqueue(rt, model, ASKED[model], "[[expired-link]]")
    assert made(rt, simulator, job) == S.SUCCESS
    assert_stored(rt, job, ROLES.get(model, ["result"]))


# ── adoption ─────────────────────────────────────────────────────────────────────────────────────────────────────────

CALLBACK = "http://127.0.0.1:9/callbacks/kie/token"
NO_TIME = "the task's record has no creation time that can be read"


@pytest.mark.parametrize("callback_url", [None, CALLBACK])
@any_family
def test_a_task_is_known_again_by_its_record(
    rt: Runtime, simulator: Simulator, model: str, callback_url: str | None
) -> None:
    """What the record echoes agrees with what was sent, and with no other request. Runway's record has no sure time."""
    family, _ = chosen(model)
    client = rt.client("default")
    assert client is not None
    sending_at = now(rt.database)
    request = {"input": ASKED[model], "submission": "s"}
    outcome = client.create(family, model, request, callback_url)
    assert isinstance(outcome, Accepted)
    _, record = client.record(family, outcome.task_id)
    asked = family.asked(model, request)
    found = mismatch(family.echo(record), Sent(model, asked, callback_url, sending_at))
    assert found == (NO_TIME if model == "runway" else None)
    other = asked | {"prompt": "another"}
    assert mismatch(family.echo(record), Sent(model, other, callback_url, sending_at)) is not None


# ── what is odd about one of them ────────────────────────────────────────────────────────────────────────────────────


def test_aleph_fails_by_an_error_code_although_its_flag_stays_0(rt: Runtime, simulator: Simulator) -> None:
    """Else the job would be looked at for a day."""
    job = enqueue(rt, "aleph", ASKED["aleph"], "[[fail=500]] [[ends=0]]")
    assert made(rt, simulator, job) == S.FAIL
    assert job_row(rt.database, job.id).code == "500"


def test_luma_is_made_although_its_callback_failed(rt: Runtime, simulator: Simulator) -> None:
    """Flag 4."""
    job = enqueue(rt, "luma-modify", ASKED["luma-modify"], "[[ends=4]]")
    assert made(rt, simulator, job) == S.SUCCESS
    assert_stored(rt, job, ["result"])


def test_runways_fields_are_taken_in_both_spellings(rt: Runtime, simulator: Simulator) -> None:
    """The simulator, like Kie, knows only its own and would refuse a video from text without a frame."""
    given = {"prompt": "a cat", "duration": 5, "quality": "1080p", "aspect_ratio": "9:16"}
    assert made(rt, simulator, enqueue(rt, "runway", given)) == S.SUCCESS


def test_4o_asks_its_own_call_for_a_fresh_link(rt: Runtime, simulator: Simulator) -> None:
    """With the task beside the URL; the link that comes back is to the very file."""
    family, client = chosen("gpt4o-image")[0], rt.client("default")
    job = enqueue(rt, "gpt4o-image", ASKED["gpt4o-image"])
    assert made(rt, simulator, job) == S.SUCCESS
    task_id, known = job_row(rt.database, job.id).provider_task_id, outputs_of(rt.database, job.id)[0].url
    assert client is not None
    fresh = client.fresh_link(family, task_id, known)
    assert fresh
    assert fresh != known
    assert requests.get(fresh, timeout=5).content == requests.get(known, timeout=5).content
