"""Every gap of the crash map: real processes, killed with `kill -9` exactly there, and what becomes of the job.

A job's life is a row of steps, and between any two of them a process can die. The map lists these gaps, what is durable
in each and who repairs it. Here each gap is struck once per installation: the simulator is slow, a gate keeps a request
back, a lock or a stopped broker makes the process block at the right line; then it is killed. All gaps are struck first
and judged afterwards, so that their waits overlap. Judges are the simulator's ledger, the rows and the stored bytes.

Not here: callbacks from Kie (gaps 15 and 16) and messages to producers (21 and 22).
"""

import hashlib
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kiejobs import KieJobs
from kiejobs.jobs import Job
from kiejobs.simulator import Simulator
from kiejobs.simulator.media import make_media
from kiejobs.simulator.models import Kind
from tests.acceptance.stage import BEAT, QUICK, Stage, has_redis, kill, until
from tests.support import STANDS_IN, missing, postgresql_answers

MODEL = "grok-imagine/text-to-image"
COPIES = ("worker", "-Q", "store", "-c", "8", "-n", "copies{n}@%h")
INSTALLATIONS = [("postgresql", "redis"), pytest.param(("sqlite", "fakeredis"), marks=STANDS_IN)]
HTTP_TIMEOUT_S = 6.0
"""Long enough that four create calls can be brought to their gaps before the first one gives up."""

ENQUEUE = """
import sys
from kiejobs import KieJobs
jobs = KieJobs()
jobs.database
print("about to enqueue", flush=True)
jobs.enqueue({model!r}, {{"prompt": {prompt!r}}}, idempotency_key={key!r})
"""


@dataclass(frozen=True)
class Struck:
    """A job whose process died in a gap, and how it has to end."""

    job_id: str
    ends: str = "success"
    creates: int = 1
    also: Callable[["Scene", Job], None] = field(default=lambda scene, job: None)


class Scene:
    """A stage with its crew: who is killed is replaced, and every job has a label that its create call shows."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.labels: dict[str, str] = {}
        self.struck: dict[str, Struck | Exception] = {}
        self.quick, self.copies, self.beat = stage.start(QUICK), stage.start(COPIES), stage.start(BEAT)
        self.revive()

    def revive(self) -> None:
        """Start again whatever is dead, and wait until it works."""
        if self.quick.poll() is not None:
            self.quick = self.stage.start(QUICK)
        if self.copies.poll() is not None:
            self.copies = self.stage.start(COPIES)
        if self.beat.poll() is not None:
            self.beat = self.stage.start(BEAT)
        until("the workers are ready", lambda: all(map(self.stage.is_ready, (self.quick, self.copies))), 40)

    def put_right(self) -> None:
        """Undo what a strike that went wrong has left behind."""
        self.stage.gate.unjam()
        assert self.stage.redis is not None
        kill(self.stage.redis, signal.SIGCONT)
        kill(self.quick, signal.SIGCONT)
        self.revive()

    def label(self) -> str:
        return f"label-{uuid.uuid4().hex[:12]}"

    def enqueue(self, markers: str = "[[duration=1]]", *, model: str = MODEL, jobs: KieJobs | None = None) -> str:
        """Enqueue one job with one output."""
        label = self.label()
        outputs = "" if "outputs" in markers else "[[outputs=1]]"
        job = (jobs or self.stage.jobs).enqueue(model, {"prompt": f"{label} {markers} {outputs}"}, validate="off")
        self.labels[job.id] = label
        return job.id

    def phase(self, job_id: str) -> str:
        return str(self.stage.jobs.get(job_id).phase)

    def wait_for(self, phase: str, *job_ids: str, timeout_s: float = 30.0) -> None:
        until(f"phase {phase}", lambda: all(self.phase(job_id) == phase for job_id in job_ids), timeout_s)

    def task_of(self, job_id: str) -> str:
        """Return the task that Kie made for a job, by Kie's own ledger."""
        return str(self.creates(job_id)[0]["taskId"])

    def creates(self, job_id: str) -> list[dict[str, Any]]:
        """List the create calls that Kie took for a job."""
        return [create for create in self.stage.creates() if self.labels[job_id] in create["prompt"]]

    def queries(self, task_id: str) -> int:
        return sum(query["taskId"] == task_id for query in self.stage.simulator.ledger()["queries"])

    def submissions(self, job_id: str) -> list[str]:
        rows = self.stage.query("SELECT state FROM submissions WHERE job_id = :id ORDER BY seq", id=self._id(job_id))
        return [row.state for row in rows]

    def column(self, job_id: str, name: str) -> Any:
        return self.stage.query(f"SELECT {name} FROM jobs WHERE id = :id", id=self._id(job_id))[0][0]

    def _id(self, job_id: str) -> str:
        return job_id if self.stage.database == "postgresql" else job_id.replace("-", "")

    def silent_producer(self) -> KieJobs:
        """A producer that dies between its commit and its message: it publishes nothing."""
        return KieJobs(self.stage.settings, database=self.stage.jobs.database, publish=lambda nudges: None)

    def lose_the_broker(self) -> None:
        """The stopped broker dies with all that was in it, half-sent messages included; a new one is empty."""
        self.stage.kill_broker()
        self.stage.start_broker()

    def file(self, job_id: str, name: str) -> Path | None:
        return next((self.stage.folder / "data" / "media").glob(f"*/*/*/*/{job_id}/{name}"), None)


