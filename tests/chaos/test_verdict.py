"""The judge is judged: facts of a good run pass, and each kind of damage done to them is found."""

from dataclasses import replace

import pytest

from tests.chaos.verdict import Create, Facts, Job, Move, Output, Submission, judge, report


@pytest.fixture
def good() -> Facts:
    """A small run: one stored job, one parked, one failed and refunded, one refused."""
    return Facts(
        acknowledged={"a": "job-a", "b": "job-b", "c": "job-c", "d": "job-d"},
        creates=(
            Create("a", 0.0, "main", "task-a", 4.0),
            Create("c", 1.0, "main", "task-c", 0.0),
            Create("d", 2.0, "main", None),
        ),
        jobs=(
            Job("job-a", "a", "success", polls=2),
            Job("job-b", "b", "unconfirmed"),
            Job("job-c", "c", "fail", polls=1, reason="generation"),
            Job("job-d", "d", "fail", reason="invalid_input"),
        ),
        submissions=(
            Submission("sub-a", "job-a", "accepted", "task-a", 4.0),
            Submission("sub-b", "job-b", "unknown"),
            Submission("sub-c", "job-c", "accepted", "task-c", 0.0),
            Submission("sub-d", "job-d", "refused"),
        ),
        outputs=(
            Output("job-a", 0, "stored", "t/2026/01/02/job-a/0.png", "aa", "aa"),
            Output("job-a", 1, "stored", "t/2026/01/02/job-a/1.png", "bb", "bb"),
        ),
        moves=(
            *_moves("job-a", "queued", "submitting", "waiting", "storing", "success"),
            *_moves("job-b", "queued", "submitting", "unconfirmed"),
            *_moves("job-c", "queued", "submitting", "waiting", "fail"),
            *_moves("job-d", "queued", "submitting", "fail"),
        ),
        served={"task-a": ("aa", "bb"), "task-c": ()},
        unknown_spend=frozenset({"sub-b"}),
        spent=4.0,
        queries=3,
        sometimes={"adopted": 1},
    )


def _moves(job_id: str, *states: str) -> list[Move]:
    return [Move(job_id, before, after) for before, after in zip((None, *states), states, strict=False)]


def found(facts: Facts) -> dict[str, list[str]]:
    return {name: faults for name, faults in judge(facts).items() if faults}


def test_a_good_run_passes(good):
    """Nothing speaks against it, and the report says so."""
    assert found(good) == {}
    assert "yes       bought at most once" in report(good, judge(good))


def test_a_doubled_create_is_found(good):
    """Kie took two calls for one job: paid twice."""
    twice = replace(good, creates=(*good.creates, Create("a", 30.0, "main", "task-a2", 4.0)), spent=8.0)
    assert found(twice)["bought at most once"] == ["a was bought 2 times, 0 opted into"]
    assert "books agree" in found(twice)


def test_a_doubled_create_that_somebody_opted_into_is_none(good):
    """The same, but with a second submission that a person approved; it counts one, not two."""
    again = Submission("sub-a2", "job-a", "accepted", "task-a2", 4.0, approved=True)
    bought = replace(good, creates=(*good.creates, Create("a", 30.0, "main", "task-a2", 4.0)), spent=8.0)
    bought = replace(bought, submissions=(*good.submissions, again), served=good.served | {"task-a2": ("aa", "bb")})
    assert found(bought) == {}
    third = replace(bought, creates=(*bought.creates, Create("a", 60.0, "main", "task-a3", 4.0)))
    assert "bought at most once" in found(third)


def test_a_create_for_no_job_is_found(good):
    """Bought, and no row knows of it."""
    ghost = replace(good, creates=(*good.creates, Create("ghost", 9.0, "main", "task-g", 0.0)))
    assert found(ghost)["bought at most once"] == ["ghost was bought, and no job has it"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"stored_sha256": "xx"}, "other bytes than were recorded"),
        ({"stored_sha256": "xx", "recorded_sha256": "xx"}, "other bytes than Kie serves"),
        ({"stored_sha256": None}, "its file is missing"),
        ({"state": "pending"}, "is pending"),
        ({"key": "t/2026/01/02/job-z/1.png"}, "another job's prefix"),
    ],
)
def test_a_wrong_byte_or_a_missing_file_is_found(good, damage, said):
    """`success` means every byte, recorded and stored as Kie serves it."""
    spoilt = replace(good, outputs=(good.outputs[0], replace(good.outputs[1], **damage)))
    assert len(found(spoilt)["stored whole"]) == 1
    assert said in found(spoilt)["stored whole"][0]


