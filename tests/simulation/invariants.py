"""The judge: looks at every row, every object and Kie's ledger after every effect, and at the end asks for liveness.

It believes no word of the product's own. What a job may have cost is counted at the fake Kie, what was stored is compared
with the bytes that Kie made, and whether a step was allowed to write is told from the rows before and after.
"""

from collections import Counter, namedtuple
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from kiejobs.jobs import ENDED, DeliveryState, JobState, OutputState, SubmissionState
from kiejobs.lifecycle import TABLE, Event
from kiejobs.nudge import POLL, STORE
from kiejobs.pacing import LADDER, TAIL
from tests.simulation.bucket import Bucket
from tests.simulation.database import SimulatedDatabase
from tests.simulation.inbox import Inbox
from tests.simulation.kie import Kie, Task
from tests.simulation.world import EPOCH, Violation, World, plain

WATCHED = (JobState.WAITING, JobState.TIMEOUT)
OPEN_SPEND = (SubmissionState.SENDING, SubmissionState.UNKNOWN, SubmissionState.WRITTEN_OFF)
NOTHING_BOUGHT = (SubmissionState.REFUSED, SubmissionState.NOT_SENT)
WINDOW_S = 10.0

JOB = (
    "id tenant state version due_at line_at renudge_at submission_id provider_task_id accepted_at"
    " reason late polls held callback_url"
)
SUBMISSION = "id job_id seq account state sending_at deadline_at provider_task_id approved_by"
OUTPUT = "job_id position state version due_at renudge_at url key size_bytes sha256 attempts"
EVENT = "id job_id kind who from_state to_state note"
ACCOUNT = "name paused_until"
_NAMED = (
    "SELECT 1 FROM candidates JOIN submissions ON submissions.id = candidates.submission_id"
    " WHERE submissions.job_id = ? AND submissions.state IN ('sending', 'unknown', 'written_off')"
    " AND candidates.state = 'open'"
)
DELIVERY = "job_id sequence kind state due_at renudge_at"


def seconds(text: str | None) -> float | None:
    """Read a time of the database as the world's seconds."""
    return None if text is None else (datetime.fromisoformat(text) - EPOCH).total_seconds()


class _Table:
    """Rows of one table, read without the product's help."""

    def __init__(self, raw: Any, table: str, columns: str, order: str) -> None:
        self._raw = raw
        self._row: Any = namedtuple(table, columns)
        self._query = f"SELECT {columns.replace(' ', ', ')} FROM {table}"
        self._order = f" ORDER BY {order}"

    def read(self, where: str = "", *given: Any) -> list[Any]:
        return [self._row(*row) for row in self._raw.execute(self._query + where + self._order, given)]


