"""Makes what tests begin with: a job in any state with consistent rows, time that has passed, and a `Runtime`.

Rows are written as the product would have left them: the path of events that leads to the state, one version per
change of state, a settled submission, outputs. Time is never waited for: `age` moves a row's times into the past.
"""

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import Table, event, func, insert, select, update
from sqlalchemy.engine import Connection

from kiejobs import nudge
from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import accounts, events, jobs, outputs, payloads, submissions
from kiejobs.errors import Reason
from kiejobs.jobs import JobState, OutputState, SubmissionState
from kiejobs.lifecycle import Event, after
from kiejobs.nudge import Nudge
from kiejobs.settings import Settings
from kiejobs.simulator import Simulator
from kiejobs.storage.store import Store
from workers.runtime import Runtime
from workers.steps.notify import notify
from workers.steps.poll import poll
from workers.steps.store import store
from workers.steps.submit import submit

PATHS: dict[JobState, tuple[Event, ...]] = {
    JobState.QUEUED: (),
    JobState.SUBMITTING: (Event.SENT,),
    JobState.UNCONFIRMED: (Event.SENT, Event.LOST),
    JobState.WAITING: (Event.SENT, Event.ACCEPTED),
    JobState.TIMEOUT: (Event.SENT, Event.ACCEPTED, Event.TIMED_OUT),
    JobState.STORING: (Event.SENT, Event.ACCEPTED, Event.PRODUCED),
    JobState.SUCCESS: (Event.SENT, Event.ACCEPTED, Event.PRODUCED, Event.STORED),
    JobState.FAIL: (Event.SENT, Event.ACCEPTED, Event.BROKE),
    JobState.CANCELED: (Event.CANCELED,),
}
"""How a job comes to each state, the shortest way."""

PATH_LOST = (Event.SENT, Event.LOST, Event.WRITTEN_OFF)
"""How a job comes to `fail` as `submission_lost`."""

PATH_CANCELED_UNCONFIRMED = (Event.SENT, Event.LOST, Event.CANCELED)

_SUBMISSION_AFTER = {
    Event.SENT: SubmissionState.SENDING,
    Event.LOST: SubmissionState.UNKNOWN,
    Event.ACCEPTED: SubmissionState.ACCEPTED,
}
_DUE_IN_S = {
    JobState.SUBMITTING: 62.0,
    JobState.UNCONFIRMED: 14 * 86400.0,
    JobState.WAITING: 2.0,
    JobState.TIMEOUT: 60.0,
    JobState.STORING: 60.0,
}
_ENDED = (JobState.SUCCESS, JobState.FAIL, JobState.CANCELED)


@dataclass(frozen=True)
class Made:
    """A job that a factory made."""

    id: str
    submission_id: str | None
    task_id: str | None
    version: int


def make_job(
    database: Database,
    state: JobState = JobState.QUEUED,
    *,
    path: tuple[Event, ...] | None = None,
    tenant: str = "default",
    account: str = "default",
    model: str = "z-image",
    prompt: str = "a cat",
    task_id: str | None = None,
    elapsed_s: float | None = None,
    urls: Iterable[str] = ("https://files.example/0.png",),
    documents: Iterable[str] = (),
    outputs_state: OutputState | None = None,
    **columns: Any,
) -> Made:
    """Make a job in a state. `elapsed_s` is how long ago Kie took the task; `columns` overrule the job's own."""
    path = PATHS[state] if path is None else path
    job_id, submission_id = str(uuid.uuid4()), str(uuid.uuid4()) if Event.SENT in path else None
    accepted = Event.ACCEPTED in path
    task_id = (task_id or uuid.uuid4().hex) if accepted else None
    if elapsed_s is None:
        elapsed_s = 700.0 if Event.TIMED_OUT in path else 10.0
    row: dict[str, Any] = {
        "id": job_id,
        "tenant": tenant,
        "account": account,
        "model": model,
        "family": "jobs",
        "priority": "interactive",
        "state": state,
        "version": len(path),
        "created_at": clock(-elapsed_s - 5),
        "line_at": clock(-elapsed_s - 5),
        "request_hash": "0" * 64,
        "submission_id": submission_id,
        "provider_task_id": task_id,
        "accepted_at": clock(-elapsed_s) if accepted else None,
        "due_at": clock(_DUE_IN_S[state]) if state in _DUE_IN_S else None,
        "ended_at": clock() if state in _ENDED else None,
    }
    if state is JobState.FAIL:
        row["reason"] = Reason.SUBMISSION_LOST if Event.WRITTEN_OFF in path else Reason.GENERATION
        row["message"] = "as the test wants it"
    with database.write() as tx:
        tx.execute(insert(jobs).values(**row | columns))
        tx.execute(insert(payloads).values(job_id=job_id, request={"input": {"prompt": prompt}, "metadata": {}}))
        if submission_id:
            _submission(tx, row | {"credits": columns.get("credits")}, submission_id, path)
        _events(tx, job_id, path)
        if Event.PRODUCED in path:
            _outputs(tx, row, [*urls], [*documents], outputs_state)
    return Made(job_id, submission_id, task_id, len(path))


