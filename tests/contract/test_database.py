"""What the database promises, asked of SQLite and PostgreSQL alike; with real threads where things happen at once."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, update

from kiejobs.answers import (
    Accepted,
    Broken,
    Busy,
    Finished,
    NotSent,
    Outcome,
    Pending,
    Refused,
    Result,
    Scope,
    Unknown,
)
from kiejobs.db import candidates, copies, inserts, intake, ledger, looks, migrate, orders, reads, rescue
from kiejobs.db.accounts import Budget, free_creates, turns
from kiejobs.db.clock import clock
from kiejobs.db.parents import request_of
from kiejobs.db.session import Database
from kiejobs.db.tables import accounts, callbacks, jobs, submissions
from kiejobs.decisions import MAX_EXECUTIONS, Pace, after_poll, after_trouble
from kiejobs.errors import (
    DatabaseNotMigrated,
    DatabaseUnavailable,
    IdempotencyConflict,
    InvalidInput,
    JobNotFound,
    Reason,
    SettingsError,
)
from kiejobs.jobs import Claim, JobState, OutputClaim, OutputState, Priority, PublicState, SubmissionState
from kiejobs.nudge import POLL, STORE, SUBMIT
from kiejobs.producer import KieJobs
from kiejobs.setbacks import Fault, Setback
from tests.conftest import temporary_postgresql
from tests.factories import (
    PATH_CANCELED_UNCONFIRMED,
    PATH_LOST,
    Nudges,
    account_row,
    age,
    age_account,
    alarms_of,
    alter,
    alter_outputs,
    events_of,
    everything,
    job_row,
    listening,
    make_job,
    make_submission,
    now,
    outputs_of,
    pause_account,
    race,
    statements,
    submission_row,
    submissions_of,
)
from workers.runtime import Runtime
from workers.sweeps.pump import pump
from workers.sweeps.stale import sweep

BUDGET = ledger.Budget(20, 10.5)
PACE = Pace()
S = JobState

ACCEPTED = Accepted("task-1")
REFUSED = Refused("422", "no such size", Scope.JOB, Reason.INVALID_INPUT)
REFUSED_MODEL = Refused("505", "switched off", Scope.MODEL, Reason.REFUSED)
REFUSED_ACCOUNT = Refused("402", "no credits", Scope.ACCOUNT, Reason.CREDITS)
BUSY = Busy("429", "too often")
NOT_SENT = NotSent("refused connection")
UNKNOWN = Unknown("Kie answered 500", "500", {"http_status": 200})


def new_job(tenant: str = "default", *, prompt: str = "a cat", **more: Any) -> intake.NewJob:
    request = {"input": {"prompt": prompt}, "metadata": {}}
    fields: dict[str, Any] = {"tenant": tenant, "account": "default", "model": "z-image", "family": "jobs"}
    return intake.NewJob(request=request, **fields | more)


def enter(database: Database, *new: intake.NewJob, nudge_below: int = 20) -> list[intake.Entered]:
    return intake.enter(database, [*new], spacing_s=lambda account: 0.5, nudge_below=nudge_below)


def asked_of(database: Database, job_id: str) -> dict[str, Any]:
    with database.read() as connection:
        return request_of(connection, job_id)[0]


def begin(
    database: Database, job_id: str, budget: ledger.Budget = BUDGET, account: str = "default"
) -> ledger.Intent | ledger.Declined:
    with database.write() as tx:
        return ledger.begin(tx, job_id, account, budget, deadline_s=32.0, who="test")


def settle(database: Database, submission_id: str | None, outcome: Outcome) -> ledger.Standing | None:
    with database.write() as tx:
        return ledger.settle(tx, str(submission_id), outcome, pace=PACE, busy_s=10.0, who="test")


def free(database: Database, account: str = "default") -> int:
    with database.read() as tx:
        return ledger.free_creates(tx, account, BUDGET)


def line(database: Database, account: str = "default") -> list[str]:
    with database.read() as tx:
        return ledger.first_in_line(tx, account, 1000)


def count(database: Database, table: Any, *where: Any) -> int:
    with database.read() as connection:
        return connection.scalar(select(func.count()).select_from(table).where(*where)) or 0


def claim(database: Database, job_id: str, version: int) -> Claim:
    found = looks.claim(database, job_id, version, claim_s=45.0)
    assert found is not None
    return found


def claim_copy(database: Database, job_id: str, index: int = 0) -> OutputClaim:
    found = copies.claim(database, job_id, index, lease_s=60.0)
    assert found is not None
    return found


def close(database: Database, held: OutputClaim) -> bool:
    key = f"default/2026/01/02/{held.job_id}/{held.index}.png"
    return copies.close_stored(
        database, held, key=key, media_type="image/png", size_bytes=3, sha256="b" * 64, who="test"
    )


def seconds_until(database: Database, moment: datetime | None) -> float:
    assert moment is not None
    return float((moment - now(database)).total_seconds())


# ── schema ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_migrated_schema_is_that_of_the_tables(database: Database) -> None:
    """Nothing in code that no migration makes, nothing in the database that code does not know."""
    assert migrate.current(database) == migrate.head()
    assert migrate.differences(database) == []


def test_migrating_twice_changes_nothing(database: Database) -> None:
    """Every deployment runs it."""
    assert migrate.migrate(database) == (migrate.head(), migrate.head())


def test_an_empty_sqlite_file_is_migrated_when_it_is_opened(tmp_path: Path) -> None:
    """There is no person who would do it, also where several processes open it at once."""
    url = f"sqlite:///{tmp_path}/deep/er/new.db"
    outcome = race(*[lambda: migrate.ready(Database(url)) for _ in range(4)])
    assert outcome.errors == []
    assert all(migrate.current(made) == migrate.head() for made in outcome.results)
    for made in outcome.results:
        made.close()


def test_a_new_sqlite_file_is_opened_by_several_at_once(tmp_path: Path) -> None:
    """SQLite tells those who come second, while the first one turns the file to its log, at once that it is locked."""
    for number in range(100):
        url = f"sqlite:///{tmp_path}/{number}.db"
        opened = [Database(url) for _ in range(4)]
        outcome = race(*[partial(database.connect, 1) for database in opened])
        for database in opened:
            database.close()
        assert outcome.errors == []


def test_a_database_that_cannot_hold_all_text_is_refused(_postgresql_url: str) -> None:
    """Before anything is bought whose result, or whose refusal in Chinese, could not be written."""
    with temporary_postgresql("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0") as url:
        latin = Database(url)
        with pytest.raises(SettingsError, match="LATIN1") as raised:
            migrate.migrate(latin)
        assert "ENCODING 'UTF8'" in str(raised.value.remedy)
        latin.close()


def test_an_empty_postgresql_is_a_persons_decision(_postgresql_url: str) -> None:
    """It says so; then two migrations at once wait for each other."""
    with temporary_postgresql() as url:
        bare = Database(url)
        with pytest.raises(DatabaseNotMigrated):
            migrate.ready(bare)
        with pytest.raises(DatabaseNotMigrated):
            reads.job(bare, str(uuid.uuid4()), tenant="default")
        outcome = race(*[partial(migrate.migrate, Database(url)) for _ in range(2)])
        assert outcome.errors == []
        assert sorted(str(before) for before, _ in outcome.results) == [migrate.head(), "None"]
        assert migrate.ready(bare) is bare
        bare.close()


def test_a_migration_waits_for_a_lock_briefly_and_often(_postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes after it waits as long as it does. A lock that is never free is named, and nothing has changed."""
    from alembic import command

    monkeypatch.setattr(migrate, "LOCK_WAIT_S", 1)
    waits: list[float] = []
    with temporary_postgresql() as url, ExitStack() as ends:
        bare = Database(url)
        ends.callback(bare.close)
        migrate.migrate(bare)
        with bare.write() as connection:
            settings = migrate.config()
            settings.attributes["connection"] = connection
            command.downgrade(settings, "0009")
        reader = ends.enter_context(bare.engine.connect())
        reader.exec_driver_sql("BEGIN")
        reader.exec_driver_sql("LOCK TABLE accounts IN ACCESS SHARE MODE")
        monkeypatch.setattr(migrate, "_pause", waits.append)
        with pytest.raises(DatabaseUnavailable, match="stayed in use for 1 s") as raised:
            migrate.migrate(bare)
        assert (len(waits), migrate.current(bare)) == (4, "0009")
        assert "pg_stat_activity" in str(raised.value.remedy)
        monkeypatch.setattr(migrate, "_pause", lambda seconds: reader.exec_driver_sql("ROLLBACK"))
        assert migrate.migrate(bare) == ("0009", migrate.head())


# ── clock ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_clock_is_aware_utc_and_about_now(database: Database) -> None:
    """The one clock that leases and budgets go by."""
    moment = now(database)
    assert moment.tzinfo is not None
    assert moment.utcoffset() == timedelta(0)
    assert abs((moment - datetime.now(UTC)).total_seconds()) < 5


@pytest.mark.parametrize("offset_s", [0.25, -0.25, 1e-5, 61.5, -86400.0, 86400.0 * 400])
def test_the_clock_takes_an_offset_in_seconds(database: Database, offset_s: float) -> None:
    """Also a part of a second, also one that is written with an exponent."""
    with database.read() as connection:
        row = connection.execute(select(clock().label("now"), clock(offset_s).label("then"))).one()
    assert (row.then - row.now).total_seconds() == pytest.approx(offset_s, abs=0.02)


def test_the_clock_goes_on_inside_a_transaction(database: Database) -> None:
    """`now()` of PostgreSQL would stand still while a lock is waited for; and it counts parts of a second."""
    with database.write() as tx:
        first = tx.scalar(select(clock()))
        threading.Event().wait(0.03)
        second = tx.scalar(select(clock()))
    assert first is not None
    assert second is not None
    assert 0.02 <= (second - first).total_seconds() < 1


def test_times_come_back_as_they_were_written_and_sort(database: Database) -> None:
    """From any zone, with and without parts of a second."""
    base = datetime(2026, 3, 9, 23, 59, 59, tzinfo=timezone(timedelta(hours=-7)))
    moments = [base, base + timedelta(milliseconds=1), base + timedelta(milliseconds=999), base + timedelta(seconds=1)]
    with database.write() as tx:
        for moment in reversed(moments):
            tx.execute(insert(callbacks).values(at=moment, body_sha256="", body=""))
    with database.read() as connection:
        found = list(connection.scalars(select(callbacks.c.at).order_by(callbacks.c.at)))
    assert found == moments
    assert all(moment.utcoffset() == timedelta(0) for moment in found)


