"""The judge is judged: facts of a good run pass, and each kind of damage done to them is found."""

from dataclasses import replace

import pytest

from tests.chaos.facts import Arrival, Create, Facts, Job, Message, Move, Output, Submission
from tests.chaos.messages import retold
from tests.chaos.verdict import judge, report


@pytest.fixture
def good() -> Facts:
    """A small run: one stored job, one parked, one failed and refunded, one refused.

    The producer of the first was told at the second try that it is late, then that it is stored; to the parked one's the
    message is under way, the failed one's is gone, the refused one's wants none.
    """
    late = Message("mess-a1", "job-a", 1, "generation.timed_out", "delivered", "/well/a", attempts=2)
    stored = Message("mess-a2", "job-a", 2, "generation.succeeded", "delivered", "/well/a", attempts=1)
    parked = Message("mess-b", "job-b", 1, "generation.unconfirmed", "pending", "/errs/b", attempts=1, due_in_s=4)
    failed = Message("mess-c", "job-c", 1, "generation.failed", "gave_up", "/gone/all", attempts=1)
    return Facts(
        acknowledged={"a": "job-a", "b": "job-b", "c": "job-c", "d": "job-d"},
        creates=(
            Create("a", 0.0, "main", "task-a", 4.0),
            Create("c", 1.0, "main", "task-c", 0.0),
            Create("d", 2.0, "main", None),
        ),
        jobs=(
            Job("job-a", "a", "success", polls=2, tenant="t"),
            Job("job-b", "b", "unconfirmed", tenant="t"),
            Job("job-c", "c", "fail", polls=1, reason="generation", tenant="t"),
            Job("job-d", "d", "fail", reason="invalid_input", tenant="t"),
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
            *_moves("job-a", "queued", "submitting", "waiting", "timeout", "storing", "success"),
            *_moves("job-b", "queued", "submitting", "unconfirmed"),
            *_moves("job-c", "queued", "submitting", "waiting", "fail"),
            *_moves("job-d", "queued", "submitting", "fail"),
        ),
        served={"task-a": ("aa", "bb"), "task-c": ()},
        unknown_spend=frozenset({"sub-b"}),
        spent=4.0,
        addresses={"a": "/well/a", "b": "/errs/b", "c": "/gone/all"},
        messages=(late, stored, parked, failed),
        arrivals=(
            _arrival(late, None, "timeout"),
            _arrival(late, 200, "timeout"),
            replace(
                _arrival(stored, 200, "success"),
                files=((0, "t/2026/01/02/job-a/0.png", "aa"), (1, "t/2026/01/02/job-a/1.png", "bb")),
                links=("/media/t/2026/01/02/job-a/0.png", "/media/t/2026/01/02/job-a/1.png"),
            ),
            _arrival(parked, 500, "unconfirmed"),
            _arrival(failed, 410, "fail"),
        ),
        queries=3,
        sometimes={"adopted": 1},
    )


def _arrival(message: Message, status: int | None, phase: str) -> Arrival:
    return Arrival(
        id=message.id,
        address=message.address,
        status=status,
        signed=True,
        tells_secret=False,
        digest=f"of {message.id}",
        job_id=message.job_id,
        sequence=message.sequence,
        kind=message.kind,
        phase=phase,
        label=message.job_id.removeprefix("job-"),
        tenant="t",
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
        ({"key": "u/2026/01/02/job-a/1.png"}, "another job's prefix"),
    ],
)
def test_a_wrong_byte_or_a_missing_file_is_found(good, damage, said):
    """`success` means every byte, recorded and stored as Kie serves it."""
    spoilt = replace(good, outputs=(good.outputs[0], replace(good.outputs[1], **damage)), arrivals=())
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
    strayed = replace(good, moves=(*_moves("job-a", *states), *good.moves[6:]))
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
    assert "no secret told" in found(replace(good, secrets_in_logs=1))
    assert found(_with_arrival(good, 2, tells_secret=True))["no secret told"] == ["a secret is in 1 messages"]


def test_a_callback_that_was_not_believed_is_found(good):
    """Kie signed it, and it was called forged."""
    assert found(replace(good, callbacks_refused=1))["Kie is believed"] == ["1 callbacks of Kie's were refused"]


# ── messages to producers ────────────────────────────────────────────────────────────────────────────────────────────


def _with_message(facts: Facts, number: int, **damage: object) -> Facts:
    messages = list(facts.messages)
    messages[number] = replace(messages[number], **damage)
    return replace(facts, messages=tuple(messages))


def _with_arrival(facts: Facts, number: int, **damage: object) -> Facts:
    arrivals = list(facts.arrivals)
    arrivals[number] = replace(arrivals[number], **damage)
    return replace(facts, arrivals=tuple(arrivals))