def _submission(tx: Connection, job: dict[str, Any], submission_id: str, path: tuple[Event, ...]) -> None:
    state = next(_SUBMISSION_AFTER[step] for step in reversed(path) if step in _SUBMISSION_AFTER)
    tx.execute(
        insert(submissions).values(
            id=submission_id,
            job_id=job["id"],
            seq=1,
            tenant=job["tenant"],
            account=job["account"],
            model=job["model"],
            state=state,
            request_hash=job["request_hash"],
            sending_at=job["accepted_at"] if job["accepted_at"] is not None else clock(),
            deadline_at=clock(32),
            settled_at=None if state is SubmissionState.SENDING else clock(),
            provider_task_id=job["provider_task_id"],
            credits=job["credits"],
        )
    )


def _events(tx: Connection, job_id: str, path: tuple[Event, ...]) -> None:
    state = JobState.QUEUED
    lines: list[dict[str, Any]] = [{"kind": "queued", "from_state": None, "to_state": state, "note": "accepted"}]
    for step in path:
        following = after(state, step)
        lines.append({"kind": step, "from_state": state, "to_state": following, "note": f"{step}, by a factory"})
        state = following
    tx.execute(insert(events), [{"job_id": job_id, "who": "factory", **line} for line in lines])


def _outputs(
    tx: Connection, job: dict[str, Any], urls: list[str], documents: list[str], given: OutputState | None
) -> None:
    job_id = job["id"]
    kept = given or (OutputState.STORED if job["state"] is JobState.SUCCESS else OutputState.PENDING)
    values: dict[str, Any] = {"job_id": job_id, "state": kept}
    if kept is OutputState.PENDING:
        values["due_at"] = clock()
    elif kept is OutputState.STORED:
        values |= {"media_type": "image/png", "size_bytes": 3, "sha256": "a" * 64, "stored_at": clock()}
    else:
        values |= {"reason": Reason.RESULT_INVALID, "error": "no media"}
    results = [("result", url, None) for url in urls] + [("document", None, document) for document in documents]
    for position, (role, url, document) in enumerate(results):
        key = f"default/2026/01/02/{job_id}/{position}.png" if kept is OutputState.STORED else None
        place = {"position": position, "role": role, "url": url, "document": document, "key": key}
        tx.execute(insert(outputs).values(**values | place))


def make_submission(
    database: Database,
    job_id: str,
    *,
    account: str = "default",
    state: SubmissionState = SubmissionState.SENDING,
    seq: int = 2,
    ago_s: float = 0.0,
    task_id: str | None = None,
) -> str:
    """Add one more create call to a job, without making the job follow it."""
    submission_id = str(uuid.uuid4())
    row = {"id": submission_id, "job_id": job_id, "seq": seq, "tenant": "default", "account": account}
    row |= {"model": "z-image", "state": state, "request_hash": "0" * 64, "provider_task_id": task_id}
    times = {"sending_at": clock(-ago_s), "deadline_at": clock(32 - ago_s)}
    with database.write() as tx:
        tx.execute(insert(submissions).values(**row, **times))
    return submission_id


# ── looking at rows ──────────────────────────────────────────────────────────────────────────────────────────────────


def job_row(database: Database, job_id: str) -> Any:
    """Read a job's row."""
    with database.read() as connection:
        return connection.execute(select(jobs).where(jobs.c.id == job_id)).one()