# ── accepting jobs ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_twenty_producers_with_one_key_get_one_job(database: Database) -> None:
    """I7: a unique index, not a read and then a write."""
    outcome = race(*[lambda: enter(database, new_job(idempotency_key="order-42"))[0] for _ in range(20)])
    assert outcome.errors == []
    assert len({one.job_id for one in outcome.results}) == 1
    assert [one.created for one in outcome.results].count(True) == 1
    assert count(database, jobs) == 1
    assert events_of(database, outcome.results[0].job_id) == ["queued"]


def test_twenty_producers_with_one_key_and_different_requests_make_one_job(database: Database) -> None:
    """The others are told that the key is taken."""
    outcome = race(
        *[partial(enter, database, new_job(prompt=f"cat {n}", idempotency_key="order-42")) for n in range(20)]
    )
    assert len(outcome.results) == 1
    assert len(outcome.errors) == 19
    assert {type(error) for error in outcome.errors} == {IdempotencyConflict}
    assert all("order-42" in str(error) for error in outcome.errors)
    assert count(database, jobs) == 1


def test_many_keys_in_opposite_order_at_once_are_each_one_job(database: Database) -> None:
    """Two services repeat the same batch, one of them backwards: no deadlock reaches them."""
    for turn in range(5):
        batch = [new_job(idempotency_key=f"{turn}-{n}") for n in range(40)]
        outcome = race(*[partial(enter, database, *order) for order in (batch, batch[::-1], batch[::2], batch[::-3])])
        assert outcome.errors == []
    assert count(database, jobs) == 200


def test_the_same_key_and_request_is_the_same_job_later_on_too(database: Database) -> None:
    """Whatever became of it."""
    first = enter(database, new_job(idempotency_key="k"))[0]
    alter(database, first.job_id, state=S.FAIL)
    assert enter(database, new_job(idempotency_key="k"))[0] == intake.Entered(first.job_id, created=False, nudge=False)


@pytest.mark.parametrize("other", [{"prompt": "a dog"}, {"model": "qwen/image"}, {"account": "second"}])
def test_the_same_key_with_another_request_is_a_conflict(database: Database, other: dict[str, Any]) -> None:
    """Another input, model or account is another purchase."""
    enter(database, new_job(idempotency_key="k"))
    with pytest.raises(IdempotencyConflict):
        enter(database, new_job(idempotency_key="k", **other))
    assert count(database, jobs) == 1


def test_a_conflict_in_a_list_accepts_none_of_it(database: Database) -> None:
    """All or nothing."""
    enter(database, new_job(idempotency_key="k"))
    with pytest.raises(IdempotencyConflict):
        enter(database, new_job(), new_job(idempotency_key="k", prompt="a dog"), new_job())
    with pytest.raises(IdempotencyConflict):
        enter(database, new_job(idempotency_key="twice"), new_job(idempotency_key="twice", prompt="a dog"))
    assert count(database, jobs) == 1


def test_a_key_twice_in_one_list_is_one_job(database: Database) -> None:
    """The second is the first."""
    first, second = enter(database, new_job(idempotency_key="k"), new_job(idempotency_key="k"))
    assert first.job_id == second.job_id
    assert (first.created, second.created) == (True, False)


def test_a_chosen_id_is_the_job_and_a_repeat_the_same(database: Database) -> None:
    """As a bare message that comes twice."""
    chosen = str(uuid.uuid4())
    assert [enter(database, new_job(id=chosen))[0].job_id for _ in range(2)] == [chosen, chosen]
    with pytest.raises(IdempotencyConflict):
        enter(database, new_job(id=chosen, prompt="a dog"))


def test_a_chosen_id_with_a_key_that_was_used_is_the_earlier_job(database: Database) -> None:
    """A bare producer that repeats under a new task id, as its key is there for."""
    first = enter(database, new_job(idempotency_key="k", id=str(uuid.uuid4())))[0]
    again = enter(database, new_job(idempotency_key="k", id=str(uuid.uuid4())))[0]
    assert again.job_id == first.job_id
    assert not again.created


def test_keys_and_ids_of_tenants_do_not_collide(database: Database) -> None:
    """I13: the same key is another job, another tenant's id is a conflict and shows nothing."""
    first = enter(database, new_job("one", idempotency_key="k"))[0]
    assert enter(database, new_job("two", idempotency_key="k"))[0].job_id != first.job_id
    with pytest.raises(IdempotencyConflict) as raised:
        enter(database, new_job("two", id=first.job_id))
    assert "one" not in str(raised.value).split()


def test_a_new_job_stands_in_line_with_its_request_and_its_first_line(database: Database) -> None:
    """All four rows in one transaction."""
    entered = enter(database, new_job(warnings=("no such parameter",)))[0]
    row = job_row(database, entered.job_id)
    assert (row.state, row.version, row.due_at, row.held) == (S.QUEUED, 0, None, None)
    assert row.line_at is not None
    assert reads.request(database, entered.job_id) == {"input": {"prompt": "a cat"}, "metadata": {}}
    assert events_of(database, entered.job_id) == ["queued", "warning"]


def test_a_tenant_with_thirty_jobs_stands_beside_the_others(database: Database) -> None:
    """B's only job goes before A's third, though A was first with thirty."""
    many = [one.job_id for one in enter(database, *[new_job("a") for _ in range(30)])]
    single = enter(database, new_job("b"))[0].job_id
    order = line(database)
    assert order.index(single) <= 2
    assert [job_id for job_id in order if job_id != single] == many


def test_places_of_one_tenant_are_spread_by_the_create_limit(database: Database) -> None:
    """Window by limit: the whole budget, if nobody else is there."""
    ids = [one.job_id for one in enter(database, *[new_job() for _ in range(5)])]
    places = [job_row(database, job_id).line_at for job_id in ids]
    gaps = [(second - first).total_seconds() for first, second in pairwise(places)]
    assert gaps == pytest.approx([0.5] * 4, abs=0.002)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_the_last_place_is_found_by_its_index_while_the_statistics_know_of_no_queue(database: Database) -> None:
    """What was idle when it was last analysed gets a backlog: the line is not read through for every job that enters."""
    enter(database, new_job())
    with database.write() as tx:
        tx.exec_driver_sql("UPDATE jobs SET state = 'success', line_at = NULL")
        tx.exec_driver_sql(
            "INSERT INTO jobs (id, tenant, account, model, family, priority, state, version, nudges, created_at, polls, "
            "troubles, empty_looks, executions, late, cancel_requested, sequence, request_hash) SELECT gen_random_uuid(), "
            "tenant, account, model, family, priority, 'success', 4, 0, now(), 0, 0, 0, 0, false, false, 0, 'x' "
            "FROM jobs, generate_series(1, 3000)"
        )
        tx.exec_driver_sql("ANALYZE jobs")
    enter(database, *[new_job("crowded") for _ in range(1000)])
    enter(database, new_job("small"))
    asked: list[Any] = []
    with listening(database, lambda *told: asked.append(told[2:4])):
        enter(database, new_job("small"))
    statement, parameters = next(one for one in asked if "standing" in one[0])
    with database.read() as connection:
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN (ANALYZE) {statement}", parameters).scalars())
    assert "using ix_jobs_lane_last" in plan, plan
    assert "Rows Removed" not in plan, plan


def test_a_place_is_counted_from_the_tenants_last_one_in_this_account(database: Database) -> None:
    """In a later call, too; another account of the tenant is another line."""
    enter(database, *[new_job() for _ in range(10)])
    later = enter(database, new_job())[0].job_id
    elsewhere = enter(database, new_job(account="second"))[0].job_id
    assert line(database)[-1] == later
    assert seconds_until(database, job_row(database, later).line_at) == pytest.approx(5, abs=1)
    assert seconds_until(database, job_row(database, elsewhere).line_at) < 0.5


def test_batch_stands_ten_minutes_behind_and_never_starves(database: Database) -> None:
    """An old batch job goes before a new interactive one."""
    batch = enter(database, new_job(priority=Priority.BATCH))[0].job_id
    first = enter(database, new_job())[0].job_id
    assert line(database) == [first, batch]
    assert seconds_until(database, job_row(database, batch).line_at) == pytest.approx(600, abs=2)
    age(database, batch, 601)
    age(database, first, 0.5)
    assert line(database) == [batch, first]


def test_a_batch_of_a_thousand_does_not_hold_up_its_own_tenant(database: Database) -> None:
    """Interactive jobs have a lane of their own."""
    enter(database, *[new_job(priority=Priority.BATCH) for _ in range(50)])
    quick = enter(database, new_job())[0].job_id
    assert line(database)[0] == quick


def test_a_tenants_places_are_as_far_apart_as_its_accounts_creates(database: Database) -> None:
    """Else who hoards in a slow account is in front of everybody who comes later."""
    apart = {"default": 0.5, "slow": 5.0}
    new = [new_job(account=account) for account in ("default", "slow") for _ in range(2)]
    ids = [one.job_id for one in intake.enter(database, new, spacing_s=apart.__getitem__, nudge_below=20)]
    at = [job_row(database, job_id).line_at for job_id in ids]
    assert [(at[1] - at[0]).total_seconds(), (at[3] - at[2]).total_seconds()] == [0.5, 5.0]


def test_only_as_many_are_nudged_as_may_be_sent_soon(database: Database) -> None:
    """The pump finds the rest; a thousand messages would only be declined."""
    entered = enter(database, *[new_job() for _ in range(5)], nudge_below=3)
    assert [one.nudge for one in entered] == [True, True, True, False, False]
    assert not enter(database, new_job(), nudge_below=3)[0].nudge
    assert enter(database, new_job(account="second"), nudge_below=3)[0].nudge


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("metadata", {"at": datetime(2026, 1, 1, tzinfo=UTC)}),
        ("metadata", {"n": float("nan")}),
        ("metadata", {1: "a", "b": 2}),
        ("metadata", {"t": "\ud800"}),
        ("idempotency_key", "a\x00b"),
        ("account", "a\x00b"),
    ],
    ids=["time", "nan", "keys of two types", "surrogate", "key with NUL", "account with NUL"],
)
def test_what_no_database_can_hold_is_refused_with_its_field(
    database: Database, runtime: Callable[..., Runtime], field: str, value: Any
) -> None:
    """A producer reads which field, never an error of the database's library."""
    producer = KieJobs(runtime(database).settings, database=database, publish=Nudges())
    given: dict[str, Any] = {field: value}
    with pytest.raises(InvalidInput) as raised:
        producer.enqueue("z-image", {"prompt": "a cat"}, validate="off", **given)
    assert raised.value.field in (field, "idempotencyKey")
    assert count(database, jobs) == 0