def test_a_missing_output_is_found(good):
    """Kie serves two files and only one has a row; or none has."""
    assert found(replace(good, outputs=good.outputs[:1]))["stored whole"] == ["a: output 1 is missing"]
    assert "a: success without an output" in found(replace(good, outputs=()))["stored whole"]


def test_a_lost_task_is_found(good):
    """Kie charged for a task that none of our submissions stands for."""
    refused = Submission("sub-a", "job-a", "refused")
    lost = replace(good, submissions=(refused, *good.submissions[1:]))
    assert any("no submission of ours stands for" in fault for fault in found(lost)["books agree"])


def test_a_foreign_task_is_found(good):
    """A job that follows another job's task, and one task bound to two."""
    thief = Submission("sub-c", "job-c", "accepted", "task-a", 4.0)
    stolen = found(replace(good, submissions=(*good.submissions[:2], thief, good.submissions[3])))["books agree"]
    assert any("is not its own" in fault for fault in stolen)
    assert any("bound 2 times" in fault for fault in stolen)


def test_wrong_credits_are_found(good):
    """Our figure differs from Kie's; or there is none, and nobody is told; or the balance says something else."""
    wrong = replace(good, submissions=(replace(good.submissions[0], credits=5.0), *good.submissions[1:]))
    assert any("we say 5 credits" in fault for fault in found(wrong)["books agree"])
    unknown = replace(good, submissions=(replace(good.submissions[0], credits=None), *good.submissions[1:]))
    assert found(unknown)["books agree"] == ["a has no credits and is on no list"]
    listed = replace(unknown, unknown_spend=good.unknown_spend | {"sub-a"})
    assert found(listed) == {}
    assert "books agree" in found(replace(good, spent=8.0))


def test_a_lost_or_doubled_job_is_found(good):
    """A producer was told of a job that is not there; one key became two jobs; a job never ended."""
    gone = replace(good, jobs=good.jobs[:3], moves=good.moves[:-3], submissions=good.submissions[:3])
    assert found(gone)["nothing lost"] == ["d: job job-d is gone"]
    twins = replace(good, jobs=(*good.jobs, Job("job-d2", "d", "fail")))
    assert "d became 2 jobs" in found(twins)["nothing lost"]
    stuck = replace(good, jobs=(replace(good.jobs[0], phase="waiting"), *good.jobs[1:]))
    assert found(stuck)["nothing lost"] == ["a stands at waiting"]


def test_a_job_parked_in_the_dark_is_found(good):
    """Parked is an end only where a person sees it, and only while nobody has named its task."""
    assert found(replace(good, unknown_spend=frozenset()))["nothing lost"] == ["b is parked where nobody sees it"]
    named = replace(good, creates=(*good.creates, Create("b", 3.0, "main", "task-b", 0.0)))
    assert found(named)["nothing lost"] == ["b is still parked, although its task was named"]


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (("queued", "submitting", "waiting", "success"), "waiting → success is not allowed"),
        (("queued", "submitting", "waiting", "storing", "success", "storing", "success"), "success → storing"),
        (("queued", "submitting", "waiting", "storing"), "its timeline ends at storing"),
    ],
)
def test_a_step_beside_the_lifecycle_is_found(good, states, said):
    """Skipped states, a success that was left, a row that its timeline does not lead to."""
    strayed = replace(good, moves=(*_moves("job-a", *states), *good.moves[5:]))
    assert any(said in fault for fault in found(strayed)["along the lifecycle"])


def test_a_gap_in_a_timeline_is_found(good):
    """A change that was made and not told."""
    gap = replace(good, moves=(*good.moves[:2], *good.moves[3:]))
    assert any("was told after submitting" in fault for fault in found(gap)["along the lifecycle"])


def test_a_broken_limit_is_found(good):
    """21 calls within 10 s, whatever Kie answered; a call that Kie refused; more looks than were claimed."""
    burst = tuple(Create("d", 100 + n * 0.4, "main", None) for n in range(21))
    assert found(replace(good, creates=(*good.creates, *burst)))["within Kie's limits"] == [
        "account main: 21 creates within 10 s"
    ]
    slower = tuple(Create("d", 100 + n * 0.51, "main", None) for n in range(60))
    assert found(replace(good, creates=(*good.creates, *slower))) == {}
    assert "within Kie's limits" in found(replace(good, violations=1))
    assert "within Kie's limits" in found(replace(good, queries=6))


def test_a_told_secret_is_found(good):
    """The key went to the files' host, or into a log."""
    assert "no secret told" in found(replace(good, leaks=1))
    assert "no secret told" in found(replace(good, keys_in_logs=1))


def test_a_run_without_trouble_proves_nothing(good):
    """A counter at zero fails the run."""
    assert found(replace(good, sometimes={"adopted": 0}))["something was proven"] == ["it never happened: adopted"]