def submission_row(database: Database, submission_id: str | None) -> Any:
    """Read one create call."""
    with database.read() as connection:
        return connection.execute(select(submissions).where(submissions.c.id == submission_id)).one()


def submissions_of(database: Database, job_id: str) -> list[Any]:
    """Read a job's create calls, first one first."""
    with database.read() as connection:
        query = select(submissions).where(submissions.c.job_id == job_id).order_by(submissions.c.seq)
        return list(connection.execute(query))


def outputs_of(database: Database, job_id: str) -> list[Any]:
    """Read a job's result files in order."""
    with database.read() as connection:
        return list(connection.execute(select(outputs).where(outputs.c.job_id == job_id).order_by(outputs.c.position)))


def events_of(database: Database, job_id: str) -> list[str]:
    """List the kinds of a job's timeline, oldest first."""
    with database.read() as connection:
        return list(connection.scalars(select(events.c.kind).where(events.c.job_id == job_id).order_by(events.c.id)))


def alarms_of(database: Database, job_id: str) -> list[str]:
    """List what the alarms of a job's timeline say."""
    with database.read() as connection:
        mine = (events.c.job_id == job_id) & (events.c.kind == "alarm")
        return list(connection.scalars(select(events.c.note).where(mine).order_by(events.c.id)))


def account_row(database: Database, name: str = "default") -> Any:
    """Read an account's row; None where it has none."""
    with database.read() as connection:
        return connection.execute(select(accounts).where(accounts.c.name == name)).first()


def now(database: Database) -> Any:
    """Read the database's clock."""
    with database.read() as connection:
        return connection.scalar(select(clock()))


def everything(database: Database) -> dict[str, list[Any]]:
    """Read all rows that a step may change, to show that it changed none."""
    found: dict[str, list[Any]] = {}
    with database.read() as connection:
        for table in (jobs, submissions, outputs, accounts, payloads):
            query = select(table).order_by(*table.primary_key.columns)
            found[table.name] = [tuple(row) for row in connection.execute(query)]
        found["events"] = [connection.scalar(select(func.count()).select_from(events))]
    return found


# ── moving time ──────────────────────────────────────────────────────────────────────────────────────────────────────

_TIMES: dict[Table, tuple[str, ...]] = {
    jobs: ("created_at", "accepted_at", "ended_at", "due_at", "line_at", "renudge_at"),
    submissions: ("sending_at", "deadline_at", "settled_at"),
    outputs: ("due_at", "renudge_at", "stored_at"),
    accounts: ("paused_until",),
}


def age(database: Database, job_id: str, seconds: float) -> None:
    """Let `seconds` have passed for a job: its own times, its create calls' and its outputs'."""
    with database.write() as tx:
        _shift(tx, jobs, jobs.c.id == job_id, seconds)
        _shift(tx, submissions, submissions.c.job_id == job_id, seconds)
        _shift(tx, outputs, outputs.c.job_id == job_id, seconds)


def age_account(database: Database, name: str, seconds: float) -> None:
    """Let `seconds` have passed for an account's pause."""
    with database.write() as tx:
        _shift(tx, accounts, accounts.c.name == name, seconds)


def _shift(tx: Connection, table: Table, where: Any, seconds: float) -> None:
    keys = list(table.primary_key.columns)
    for row in tx.execute(select(table).where(where).with_for_update()).mappings().all():
        moved = {n: row[n] - timedelta(seconds=seconds) for n in _TIMES[table] if row[n] is not None}
        mine = [key == row[key.name] for key in keys]
        if moved:
            tx.execute(update(table).where(*mine).values(**moved))


def alter(database: Database, job_id: str, **columns: Any) -> None:
    """Write columns of a job's row as the test wants them."""
    with database.write() as tx:
        tx.execute(update(jobs).where(jobs.c.id == job_id).values(**columns))


def alter_outputs(database: Database, job_id: str, **columns: Any) -> None:
    """Write columns of all of a job's outputs as the test wants them."""
    with database.write() as tx:
        tx.execute(update(outputs).where(outputs.c.job_id == job_id).values(**columns))