def test_a_job_is_entered_by_one_look_and_one_write(database: Database) -> None:
    """A producer waits for it. PostgreSQL takes job, payload and line at once; a producer that dies commits nothing."""
    enter(database, new_job())
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(" ".join(statement.split()))

    with listening(database, note):
        entered = enter(database, new_job())[0]
    assert events_of(database, entered.job_id) == ["queued"]
    if database.sqlite:
        assert len(sent) == 5
        assert sent[0] == "BEGIN IMMEDIATE"
    else:
        assert [statement.split()[0] for statement in sent] == ["BEGIN;", "SELECT", "WITH"]


def test_more_than_one_statement_takes_is_still_all_or_none(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one's id is another tenant's, which shows only when it is written."""
    monkeypatch.setattr(inserts, "PART", 2000)
    taken = enter(database, new_job(tenant="other"))[0].job_id
    many = [new_job(prompt=f"cat {n}") for n in range(50)]
    with pytest.raises(IdempotencyConflict):
        enter(database, *many, replace(many[0], id=taken))
    assert count(database, jobs) == 1
    entered = enter(database, *many, new_job())
    assert count(database, jobs) == 52
    asked = [asked_of(database, one.job_id)["input"]["prompt"] for one in entered[:-1]]
    assert asked == [f"cat {n}" for n in range(50)]


def test_a_job_that_is_entered_has_every_default_of_its_tables(database: Database) -> None:
    """Whichever way a database takes rows."""
    given = replace(new_job(), warnings=("a warning",), callback_url="https://example.com/told")
    job_id = enter(database, given)[0].job_id
    row = job_row(database, job_id)
    zero = (
        "version",
        "nudges",
        "polls",
        "troubles",
        "empty_looks",
        "executions",
        "late",
        "cancel_requested",
        "sequence",
    )
    assert {name: getattr(row, name) for name in zero} == dict.fromkeys(zero, 0)
    assert (row.callback_url, row.due_at, row.credits) == ("https://example.com/told", None, None)
    assert row.created_at == row.line_at
    lines = reads.whole(database, job_id, tenant="default")[1]  # type: ignore[index]
    assert [(line.kind, line.note, line.to_state) for line in lines] == [
        ("queued", f"accepted for {given.model}", "queued"),
        ("warning", "a warning", None),
    ]
    assert seconds_until(database, lines[0].at) == pytest.approx(0, abs=2)


def test_what_no_database_takes_is_left_out_of_a_job(database: Database) -> None:
    """A request from code that checks nothing; what merely looks like it stays."""
    given = {"input": {"a\0b": "x\0y", "n": float("nan"), "ok": "\\u0000 NaN 🐼 Infinity"}}
    job_id = enter(database, replace(new_job(), request=given, who="a\0b\ud800"))[0].job_id
    assert asked_of(database, job_id) == {"input": {"ab": "xy", "n": None, "ok": "\\u0000 NaN 🐼 Infinity"}}


# ── the intent to buy ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_intent_is_claim_budget_and_submission_in_one(database: Database) -> None:
    """Everything that must be known if the worker dies in the next moment."""
    job_id = enter(database, new_job())[0].job_id
    intent = begin(database, job_id)
    assert isinstance(intent, ledger.Intent)
    assert intent.request == {"input": {"prompt": "a cat"}, "metadata": {}}
    row, sent = job_row(database, job_id), submission_row(database, intent.submission_id)
    assert (row.state, row.version, row.executions) == (S.SUBMITTING, 1, 1)
    assert row.submission_id == intent.submission_id
    assert (sent.state, sent.seq, sent.account, sent.request_hash) == ("sending", 1, "default", row.request_hash)
    assert seconds_until(database, sent.deadline_at) == pytest.approx(32, abs=2)
    assert seconds_until(database, row.due_at) == pytest.approx(62, abs=2)
    assert events_of(database, job_id) == ["queued", "sent"]
    assert free(database) == 19


def test_sixty_jobs_and_eight_threads_never_pass_the_budget(database: Database) -> None:
    """I9: exactly the limit, under one lock; and the next window has the next twenty."""
    ids = [one.job_id for one in enter(database, *[new_job(f"tenant-{n % 3}") for n in range(60)])]

    def run(mine: list[str]) -> list[str]:
        return [job_id for job_id in mine if isinstance(begin(database, job_id), ledger.Intent)]

    begun: list[str] = []
    for expected in (20, 40):
        standing = line(database)
        outcome = race(*[partial(run, standing[n:] + standing[:n]) for n in range(8)])
        assert outcome.errors == []
        begun += [job_id for one in outcome.results for job_id in one]
        assert len(begun) == len(set(begun)) == expected
        recent = submissions.c.sending_at > clock(-10.5)
        assert count(database, submissions, recent) == 20
        assert free(database) == 0
        for job_id in ids:
            age(database, job_id, 10.6)
    assert count(database, submissions) == 40


def test_exactly_one_of_ten_begins_for_one_job_wins(database: Database) -> None:
    """I1: a doubled message buys nothing."""
    job_id = enter(database, new_job())[0].job_id
    outcome = race(*[lambda: begin(database, job_id) for _ in range(10)])
    assert outcome.errors == []
    assert [type(one) for one in outcome.results].count(ledger.Intent) == 1
    assert len(submissions_of(database, job_id)) == 1
    assert job_row(database, job_id).version == 1


@pytest.mark.parametrize("outcome", [REFUSED, NOT_SENT, UNKNOWN], ids=["refused", "not sent", "unknown"])
def test_every_create_counts_whatever_became_of_it(database: Database, outcome: Outcome) -> None:
    """A refused one was a call like any other; they leave the window with time alone."""
    ids = [one.job_id for one in enter(database, *[new_job() for _ in range(20)])]
    intents = [begin(database, job_id) for job_id in ids]
    for intent in intents:
        assert isinstance(intent, ledger.Intent)
        settle(database, intent.submission_id, outcome)
    assert free(database) == 0
    for job_id in ids[:3]:
        age(database, job_id, 10.6)
    assert free(database) == 3


def test_a_job_that_is_not_among_the_first_is_declined(database: Database) -> None:
    """Two creates are free, it stands third: the messages' order does not matter."""
    ids = [one.job_id for one in enter(database, *[new_job() for _ in range(3)])]
    two = ledger.Budget(2, 10.5)
    assert isinstance(begin(database, ids[2], two), ledger.Declined)
    assert isinstance(begin(database, ids[1], two), ledger.Intent)
    assert isinstance(begin(database, ids[2], two), ledger.Declined)
    assert isinstance(begin(database, ids[0], two), ledger.Intent)
    assert job_row(database, ids[2]).state == S.QUEUED


def test_each_account_has_a_budget_of_its_own(database: Database) -> None:
    """One at its limit holds up no other."""
    one = ledger.Budget(1, 10.5)
    mine = [entered.job_id for entered in enter(database, new_job(), new_job(), new_job(account="second"))]
    assert isinstance(begin(database, mine[0], one), ledger.Intent)
    assert isinstance(begin(database, mine[1], one), ledger.Declined)
    assert isinstance(begin(database, mine[2], one, "second"), ledger.Intent)


@pytest.mark.parametrize("state", [state for state in JobState if state is not S.QUEUED])
def test_only_a_job_in_line_begins(database: Database, state: S) -> None:
    """I5: a late message to a job in any other state changes nothing."""
    made = make_job(database, state)
    with database.write() as tx:
        ledger.lock_account(tx, "default")
    before = everything(database)
    assert isinstance(begin(database, made.id), ledger.Declined)
    assert everything(database) == before


def test_a_job_that_is_held_out_of_the_line_does_not_begin(database: Database) -> None:
    """Until the sweep puts it back."""
    made = make_job(database, line_at=None, due_at=clock(60), held="the model is switched off")
    assert isinstance(begin(database, made.id), ledger.Declined)


def test_a_paused_account_gives_none_and_one_on_probation_one(database: Database) -> None:
    """After a pause one create shows whether it is over; while that one is out there is no other."""
    ids = [one.job_id for one in enter(database, new_job(), new_job())]
    pause_account(database, for_s=60)
    assert free(database) == 0
    assert isinstance(begin(database, ids[0]), ledger.Declined)
    age_account(database, "default", 61)
    assert free(database) == 1
    assert isinstance(begin(database, ids[1]), ledger.Declined)
    assert isinstance(begin(database, ids[0]), ledger.Intent)
    assert free(database) == 0
    assert isinstance(begin(database, ids[1]), ledger.Declined)


def test_a_slow_create_on_probation_is_still_the_only_one(database: Database) -> None:
    """It may take 30 s, the window is 10 s; one create passes, not one per window."""
    pause_account(database, for_s=-1)
    job_id = enter(database, new_job())[0].job_id
    assert isinstance(begin(database, job_id), ledger.Intent)
    age(database, job_id, 15)
    assert free(database) == 0


def test_ten_begins_on_probation_send_one(database: Database) -> None:
    """Also when they come together."""
    ids = [one.job_id for one in enter(database, *[new_job() for _ in range(10)])]
    pause_account(database, for_s=-1)
    outcome = race(*[partial(begin, database, job_id) for job_id in ids])
    assert outcome.errors == []
    assert [type(one) for one in outcome.results].count(ledger.Intent) == 1


def test_a_job_that_five_executions_did_not_survive_is_quarantined(database: Database) -> None:
    """I16: the sixth ends it, and sends nothing."""
    made = make_job(database, executions=MAX_EXECUTIONS)
    assert isinstance(begin(database, made.id), ledger.Declined)
    row = job_row(database, made.id)
    assert (row.state, row.reason) == (S.FAIL, Reason.QUARANTINED)
    assert submissions_of(database, made.id) == []


# ── what became of it ────────────────────────────────────────────────────────────────────────────────────────────────

MERGED: dict[str, tuple[S, S, SubmissionState]] = {
    # outcome: (from submitting, from unconfirmed, the submission)
    "accepted": (S.WAITING, S.WAITING, SubmissionState.ACCEPTED),
    "refused": (S.FAIL, S.FAIL, SubmissionState.REFUSED),
    "model": (S.QUEUED, S.QUEUED, SubmissionState.REFUSED),
    "account": (S.QUEUED, S.QUEUED, SubmissionState.REFUSED),
    "busy": (S.QUEUED, S.QUEUED, SubmissionState.REFUSED),
    "not sent": (S.QUEUED, S.QUEUED, SubmissionState.NOT_SENT),
    "unknown": (S.UNCONFIRMED, S.UNCONFIRMED, SubmissionState.UNKNOWN),
}
OUTCOMES: dict[str, Outcome] = {
    "accepted": ACCEPTED,
    "refused": REFUSED,
    "model": REFUSED_MODEL,
    "account": REFUSED_ACCOUNT,
    "busy": BUSY,
    "not sent": NOT_SENT,
    "unknown": UNKNOWN,
}


@pytest.mark.parametrize(("name", "state"), list(product(MERGED, (S.SUBMITTING, S.UNCONFIRMED))))
def test_an_outcome_merges_as_the_contract_says(database: Database, name: str, state: S) -> None:
    """In time, or long after the job was parked."""
    made = make_job(database, state)
    settle(database, made.submission_id, OUTCOMES[name])
    row, sent = job_row(database, made.id), submission_row(database, made.submission_id)
    expected = MERGED[name][state is S.UNCONFIRMED]
    assert (row.state, sent.state) == (expected, MERGED[name][2])
    assert row.version == made.version + (expected is not state)
    assert sent.settled_at is not None
    assert sent.provider_task_id == row.provider_task_id == ("task-1" if name == "accepted" else None)
    assert (row.accepted_at is not None) == (name == "accepted")
    assert (row.reason is not None) == (expected is S.FAIL) == (row.ended_at is not None)
    assert (row.line_at is None) == (name == "model")


@pytest.mark.parametrize("name", OUTCOMES)
@pytest.mark.parametrize("state", [S.WAITING, S.TIMEOUT, S.STORING, S.SUCCESS, S.FAIL])
def test_an_outcome_of_a_settled_submission_moves_nothing(database: Database, name: str, state: S) -> None:
    """The task is known; whoever reports now reports late or wrongly."""
    made = make_job(database, state)
    before = job_row(database, made.id), submission_row(database, made.submission_id)
    assert settle(database, made.submission_id, OUTCOMES[name]) is None
    assert (job_row(database, made.id), submission_row(database, made.submission_id)) == before


@pytest.mark.parametrize("name", OUTCOMES)
@pytest.mark.parametrize("state", [S.SUBMITTING, S.UNCONFIRMED])
def test_the_same_outcome_twice_changes_nothing(database: Database, name: str, state: S) -> None:
    """A fact is true once."""
    made = make_job(database, state)
    settle(database, made.submission_id, OUTCOMES[name])
    before = everything(database)
    assert settle(database, made.submission_id, OUTCOMES[name]) is None
    assert everything(database) == before


def test_a_second_task_id_is_an_alarm_and_never_an_overwrite(database: Database) -> None:
    """I3."""
    made = make_job(database, S.SUBMITTING)
    settle(database, made.submission_id, Accepted("first"))
    before = job_row(database, made.id)
    settle(database, made.submission_id, Accepted("second"))
    assert submission_row(database, made.submission_id).provider_task_id == "first"
    assert job_row(database, made.id) == before
    (alarm,) = alarms_of(database, made.id)
    assert "second" in alarm
    assert "first" in alarm


def test_a_task_id_that_belongs_to_another_submission_is_an_alarm(database: Database) -> None:
    """I3: bound once per account; the create that names it again has an unknown outcome."""
    make_job(database, S.WAITING, task_id="shared")
    made = make_job(database, S.SUBMITTING)
    settle(database, made.submission_id, Accepted("shared"))
    row = job_row(database, made.id)
    assert (row.state, row.provider_task_id) == (S.UNCONFIRMED, None)
    assert submission_row(database, made.submission_id).state == SubmissionState.UNKNOWN
    assert "shared" in alarms_of(database, made.id)[0]


def test_the_same_task_id_in_another_account_is_another_task(database: Database) -> None:
    """Ids are Kie's, and only said to be unique within an account."""
    make_job(database, S.WAITING, task_id="shared", account="second")
    made = make_job(database, S.SUBMITTING)
    settle(database, made.submission_id, Accepted("shared"))
    assert job_row(database, made.id).state == S.WAITING


def test_a_parked_job_follows_an_earlier_submission_that_turns_out_to_have_bought(database: Database) -> None:
    """Bought again by order, and parked again: what is known to be paid is stored, the other stays unknown."""
    made = make_job(database, S.UNCONFIRMED)
    earlier = make_submission(database, made.id, state=SubmissionState.UNKNOWN, seq=0)
    assert settle(database, earlier, Accepted("earlier-1")) is not None
    row = job_row(database, made.id)
    assert (row.state, row.provider_task_id, row.submission_id) == (S.WAITING, "earlier-1", earlier)
    assert submission_row(database, made.submission_id).state == SubmissionState.UNKNOWN
    assert settle(database, made.submission_id, Accepted("later-1")) is None
    assert job_row(database, made.id).provider_task_id == "earlier-1"
    assert "later-1" in alarms_of(database, made.id)[0]


@pytest.mark.parametrize("state", [S.SUBMITTING, S.WAITING, S.STORING, S.SUCCESS])
def test_a_task_of_a_submission_that_is_not_followed_is_a_surplus(database: Database, state: S) -> None:
    """Billed and told, and the job goes its own way."""
    made = make_job(database, state)
    other = make_submission(database, made.id, state=SubmissionState.UNKNOWN)
    before = job_row(database, made.id)
    assert settle(database, other, Accepted("surplus-1")) is None
    assert job_row(database, made.id) == before
    assert submission_row(database, other).provider_task_id == "surplus-1"
    (alarm,) = alarms_of(database, made.id)
    assert "surplus-1" in alarm


@pytest.mark.parametrize("outcome", [REFUSED, NOT_SENT], ids=["refused", "not sent"])
def test_a_submission_that_is_not_followed_and_cost_nothing_is_only_settled(
    database: Database, outcome: Outcome
) -> None:
    """No alarm for what was not bought, and the job of another submission does not fail by it."""
    made = make_job(database, S.SUBMITTING)
    other = make_submission(database, made.id, state=SubmissionState.UNKNOWN)
    before = job_row(database, made.id)
    settle(database, other, outcome)
    assert job_row(database, made.id) == before
    assert submission_row(database, other).state != SubmissionState.UNKNOWN
    assert alarms_of(database, made.id) == []


def test_a_task_that_turns_up_after_a_cancel_is_told(database: Database) -> None:
    """Canceled while unconfirmed, and bought after all: the timeline must say that it was billed."""
    made = make_job(database, S.CANCELED, path=PATH_CANCELED_UNCONFIRMED)
    settle(database, made.submission_id, Accepted("late-1"))
    assert job_row(database, made.id).state == S.CANCELED
    assert submission_row(database, made.submission_id).provider_task_id == "late-1"
    assert any("late-1" in alarm for alarm in alarms_of(database, made.id))


def test_a_late_task_id_takes_back_a_lost_submission(database: Database) -> None:
    """The one failure that a fact undoes."""
    made = make_job(database, S.FAIL, path=PATH_LOST)
    settle(database, made.submission_id, Accepted("late-1"))
    row = job_row(database, made.id)
    assert (row.state, row.reason, row.ended_at, row.provider_task_id) == (S.WAITING, None, None, "late-1")


def test_a_cancel_while_the_call_is_out_is_applied_to_its_outcome(database: Database) -> None:
    """Not bought: canceled. Bought: canceled, with the task id kept and said to be billed."""
    unsold = make_job(database, S.SUBMITTING, cancel_requested=True)
    settle(database, unsold.submission_id, NOT_SENT)
    assert job_row(database, unsold.id).state == S.CANCELED
    sold = make_job(database, S.SUBMITTING, cancel_requested=True)
    standing = settle(database, sold.submission_id, ACCEPTED)
    row = job_row(database, sold.id)
    assert (row.state, row.provider_task_id, row.due_at) == (S.CANCELED, "task-1", None)
    assert row.version == sold.version + 2
    assert standing is not None
    assert (standing.state, standing.version) == (S.CANCELED, row.version)


def test_a_standing_is_the_row_as_it_is_now(database: Database) -> None:
    """The next nudge carries its version."""
    made = make_job(database, S.UNCONFIRMED)
    standing = settle(database, made.submission_id, ACCEPTED)
    row = job_row(database, made.id)
    assert standing == ledger.Standing(S.WAITING, row.version, 2.0)
    assert looks.claim(database, made.id, row.version, claim_s=45) is not None


def test_an_outcome_for_nobody_is_nothing(database: Database) -> None:
    """A job that was pruned in between."""
    assert settle(database, str(uuid.uuid4()), ACCEPTED) is None


def test_twenty_reports_of_one_outcome_are_one(database: Database) -> None:
    """At the same time, from a worker and callbacks."""
    made = make_job(database, S.SUBMITTING)
    outcome = race(*[lambda: settle(database, made.submission_id, ACCEPTED) for _ in range(20)])
    assert outcome.errors == []
    assert len([one for one in outcome.results if one is not None]) == 1
    assert events_of(database, made.id).count("accepted") == 1
    assert alarms_of(database, made.id) == []


@pytest.mark.parametrize("turn", range(3))
def test_a_report_and_a_lapse_at_once_lose_no_task(
    database: Database, runtime: Callable[..., Runtime], turn: int
) -> None:
    """I3, I5: whichever comes first, the job ends up waiting for its task."""
    made = make_job(database, S.SUBMITTING)
    age(database, made.id, 63)
    rt = runtime(database)
    outcome = race(lambda: settle(database, made.submission_id, ACCEPTED), lambda: sweep(rt))
    assert outcome.errors == []
    row = job_row(database, made.id)
    assert (row.state, row.provider_task_id) == (S.WAITING, "task-1")


HOSTILE = {"NUL": "a\x00b", "surrogate": "\ud800", "much": "x" * 100_000}


@pytest.mark.parametrize("how", HOSTILE)
def test_whatever_kie_says_can_be_written_down(database: Database, how: str) -> None:
    """JSON can spell what PostgreSQL or UTF-8 cannot hold; an outcome that cannot be written is lost."""
    said = HOSTILE[how]
    for outcome, state in (
        (Refused("422", said, Scope.JOB, Reason.REFUSED), S.FAIL),
        (Unknown(said, "500", {"message": said}), S.UNCONFIRMED),
        (NotSent(said), S.QUEUED),
        (Busy("429", said), S.QUEUED),
    ):
        made = make_job(database, S.SUBMITTING)
        settle(database, made.submission_id, outcome)
        assert job_row(database, made.id).state == state


# ── pauses ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def pause_s(database: Database) -> float:
    return float(account_row(database).pause_s)


def sent(database: Database, number: int) -> list[str]:
    """Begin so many create calls, all in flight; return their submissions."""
    intents = [begin(database, one.job_id) for one in enter(database, *[new_job() for _ in range(number)])]
    return [intent.submission_id for intent in intents if isinstance(intent, ledger.Intent)]


@pytest.mark.parametrize(("outcome", "first_s", "most_s"), [(REFUSED_ACCOUNT, 60, 1800), (BUSY, 10, 300)])
def test_a_refused_account_pauses_twice_as_long_each_time_it_is_tried(
    database: Database, outcome: Outcome, first_s: float, most_s: float
) -> None:
    """One create on probation per pause: 60 s … 30 min; throttled: one window … 5 min."""
    expected = first_s
    enter(database, *[new_job() for _ in range(8)])
    for _ in range(7):
        first = line(database)[0]
        intent = begin(database, first)
        assert isinstance(intent, ledger.Intent)
        settle(database, intent.submission_id, outcome)
        assert pause_s(database) == expected
        assert free(database) == 0
        age_account(database, "default", expected + 1)
        age(database, first, 11)
        expected = min(expected * 2, most_s)


@pytest.mark.parametrize(("outcome", "first_s"), [(REFUSED_ACCOUNT, 60), (BUSY, 10)], ids=["402", "429"])
def test_one_burst_of_refusals_is_one_pause(database: Database, outcome: Outcome, first_s: float) -> None:
    """Eight calls were out when Kie began to say no: that is one piece of news, not eight doublings."""
    for submission_id in sent(database, 8):
        settle(database, submission_id, outcome)
    assert pause_s(database) == first_s


def test_an_accepted_create_on_probation_ends_the_pause(database: Database) -> None:
    """And the next pause begins short again."""
    pause_account(database, for_s=-1)
    (submission_id,) = sent(database, 1)
    settle(database, submission_id, ACCEPTED)
    row = account_row(database)
    assert (row.paused_until, row.pause_code, row.pause_s) == (None, None, 0)
    assert free(database) == 19


def test_a_create_that_was_sent_before_the_pause_does_not_end_it(database: Database) -> None:
    """It says nothing of the account as it is now: credits ran out between the two."""
    first, second = sent(database, 2)
    settle(database, first, REFUSED_ACCOUNT)
    settle(database, second, ACCEPTED)
    assert free(database) == 0


@pytest.mark.parametrize("outcome", [REFUSED, NOT_SENT, UNKNOWN], ids=["refused", "not sent", "unknown"])
def test_other_outcomes_pause_nobody(database: Database, outcome: Outcome) -> None:
    """One bad request is no reason to stop the account."""
    (submission_id,) = sent(database, 1)
    settle(database, submission_id, outcome)
    assert free(database) == 19


# ── looks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_of_twenty_claims_of_a_look_wins(database: Database) -> None:
    """I10: one nudge delivered twenty times is one call to Kie."""
    made = make_job(database, S.WAITING)
    outcome = race(*[lambda: looks.claim(database, made.id, made.version, claim_s=45) for _ in range(20)])
    assert outcome.errors == []
    (won,) = [one for one in outcome.results if one is not None]
    row = job_row(database, made.id)
    assert won.version == row.version == made.version + 1
    assert (row.polls, row.executions) == (1, 1)
    assert seconds_until(database, row.due_at) == pytest.approx(45, abs=2)


@pytest.mark.parametrize(("state", "troubles", "lasts_s"), [(S.WAITING, 0, 10), (S.TIMEOUT, 0, 10), (S.WAITING, 1, 30)])
def test_a_claim_is_short_where_kie_answered_the_last_look(
    database: Database, state: S, troubles: int, lasts_s: float
) -> None:
    """What died with its worker is found again soon; a slow Kie gets its time."""
    made = make_job(database, state, troubles=troubles)
    assert looks.claim(database, made.id, made.version, claim_s=30, first_claim_s=10) is not None
    assert seconds_until(database, job_row(database, made.id).due_at) == pytest.approx(lasts_s, abs=2)


def test_connections_can_be_made_before_anybody_needs_them(database: Database) -> None:
    """And are used then; they hold no transaction."""
    database.engine.dispose()
    database.connect(3)
    assert database.engine.pool.checkedin() == 3  # type: ignore[attr-defined]
    enter(database, new_job())
    assert database.engine.pool.checkedin() == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("wrong", [-1, 1, 100])
def test_a_stale_version_claims_nothing(database: Database, wrong: int) -> None:
    """I5."""
    made = make_job(database, S.WAITING)
    before = everything(database)
    assert looks.claim(database, made.id, made.version + wrong, claim_s=45) is None
    assert everything(database) == before


@pytest.mark.parametrize("state", [state for state in JobState if state not in (S.WAITING, S.TIMEOUT)])
def test_there_is_no_look_at_a_job_that_has_no_task_to_look_at(database: Database, state: S) -> None:
    """Queued, storing or ended: a late nudge makes no call."""
    made = make_job(database, state)
    before = everything(database)
    assert looks.claim(database, made.id, made.version, claim_s=45) is None
    assert everything(database) == before


def test_a_claim_says_how_long_ago_the_task_was_taken(database: Database) -> None:
    """By the database's clock."""
    made = make_job(database, S.WAITING, elapsed_s=599.0)
    assert claim(database, made.id, made.version).elapsed_s == pytest.approx(599, abs=2)


def test_a_look_without_news_is_two_statements_and_no_line(database: Database) -> None:
    """The claim and the write; ten thousand jobs are looked at every few seconds."""
    made = make_job(database, S.WAITING, word="generating")
    told = events_of(database, made.id)
    with statements(database) as seen:
        held = claim(database, made.id, made.version)
        change = after_poll(held, Pending("generating", 0.4), PACE)
        assert looks.write(database, held, change, record={"state": "generating"}, who="test")
    assert len(seen) <= 2, seen
    assert all(statement.startswith("UPDATE jobs") for statement in seen)
    assert events_of(database, made.id) == told
    row = job_row(database, made.id)
    assert (row.version, row.executions, row.troubles) == (held.version, 0, 0)
    assert row.progress == pytest.approx(0.4)
    assert seconds_until(database, row.due_at) == pytest.approx(2, abs=1)


def test_a_new_word_and_the_first_trouble_get_their_line_once(database: Database) -> None:
    """The timeline tells what is new and is not filled by what is not."""
    made = make_job(database, S.WAITING)
    version = made.version
    before = len(events_of(database, made.id))
    for change_of in (
        lambda held: after_poll(held, Pending("waiting"), PACE),
        lambda held: after_poll(held, Pending("waiting"), PACE),
        lambda held: after_poll(held, Pending("daydreaming", known=False), PACE),
        lambda held: after_trouble(held, "Kie answered 502", PACE),
        lambda held: after_trouble(held, "Kie answered 502", PACE),
    ):
        held = claim(database, made.id, version)
        assert looks.write(database, held, change_of(held), record=None, who="test")
        version = held.version
    assert events_of(database, made.id)[before:] == ["seen"] * 3
    assert job_row(database, made.id).troubles == 2
    held = claim(database, made.id, version)
    assert looks.write(database, held, after_poll(held, Pending("daydreaming"), PACE), record=None, who="test")
    assert job_row(database, made.id).troubles == 0


@pytest.mark.parametrize("snapshot", [Pending("generating"), Finished((Result("result", url="https://f/0"),))])
def test_a_look_that_was_overtaken_writes_nothing(database: Database, snapshot: Any) -> None:
    """I5: whoever claimed later decides."""
    made = make_job(database, S.WAITING)
    slow = claim(database, made.id, made.version)
    claim(database, made.id, slow.version)
    before = everything(database)
    assert not looks.write(database, slow, after_poll(slow, snapshot, PACE), record={}, who="test")
    assert everything(database) == before


def test_what_is_not_a_claim_or_a_state_is_not_counted_by_the_fence(database: Database) -> None:
    """A cancel that was asked for, a callback's push of `due_at`, a rescue: the look goes through."""
    made = make_job(database, S.WAITING)
    held = claim(database, made.id, made.version)
    alter(database, made.id, cancel_requested=True, due_at=clock(), nudges=3)
    assert looks.write(database, held, after_poll(held, Pending("waiting"), PACE), record=None, who="test")
    assert job_row(database, made.id).cancel_requested


def test_results_become_outputs_in_their_order(database: Database) -> None:
    """With role, URL or document, and due at once; the record is kept."""
    made = make_job(database, S.WAITING)
    held = claim(database, made.id, made.version)
    results = (Result("result", url="https://f/0"), Result("cover", url="https://f/1"), Result("document", None, "{}"))
    change = after_poll(held, Finished(results, Decimal("4.5")), PACE)
    assert looks.write(database, held, change, record={"state": "success"}, who="test")
    rows = outputs_of(database, made.id)
    assert [(row.position, row.role, row.url, row.document) for row in rows] == [
        (0, "result", "https://f/0", None),
        (1, "cover", "https://f/1", None),
        (2, "document", None, "{}"),
    ]
    assert all(row.state == OutputState.PENDING and seconds_until(database, row.due_at) <= 0.1 for row in rows)
    row = job_row(database, made.id)
    assert (row.state, row.credits, row.late) == (S.STORING, Decimal("4.5"), False)


def test_a_failure_keeps_its_reason(database: Database) -> None:
    """State and reason are two columns."""
    made = make_job(database, S.TIMEOUT)
    held = claim(database, made.id, made.version)
    change = after_poll(held, Broken("501", "Generation failed.", Reason.GENERATION), PACE)
    assert looks.write(database, held, change, record={}, who="test")
    row = job_row(database, made.id)
    assert (row.state, row.reason, row.code, row.message) == (S.FAIL, "generation", "501", "Generation failed.")
    assert row.ended_at is not None
    assert row.due_at is None


def test_the_sixth_claim_in_a_row_without_a_finished_look_is_poison(database: Database) -> None:
    """I16: five may die; a finished look clears them all."""
    made = make_job(database, S.WAITING)
    version = made.version
    for _ in range(MAX_EXECUTIONS):
        held = claim(database, made.id, version)
        assert not looks.is_poison(held)
        version = held.version
    held = claim(database, made.id, version)
    assert looks.is_poison(held)
    assert looks.quarantine(database, held, who="test")
    assert job_row(database, made.id).reason == Reason.QUARANTINED


def test_a_look_that_was_overtaken_alive_counts_as_no_death(database: Database) -> None:
    """A look that takes longer than its claim, again and again, kills nobody: the job is not poison."""
    made = make_job(database, S.WAITING)
    version = made.version
    for _ in range(3 * MAX_EXECUTIONS):
        slow = claim(database, made.id, version)
        version = slow.version
        following = claim(database, made.id, version)
        assert not looks.is_poison(following)
        assert not looks.write(database, slow, after_poll(slow, Pending("x"), PACE), record=None, who="slow")
        looks.survived(database, slow)
        assert job_row(database, made.id).executions == 1  # the one that is under way
        version = following.version
        looks.survived(database, following)
    assert job_row(database, made.id).executions == 0
    looks.survived(database, following)
    assert job_row(database, made.id).executions == 0


@pytest.mark.parametrize("how", ["NUL", "surrogate", "much"])
@pytest.mark.parametrize("where", ["word", "url", "failure"])
def test_whatever_a_record_says_can_be_written_down(database: Database, how: str, where: str) -> None:
    """A look that cannot write what it saw is repeated until the job is taken for poison."""
    said = HOSTILE[how]
    made = make_job(database, S.WAITING)
    held = claim(database, made.id, made.version)
    snapshots: dict[str, Any] = {
        "word": Pending(said, known=False),
        "url": Finished((Result("result", url=f"https://f/{said}"), Result("document", document=f'"{said}"'))),
        "failure": Broken(said, said, Reason.GENERATION),
    }
    change = after_poll(held, snapshots[where], PACE)
    assert looks.write(database, held, change, record={"said": said}, who="test")
    assert job_row(database, made.id).state == {"word": S.WAITING, "url": S.STORING, "failure": S.FAIL}[where]


@pytest.mark.parametrize("credits", ["1e12", "-1e30", "0.000001", "1e-400"])
def test_any_number_of_credits_can_be_written_down(database: Database, credits: str) -> None:
    """A nonsensical bill must not keep a result from being stored."""
    made = make_job(database, S.WAITING)
    held = claim(database, made.id, made.version)
    change = after_poll(held, Finished((Result("result", url="https://f/0"),), Decimal(credits)), PACE)
    assert looks.write(database, held, change, record={}, who="test")
    assert job_row(database, made.id).state == S.STORING


def test_jobs_in_flight_are_counted_by_account(database: Database) -> None:
    """Those that are waiting; the tail and the rest are not in the ladder."""
    for state in JobState:
        make_job(database, state)
        make_job(database, state, account="second")
    make_job(database, S.WAITING)
    assert looks.in_flight(database, "default") == 2
    assert looks.in_flight(database, "second") == 1


# ── copies ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_of_twenty_claims_of_a_copy_wins(database: Database) -> None:
    """A file is fetched once, however often its nudge comes."""
    made = make_job(database, S.STORING)
    outcome = race(*[lambda: copies.claim(database, made.id, 0, lease_s=60) for _ in range(20)])
    assert outcome.errors == []
    assert len([one for one in outcome.results if one is not None]) == 1
    (row,) = outputs_of(database, made.id)
    assert (row.version, row.attempts, row.executions) == (1, 1, 1)
    assert seconds_until(database, row.due_at) == pytest.approx(60, abs=2)


def test_a_lease_keeps_others_away_until_it_lapses(database: Database) -> None:
    """A worker that died is overtaken after its lease, and not before."""
    made = make_job(database, S.STORING)
    first = claim_copy(database, made.id)
    age(database, made.id, 59)
    assert copies.claim(database, made.id, 0, lease_s=60) is None
    age(database, made.id, 2)
    second = claim_copy(database, made.id)
    assert second.version == first.version + 1
    assert (second.attempts, second.executions) == (2, 2)


def test_a_claim_of_a_copy_knows_all_that_the_copy_needs(database: Database) -> None:
    """Where from, whose, and how old."""
    made = make_job(database, S.STORING, tenant="team-1", elapsed_s=100, urls=["https://f/0"], documents=["{}"])
    first, second = claim_copy(database, made.id, 0), claim_copy(database, made.id, 1)
    assert (first.url, first.document, first.tenant, first.task_id) == ("https://f/0", None, "team-1", made.task_id)
    assert (second.url, second.document) == (None, "{}")
    assert first.age_s == pytest.approx(100, abs=2)


@pytest.mark.parametrize("state", [S.SUCCESS, S.FAIL, S.CANCELED, S.WAITING])
def test_there_is_no_copy_of_a_job_that_is_not_storing(database: Database, state: S) -> None:
    """A late nudge fetches nothing."""
    made = make_job(database, state)
    assert copies.claim(database, made.id, 0, lease_s=60) is None
    assert copies.claim(database, str(uuid.uuid4()), 0, lease_s=60) is None


def test_a_lease_is_renewed_by_its_holder_alone(database: Database) -> None:
    """Whoever was overtaken learns it."""
    made = make_job(database, S.STORING)
    first = claim_copy(database, made.id)
    age(database, made.id, 50)
    assert copies.renew(database, first, lease_s=60, received_bytes=7)
    (row,) = outputs_of(database, made.id)
    assert (row.received_bytes, row.version) == (7, first.version)
    assert seconds_until(database, row.due_at) == pytest.approx(60, abs=2)
    age(database, made.id, 61)
    claim_copy(database, made.id)
    before = outputs_of(database, made.id)
    assert not copies.renew(database, first, lease_s=60, received_bytes=9)
    assert outputs_of(database, made.id) == before


def test_a_copy_is_put_off_with_its_reason(database: Database) -> None:
    """Tried again when due; a finished try is no poison."""
    made = make_job(database, S.STORING)
    held = claim_copy(database, made.id)
    setback = Setback(wait_s=40, fault=Fault.STORAGE, renew=True, refused_url="https://files.example/0.png")
    assert copies.postpone(database, held, setback, error="the bucket does not exist", who="test")
    (row,) = outputs_of(database, made.id)
    assert (row.state, row.error, row.executions, row.attempts) == ("pending", "the bucket does not exist", 0, 1)
    assert (row.link_expired, row.storage_troubles, row.refusals) == (True, 1, 0)
    assert seconds_until(database, row.due_at) == pytest.approx(40, abs=2)
    assert copies.claim(database, made.id, 0, lease_s=60) is None
    age(database, made.id, 41)
    again = claim_copy(database, made.id)
    assert (again.link_expired, again.refused_url) == (True, "https://files.example/0.png")
    assert (again.attempts, again.storage_troubles) == (2, 1)


def test_the_last_output_makes_the_job_a_success(database: Database) -> None:
    """I6: with key, size and digest of each."""
    made = make_job(database, S.STORING, urls=["https://f/0", "https://f/1"])
    assert close(database, claim_copy(database, made.id, 1))
    assert job_row(database, made.id).state == S.STORING
    assert close(database, claim_copy(database, made.id, 0))
    row = job_row(database, made.id)
    assert (row.state, row.version, row.due_at) == (S.SUCCESS, made.version + 1, None)
    assert all(
        file.state == "stored" and file.sha256 == "b" * 64 and file.key for file in outputs_of(database, made.id)
    )
    assert events_of(database, made.id)[-3:] == ["output_stored", "output_stored", "stored"]


@pytest.mark.parametrize("turn", range(5))
def test_two_last_outputs_closed_at_once_are_one_success(database: Database, turn: int) -> None:
    """Without the job's lock each would see the other one missing."""
    made = make_job(database, S.STORING, urls=["https://f/0", "https://f/1"])
    held = [claim_copy(database, made.id, index) for index in (0, 1)]
    outcome = race(*[partial(close, database, one) for one in held])
    assert outcome.errors == []
    assert outcome.results == [True, True]
    row = job_row(database, made.id)
    assert (row.state, row.version) == (S.SUCCESS, made.version + 1)
    assert events_of(database, made.id).count("stored") == 1


def test_a_stale_claim_closes_nothing(database: Database) -> None:
    """The one who holds the lease now decides; a copy that is stored stays as it is."""
    made = make_job(database, S.STORING)
    slow = claim_copy(database, made.id)
    age(database, made.id, 61)
    quick = claim_copy(database, made.id)
    before = everything(database)
    assert not close(database, slow)
    assert not copies.postpone(database, slow, Setback(wait_s=5), error="late", who="test")
    assert not copies.close_failed(database, slow, reason=Reason.STORAGE, error="late", who="test")
    assert everything(database) == before
    assert close(database, quick)
    before = everything(database)
    assert not close(database, quick)
    assert not copies.close_failed(database, quick, reason=Reason.STORAGE, error="late", who="test")
    assert everything(database) == before


def test_a_spoilt_output_fails_the_job_when_the_others_are_settled(database: Database) -> None:
    """What can be stored, is stored."""
    made = make_job(database, S.STORING, urls=["https://f/0", "https://f/1"])
    held = claim_copy(database, made.id, 0)
    assert copies.close_failed(database, held, reason=Reason.RESULT_INVALID, error="no media", who="test")
    assert job_row(database, made.id).state == S.STORING
    assert close(database, claim_copy(database, made.id, 1))
    row = job_row(database, made.id)
    assert (row.state, row.reason, row.message) == (S.FAIL, "result_invalid", "output 0: no media")
    assert [file.state for file in outputs_of(database, made.id)] == ["failed", "stored"]


# ── rescue ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def rt(database: Database, runtime: Callable[..., Runtime]) -> Runtime:
    """A runtime on the test's database."""
    return runtime(database)


def test_a_row_past_its_time_and_the_grace_is_nudged(database: Database, rt: Runtime, nudges: Nudges) -> None:
    """With its version, under a task id of its own, and not before the grace is over."""
    made = make_job(database, S.WAITING)
    age(database, made.id, 11)  # due 2 s after its making
    sweep(rt)
    assert nudges.sent == []
    age(database, made.id, 2)
    sweep(rt)
    (one,) = nudges.sent
    assert (one.task, one.kwargs) == (POLL, {"job_id": made.id, "version": made.version, "by": "sweep"})
    assert one.task_id == f"{made.id}.poll.1"


@pytest.mark.parametrize("state", [S.WAITING, S.TIMEOUT])
def test_a_lost_look_is_found_whatever_the_state(database: Database, rt: Runtime, nudges: Nudges, state: S) -> None:
    """The tail after the timeout lives by the sweep alone."""
    made = make_job(database, state)
    age(database, made.id, 100)
    sweep(rt)
    assert [one.kwargs["job_id"] for one in nudges.of(POLL)] == [made.id]


def test_each_rescue_of_a_row_doubles_its_gap_and_a_claim_resets_it(
    database: Database, rt: Runtime, nudges: Nudges
) -> None:
    """10 s … 300 s; a row whose worker is slow is not flooded."""
    made = make_job(database, S.WAITING)
    age(database, made.id, 20)
    for number, gap_s in enumerate((10, 20, 40, 80, 160, 300, 300), start=1):
        sweep(rt)
        assert len(nudges.take()) == 1
        row = job_row(database, made.id)
        assert row.nudges == number
        assert seconds_until(database, row.renudge_at) == pytest.approx(gap_s, abs=2)
        sweep(rt)
        age(database, made.id, gap_s - 2)
        sweep(rt)
        assert nudges.take() == []
        age(database, made.id, 3)
    held = claim(database, made.id, made.version)
    row = job_row(database, made.id)
    assert (row.nudges, row.renudge_at) == (0, None)
    age(database, made.id, 60)
    sweep(rt)
    (one,) = nudges.sent
    assert one.kwargs["version"] == held.version


def test_a_rescue_never_touches_a_version(database: Database, rt: Runtime) -> None:
    """Sweeps only find rows; the step's claim decides."""
    made = [make_job(database, state) for state in (S.WAITING, S.TIMEOUT, S.STORING)]
    for one in made:
        age(database, one.id, 100)
    sweep(rt)
    assert [job_row(database, one.id).version for one in made] == [one.version for one in made]


@contextmanager
def acting_together(database: Database, threads: int, *reads: str) -> Iterator[None]:
    """Make threads wait for each other after each of these reads: what one then does, the others have not seen."""
    gates = {read: threading.Barrier(threads) for read in reads}

    def wait(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        for read, gate in gates.items():
            if statement.startswith("SELECT") and "renudge_at" in statement and read in statement:
                with suppress(threading.BrokenBarrierError):
                    gate.wait(1)

    with listening(database, wait, when="after_cursor_execute"):
        yield


def test_two_sweeps_at_once_nudge_a_row_once(database: Database, rt: Runtime, nudges: Nudges) -> None:
    """Two beats change nothing: both read the same rows, one of them publishes."""
    made = make_job(database, S.WAITING)
    files = make_job(database, S.STORING)
    for one in (made, files):
        age(database, one.id, 30)
    with acting_together(database, 2, "'waiting'", "FROM outputs"):
        outcome = race(lambda: sweep(rt), lambda: sweep(rt))
    assert outcome.errors == []
    assert len(nudges.of(POLL)) == 1
    assert len(nudges.of(STORE)) == 1
    assert job_row(database, made.id).nudges == 1


def test_looks_are_rescued_within_the_query_budget(
    database: Database, runtime: Callable[..., Runtime], nudges: Nudges
) -> None:
    """After an outage a thousand looks are overdue; Kie still takes only so many a second."""
    for _ in range(30):
        age(database, make_job(database, S.WAITING).id, 60)
    other = make_job(database, S.WAITING, account="second")
    age(database, other.id, 60)
    sweep(runtime(database, query_limit_per_s=0.5, sweep_interval_s=10.0))
    by_account = [one.kwargs["job_id"] == other.id for one in nudges.of(POLL)]
    assert by_account.count(True) == 1
    assert by_account.count(False) == 5


def test_a_submit_that_never_reported_is_unconfirmed(database: Database, rt: Runtime, nudges: Nudges) -> None:
    """30 s after its deadline, its submission unknown, never back in line."""
    made = make_job(database, S.SUBMITTING)
    age(database, made.id, 61)
    sweep(rt)
    assert job_row(database, made.id).state == S.SUBMITTING
    age(database, made.id, 2)
    sweep(rt)
    row, call = job_row(database, made.id), submission_row(database, made.submission_id)
    assert (row.state, row.version) == (S.UNCONFIRMED, made.version + 1)
    assert call.state == SubmissionState.UNKNOWN
    assert call.settled_at is not None
    assert nudges.of(SUBMIT) == []
    before = everything(database)
    sweep(rt)
    pump(rt)
    assert everything(database) == before
    assert nudges.of(SUBMIT) == []


def test_a_storing_job_is_settled_without_a_message(database: Database, rt: Runtime) -> None:
    """All its files are there and the closing of the last one was lost with its worker."""
    done = make_job(database, S.STORING, outputs_state=OutputState.STORED)
    spoilt = make_job(database, S.STORING, outputs_state=OutputState.FAILED)
    waits = make_job(database, S.STORING)
    for one in (done, spoilt, waits):
        age(database, one.id, 61)
    sweep(rt)
    assert job_row(database, done.id).state == S.SUCCESS
    assert (job_row(database, spoilt.id).state, job_row(database, spoilt.id).reason) == (S.FAIL, "result_invalid")
    row = job_row(database, waits.id)
    assert (row.state, row.version) == (S.STORING, waits.version)
    assert seconds_until(database, row.due_at) > 50


def test_a_copy_whose_lease_lapsed_is_nudged(database: Database, rt: Runtime, nudges: Nudges) -> None:
    """Not while the lease holds; each further nudge of the same row waits twice as long."""
    made = make_job(database, S.STORING)
    claim_copy(database, made.id)
    sweep(rt)
    assert nudges.of(STORE) == []
    age(database, made.id, 71)
    sweep(rt)
    sweep(rt)
    assert [one.kwargs for one in nudges.of(STORE)] == [{"job_id": made.id, "index": 0}]
    claim_copy(database, made.id)
    (row,) = outputs_of(database, made.id)
    assert (row.nudges, row.renudge_at) == (0, None)


def test_a_look_at_a_candidate_does_not_hold_up_who_is_back_in_line(database: Database) -> None:
    """A sweep may put the job back between the candidate's refusal and the end of the look."""
    job_id = enter(database, new_job())[0].job_id
    version = job_row(database, job_id).version
    with database.write() as tx:
        assert candidates.look_later(tx, job_id, version=version, due=clock(5.0))
    row = job_row(database, job_id)
    assert row.line_at is not None
    assert row.due_at is None
    with database.write() as tx:
        assert not candidates.look_later(tx, job_id, version=version + 1, due=clock(5.0))


def test_a_held_job_comes_back_into_line(database: Database, rt: Runtime) -> None:
    """When its look is due."""
    made = make_job(database, line_at=None, due_at=clock(60), held="the model is switched off")
    sweep(rt)
    assert line(database) == []
    age(database, made.id, 61)
    sweep(rt)
    row = job_row(database, made.id)
    assert (row.held, row.due_at) == (None, None)
    assert line(database) == [made.id]


@pytest.mark.parametrize("state", [S.QUEUED, S.UNCONFIRMED, S.SUCCESS, S.FAIL, S.CANCELED])
def test_a_sweep_leaves_alone_what_waits_for_somebody_else(
    database: Database, rt: Runtime, nudges: Nudges, state: S
) -> None:
    """The line is the pump's, an unconfirmed job a person's, an ended one nobody's."""
    made = make_job(database, state)
    age(database, made.id, 100_000)
    before = everything(database)
    sweep(rt)
    assert everything(database) == before
    assert nudges.sent == []


def test_a_sweep_and_a_pump_leave_their_pulse(database: Database, rt: Runtime) -> None:
    """How `doctor` knows that beat is alive."""
    assert rescue.last_beat_age_s(database, "sweep") is None
    sweep(rt)
    pump(rt)
    for name in ("sweep", "pump"):
        found = rescue.last_beat_age_s(database, name)
        assert found is not None
        assert found < 5


def test_the_pump_nudges_the_first_in_line_as_far_as_the_budget_reaches(
    database: Database, runtime: Callable[..., Runtime], nudges: Nudges
) -> None:
    """Oldest place first; those it nudged are left alone for a moment."""
    ids = [one.job_id for one in enter(database, *[new_job() for _ in range(5)], nudge_below=0)]
    rt = runtime(database, create_limit=3)
    assert pump(rt) == 3
    assert [one.kwargs["job_id"] for one in nudges.take()] == ids[:3]
    assert pump(rt) == 0
    for job_id in ids:
        age(database, job_id, 4)
    assert pump(rt) == 3


def create_sent(database: Database, *, ago_s: float, answered_ago_s: float | None = None) -> None:
    """A create call of the account, and when its outcome was known."""
    made = make_submission(database, make_job(database).id, ago_s=ago_s)
    values = {"settled_at": clock(-answered_ago_s), "state": SubmissionState.REFUSED} if answered_ago_s else {}
    with database.write() as tx:
        if values:
            tx.execute(submissions.update().where(submissions.c.id == made).values(**values))
        tx.execute(jobs.update().values(line_at=None))


def test_a_create_counts_from_when_it_can_have_arrived_last(database: Database) -> None:
    """From its answer, or from its sending and the margin, whichever is first."""
    budget = Budget(3, 100.0, 20.0)
    create_sent(database, ago_s=110.0)  # unanswered: until 120 s after it was sent
    create_sent(database, ago_s=115.0, answered_ago_s=95.0)  # answered late: until 120 s after it was sent, too
    create_sent(database, ago_s=108.0, answered_ago_s=104.0)  # answered 104 s ago: it reached Kie before that
    with database.read() as tx:
        assert free_creates(tx, "default", budget) == 1
        soon = turns(tx, "default", budget, ahead_s=50.0)
        assert soon == pytest.approx([0.0, 5.0, 10.0], abs=3.0)
        assert len(turns(tx, "default", budget, ahead_s=1.0)) == 1
        assert free_creates(tx, "default", Budget(3, 100.0)) == 3


def test_a_paused_account_has_no_turns_and_one_on_probation_has_one(database: Database) -> None:
    """However much of the budget is free."""
    create_sent(database, ago_s=3.0, answered_ago_s=2.0)
    budget = Budget(3, 10.0, 0.5)
    pause_account(database)
    with database.read() as tx:
        assert turns(tx, "default", budget, ahead_s=60.0) == []
    age_account(database, "default", 61)
    with database.read() as tx:
        assert turns(tx, "default", budget, ahead_s=60.0) == [0.0]


def test_the_pump_gives_turns_out_ahead(database: Database, runtime: Callable[..., Runtime], nudges: Nudges) -> None:
    """Each job is nudged for the moment at which the budget reaches it, before the next pump."""
    create_sent(database, ago_s=9.6, answered_ago_s=9.5)
    ids = [one.job_id for one in enter(database, *[new_job() for _ in range(3)], nudge_below=0)]
    rt = runtime(database, create_limit=2)
    assert pump(rt) == 2
    first, second = nudges.take()
    assert [first.kwargs["job_id"], second.kwargs["job_id"]] == ids[:2]
    assert first.countdown_s == 0.0
    assert second.countdown_s == pytest.approx(0.5, abs=0.3)


def test_two_pumps_at_once_nudge_a_job_once(database: Database, rt: Runtime, nudges: Nudges) -> None:
    """Two beats, or one that is late."""
    enter(database, *[new_job() for _ in range(10)], nudge_below=0)
    outcome = race(*[lambda: pump(rt) for _ in range(4)])
    assert outcome.errors == []
    assert sum(outcome.results) == len(nudges.sent) == 10
    assert len({one.task_id for one in nudges.sent}) == 10


@pytest.mark.parametrize("how", ["paused", "switched off", "no key"])
def test_the_pump_nudges_nobody_who_cannot_be_sent(
    database: Database, runtime: Callable[..., Runtime], nudges: Nudges, how: str
) -> None:
    """A paused account, creates switched off, an account without a key here."""
    enter(database, new_job(account="second" if how == "no key" else "default"), nudge_below=0)
    if how == "paused":
        pause_account(database)
    assert pump(runtime(database, submit="off" if how == "switched off" else "on")) == 0
    assert nudges.sent == []


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_another_tenants_job_is_not_there(database: Database, rt: Runtime) -> None:
    """I13: not by id, not in a list, not by its timeline."""
    mine, theirs = make_job(database, S.SUCCESS, tenant="one"), make_job(database, S.SUCCESS, tenant="two")
    one = KieJobs(rt.settings, tenant="one", database=database, publish=Nudges())
    assert one.get(mine.id).id == mine.id
    assert [job.id for job in one.list()] == [mine.id]
    for read in (one.get, one.timeline):
        with pytest.raises(JobNotFound):
            read(theirs.id)
    assert reads.job(database, theirs.id, tenant="one") is None
    with pytest.raises(JobNotFound):
        one.get("no uuid")


@pytest.mark.parametrize("state", JobState)
def test_every_state_can_be_read(database: Database, state: S) -> None:
    """With its outputs, in the producers' words."""
    made = make_job(database, state)
    found = reads.job(database, made.id, tenant="default")
    assert found is not None
    assert (found.phase, found.provider_task_id) == (state, made.task_id)
    assert found.ended == (state in (S.SUCCESS, S.FAIL, S.CANCELED))
    assert (found.state is PublicState.WAITING) == (
        state in (S.QUEUED, S.SUBMITTING, S.UNCONFIRMED, S.WAITING, S.STORING)
    )
    assert [output.state for output in found.outputs] == {S.STORING: ["pending"], S.SUCCESS: ["stored"]}.get(state, [])
    assert found.created_at.utcoffset() == timedelta(0)


def test_a_list_is_newest_first_and_goes_on_from_its_last(database: Database) -> None:
    """No job twice, none left out; also where two have the same time."""
    ids = [make_job(database, S.WAITING).id for _ in range(7)]
    for job_id in ids:
        alter(database, job_id, created_at=datetime(2026, 3, 9, tzinfo=UTC))
    seen: list[str] = []
    before = None
    for _ in range(4):
        page = reads.listed(database, tenant="default", limit=2, before=before)
        seen += [job.id for job in page]
        before = (page[-1].created_at, page[-1].id)
    assert sorted(seen) == sorted(ids)
    assert seen == sorted(seen, reverse=True)


def test_a_list_is_filtered_by_either_word_and_by_model(database: Database) -> None:
    """`waiting` is five fine states."""
    for state in JobState:
        make_job(database, state)
    make_job(database, S.WAITING, model="qwen/image")
    listed = partial(reads.listed, database, tenant="default")
    assert len(listed(state=PublicState.WAITING)) == 6
    assert {job.phase for job in listed(phase=S.WAITING)} == {S.WAITING}
    assert [job.model for job in listed(model="qwen/image")] == ["qwen/image"]
    assert len(listed(state=PublicState.SUCCESS, model="z-image")) == 1


def test_a_place_in_line_is_counted_from_the_front(database: Database) -> None:
    """The first one is first; who is not in line has none."""
    ids = [one.job_id for one in enter(database, *[new_job() for _ in range(3)])]
    assert [reads.place_in_line(database, job_id) for job_id in ids] == [1, 2, 3]
    assert reads.place_in_line(database, make_job(database, S.WAITING).id) is None
    assert reads.place_in_line(database, str(uuid.uuid4())) is None


def test_a_timeline_is_in_order_and_says_who(database: Database) -> None:
    """Append-only, in the transaction of the change it tells."""
    made = make_job(database, S.SUCCESS)
    told = reads.timeline(database, made.id)
    assert [line.to_state for line in told] == ["queued", "submitting", "waiting", "storing", "success"]
    assert all(line.who == "factory" and line.at.utcoffset() == timedelta(0) for line in told)


def test_a_job_goes_back_in_line_only_after_who_names_a_task_is_done(database: Database) -> None:
    """A statement that waits for a row sees the row as it is then, and other rows as they were."""
    if database.sqlite:
        return  # it has one writer at a time
    made = make_job(database, S.UNCONFIRMED)
    orders.retry(database, made.id, tenant="default", pay=True, who="me", why="test")
    alter(database, made.id, line_at=None, due_at=clock(-1), held="the tenant's cap")
    waiting: list[bool] = []
    with database.write() as tx:
        row = tx.execute(select(jobs).where(jobs.c.id == made.id).with_for_update()).one()
        thread = threading.Thread(target=lambda: waiting.append(rescue.back_in_line(database, made.id)))
        thread.start()
        until_it_waits(database)
        candidates.name(tx, row, str(made.submission_id), "the-task", source="callback")
    thread.join(10)
    assert waiting == [False]
    after = job_row(database, made.id)
    assert (after.line_at, after.held, after.due_at is None) == (None, candidates.HELD, False)


def until_it_waits(database: Database) -> None:
    """Return when somebody waits for a lock in this database."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    for _ in range(1000):
        with database.read() as connection:
            if connection.scalar(text(waits)):
                return
    raise AssertionError("nobody waits")


def test_what_is_overdue_is_rescued_tenant_by_tenant(database: Database) -> None:
    """A thousand of one tenant, all older, keep nobody else's away."""
    enter(database, *[new_job("many", prompt=f"cat {n}") for n in range(30)])
    with database.write() as tx:
        tx.execute(jobs.update().values(line_at=None, due_at=clock(-100), held="the tenant's cap"))
    others = [
        make_job(database, tenant=tenant, account=account, line_at=None, due_at=clock(-5), held="paused").id
        for tenant, account in (("few", "default"), ("few", "second"))
    ]
    found = rescue.overdue_jobs(database, S.QUEUED, grace_s=0.0, limit=10)
    assert len(found) == 10
    assert {row.job_id for row in found[:3]} > set(others)


def test_one_burst_of_refusals_is_one_pause_of_the_model(database: Database) -> None:
    """Creates that were sent before the pause say nothing about it; one that is sent after it doubles it."""
    sent = [begun(database) for _ in range(4)]
    for intent in sent[:3]:
        settle(database, intent.submission_id, REFUSED_MODEL)
    assert account_row(database).models_paused["z-image"]["pause_s"] == 60.0
    settle(database, sent[3].submission_id, ACCEPTED)
    assert account_row(database).models_paused["z-image"]["pause_s"] == 60.0
    with database.write() as tx:
        paused = account_row(database).models_paused["z-image"] | {"until": datetime.now(UTC).isoformat()}
        tx.execute(accounts.update().values(models_paused={"z-image": paused}))
    settle(database, begun(database).submission_id, REFUSED_MODEL)
    assert account_row(database).models_paused["z-image"]["pause_s"] == 120.0


def begun(database: Database) -> ledger.Intent:
    """Enter a job and begin its create call."""
    intent = begin(database, enter(database, new_job())[0].job_id)
    assert isinstance(intent, ledger.Intent), intent
    return intent


def test_a_generation_that_is_bought_again_begins_without_the_empty_looks_of_the_first(database: Database) -> None:
    """Else its first success without a result, which Kie shows now and then, would end it: paid, and lost."""
    made = make_job(database, S.FAIL, reason=Reason.RESULT_INVALID, empty_looks=5, troubles=3)
    assert orders.retry(database, made.id, tenant="default", pay=True, who="me", why="test") is S.QUEUED
    row = job_row(database, made.id)
    assert (row.empty_looks, row.troubles) == (0, 0)


def test_a_job_that_is_deleted_takes_its_rows_along(database: Database) -> None:
    """What `prune` relies on."""
    made = make_job(database, S.SUCCESS)
    with database.write() as tx:
        tx.execute(text("DELETE FROM jobs"))
    assert submissions_of(database, made.id) == outputs_of(database, made.id) == events_of(database, made.id) == []


def test_outputs_can_be_aged_and_altered_by_the_factory(database: Database) -> None:
    """The tests' own tools do what they say."""
    made = make_job(database, S.STORING)
    (before,) = outputs_of(database, made.id)
    age(database, made.id, 30)
    alter_outputs(database, made.id, attempts=4)
    (row,) = outputs_of(database, made.id)
    assert row.attempts == 4
    assert (before.due_at - row.due_at).total_seconds() == pytest.approx(30, abs=0.01)


def test_a_server_that_restarted_is_no_callers_error(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that lay idle is asked whether it lives; one that died in use is told of once."""
    if database.sqlite:
        return  # there is no server

    def kill() -> None:
        with Database(database.url.render_as_string(hide_password=False)).read() as other:
            ours = "datname = current_database() AND pid != pg_backend_pid()"
            other.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}"))

    def works() -> bool:
        with database.read() as tx:
            return tx.scalar(text("SELECT 1")) == 1

    assert works()
    kill()
    monkeypatch.setattr("kiejobs.db.session.IDLE_S", 0.0)
    assert works()
    kill()
    monkeypatch.setattr("kiejobs.db.session.IDLE_S", 60.0)
    with pytest.raises(DatabaseUnavailable):
        works()
    assert works()


@pytest.mark.parametrize("before", ["a statement", "the commit"])
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_who_freezes_inside_a_transaction_loses_it_and_its_locks(
    database: Database, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """A stopped process, or a machine that is gone without a word, would else hold every create up for hours."""
    monkeypatch.setattr("kiejobs.db.session.SILENT_MS", 500)
    name = select(accounts.c.name).where(accounts.c.name == "default").with_for_update()
    with database.write() as tx:
        tx.execute(insert(accounts).values(name="default"))
    with pytest.raises(DatabaseUnavailable), database.write() as frozen:
        frozen.execute(update(accounts).values(pause_note="too early"))
        with database.write() as other:
            assert other.scalar(name) == "default"  # it waited until the server had ended the frozen one
            other.execute(update(accounts).values(pause_note="of another"))
        if before == "a statement":
            frozen.execute(update(accounts).values(pause_note="too late"))
    with database.read() as connection:
        assert connection.scalar(select(accounts.c.pause_note)) == "of another"


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_connections_that_die_as_soon_as_they_are_made_are_an_outage(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler takes them while its server is away. A raw error would be counted as a worker that the job killed."""

    def dead(_: object) -> None:
        raise OSError("server closed the connection")

    with monkeypatch.context() as patched:
        patched.setattr("kiejobs.db.session.IDLE_S", 0.0)
        patched.setattr(database.engine.dialect, "do_ping", dead)
        for opened in (database.read, database.write, database.single):
            with pytest.raises(DatabaseUnavailable, match="does not answer"), opened():
                pass
    with database.read() as connection:
        assert connection.scalar(select(1)) == 1