@pytest.mark.parametrize(
    ("number", "damage", "said"),
    [
        (1, {"kind": "generation.failed"}, "a: its messages say"),
        (1, {"sequence": 3}, "a: its messages are numbered [1, 3]"),
        (1, {"address": "/well/z"}, "a: message 2 goes to /well/z"),
        (1, {"state": "lost"}, "a: message 2 is lost"),
        (0, {"attempts": 1}, "a: message 1 came 2 times, 1 tries were claimed"),
        (2, {"state": "delivered"}, "b: message 1 is called delivered, and nobody took it"),
        (2, {"state": "gave_up"}, "b: message 1 was given up after 1 tries"),
        (2, {"due_in_s": None}, "b: message 1 is pending and never due"),
        (2, {"due_in_s": -60.0}, "b: message 1 is overdue by 60 s"),
        (2, {"due_in_s": 60.0}, "b: message 1 waits for 60 s after 1 tries"),
        (2, {"due_in_s": 40.0, "attempts": 0}, "b: message 1 waits for 40 s after 0 tries"),
        (3, {"job_id": "job-z"}, "a message tells of job job-z, which is not there"),
    ],
)
def test_a_message_that_is_wrong_or_forgotten_is_found(good, number, damage, said):
    """Another order, another address, a fate that nobody can vouch for, or one that is never tried again."""
    assert any(
        fault.startswith(said) for fault in found(_with_message(good, number, **damage))["producers know the end"]
    )


def test_a_message_that_is_under_way_is_none(good):
    """Claimed by a worker that was killed; taken, and the worker was killed before it wrote so; at the last wait."""
    assert found(_with_message(good, 2, due_in_s=44.0)) == {}
    assert found(_with_arrival(good, 3, status=200)) == {}
    assert found(_with_message(good, 2, attempts=8, due_in_s=43000.0)) == {}
    assert found(_with_message(good, 2, attempts=9, state="gave_up", due_in_s=None)) == {}


def test_an_end_that_nobody_was_told_is_found(good):
    """The row is missing; or the address was gone only for another job."""
    untold = replace(good, messages=(good.messages[0], *good.messages[2:]), arrivals=good.arrivals[:2])
    assert any(fault.startswith("a: its messages say") for fault in found(untold)["producers know the end"])
    assert found(_with_arrival(good, 4, status=500))["producers know the end"] == [
        "c: message 1 was given up after 1 tries"
    ]


def test_a_message_about_a_state_that_never_was_is_found(good):
    """One more than the timeline has; or to a producer that wanted none."""
    more = Message("mess-a3", "job-a", 3, "generation.failed", "delivered", "/well/a", attempts=1)
    came = replace(good.arrivals[2], id="mess-a3", sequence=3, kind="generation.failed", phase="fail")
    told = replace(good, messages=(*good.messages, more), arrivals=(*good.arrivals, came))
    assert any(fault.startswith("a: its messages say") for fault in found(told)["producers know the end"])
    unasked = replace(good, addresses={"b": "/errs/b", "c": "/gone/all"}, arrivals=())
    assert "a: 2 messages, and nobody asked for them" in found(unasked)["producers know the end"]


@pytest.mark.parametrize(
    ("number", "damage", "said"),
    [
        (2, {"signed": False}, "is not signed by us"),
        (2, {"id": "mess-z"}, "stands in no row"),
        (2, {"job_id": "job-z"}, "stands in no row"),
        (1, {"digest": "of something else"}, "has changed since it was first told"),
        (3, {"sequence": 2}, "tells of job-b, generation.unconfirmed"),
        (2, {"phase": "fail"}, "is called generation.succeeded and tells of fail"),
        (2, {"address": "/errs/b"}, "is about a, which named another address"),
        (2, {"label": "b"}, "carries what b of t gave"),
        (2, {"tenant": "u"}, "carries what a of u gave"),
        (2, {"files": (), "links": ()}, "names 0 files, and not those that were stored"),
        (1, {"files": ((0, "t/2026/01/02/job-z/0.png", "zz"),)}, "names a file that is not its job's"),
        (2, {"links": ("/media/job-a/0.png", "/media/job-z/0.png")}, "links to what is not its job's"),
        (2, {"links": ()}, "links to what is not its job's"),
    ],
)
def test_a_message_that_is_untrue_is_found(good, number, damage, said):
    """Unsigned, unknown, changed on the way, or with another job's, tenant's or state's words in it."""
    assert any(said in fault for fault in found(_with_arrival(good, number, **damage))["messages are true"])


def test_a_message_that_was_taken_at_a_later_try_counts_as_told_again(good):
    """Not one that was never taken, nor one that was taken at once."""
    assert retold(good.arrivals) == 1
    assert retold(good.arrivals[1:]) == 0


def test_a_run_without_trouble_proves_nothing(good):
    """A counter at zero fails the run."""
    assert found(replace(good, sometimes={"adopted": 0}))["something was proven"] == ["it never happened: adopted"]