# ── enqueue ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def a_producer_dies_around_its_commit(scene: Scene) -> dict[str, Struck]:
    """Gaps 1 and 2: before the row is committed, and between the row and its message."""
    stage = scene.stage
    labels = scene.label(), scene.label()
    prompts = [f"{label} [[duration=1]] [[outputs=1]]" for label in labels]
    keys = [f"key-{label}" for label in labels]
    with stage.locked_table("jobs"):
        producer = stage.run(ENQUEUE.format(model=MODEL, prompt=prompts[0], key=keys[0]))
        until("the producer is about to enqueue", lambda: "about to enqueue" in stage.log_of(producer))
        stage.wait_for_blocked()
        kill(producer)
    assert _jobs_with_key(scene, keys[0]) == []
    again = [stage.jobs.enqueue(MODEL, {"prompt": prompts[0]}, idempotency_key=keys[0]).id for _ in range(2)]
    assert again[0] == again[1]

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        broker = {"KIEJOBS_BROKER_URL": f"redis://127.0.0.1:{deaf.getsockname()[1]}/0"}
        producer = stage.run(ENQUEUE.format(model=MODEL, prompt=prompts[1], key=keys[1]), broker)
        second = until("the row is committed", lambda: _jobs_with_key(scene, keys[1]))[0]
        kill(producer)
    scene.labels |= {again[0]: labels[0], second: labels[1]}
    scene.wait_for("success", again[0], second)
    return {
        "1 the request is received, nothing is durable": Struck(again[0]),
        "2 the row is committed, no message is sent": Struck(second),
    }


def _jobs_with_key(scene: Scene, key: str) -> list[str]:
    rows = scene.stage.query("SELECT id FROM jobs WHERE idempotency_key = :key", key=key)
    return [str(uuid.UUID(str(row.id))) for row in rows]


# ── before the intent ────────────────────────────────────────────────────────────────────────────────────────────────


def messages_are_lost_before_anybody_reads_them(scene: Scene) -> dict[str, Struck]:
    """Gaps 3 and 4: a message lost in the broker, and one that a worker had taken out of it and not read yet."""
    stage = scene.stage
    for _ in range(10):  # a stopped worker's blocked pop takes the next message, unless it just ran into its timeout
        freeze(scene)
        popped = scene.enqueue()
        if stage.messages("create") == 0:
            break
        kill(scene.quick, signal.SIGCONT)
        scene.wait_for("success", popped)
    lost = scene.enqueue()
    assert stage.messages("create") == 1
    kill(scene.quick)
    stage.flush_broker()
    assert scene.phase(popped) == scene.phase(lost) == "queued"
    assert scene.submissions(popped) == scene.submissions(lost) == []
    scene.revive()
    scene.wait_for("success", popped, lost)
    return {
        "3 the message is sent": Struck(lost),
        "4 the message is taken from the broker": Struck(popped),
    }


def freeze(scene: Scene) -> None:
    """Stop the quick worker, at a moment when it does not hold the only lock there is in SQLite."""
    with scene.stage.locked():
        kill(scene.quick, signal.SIGSTOP)


