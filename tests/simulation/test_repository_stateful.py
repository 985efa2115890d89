"""The repository under Hypothesis, on both databases: any order of calls keeps the invariants, after every single one.

Where the simulation has real steps and faults, this has no steps at all: the repository's functions are called in orders
that no step would choose, with outcomes that no Kie would give. What fails is shrunk to the shortest such order.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, literal, select, update

from kiejobs.answers import (
    Accepted,
    Broken,
    Busy,
    Finished,
    NotSent,
    NotVisible,
    Outcome,
    Pending,
    Refused,
    Result,
    Scope,
    Unknown,
)
from kiejobs.db import candidates, copies, intake, ledger, looks, orders, rescue
from kiejobs.db.accounts import Budget
from kiejobs.db.clock import UtcTime
from kiejobs.db.session import Database
from kiejobs.db.tables import candidates as candidate_rows
from kiejobs.db.tables import events, jobs, metadata, outputs, submissions
from kiejobs.decisions import Pace, after_poll, after_trouble
from kiejobs.errors import IdempotencyConflict, NotPossible, Reason
from kiejobs.jobs import ENDED, Claim, JobState, OutputClaim, OutputState, SubmissionState
from kiejobs.lifecycle import TABLE, Event
from kiejobs.setbacks import Setback

LIMIT, WINDOW_S = 3, 10.5
BUDGET = Budget(LIMIT, WINDOW_S)
PACE = Pace(timeout_s=60.0, salvage_s=600.0)
NOTHING_BOUGHT = (SubmissionState.REFUSED, SubmissionState.NOT_SENT)
ACCOUNT, TENANT = "default", "default"

any_number = st.integers(min_value=0, max_value=3)
recent = st.sampled_from([1, 1, 1, 1, 2, 2, 3, 4])
"""Which of those that began: mostly the newest, now and then one that was overtaken."""
task_ids = st.sampled_from(["t1", "t2", "t3", "t4"])
refusals = st.sampled_from(
    [
        Refused("422", "bad", Scope.JOB, Reason.INVALID_INPUT),
        Refused("402", "no credits", Scope.ACCOUNT, Reason.CREDITS),
        Refused("505", "off", Scope.MODEL, Reason.REFUSED),
    ]
)
accepted = st.builds(Accepted, task_ids)
outcomes: st.SearchStrategy[Outcome] = (
    st.one_of(
        accepted,
        accepted,
        st.just(Unknown("?")),
        st.just(Unknown("?")),
        st.just(NotSent("no")),
        st.just(Busy("429", "later")),
    )
    | refusals
)
snapshots = st.sampled_from(
    [
        Pending("generating"),
        Pending("polishing", known=False),
        NotVisible("recordInfo is null"),
        Broken("500", "broke", Reason.GENERATION, Decimal(0)),
        Finished((Result("result", url="https://kie/0.png"),), Decimal(4)),
        Finished((Result("result", url="https://kie/0.png"), Result("result", url="https://kie/1.png")), None),
        Finished(()),
    ]
)


def pass_time(database: Database, seconds: float) -> None:
    """Let time pass by moving every time in every table into the past."""
    with database.write() as tx:
        for table in metadata.sorted_tables:
            moved: dict[str, Any] = {}
            for column in table.columns:
                if isinstance(column.type, UtcTime):
                    if database.sqlite:
                        moved[column.name] = func.strftime("%Y-%m-%d %H:%M:%f", column, f"-{seconds} seconds")
                    else:
                        moved[column.name] = column - func.make_interval(0, 0, 0, 0, 0, 0, literal(float(seconds)))
            if moved:
                tx.execute(update(table).values(**moved))


class Repository(RuleBasedStateMachine):
    """Every function of the repository, in any order."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.intents: list[ledger.Intent] = []
        self.claims: list[Claim] = []
        self.copies: list[OutputClaim] = []
        self.named = 0
        """Tasks that a person named."""
        self.keys: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.bound: dict[str, str] = {}
        self.last_event = 0
        self.seen_submissions: set[str] = set()

    @initialize()
    def three_jobs_in_an_empty_database(self) -> None:
        """Every example begins with three jobs in line."""
        with self.database.write() as tx:
            for table in reversed(metadata.sorted_tables):
                tx.execute(table.delete())
        for number in range(3):
            self.enqueue(number, "a cat")

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(number=any_number, wish=st.sampled_from(["a cat", "a cat", "a cat", "a dog"]))
    def enqueue(self, number: int, wish: str) -> None:
        """I7: a key is one job; another wish under it is refused."""
        key = f"k{number}"
        new = intake.NewJob(TENANT, ACCOUNT, "z-image", "jobs", {"input": {"prompt": wish}}, idempotency_key=key)
        known = self.keys.get(key)
        try:
            entered = intake.enter(self.database, [new], spacing_s=lambda account: 0.5, nudge_below=20)[0]
        except IdempotencyConflict:
            assert known is not None
            return
        assert known in (None, entered.job_id)
        assert entered.created == (known is None)
        self.keys[key] = entered.job_id

    @rule(outcome=outcomes)
    def begin_and_settle(self, outcome: Outcome) -> None:
        """Create calls begin, and the newest is answered."""
        self._begin()
        if self.intents:
            self.settle(1, outcome)

    def _begin(self) -> None:
        """Claim, budget and intent, for every job that stands in line, and for those that do not."""
        for job_id in self.keys.values():
            with self.database.write() as tx:
                intent = ledger.begin(tx, job_id, ACCOUNT, BUDGET, deadline_s=32.0, who="test")
            if isinstance(intent, ledger.Intent):
                self.intents.append(intent)

    @rule(number=any_number)
    def a_job_comes_to_storing(self, number: int) -> None:
        """The usual way, so that the rare orders begin late in a life too."""
        self.a_job_runs_well(number, 3)

    @rule(number=any_number, steps=st.sampled_from([1, 2, 2, 3]))
    def a_job_runs_well(self, number: int, steps: int) -> None:
        """The usual way for a while, so that the rare orders begin late in a life too."""
        for step in (self._is_taken, self._is_made, self._is_copied)[:steps]:
            step(self._row(number))

    def _is_taken(self, row: Any) -> None:
        self._begin()
        row = self._row_of(row.id)
        if row.state == JobState.SUBMITTING:
            task = Accepted(f"task of {row.submission_id}")
            with self.database.write() as tx:
                ledger.settle(tx, row.submission_id, task, pace=PACE, busy_s=10.0, who="test")

    def _is_made(self, row: Any) -> None:
        claim = looks.claim(self.database, row.id, row.version, claim_s=45.0)
        if claim is not None and claim.state in looks.WATCHED:
            self.claims.append(claim)
            urls = tuple(Result("result", url=f"https://kie/{index}.png") for index in range(2))
            change = after_poll(claim, Finished(urls, Decimal(4)), PACE)
            assert looks.write(self.database, claim, change, record={}, who="test")

    def _is_copied(self, row: Any) -> None:
        for index in range(2):
            claim = copies.claim(self.database, row.id, index, lease_s=60.0)
            if claim is not None:
                self.copies.append(claim)

    @precondition(lambda self: self.intents)
    @rule(number=recent, outcome=outcomes)
    def settle(self, number: int, outcome: Outcome) -> None:
        """Any outcome, at any time, for any create call that ever began; also a second and a third."""
        intent = self.intents[-min(number, len(self.intents))]
        with self.database.write() as tx:
            ledger.settle(tx, intent.submission_id, outcome, pace=PACE, busy_s=10.0, who="test")

    @rule(number=any_number, back=st.sampled_from([0, 0, 0, 1, 2]))
    def claim_a_look(self, number: int, back: int) -> None:
        """I5: only the newest version can be claimed."""
        row = self._row(number)
        claim = looks.claim(self.database, row.id, row.version - back, claim_s=45.0)
        assert back == 0 or claim is None
        if claim is not None:
            assert claim.version == row.version + 1
            self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(number=recent, snapshot=snapshots, trouble=st.booleans())
    def write_a_look(self, number: int, snapshot: Any, trouble: bool) -> None:
        """I5: what an overtaken look brought changes nothing."""
        claim = self.claims[-min(number, len(self.claims))]
        if claim.state in looks.UNSURE:
            return
        before = self._row_of(claim.id)
        change = after_trouble(claim, "no answer", PACE) if trouble else after_poll(claim, snapshot, PACE)
        written = looks.write(self.database, claim, change, record={"state": "x"}, who="test")
        after = self._row_of(claim.id)
        assert written == (before.version == claim.version)
        assert written or before == after

    @rule()
    def claim_copies(self) -> None:
        """One copy at a time has the lease of an output."""
        for job_id in self.keys.values():
            for index in range(2):
                claim = copies.claim(self.database, job_id, index, lease_s=60.0)
                if claim is not None:
                    self.copies.append(claim)
                    assert copies.claim(self.database, job_id, index, lease_s=60.0) is None

    @precondition(lambda self: self.copies)
    @rule(number=recent, what=st.sampled_from(["stored", "stored", "failed", "postpone", "renew"]))
    def end_a_copy(self, number: int, what: str) -> None:
        """I5: only the newest claim can close, put off or renew."""
        claim = self.copies[-min(number, len(self.copies))]
        held = self._held(claim)
        match what:
            case "stored":
                key = f"{TENANT}/{claim.job_id}/{claim.index}.png"
                given: dict[str, Any] = {"key": key, "media_type": "image/png", "size_bytes": 3, "sha256": "a" * 64}
                done = copies.close_stored(self.database, claim, **given, who="test")
            case "failed":
                done = copies.close_failed(self.database, claim, reason=Reason.RESULT_INVALID, error="no", who="test")
            case "postpone":
                done = copies.postpone(self.database, claim, Setback(5.0), error="later", who="test")
            case _:
                done = copies.renew(self.database, claim, lease_s=60.0, received_bytes=1)
        assert done == held

    def _sweep(self) -> None:
        """The pieces of a sweep, one after the other."""
        for row in rescue.overdue_jobs(self.database, JobState.SUBMITTING, grace_s=0.0):
            with self.database.write() as tx:
                ledger.lapse(tx, row.job_id, pace=PACE, who="sweep")
        for state in looks.WATCHED:
            rescue.mark_nudged(self.database, rescue.overdue_jobs(self.database, state, grace_s=10.0))
        for row in rescue.overdue_jobs(self.database, JobState.STORING, grace_s=0.0):
            rescue.settle_storing(self.database, row.job_id, who="sweep")
        for row in rescue.overdue_jobs(self.database, JobState.UNCONFIRMED, grace_s=0.0):
            orders.settle_unconfirmed(self.database, row.job_id, PACE, who="sweep")
        rescue.mark_outputs_nudged(self.database, rescue.overdue_outputs(self.database, grace_s=10.0))
        for row in rescue.overdue_jobs(self.database, JobState.QUEUED, grace_s=0.0):
            rescue.back_in_line(self.database, row.job_id)
        with self.database.write() as tx:
            rescue.take_from_line(tx, ledger.first_in_line(tx, ACCOUNT, LIMIT), quiet_s=3.0)

    @rule(
        number=any_number,
        what=st.sampled_from(["retry", "pay", "pay", "adopt", "adopt", "refresh", "cancel"]),
        task=task_ids,
    )
    def a_person_orders(self, number: int, what: str, task: str) -> None:
        """What a person may ask for at any time; where it is not possible, nothing has changed."""
        before = self._row(number)
        try:
            self._order(before.id, what, task)
        except NotPossible:
            assert self._row(number) == before
            return
        after = self._row(number)
        if what in ("adopt", "refresh"):  # a hint: only a look decides
            same = ("state", "version", "provider_task_id")
            assert [getattr(before, name) for name in same] == [getattr(after, name) for name in same]
        if what == "retry":
            assert after.state == JobState.STORING, f"{before.state} was bought again without consent"

    def _order(self, job_id: str, what: str, task: str) -> None:
        match what:
            case "cancel":
                orders.cancel(self.database, job_id, tenant=TENANT, who="a person")
            case "adopt":
                orders.adopt(self.database, job_id, task, tenant=TENANT, who="a person")
                self.named += 1
            case "refresh":
                orders.refresh(self.database, job_id, tenant=TENANT, who="a person", per_s=lambda account: 10.0)
            case _:
                orders.retry(self.database, job_id, tenant=TENANT, pay=what == "pay", who="a person", why="why not")

    @precondition(lambda self: self.named)
    @rule(number=any_number)
    def a_record_confirms_the_candidate(self, number: int) -> None:
        """What the poll step does after the record agreed."""
        named = candidates.next_open(self.database, self._job(number), turn=0)
        if named is None or named.bound_elsewhere:
            return
        with self.database.write() as tx:
            ledger.settle(tx, named.submission_id, Accepted(named.task_id), pace=PACE, busy_s=10.0, who="test")

    @rule(seconds=st.sampled_from([1.0, 5.0, 11.0, 46.0, 70.0, 70.0, 700.0, 15 * 86400.0]), swept=st.booleans())
    def time_passes(self, seconds: float, swept: bool) -> None:
        """Now is later, and perhaps a sweep has run."""
        pass_time(self.database, seconds)
        if swept:
            self._sweep()

    # ── what holds ───────────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def states_follow_the_table(self) -> None:
        """I4."""
        with self.database.read() as tx:
            new = tx.execute(select(events).where(events.c.id > self.last_event).order_by(events.c.id)).all()
            rows = tx.execute(select(jobs.c.id, jobs.c.state, jobs.c.due_at, jobs.c.line_at, jobs.c.held)).all()
        for event in new:
            self.last_event = event.id
            if event.from_state is not None:
                assert event.from_state == self.states[event.job_id]
                assert TABLE[JobState(event.from_state), Event(event.kind)] == event.to_state
            if event.to_state is not None:
                self.states[event.job_id] = event.to_state
        for job in rows:
            assert job.state == self.states[job.id]
            # I2: whatever has not ended has a moment at which somebody acts on it, or stands in line
            if job.state not in ENDED:
                in_line = job.state == JobState.QUEUED and job.line_at is not None
                assert (job.due_at is not None) != in_line, f"{job.state} is due {job.due_at}, in line {job.line_at}"
            else:
                assert job.due_at is None

    @invariant()
    def money_is_spent_by_consent(self) -> None:
        """I1, I3, I9."""
        with self.database.read() as tx:
            rows = tx.execute(select(submissions).order_by(submissions.c.job_id, submissions.c.seq)).all()
            followed = dict(tx.execute(select(jobs.c.submission_id, jobs.c.provider_task_id)).all())
        times = [row.sending_at for row in rows]
        for row in rows:
            if row.id not in self.seen_submissions:
                self.seen_submissions.add(row.id)
                earlier = [one.state for one in rows if one.job_id == row.job_id and one.seq < row.seq]
                assert row.approved_by or all(state in NOTHING_BOUGHT for state in earlier), "I1"
                recent = [at for at in times if 0 <= (row.sending_at - at).total_seconds() < WINDOW_S - 0.5]
                assert len(recent) <= LIMIT, "I9"
            if row.id in self.bound:
                assert row.provider_task_id == self.bound[row.id], "I3"
            if row.provider_task_id is not None:
                self.bound[row.id] = row.provider_task_id
                assert row.state == SubmissionState.ACCEPTED
            if followed.get(row.id) is not None:
                assert followed[row.id] == row.provider_task_id, "I3"
        assert sum(row.state == SubmissionState.SENDING for row in rows) == len(
            {row.job_id for row in rows if row.state == SubmissionState.SENDING}
        )
        assert len(set(self.bound.values())) == len(self.bound), "I3"

    @invariant()
    def success_means_stored(self) -> None:
        """I6, and nothing storing has nothing left to store."""
        with self.database.read() as tx:
            query = select(jobs.c.id, jobs.c.state, outputs).join(outputs, outputs.c.job_id == jobs.c.id, isouter=True)
            rows = tx.execute(query.where(jobs.c.state.in_((JobState.SUCCESS, JobState.STORING)))).all()
        for row in rows:
            assert row.position is not None
            if row[1] == JobState.SUCCESS:
                assert row._mapping[outputs.c.state] == OutputState.STORED
                assert row.sha256 and row.size_bytes and row.key
        storing = {row[0] for row in rows if row[1] == JobState.STORING}
        pending = {row[0] for row in rows if row._mapping[outputs.c.state] == OutputState.PENDING}
        assert storing <= pending, "I2"

    @invariant()
    def candidates_name_tasks_once(self) -> None:
        """I8: a candidate alone binds nothing."""
        with self.database.read() as tx:
            query = select(candidate_rows.c.task_id, submissions.c.provider_task_id).join(
                submissions, submissions.c.id == candidate_rows.c.submission_id
            )
            opened = tx.execute(query.where(candidate_rows.c.state == "open", submissions.c.state == "sending")).all()
        assert all(row.provider_task_id is None for row in opened)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _held(self, claim: OutputClaim) -> bool:
        mine = (outputs.c.job_id == claim.job_id) & (outputs.c.position == claim.index)
        newest = (outputs.c.version == claim.version) & (outputs.c.state == OutputState.PENDING)
        with self.database.read() as tx:
            return tx.scalar(select(outputs.c.position).where(mine, newest)) is not None

    def _job(self, number: int) -> str:
        known = list(self.keys.values())
        return known[number % len(known)]

    def _row(self, number: int) -> Any:
        return self._row_of(self._job(number))

    def _row_of(self, job_id: str) -> Any:
        with self.database.read() as tx:
            return tx.execute(select(jobs).where(jobs.c.id == job_id)).one()


def _examples(database: Database) -> int:
    return 25 if database.sqlite else 15


def test_any_order_of_calls_keeps_the_invariants(database: Database) -> None:
    """Whatever is called, whenever: money, states, fences and files stay right."""
    machine = type("Repository", (Repository,), {"database": database})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=_examples(database),
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_time_passes_on_both_databases(database: Database) -> None:
    """Moving every time into the past is the same as waiting."""
    intake.enter(
        database,
        [intake.NewJob(TENANT, ACCOUNT, "z-image", "jobs", {"input": {}})],
        spacing_s=lambda account: 0.5,
        nudge_below=20,
    )
    pass_time(database, 3600.0)
    with database.read() as tx:
        made = tx.scalar(select(jobs.c.created_at))
    assert isinstance(made, datetime)
    assert made.tzinfo == UTC
    with pytest.raises(IdempotencyConflict):
        intake.enter(
            database,
            [
                intake.NewJob(TENANT, ACCOUNT, "z-image", "jobs", {"input": {"n": n}}, idempotency_key="k")
                for n in range(2)
            ],
            spacing_s=lambda account: 0.5,
            nudge_below=20,
        )
