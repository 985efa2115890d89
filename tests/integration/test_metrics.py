"""`/metrics` over a real socket: who may read it, what it says of rows and of what workers saw, what it costs."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select, update

from kiejobs import nudge
from kiejobs.db import rescue
from kiejobs.db.session import Database
from kiejobs.db.tables import events, payloads
from kiejobs.gateway.metrics import READ_EVERY_S, Metrics
from kiejobs.jobs import JobState, SubmissionState
from kiejobs.producer import KieJobs
from kiejobs.settings import Settings
from kiejobs.simulator import Simulator
from tests.factories import (
    Nudges,
    Ticker,
    act,
    age,
    finish,
    job_row,
    make_job,
    make_submission,
    pause_account,
    statements,
    work,
)
from tests.gateways import KEYS, Caller, gateway_keys, running
from workers.runtime import Runtime
from workers.sweeps.accounts import watch
from workers.sweeps.tally import tally


@pytest.fixture
def gateway(database: Database, settings: Settings, nudges: Nudges) -> Iterator[Caller]:
    """A gateway without keys."""
    with running(settings, database, nudges) as address:
        yield Caller(address)


Sample = tuple[str, tuple[tuple[str, str], ...]]


def read(caller: Caller) -> dict[Sample, float]:
    """Read all figures by name and labels; the text is Prometheus's, or this raises."""
    answer = caller.get("/metrics")
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def named(samples: dict[Sample, float], name: str, **labels: str) -> float | None:
    """Return one figure; None where there is none."""
    return samples.get((f"kiejobs_{name}", tuple(sorted(labels.items()))))


def let_settle(database: Database) -> None:
    """Make every line of a timeline old enough to be counted."""
    with database.write() as tx:
        for row in tx.execute(select(events.c.id, events.c.at)).all():
            tx.execute(update(events).where(events.c.id == row.id).values(at=row.at - timedelta(seconds=20)))


def test_only_an_admins_key_reads_the_figures(database, settings, nudges):
    """They are of all tenants."""
    mixed = Settings(_env_file=None, **(settings.model_dump() | {"gateway_keys": gateway_keys()}))
    with running(mixed, database, nudges) as address:
        answers = {
            name: Caller(address, KEYS.get(name, name)).get("/metrics")
            for name in ("a-read", "a-write", "a-admin", "x")
        }
        answers["none"] = Caller(address).get("/metrics")
    assert {name: one.status_code for name, one in answers.items()} == {
        "a-read": 403,
        "a-write": 403,
        "a-admin": 200,
        "x": 401,
        "none": 401,
    }
    assert answers["a-admin"].headers["content-type"].startswith("text/plain; version=")


def test_without_keys_only_this_machine_reads_them(gateway):
    assert gateway.get("/metrics").status_code == 200
    assert gateway.get("/metrics", headers={"Host": "elsewhere.example"}).status_code == 403


def test_openmetrics_is_spoken_where_it_is_asked_for(gateway):
    answer = gateway.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_rows_are_told_as_they_stand(gateway, database):
    first = make_job(database, JobState.QUEUED, model="z-image")
    age(database, first.id, 100)
    make_job(database, JobState.QUEUED, priority="batch", model="somebody/unlisted")
    make_job(database, JobState.QUEUED, line_at=None, held="a cap", due_at=job_row(database, first.id).created_at)
    for state in (JobState.WAITING, JobState.UNCONFIRMED, JobState.SUCCESS):
        make_job(database, state)
    storing = make_job(database, JobState.STORING, urls=("https://files.example/0.png", "https://files.example/1.png"))
    age(database, storing.id, 30)
    pause_account(database)
    rescue.beat(database, "sweep")
    told = read(gateway)
    assert named(told, "jobs", state="queued", model="z-image") == 1
    assert named(told, "jobs", state="queued", model="other") == 1
    assert named(told, "jobs", state="held", model="z-image") == 1
    assert named(told, "jobs", state="unconfirmed", model="z-image") == 1
    assert named(told, "jobs", state="success", model="z-image") is None
    assert named(told, "line_jobs", account="default", priority="batch") == 1
    assert 100 <= (named(told, "line_first_seconds", account="default") or 0) < 160
    assert 100 <= (named(told, "due_lag_seconds", table="jobs") or 0) < 160
    assert 30 <= (named(told, "due_lag_seconds", table="outputs") or 0) < 90
    assert named(told, "due_lag_seconds", table="deliveries") == 0
    assert named(told, "unsaved_results") == 2
    assert named(told, "account_paused", account="default") == 1
    assert named(told, "account_creates_limit", account="default") == 20
    assert (named(told, "last_run_seconds", task="sweep") or 99) < 60
    assert named(told, "last_run_seconds", task="pump") == 1e9


def test_jobs_of_accounts_that_nobody_has_a_key_for_are_told_as_one(gateway, database):
    """They wait for ever, so an alert must see them; and a producer's words are no labels."""
    for name in ("studoi", "nobody"):
        age(database, make_job(database, account=name).id, 900)
    told = read(gateway)
    assert named(told, "line_jobs", account="other", priority="interactive") == 2
    assert (named(told, "line_first_seconds", account="other") or 0) >= 900
    assert named(told, "account_creates_used", account="other") == 0
    assert named(told, "account_creates_limit", account="other") == 20
    assert named(told, "account_paused", account="other") == 0
    assert named(told, "line_jobs", account="studoi", priority="interactive") is None