def a_worker_dies_before_its_intent_is_committed(scene: Scene) -> dict[str, Struck]:
    """Gaps 5 and 6: inside the transaction that claims the job, takes its budget and writes the intent."""
    stage = scene.stage
    freeze(scene)
    first, second = scene.enqueue(), scene.enqueue()
    with stage.locked_table("submissions"):  # one blocks at the intent, the other behind the account's lock
        kill(scene.quick, signal.SIGCONT)
        until("the worker took the messages", lambda: stage.messages("create") == 0)
        stage.wait_for_blocked(2)
        kill(scene.quick)
    assert scene.phase(first) == scene.phase(second) == "queued"
    assert scene.submissions(first) == scene.submissions(second) == []
    scene.revive()
    scene.wait_for("success", first, second)
    return {
        "5 the claim is made, not committed": Struck(first),
        "6 the budget is being taken": Struck(second),
    }


# ── inside the create call ───────────────────────────────────────────────────────────────────────────────────────────


def a_worker_dies_inside_its_create_calls(scene: Scene) -> dict[str, Struck]:
    """Gaps 7 to 10: one worker, four create calls, each at another point, one `kill -9`."""
    stage, gate = scene.stage, scene.stage.gate
    read = scene.enqueue("[[slow=3]] [[duration=1]]")
    taken = scene.enqueue("[[slow=60]] [[duration=1]]")
    until("Kie took two calls", lambda: scene.creates(read) and scene.creates(taken))
    on_the_wire = _enqueue_kept_back(scene)
    gate.jam()
    unsent = scene.enqueue()
    scene.wait_for("submitting", unsent)
    with stage.locked(read):
        said = f"job {read}: create call of submission"
        until("the answer is read", lambda: said in stage.log_of(scene.quick))
        stage.wait_for_blocked()
        kill(scene.quick)
    gate.unjam()
    gate.let_go(scene.labels[on_the_wire])
    four = (unsent, on_the_wire, taken, read)
    assert [scene.phase(job_id) for job_id in four] == ["submitting"] * 4
    assert [scene.submissions(job_id) for job_id in four] == [["sending"]] * 4
    assert [len(scene.creates(job_id)) for job_id in four] == [0, 0, 1, 1]
    scene.revive()
    return {
        "7 the intent is committed, nothing is sent": Struck(unsent, "unconfirmed", 0, _is_listed),
        "8 the request is on the wire": Struck(on_the_wire, "unconfirmed", 0, _is_listed),
        "9 Kie took the call": Struck(taken, also=_was_adopted),
        "10 the answer is read, not written": Struck(read, also=_was_adopted),
    }


def _enqueue_kept_back(scene: Scene) -> str:
    label = scene.label()
    scene.stage.gate.withhold(label)
    job = scene.stage.jobs.enqueue(MODEL, {"prompt": f"{label} [[duration=1]] [[outputs=1]]"})
    scene.labels[job.id] = label
    until("the request is on the wire", lambda: scene.stage.gate.waiting(label) == 1)
    return job.id


def _is_listed(scene: Scene, job: Job) -> None:
    assert scene.submissions(job.id) == ["unknown"]
    assert "may or may not" in (job.message or "")
    assert job.id in {entry.job_id for entry in scene.stage.jobs.unknown_spend()}


def _was_adopted(scene: Scene, job: Job) -> None:
    assert job.provider_task_id == scene.task_of(job.id)
    states = [line.to_state for line in scene.stage.jobs.timeline(job.id) if line.to_state != line.from_state]
    assert [s for s in states if s] == [
        "queued",
        "submitting",
        "unconfirmed",
        "waiting",
        "storing",
        "success",
    ]


def processes_die_around_an_adoption(scene: Scene) -> dict[str, Struck]:
    """The map's "operator" repairs gaps 9 and 10, and may be hit himself: after the candidate, and inside its look."""
    stage, gate = scene.stage, scene.stage.gate
    found = [scene.struck.get(name) for name in ("9 Kie took the call", "10 the answer is read, not written")]
    unheard, looked_at = [struck.job_id for struck in found if isinstance(struck, Struck)]
    scene.wait_for("unconfirmed", unheard, looked_at, timeout_s=HTTP_TIMEOUT_S + 60)
    scene.silent_producer().adopt(unheard, scene.task_of(unheard))
    task = scene.task_of(looked_at)
    gate.withhold(task)
    stage.jobs.adopt(looked_at, task)
    until("the candidate's record is asked for", lambda: gate.waiting(task) == 1)
    kill(scene.quick)
    gate.let_go(task)
    assert scene.phase(looked_at) == "unconfirmed"
    scene.revive()
    return {
        "a candidate is named, nobody is told": Struck(unheard, also=_was_adopted),
        "a candidate is being looked at": Struck(looked_at, also=_was_adopted),
    }