def pause_account(database: Database, name: str = "default", *, for_s: float = 60.0, code: str = "402") -> None:
    """Pause an account's creates; a negative time means that the pause is over and the account on probation."""
    values = {"paused_until": clock(for_s), "pause_s": 60.0, "pause_code": code, "pause_note": "as the test wants it"}
    with database.write() as tx:
        if tx.execute(update(accounts).where(accounts.c.name == name).values(**values)).rowcount == 0:
            tx.execute(insert(accounts).values(name=name, **values))


# ── what a step needs ────────────────────────────────────────────────────────────────────────────────────────────────


class Nudges:
    """A publisher that sends nothing and remembers what it was given."""

    def __init__(self) -> None:
        self.sent: list[Nudge] = []

    def __call__(self, nudges: Iterable[Nudge]) -> None:
        self.sent += list(nudges)

    def of(self, task: str) -> list[Nudge]:
        """Those for one task."""
        return [one for one in self.sent if one.task == task]

    def take(self) -> list[Nudge]:
        """All of them; the list is empty afterwards."""
        taken, self.sent = self.sent, []
        return taken


@dataclass
class Ticker:
    """A monotonic clock that stands still until a test moves it."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Move on."""
        self.now_s += seconds


def make_settings(folder: Path, **given: Any) -> Settings:
    """Settings that reach nothing outside `folder` and buy nowhere."""
    base = {"api_key": "test-key-0001", "base_url": "http://127.0.0.1:9", "data_dir": folder, "http_timeout_s": 5.0}
    return Settings(_env_file=None, **base | given)


def make_runtime(
    settings: Settings, database: Database, publish: Nudges | None = None, *, monotonic: Ticker | None = None
) -> Runtime:
    """A runtime whose jitter is 0, whose clock stands still and whose messages go nowhere."""
    return Runtime(
        settings,
        publish if publish is not None else Nudges(),
        database=database,
        store=Store.of(settings),
        monotonic=monotonic or Ticker(),
        jitter=lambda: 0.0,
    )


def act(rt: Runtime, one: Nudge) -> Any:
    """Do what a worker does with one message. A copy's wait is taken as over."""
    if one.task == nudge.SUBMIT:
        return submit(rt, one.kwargs["job_id"])
    if one.task == nudge.POLL:
        return poll(rt, **one.kwargs)
    if one.task == nudge.NOTIFY:
        return notify(rt, one.kwargs["delivery_id"])
    if one.countdown_s:
        age(rt.database, one.kwargs["job_id"], one.countdown_s)
    return store(rt, one.kwargs["job_id"], one.kwargs["index"])


def work(rt: Runtime, first: Iterable[Nudge] = (), *, at_most: int = 60) -> int:
    """Do what workers do until no message is left, or `at_most` were done; return how many. The rest stays published."""
    published: Nudges = rt.publish  # type: ignore[assignment]
    waiting, done = [*first, *published.take()], 0
    while waiting and done < at_most:
        act(rt, waiting.pop(0))
        waiting += published.take()
        done += 1
    published.sent = waiting
    return done


def finish(simulator: Simulator, task_id: str | None) -> None:
    """Let a simulated generation be over now."""
    requests.post(f"{simulator.base_url}/simulator/tasks/{task_id}/finish", timeout=5).raise_for_status()


# ── threads and statements ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Race:
    """What came of several threads that did the same at once."""

    results: list[Any] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)


def race(*todo: Any) -> Race:
    """Run each callable in a thread of its own, all starting together."""
    outcome, gate, lock = Race(), threading.Barrier(len(todo)), threading.Lock()

    def run(one: Any) -> None:
        gate.wait()
        try:
            result = one()
        except BaseException as error:
            with lock:
                outcome.errors.append(error)
        else:
            with lock:
                outcome.results.append(result)

    threads = [threading.Thread(target=run, args=(one,), daemon=True) for one in todo]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcome


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """Collect the statements that are executed in the block, without those that begin and end transactions."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA")):
            seen.append(" ".join(statement.split()))

    with listening(database, note):
        yield seen


@contextmanager
def listening(database: Database, hear: Callable[..., None], *, when: str = "before_cursor_execute") -> Iterator[None]:
    """Have each statement of the block told to `hear` (connection, cursor, statement, parameters, …)."""
    event.listen(database.engine, when, hear)
    try:
        yield
    finally:
        event.remove(database.engine, when, hear)