def test_creates_of_the_window_are_told(gateway, database):
    """Those of the last 10.5 s, refused ones too."""
    job = make_job(database, JobState.QUEUED)
    for seq, ago_s in enumerate((1.0, 5.0, 12.0), start=2):
        make_submission(database, job.id, state=SubmissionState.REFUSED, seq=seq, ago_s=ago_s)
    assert named(read(gateway), "account_creates_used", account="default") == 2


def test_no_label_names_a_tenant_or_a_job(gateway, database):
    made = make_job(database, JobState.QUEUED, tenant="secret-tenant", model="secret-model", prompt="a secret")
    text = gateway.get("/metrics").text
    assert "secret" not in text
    assert made.id not in text


def run_one(rt: Runtime, kie: Simulator, nudges: Nudges) -> str:
    """Take one job the whole way, and send each of its messages twice."""
    job = KieJobs(rt.settings, database=rt.database, publish=nudges).enqueue(
        "z-image", {"prompt": "a cat [[outputs=1]]", "aspect_ratio": "1:1"}
    )
    act(rt, nudge.create_nudge(job.id))
    act(rt, nudge.create_nudge(job.id))
    finish(kie, job_row(rt.database, job.id).provider_task_id)
    waiting = nudges.take()
    work(rt, [one for one in waiting if one.task == nudge.POLL] * 2)
    return job.id


def test_what_a_worker_did_is_told_when_it_is_written_down(
    database: Database, settings: Settings, nudges: Nudges, simulator: Simulator, runtime: Callable[..., Runtime]
) -> None:
    """One job with every message doubled: one create, one file, and the doubles as stale."""
    rt = runtime(database)
    tally(rt)
    job_id = run_one(rt, simulator, nudges)
    assert job_row(database, job_id).state == JobState.SUCCESS
    watch(rt)
    rt.counts.flush(database)
    let_settle(database)
    tally(rt)
    with running(settings, database, nudges) as address:
        told = read(Caller(address))
    assert named(told, "creates_total", outcome="accepted") == 1
    assert named(told, "creates_total", outcome="unknown") == 0
    assert named(told, "kie_calls_total", kind="create", code="200") == 1
    assert (named(told, "kie_calls_total", kind="read", code="200") or 0) >= 2  # a look, and the balance
    assert named(told, "kie_call_seconds_count", kind="create") == 1
    assert named(told, "stale_total", step="submit") == 1
    assert (named(told, "stale_total", step="poll") or 0) >= 1
    assert named(told, "stored_files_total") == 1
    assert (named(told, "stored_bytes_total") or 0) > 100
    assert named(told, "jobs_ended_total", state="success", model="z-image") == 1
    assert named(told, "jobs_finished_by_total", by="poll") == 1
    assert named(told, "found_to_stored_seconds_count") == 1
    assert named(told, "found_to_stored_seconds_bucket", le="60.0") == 1
    with database.read() as connection:  # what the time since Kie's own end is counted from
        assert connection.scalar(select(payloads.c.record).where(payloads.c.job_id == job_id))["completeTime"] > 1e12
    assert named(told, "polls_per_job_count") == 1
    assert named(told, "account_credits", account="default") is not None


def test_kies_refusals_and_a_storage_that_is_away_are_told(
    database: Database, nudges: Nudges, simulator: Simulator, runtime: Callable[..., Runtime], settings: Settings
) -> None:
    """A 429 by its code, a copy that did not work by its error."""
    rt = runtime(database)
    job = KieJobs(rt.settings, database=database, publish=nudges).enqueue(
        "z-image", {"prompt": "a cat [[refuse=429]]", "aspect_ratio": "1:1"}
    )
    act(rt, nudge.create_nudge(job.id))
    storing = make_job(database, JobState.STORING, urls=("http://127.0.0.1:9/0.png",))
    act(rt, nudge.store_nudge(storing.id, 0))
    rt.counts.flush(database)
    with running(settings, database, nudges) as address:
        told = read(Caller(address))
    assert named(told, "kie_calls_total", kind="create", code="429") == 1
    assert named(told, "creates_total", outcome="busy") == 1
    assert named(told, "copy_troubles_total", error="EgressRefused") == 1


def test_many_readers_cost_one_reading(database, settings):
    """Whoever comes within five seconds gets what was read."""
    ticker = Ticker()
    metrics = Metrics(settings, database, ticker)
    with statements(database) as seen:
        for _ in range(10):
            list(metrics.collect())
    once = len(seen)
    assert 0 < once < 20
    ticker.advance(READ_EVERY_S)
    with statements(database) as seen:
        list(metrics.collect())
    assert len(seen) == once


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_no_query_reads_the_jobs_that_have_ended(database, settings):
    """By PostgreSQL's plans, where scanning a whole table is forbidden: each has an index of what is unfinished."""
    for state in (JobState.QUEUED, JobState.WAITING, JobState.STORING, JobState.SUCCESS):
        make_job(database, state)
    plans: list[Any] = []
    with statements(database) as seen:
        list(Metrics(settings, database).collect())
    big = ("jobs", "submissions", "outputs", "deliveries", "events", "payloads")
    with database.write() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for statement in seen:
            literal = statement.replace("%(account_1)s::VARCHAR", "'default'").replace("%(name_1)s::VARCHAR", "'x'")
            if "%(" in literal or not statement.startswith("SELECT"):
                continue
            plan = connection.exec_driver_sql(f"EXPLAIN {literal}").scalars().all()
            plans.append("\n".join(plan))
    assert len(plans) >= 8
    assert [plan for plan in plans if any(f"Seq Scan on {table}" in plan for table in big)] == []