# ── after the answer ─────────────────────────────────────────────────────────────────────────────────────────────────


def a_worker_dies_between_a_commit_and_its_message(scene: Scene) -> dict[str, Struck]:
    """Gaps 11 and 14: the task id is written and no look is announced; results are written and no copy is."""
    stage, gate = scene.stage, scene.stage.gate
    finished = scene.enqueue("[[duration=0.5]]")
    scene.wait_for("waiting", finished)
    task = scene.task_of(finished)
    gate.withhold(task)
    until("Kie is asked for the record", lambda: gate.waiting(task) == 1)
    accepted = scene.enqueue("[[slow=2]] [[duration=1]]")
    until("Kie took the call", lambda: scene.creates(accepted))
    assert stage.redis is not None
    kill(stage.redis, signal.SIGSTOP)
    gate.let_go(task)
    scene.wait_for("storing", finished)
    scene.wait_for("waiting", accepted)
    kill(scene.quick)
    scene.lose_the_broker()
    assert stage.messages("store") == stage.messages("poll") == 0
    scene.revive()
    return {
        "11 the task id is written": Struck(accepted),
        "14 the results are written": Struck(finished),
    }


def a_worker_dies_in_its_looks(scene: Scene) -> dict[str, Struck]:
    """Gaps 12 and 13: a look is claimed and Kie is not asked yet; Kie has answered and nothing is written."""
    stage, gate = scene.stage, scene.stage.gate
    asked, answered = scene.enqueue("[[duration=4]]"), scene.enqueue("[[duration=4]]")
    scene.wait_for("waiting", asked, answered)
    tasks = scene.task_of(asked), scene.task_of(answered)
    gate.withhold(*tasks)
    until("both looks are claimed", lambda: all(gate.waiting(task) == 1 for task in tasks))
    before = scene.queries(tasks[0])
    with stage.locked(answered):
        gate.let_go(tasks[1])
        until("Kie has answered", lambda: gate.answered(tasks[1]))
        stage.wait_for_blocked()
        kill(scene.quick)
    gate.let_go(tasks[0])
    assert scene.phase(asked) == scene.phase(answered) == "waiting"
    assert scene.queries(tasks[0]) == before
    scene.revive()
    return {
        "12 the look is claimed": Struck(asked),
        "13 the record is read": Struck(answered),
    }


# ── copies ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def a_worker_dies_in_its_copies(scene: Scene) -> dict[str, Struck]:
    """Gaps 17 to 20: a download begun, parts written, an object complete and unrecorded, one output of two recorded."""
    stage = scene.stage
    begun = scene.enqueue("[[duration=0.5]] [[big=1]] [[drip=90000]]")
    parts = scene.enqueue("[[duration=0.5]] [[big=40]] [[drip=5000000]]")
    complete = scene.enqueue("[[duration=0.5]] [[big=1]] [[drip=250000]]")
    song = "[[duration=0.5]] [[result-songs]] [[outputs=1]] [[drip=900]]"
    one_of_two = scene.enqueue(song, model="ai-music-api/generate")
    four = (begun, parts, complete, one_of_two)
    until("every file is being copied", lambda: all(_downloads(scene, job_id) for job_id in four))
    until("the picture of the song is stored", lambda: _stored(scene, one_of_two) == [1])
    with stage.locked(complete):
        if stage.database != "sqlite":  # there a lock is one on everything: the copy asks before it shows its object
            until("the object is complete", lambda: scene.file(complete, "0.png"))
        stage.wait_for_blocked()
        until("parts are written", lambda: _staged_bytes(scene, parts) > 0)
        kill(scene.copies)
    assert [scene.phase(job_id) for job_id in four] == ["storing"] * 4
    assert _stored(scene, complete) == []
    assert scene.file(parts, "0.png") is None  # what is not whole is not visible under its key
    scene.revive()
    return {
        "17 a download has begun": Struck(begun),
        "18 parts are sent": Struck(parts),
        "19 the object is complete": Struck(complete),
        "20 one output of two is recorded": Struck(one_of_two, also=_copied_the_picture_once),
    }