class Judge:
    """Every invariant of one run."""

    def __init__(self, world: World, database: SimulatedDatabase, *, kie: Kie, bucket: Bucket, inbox: Inbox) -> None:
        self.world, self.kie, self.bucket, self.inbox = world, kie, bucket, inbox
        raw = self._raw = database.raw
        self._jobs = _Table(raw, "jobs", JOB, "id")
        self._submissions = _Table(raw, "submissions", SUBMISSION, "job_id, seq")
        self._outputs = _Table(raw, "outputs", OUTPUT, "job_id, position")
        self._events = _Table(raw, "events", EVENT, "id")
        self._deliveries = _Table(raw, "deliveries", DELIVERY, "job_id, sequence")
        self.deliveries: list[Any] = []
        self._accounts = _Table(raw, "accounts", ACCOUNT, "name")
        self.jobs: dict[str, Any] = {}
        self.submissions: dict[str, Any] = {}
        self.outputs: dict[tuple[str, int], Any] = {}
        self.accounts: list[Any] = []
        self.acknowledged: dict[str, str] = {}
        """Job → the idempotency key that it was promised under."""
        self.looks: Counter[str] = Counter()
        """Task → looks at its record."""
        self.complaints: dict[str, str] = {}
        """What does not hold and is known not to; the run goes on."""
        self._looked: set[tuple[str, int]] = set()
        self.hurried: Counter[str] = Counter()
        """Job → times that somebody asked for a look out of turn."""
        self._told: dict[str, str] = {}
        self._unanswered: set[str] = set()
        """Jobs that were given up by a look that Kie did not answer: at the end of the salvage nobody asks once more."""
        self._last_event = 0
        self._changes = -1
        self._writes = -1

    # ── after every effect ───────────────────────────────────────────────────────────────────────────────────────────

    def look(self) -> None:
        """Check everything, if anything changed."""
        changes = self._raw.total_changes
        if changes == self._changes and self.bucket.writes == self._writes:
            return
        before = self.jobs, self.submissions, self.outputs
        if changes != self._changes:
            self.jobs = {row.id: row for row in self._jobs.read()}
            self.submissions = {row.id: row for row in self._submissions.read()}
            self.outputs = {(row.job_id, row.position): row for row in self._outputs.read()}
            self.accounts = self._accounts.read()
            self.deliveries = self._deliveries.read()
            self._i4_states_follow_the_table()
            self._i5_stale_versions_change_nothing(*before)
            self._i1_one_create_each(before[1])
            self._i3_task_ids_are_bound_once(before[1])
            self._i8_nothing_is_taken_from_a_callback(before[0], before[2])
            self._i9_creates_keep_within_the_window(before[1])
            self._i2_storing_jobs_wait_for_something()
            self._who_is_queued_stands_in_line_or_is_due()
        self._i6_success_is_in_the_bucket()
        self._changes, self._writes = changes, self.bucket.writes

    def _who_is_queued_stands_in_line_or_is_due(self) -> None:
        """One of the two and never both: the index of the line's lanes is of those that are not due."""
        for row in self.jobs.values():
            if row.state == JobState.QUEUED and (row.line_at is None) == (row.due_at is None):
                raise Violation(f"job {row.id} is queued with line_at {row.line_at} and due_at {row.due_at}")

    def _i1_one_create_each(self, before: dict[str, Any]) -> None:
        asked: Counter[str] = Counter()
        approved: Counter[str] = Counter()
        for row in self.submissions.values():
            if row.id not in before:
                self._may_be_sent(row)
            asked[row.job_id] += 1
            approved[row.job_id] += bool(row.approved_by)
        for job_id, count in self.kie.accepted.items():
            if count > 1 + approved[job_id]:
                raise Violation(f"I1 job {job_id}: Kie took {count} creates, {approved[job_id]} resends were approved")
        for job_id, count in self.kie.posts.items():
            if count > asked[job_id]:
                raise Violation(f"I1 job {job_id}: {count} creates reached Kie, {asked[job_id]} were written down")

    def _may_be_sent(self, row: Any) -> None:
        """A create call follows only calls that bought nothing, back to the first or to one that somebody consented to."""
        earlier = [one for one in self.submissions.values() if one.job_id == row.job_id and one.seq < row.seq]
        perhaps_bought = [one for one in (*earlier, row) if one.state not in NOTHING_BOUGHT]
        policies = sum(one.approved_by == "policy" for one in perhaps_bought)
        persons = sum(one.approved_by not in (None, "policy") for one in (*earlier, row))
        if row.approved_by == "policy" and policies > 1 + persons:
            self.complaints["the policy resends twice"] = f"I1 job {row.job_id} is sent again by the policy, twice"
        for one in (row, *reversed(earlier)):
            if one is not row and one.state not in NOTHING_BOUGHT:
                raise Violation(f"I1 job {row.job_id} is sent again, with an earlier call open and nobody's consent")
            if one.approved_by:
                return

    def _i2_storing_jobs_wait_for_something(self) -> None:
        pending = {row.job_id for row in self.outputs.values() if row.state == OutputState.PENDING}
        for job in self.jobs.values():
            if job.state == JobState.STORING and job.id not in pending:
                raise Violation(f"I2 job {job.id} is storing and has nothing left to store")

    def _i3_task_ids_are_bound_once(self, before: dict[str, Any]) -> None:
        bound: dict[tuple[str, str], str] = {}
        for row in self.submissions.values():
            old = before.get(row.id)
            if old and old.provider_task_id and old.provider_task_id != row.provider_task_id:
                raise Violation(f"I3 submission {row.id}: {old.provider_task_id} became {row.provider_task_id}")
            if row.provider_task_id is None:
                continue
            if old and not old.provider_task_id:
                self._count_binding(old)
            other = bound.setdefault((row.account, row.provider_task_id), row.id)
            if other != row.id:
                raise Violation(f"I3 task {row.provider_task_id} belongs to {other} and to {row.id}")
            task = self.kie.tasks.get(row.provider_task_id)
            if task is None or task.job_id != row.job_id:
                raise Violation(f"I3 job {row.job_id} has taken {row.provider_task_id}, which was never its own")
        for job in self.jobs.values():
            sent = self.submissions.get(job.submission_id)
            if job.state in WATCHED and (sent is None or sent.provider_task_id != job.provider_task_id):
                raise Violation(f"I3 job {job.id} follows {job.provider_task_id}, its submission has another")

    def _count_binding(self, old: Any) -> None:
        actor = self.world.current
        if actor and actor.message and actor.message.task == POLL:
            self.world.counts["adoptions"] += 1
        elif old.state == SubmissionState.UNKNOWN:
            self.world.counts["late facts merged"] += 1

    def _i4_states_follow_the_table(self) -> None:
        for row in self._events.read(" WHERE id > ?", self._last_event):
            self._last_event = row.id
            self.world.note(f"· {row.job_id[:8]} {row.kind}: {row.note[:110]}")
            self.world.counts[f"event {row.kind}"] += 1
            if row.to_state is None:
                self.world.counts["candidates refused"] += row.kind == "alarm" and "not adopted" in row.note
                continue
            if row.from_state is not None:
                if row.from_state != self._told.get(row.job_id):
                    raise Violation(f"I4 job {row.job_id} leaves {row.from_state}, it was {self._told.get(row.job_id)}")
                if TABLE.get((JobState(row.from_state), Event(row.kind))) != row.to_state:
                    raise Violation(f"I4 job {row.job_id}: {row.from_state} cannot become {row.to_state} by {row.kind}")
                self._in_time(row)
                if row.kind == Event.GIVEN_UP and "Kie says" not in row.note:
                    self._unanswered.add(row.job_id)
            self._told[row.job_id] = row.to_state
        for job in self.jobs.values():
            if job.state != self._told.get(job.id):
                raise Violation(f"I4 job {job.id} is {job.state}, its timeline says {self._told.get(job.id)}")

    def _in_time(self, event: Any) -> None:
        if event.kind == Event.LOST and event.who == "sweep":
            self.world.counts["lapses"] += 1
            deadline = seconds(self.submissions[self.jobs[event.job_id].submission_id].deadline_at)
            if deadline is None or self.world.now_s < deadline + 30.0 - 0.01:
                self.complaints["parked early"] = f"I4 job {event.job_id} is parked before its call's deadline + 30 s"

    def _i5_stale_versions_change_nothing(
        self, jobs: dict[str, Any], _submissions: dict[str, Any], outputs: dict[tuple[str, int], Any]
    ) -> None:
        actor = self.world.current
        if actor is None or actor.message is None or actor.message.task not in (POLL, STORE):
            return
        kwargs = actor.message.kwargs
        job_id = plain(kwargs["job_id"])
        if actor.message.task == POLL:
            old, new, given = jobs.get(job_id), self.jobs.get(job_id), kwargs["version"]
        else:
            place = (job_id, kwargs["index"])
            old, new, given = outputs.get(place), self.outputs.get(place), None
        if old == new and jobs.get(job_id) == self.jobs.get(job_id):
            return
        if actor.claimed is None:
            if old is not None and given is not None and old.version != given:
                raise Violation(f"I10 a nudge for version {given} of job {job_id} takes version {old.version}")
            actor.claimed = -1 if new is None else new.version
            actor.unsure = old is not None and old.state not in (*WATCHED, OutputState.PENDING)
        elif not actor.unsure and (old is None or old.version != actor.claimed):
            raise Violation(f"I5 job {job_id}: a step that claimed version {actor.claimed} changed a later one")

    def _i6_success_is_in_the_bucket(self) -> None:
        for row in self.outputs.values():
            job = self.jobs[row.job_id]
            if job.state != JobState.SUCCESS:
                continue
            task = self.kie.tasks[job.provider_task_id]
            content = self.bucket.objects.get(row.key or "")
            if row.state != OutputState.STORED or content is None:
                raise Violation(f"I6 job {job.id} is a success, its output {row.position} is not in the bucket")
            if (row.size_bytes, row.sha256) != (len(content), sha256(content).hexdigest()):
                raise Violation(f"I6 job {job.id}: output {row.position} is not what the row says")
            if content != task.content(row.position):
                raise Violation(f"I6 job {job.id}: output {row.position} is not what Kie made")
            if not (row.key or "").startswith(f"{job.tenant}/") or job.id not in plain(row.key or ""):
                raise Violation(f"I6 job {job.id}: output {row.position} lies outside the job's own prefix")
        for job in self.jobs.values():
            if job.state == JobState.SUCCESS:
                stored = sum(place[0] == job.id for place in self.outputs)
                if stored != self.kie.tasks[job.provider_task_id].files:
                    raise Violation(f"I6 job {job.id} is a success with {stored} outputs, Kie made another number")

    def _i8_nothing_is_taken_from_a_callback(self, jobs: dict[str, Any], outputs: dict[tuple[str, int], Any]) -> None:
        for place, row in self.outputs.items():
            if place not in outputs and row.url not in self.kie.links:
                raise Violation(f"I8 output {place} has an address that no record of Kie's ever had: {row.url}")
        for job in self.jobs.values():
            old = jobs.get(job.id)
            if old is None or old.state == job.state or job.state not in (JobState.STORING, JobState.FAIL):
                continue
            task = self.kie.tasks.get(job.provider_task_id or "")
            made = task is not None and self.kie.over(task)
            if job.state == JobState.STORING and (not made or (task is not None and task.breaks)):
                raise Violation(f"I8 job {job.id} has results, Kie has made none")
            if job.reason in ("generation", "content") and not (made and task is not None and task.breaks):
                raise Violation(f"I8 job {job.id} failed as {job.reason}, which Kie's record never said")

    def _i9_creates_keep_within_the_window(self, before: dict[str, Any]) -> None:
        new = [row for row in self.submissions.values() if row.id not in before]
        if not new:
            return
        times = [seconds(row.sending_at) or 0.0 for row in self.submissions.values()]
        for row in new:
            until = seconds(row.sending_at) or 0.0
            within = sum(until - WINDOW_S < at <= until for at in times)
            if within > self.world.traits.create_limit:
                raise Violation(f"I9 {within} creates began within {WINDOW_S:g} s")

    # ── at a look ────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_record(self) -> None:
        """A poll is about to read Kie's record."""
        actor = self.world.current
        assert actor is not None
        job_id, version = plain(actor.message.kwargs["job_id"]), actor.message.kwargs["version"]
        if (job_id, version) in self._looked:
            raise Violation(f"I10 version {version} of job {job_id} is looked at twice")
        self._looked.add((job_id, version))
        if actor.unsure:
            return
        job = self.jobs[job_id]
        looks = self.looks[job.provider_task_id] = self.looks[job.provider_task_id] + 1
        accepted_at = seconds(job.accepted_at) or self.world.now_s
        most = self._most_looks(self.world.now_s - accepted_at) + self.hurried[job_id]
        if looks > most:
            raise Violation(f"I10 job {job_id} was looked at {looks} times, the schedule has {most:.0f}")

    def _most_looks(self, elapsed_s: float) -> float:
        """Count the looks that the schedule has until this age; a worker whose clock is wrong may double them."""
        looks, since, timeout_s = 3.0, 0.0, self.world.traits.timeout_s
        for until, wait_s in LADDER:
            looks += max(min(elapsed_s, until, timeout_s) - since, 0.0) / (wait_s * 0.9)
            since = until
        looks += max(elapsed_s - timeout_s, 0.0) / TAIL[0][1]
        return looks * (2 if self.world.traits.skewed else 1)

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def due_at(self) -> float | None:
        """When the sweep has something to do again; None where nothing waits for it."""
        due: list[float] = []
        for job in self.jobs.values():
            grace_s = 10.0 if job.state in WATCHED else 0.0
            due += self._due(job, grace_s)
        for row in self.outputs.values():
            if row.state == OutputState.PENDING:
                due += self._due(row, 10.0)
        for message in self.deliveries:
            due += self._due(message, 10.0)
        return min(due, default=None)

    def someone_is_untold(self) -> bool:
        """Say whether a message waits for its next try; the later ones are hours apart."""
        return any(message.state == DeliveryState.PENDING for message in self.deliveries)

    def _due(self, row: Any, grace_s: float) -> list[float]:
        due_at = seconds(row.due_at)
        return [] if due_at is None else [max(due_at + grace_s, seconds(row.renudge_at) or 0.0)]

    def in_line_at(self) -> float | None:
        """When the pump has something to do; None where nobody stands in line."""
        line = [job for job in self.jobs.values() if job.state == JobState.QUEUED and job.line_at is not None]
        if not line:
            return None
        ready = min(seconds(job.renudge_at) or 0.0 for job in line)
        paused = max((seconds(row.paused_until) or 0.0 for row in self.accounts), default=0.0)
        recent = sorted(seconds(row.sending_at) or 0.0 for row in self.submissions.values())
        limit = self.world.traits.create_limit
        free_at = recent[-limit] + WINDOW_S if len(recent) >= limit else 0.0
        return max(ready, paused, free_at)

    # ── at the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    def at_rest(self) -> None:
        """I2: nothing is lost, nothing is stuck, every failure is stated truly, the books are right."""
        self._changes = -1
        self.look()
        for job_id in self.acknowledged:
            if job_id not in self.jobs:
                raise Violation(f"I2 job {job_id} was promised to a producer and has no row")
        self._i7_one_job_a_key()
        for job in self.jobs.values():
            state = JobState(job.state)
            if state not in ENDED and state is not JobState.UNCONFIRMED:
                raise Violation(f"I2 job {job.id} stands at {state} for ever (due {job.due_at}, held: {job.held})")
            if state is JobState.UNCONFIRMED and self._raw.execute(_NAMED, (job.id,)).fetchone():
                raise Violation(f"I2 job {job.id} is parked, and nobody looks at the task that was named for it")
            if state is JobState.FAIL:
                self._i2_failures_are_true(job)
            self._i14_producers_know_the_end(job)
            self._i15_the_books_are_right(job)
            self.world.counts[f"ends as {state}"] += 1
            self.world.counts["late results"] += bool(job.late and state is JobState.SUCCESS)

    def _i7_one_job_a_key(self) -> None:
        keys = self._raw.execute("SELECT tenant, idempotency_key, count(*) FROM jobs GROUP BY 1, 2").fetchall()
        for tenant, key, count in keys:
            if key is not None and count != 1:
                raise Violation(f"I7 key {key} of {tenant} made {count} jobs")
        for job_id, key in self.acknowledged.items():
            found = self._raw.execute("SELECT id FROM jobs WHERE idempotency_key = ?", (key,)).fetchone()
            if found is None or found[0] != job_id:
                raise Violation(f"I7 key {key} was answered with job {job_id}, it belongs to {found}")

    def _i14_producers_know_the_end(self, job: Any) -> None:
        """The last message that a producer got is about the state in which the job stands."""
        mine = [row for row in self.deliveries if row.job_id == job.id]
        if any(row.state != DeliveryState.DELIVERED for row in mine):
            raise Violation(f"I14 job {job.id}: a message was never delivered to a producer that is well")
        told = self.inbox.told.get(str(UUID(job.id)), {})
        if mine and sorted(told) != [row.sequence for row in mine]:
            raise Violation(f"I14 job {job.id}: its producer has messages {sorted(told)} of {len(mine)}")
        if job.callback_url and told[max(told)]["data"]["phase"] != job.state:
            raise Violation(f"I14 job {job.id} is {job.state}, its producer was last told of another state")

    def _i2_failures_are_true(self, job: Any) -> None:
        task = self.kie.tasks.get(job.provider_task_id or "")
        true = {
            "refused": self.kie.refused[job.id] > 0,
            "invalid_input": self.kie.refused[job.id] > 0,
            "credits": self.kie.refused[job.id] > 0,
            "unauthorized": self.kie.refused[job.id] > 0,
            "generation": task is not None and task.breaks,
            "no_result": task is not None and (not self._in_salvage(job, task) or job.id in self._unanswered),
            "result_invalid": task is not None and self.kie.spoiled[task.id] >= 3,
            "quarantined": self.world.deaths[job.id] + self._hindrances() >= 4,
            "submission_lost": self.world.traits.ages,
        }
        if job.reason == "result_invalid" and task is not None and not task.breaks and self.kie.spoiled[task.id] < 3:
            self._complain_of_invalid(job, task)
        elif not true.get(job.reason or "", False):
            raise Violation(f"I2 job {job.id} failed as {job.reason}, and that is not what happened")

    def _hindrances(self) -> int:
        """What else ends an execution without a word."""
        return sum(self.world.counts[name] for name in ("effects failed", "replies lost", "pauses"))

    def _complain_of_invalid(self, job: Any, task: Task) -> None:
        """Kie has a good result, and fewer wrong answers came than it takes to give it up."""
        if self.kie.spoiled[task.id]:
            words = f"I2 job {job.id} is given up after {self.kie.spoiled[task.id]} answer(s) that were no media"
            self.complaints["other failures count as bytes that are no media"] = words
        else:
            words = f"I2 job {job.id} is given up after {self.kie.empty[task.id]} answer(s) without a result"
            self.complaints["other troubles count as results that are empty"] = words
            if self.kie.empty[task.id] >= 5:
                raise Violation(words)

    def _in_salvage(self, job: Any, task: Task) -> bool:
        """Whether Kie made it while somebody should still have looked."""
        accepted_at, traits = seconds(job.accepted_at) or 0.0, self.world.traits
        return task.finish_at is not None and task.finish_at < accepted_at + traits.salvage_s

    def _i15_the_books_are_right(self, job: Any) -> None:
        mine = [row for row in self.submissions.values() if row.job_id == job.id]
        known = {row.provider_task_id for row in mine}
        open_calls = sum(row.state in OPEN_SPEND for row in mine)
        missing = [t.id for t in self.kie.tasks.values() if t.job_id == job.id and not t.double and t.id not in known]
        adopted = [t.id for t in self.kie.tasks.values() if t.job_id == job.id and t.double and t.id in known]
        if len(missing) > open_calls + len(adopted):
            raise Violation(f"I15 job {job.id}: Kie charges for {missing}, the ledger has no call open for them")