def _downloads(scene: Scene, job_id: str) -> list[str]:
    created = scene.creates(job_id)
    task = created[0]["taskId"] if created else "none yet"
    paths = [download["path"] for download in scene.stage.simulator.ledger()["downloads"]]
    return [path for path in paths if f"/f/{task}/" in path]


def _stored(scene: Scene, job_id: str) -> list[int]:
    return [output.index for output in scene.stage.jobs.get(job_id).outputs if output.state == "stored"]


def _staged_bytes(scene: Scene, job_id: str) -> int:
    media = scene.stage.folder / "data" / "media"
    return sum(path.stat().st_size for path in media.glob(f"*/*/*/*/{job_id}/.*.part"))


def _copied_the_picture_once(scene: Scene, job: Job) -> None:
    paths = _downloads(scene, job.id)
    assert sum(path.endswith("/1.png") for path in paths) == 1
    assert sum(path.endswith("/0.mp3") for path in paths) >= 2


# ── pump and sweep ───────────────────────────────────────────────────────────────────────────────────────────────────


def a_worker_dies_inside_pump_and_sweep(scene: Scene) -> dict[str, Struck]:
    """A rescue has marked its row as nudged and dies before the nudge is sent: the next one must not believe the mark."""
    stage = scene.stage
    waiting = scene.enqueue("[[duration=6]]")
    scene.wait_for("waiting", waiting)
    task = scene.task_of(waiting)
    stage.gate.withhold(task)
    until("a look is under way", lambda: stage.gate.waiting(task) == 1)
    kill(scene.quick)
    stage.gate.let_go(task)
    queued = scene.enqueue(jobs=scene.silent_producer())
    marked_before = scene.column(queued, "renudge_at")
    with stage.locked(queued, waiting):
        scene.revive()
        stage.wait_for_blocked(saying="UPDATE jobs SET renudge_at")  # the pump
        stage.wait_for_blocked(saying="UPDATE jobs SET nudges")  # the sweep
        if stage.database == "sqlite":
            until("pump and sweep are taken", lambda: stage.messages("sweep") == 0)
            signal.sigtimedwait([], 6)  # several periods of each
        assert stage.redis is not None
        kill(stage.redis, signal.SIGSTOP)
    until("the pump marked its row", lambda: scene.column(queued, "renudge_at") != marked_before)
    if stage.database != "sqlite":  # there the look itself may come first: who waits for the one lock is not in a line
        until("the sweep marked its row", lambda: scene.column(waiting, "nudges") >= 1)
    kill(scene.quick)
    kill(scene.beat)
    scene.lose_the_broker()
    assert scene.phase(queued) == "queued"
    scene.revive()
    until("it is sent", lambda: scene.phase(queued) not in ("queued", "submitting"))  # before the next blow
    return {
        "the pump has marked a job": Struck(queued),
        "the sweep has marked a job": Struck(waiting),
    }


STRIKES = (
    a_worker_dies_inside_its_create_calls,  # first: its jobs are parked 38 s later, while the others are struck
    a_producer_dies_around_its_commit,
    messages_are_lost_before_anybody_reads_them,
    a_worker_dies_before_its_intent_is_committed,
    a_worker_dies_between_a_commit_and_its_message,
    a_worker_dies_in_its_looks,
    a_worker_dies_inside_pump_and_sweep,
    processes_die_around_an_adoption,
    a_worker_dies_in_its_copies,
)
GAPS = (
    "1 the request is received, nothing is durable",
    "2 the row is committed, no message is sent",
    "3 the message is sent",
    "4 the message is taken from the broker",
    "5 the claim is made, not committed",
    "6 the budget is being taken",
    "7 the intent is committed, nothing is sent",
    "8 the request is on the wire",
    "9 Kie took the call",
    "10 the answer is read, not written",
    "11 the task id is written",
    "12 the look is claimed",
    "13 the record is read",
    "14 the results are written",
    "17 a download has begun",
    "18 parts are sent",
    "19 the object is complete",
    "20 one output of two is recorded",
    "the pump has marked a job",
    "the sweep has marked a job",
    "a candidate is named, nobody is told",
    "a candidate is being looked at",
)


@pytest.fixture(scope="module", params=INSTALLATIONS, ids="-".join)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """An installation in which every gap has been struck."""
    database, broker = request.param
    if broker == "redis" and not has_redis():
        missing("redis-server on PATH")
    if database == "postgresql" and not postgresql_answers():
        missing("PostgreSQL on 127.0.0.1:5432")
    settings = {"KIEJOBS_HTTP_TIMEOUT_S": f"{HTTP_TIMEOUT_S:g}", "KIEJOBS_LEASE_S": "3"}
    simulator = Simulator(create_limit=0)
    folder = tmp_path_factory.mktemp("gaps")
    with Stage(folder, database=database, broker=broker, simulator=simulator, gated=True, **settings) as stage:
        made = Scene(stage)
        for strike in STRIKES:
            _strike(made, strike)
        yield made


def _strike(scene: Scene, strike: Callable[[Scene], dict[str, Struck]]) -> None:
    """Strike; what goes wrong is the failure of the gaps that it should have struck, not of the others."""
    try:
        scene.struck |= strike(scene)
    except Exception as error:
        error.add_note(f"while striking: {strike.__doc__}")
        scene.struck[strike.__name__] = error
        scene.put_right()


def struck(scene: Scene, gap: str) -> Struck:
    found = scene.struck.get(gap)
    if isinstance(found, Struck):
        return found
    failed = [error for error in scene.struck.values() if isinstance(error, Exception)]
    raise AssertionError(f"this gap was not struck: {gap}") from (failed[0] if failed else None)


@pytest.mark.parametrize("gap", GAPS)
def test_a_process_killed_in_a_gap_costs_neither_a_result_nor_a_second_payment(scene: Scene, gap: str) -> None:
    """The job ends as the map says; Kie took at most one call for it; what is stored is what Kie made."""
    expected = struck(scene, gap)
    try:
        until(f"it ends as {expected.ends}", lambda: scene.phase(expected.job_id) == expected.ends, 60)
    except AssertionError as error:
        told = [f"{line.at:%H:%M:%S} {line.kind}: {line.note}" for line in scene.stage.jobs.timeline(expected.job_id)]
        raise AssertionError("\n".join([str(error), *told, scene.stage.logs()])) from None
    job = scene.stage.jobs.get(expected.job_id)
    assert len(scene.creates(job.id)) == expected.creates
    if expected.ends == "success":
        _is_what_kie_made(scene, job)
    expected.also(scene, job)


def _is_what_kie_made(scene: Scene, job: Job) -> None:
    create = scene.creates(job.id)[0]
    big = 1024 * 1024 * next((mib for mib in (1, 40) if f"[[big={mib}]]" in create["prompt"]), 0)
    assert job.outputs
    for output in job.outputs:
        kind = Kind(str(output.key).rpartition(".")[2])
        made = make_media(kind, create["taskId"], output.index, big)
        stored = (scene.stage.folder / "data" / "media" / str(output.key)).read_bytes()
        digest = hashlib.sha256(b"".join(made.read(0, len(made)))).hexdigest()
        assert hashlib.sha256(stored).hexdigest() == output.sha256 == digest


def test_nothing_changes_when_everything_dies_after_the_end(scene: Scene) -> None:
    """Gap 20, from behind: what has ended stays as it is when every process and the broker die."""
    ended = [s for s in scene.struck.values() if isinstance(s, Struck)]
    until("all have ended", lambda: all(scene.phase(s.job_id) == s.ends for s in ended), 60)
    before = [(scene.stage.jobs.get(s.job_id), scene.stage.jobs.timeline(s.job_id)) for s in ended]
    creates = len(scene.stage.creates())
    for process in (scene.quick, scene.copies, scene.beat):
        kill(process)
    scene.lose_the_broker()
    scene.revive()
    until("a sweep has run", _swept(scene))
    after = [(scene.stage.jobs.get(s.job_id), scene.stage.jobs.timeline(s.job_id)) for s in ended]
    assert after == before
    assert len(scene.stage.creates()) == creates
    for s in ended:
        if s.ends == "success":
            _is_what_kie_made(scene, scene.stage.jobs.get(s.job_id))


def _swept(scene: Scene) -> Callable[[], bool]:
    def last() -> Any:
        return scene.stage.query("SELECT at FROM pulses WHERE name = 'sweep'")[0][0]

    first = last()
    return lambda: last() != first
