"""Money with real processes: Kie's limit, the line, accounts, zombies, doubled messages and poison. PostgreSQL and Redis.

The judge is always the simulator: what it took, when by its own monotonic clock, and how often it was asked.
"""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from kiejobs import KieJobs, nudge
from kiejobs.db.clock import clock
from kiejobs.db.tables import jobs
from kiejobs.errors import Reason
from kiejobs.nudge import poll_nudge
from kiejobs.simulator import Simulator
from tests.acceptance.stage import BEAT, COPIES, QUICK, Stage, has_redis, kill, until
from tests.support import missing, postgresql_answers

pytestmark = pytest.mark.long

MODEL = "grok-imagine/text-to-image"
LIMIT, WINDOW_S = 20, 10.0
BACKLOG = 150


@pytest.fixture(scope="module", autouse=True)
def _services() -> None:
    if not has_redis():
        missing("redis-server on PATH")
    if not postgresql_answers():
        missing("PostgreSQL on 127.0.0.1:5432")


# ── the create budget ────────────────────────────────────────────────────────────────────────────────────────────────


def an_hour_ahead(folder: Path) -> dict[str, str]:
    """Return what a process needs in its environment to believe that it is an hour later: libfaketime, or a patch."""
    found = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if found:
        return {"LD_PRELOAD": str(found), "FAKETIME": "+1h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    (folder / "sitecustomize.py").write_text("import time\n_time = time.time\ntime.time = lambda: _time() + 3600\n")
    return {"PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}"}


def clock_of(stage: Stage, extra: dict[str, str]) -> float:
    """Ask a process with this environment what time it is."""
    asked = [sys.executable, "-c", "import time; print(time.time())"]
    answer = subprocess.run(asked, env=stage.env | extra, capture_output=True, check=True, text=True)
    return float(answer.stdout)


def most_in_any(window_s: float, times: Sequence[float]) -> int:
    """Count the calls in the fullest sliding window."""
    return max(sum(first <= at < first + window_s for at in times) for first in times)


def share_used(times: Sequence[float]) -> float:
    """Say how much of Kie's limit was used: the time a perfect sender needs, divided by the time it took.

    A perfect sender sends 20 at once, and 20 more every 10 s. Counted over whole windows, from the last call backwards.
    """
    windows = (len(times) - 1) // LIMIT
    return windows * WINDOW_S / (times[-1] - times[-1 - windows * LIMIT])


def test_the_create_budget_holds_over_workers_restarts_flushes_and_a_wrong_clock(tmp_path, capsys):
    """150 jobs in line, four workers, one an hour ahead; two are killed, the broker is flushed twice.

    Never more than 20 calls reach Kie within any 10 s. When the faults are over, at least 85 % of what it allows is used.
    """
    ahead = an_hour_ahead(tmp_path)
    settings = {"KIEJOBS_QUERY_LIMIT_PER_S": "100"}
    with Stage(tmp_path, database="postgresql", simulator=Simulator(), **settings) as stage:
        assert clock_of(stage, ahead) - clock_of(stage, {}) > 3500
        workers = [stage.start(QUICK) for _ in range(3)] + [stage.start(QUICK, ahead)]
        stage.start(COPIES)
        until("the workers are ready", lambda: all(map(stage.is_ready, workers)), 60)
        ids = stage.enqueue(BACKLOG, "[[fail=500]] [[duration=0.5]]")
        stage.start(BEAT)
        for so_far, fault in ((25, "kill"), (45, "flush"), (50, "kill"), (65, "flush")):
            until(f"{so_far} calls", lambda n=so_far: len(stage.creates()) >= n, 90)
            if fault == "flush":
                stage.flush_broker()
            else:
                kill(workers.pop(0))
                workers.append(stage.start(QUICK))
        until("the line is empty", lambda: "queued" not in _phases(stage, ids), 90)
        assert workers[1].poll() is None, stage.logs()  # the one that is an hour ahead
        ledger: dict[str, Any] = stage.simulator.ledger()
        times = sorted(create["at"] for create in ledger["creates"])
        steady = share_used(times[-3 * LIMIT - 1 :])
        with capsys.disabled():
            print(
                f"\n{len(times)} creates in {times[-1] - times[0]:.1f} s: {share_used(times):.0%} of the limit used with"
                f" the faults, {steady:.0%} after them; at most {most_in_any(WINDOW_S, times)} in 10 s,"
                f" {ledger['create_violations']} refused as too fast"
            )
        assert most_in_any(WINDOW_S, times) <= LIMIT
        assert ledger["create_violations"] == 0
        assert max(Counter(create["prompt"] for create in stage.creates()).values()) == 1
        assert len(stage.creates()) >= BACKLOG - 2 * 16  # but for what the killed ones had claimed and not sent
        assert steady >= 0.85


def _phases(stage: Stage, ids: list[str]) -> set[str]:
    rows = stage.query("SELECT DISTINCT state FROM jobs")
    return {row.state for row in rows}


# ── one shop, several customers ──────────────────────────────────────────────────────────────────────────────────────

ZOMBIE_HELD_S = 2.0


@dataclass
class Shop:
    """A stage with a small create limit, and a worker that was stopped inside a create call at the beginning."""

    stage: Stage
    zombie: "subprocess.Popen[bytes]"
    job_of_zombie: str
    quick: "subprocess.Popen[bytes]"
    copies: "subprocess.Popen[bytes]"

    def tenant(self, name: str) -> KieJobs:
        return KieJobs(self.stage.settings, tenant=name, database=self.stage.jobs.database)

    def creates(self, word: str) -> list[dict[str, Any]]:
        return [create for create in self.stage.creates() if word in create["prompt"]]

    def queries(self, task_id: str | None) -> int:
        return sum(query["taskId"] == task_id for query in self.stage.simulator.ledger()["queries"])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The shop; its zombie is stopped first, so that its call lapses while the other tests run."""
    settings = {"KIEJOBS_ACCOUNTS": json.dumps({"poor": {"key": "key-of-the-poor"}}), "KIEJOBS_LEASE_S": "2"}
    settings |= {"KIEJOBS_SWEEP_INTERVAL_S": "0.5", "KIEJOBS_SWEEP_GRACE_S": "0.5"}
    settings |= {"KIEJOBS_CREATE_LIMIT": "10", "KIEJOBS_CREATE_WINDOW_S": "5", "KIEJOBS_QUERY_LIMIT_PER_S": "100"}
    simulator = Simulator(create_limit=10, create_window_s=5.0)
    folder = tmp_path_factory.mktemp("shop")
    with Stage(folder, database="postgresql", simulator=simulator, gated=True, **settings) as stage:
        zombie = stage.start(QUICK)
        job = stage.jobs.enqueue(
            MODEL, {"prompt": f"zombie [[slow={ZOMBIE_HELD_S:g}]] [[duration=1]] [[outputs=1]]"}, validate="off"
        )
        stage.start(BEAT)
        until("Kie took the zombie's call", stage.creates)
        kill(zombie, signal.SIGSTOP)
        quick, copies = stage.start(QUICK), stage.start(COPIES)
        until("the workers are ready", lambda: stage.is_ready(quick) and stage.is_ready(copies))
        yield Shop(stage, zombie, job.id, quick, copies)
        kill(zombie, signal.SIGCONT)


def test_a_newcomer_does_not_stand_behind_a_hoard_and_batch_waits_for_all(shop):
    """30 jobs of one tenant, then 5 of another, and 8 batch jobs that were there first: Kie sees them fairly."""
    kill(shop.quick, signal.SIGSTOP)  # so that all of them stand in line before the first is sent
    batch = [{"model": MODEL, "input": {"prompt": f"{n} nightly [[fail=500]]"}, "priority": "batch"} for n in range(8)]
    shop.tenant("nightly").enqueue_many(batch)
    for tenant, count in (("hoarder", 30), ("newcomer", 5)):
        prompts = [f"{n} {tenant} [[fail=500]] [[duration=0.5]]" for n in range(count)]
        shop.tenant(tenant).enqueue_many([{"model": MODEL, "input": {"prompt": prompt}} for prompt in prompts])
    kill(shop.quick, signal.SIGCONT)
    until("all are bought", lambda: len(shop.creates("[[fail=500]]")) == 43, 60)
    order = [next(t for t in ("nightly", "hoarder", "newcomer") if t in c["prompt"]) for c in shop.creates("[[fail=")]
    places = {tenant: [place for place, who in enumerate(order) if who == tenant] for tenant in set(order)}
    assert max(places["newcomer"]) < 20, "two windows: the hoard may have half of each"
    assert min(places["nightly"]) >= 43 - 8 - 10, "only beside the last of the others"


def test_a_paused_account_holds_up_nobody_else(shop):
    """One account has no credits: its jobs wait in line, the other account goes on; a person's word resumes it."""
    jobs = shop.stage.jobs
    penniless = jobs.enqueue(MODEL, {"prompt": "penniless [[refuse=402]]"}, account="poor")
    until("the account is paused", lambda: _account(jobs, "poor").pause_code == "402")
    waiting = [
        jobs.enqueue(MODEL, {"prompt": f"{n} patient [[duration=1]] [[outputs=1]]"}, account="poor").id
        for n in range(3)
    ]
    rich = shop.stage.enqueue(3, "rich [[duration=1]] [[outputs=1]]")
    assert {job.phase for job in shop.stage.ended(rich)} == {"success"}
    assert _account(jobs, "default").pause_code is None
    assert {jobs.get(job_id).phase for job_id in (penniless.id, *waiting)} == {"queued"}
    assert shop.creates("patient") == []
    jobs.cancel(penniless.id)
    jobs.resume("poor")
    assert {job.phase for job in shop.stage.ended(waiting)} == {"success"}
    accounts = {create["account"] for create in shop.creates("patient")}
    assert accounts == {"key-of-the-poor"}


def _account(jobs: KieJobs, name: str) -> Any:
    return next(account for account in jobs.accounts() if account.name == name)


def test_doubled_nudges_ask_kie_nothing_twice(shop):
    """Each job's nudge is published 50 times, while it is due to nobody and again when it is stale."""
    stage = shop.stage
    ids = stage.enqueue(5, "doubled [[duration=9]] [[outputs=1]]")
    until("all were looked at once", lambda: all(stage.jobs.get(i).polls >= 1 for i in ids))
    publish = nudge.publisher(nudge.producer_app(stage.env["KIEJOBS_BROKER_URL"]))
    captured = [poll_nudge(str(row.id), row.version) for row in _waiting(stage, ids)]
    assert captured
    for _ in range(50):
        publish(captured)
    jobs = stage.ended(ids)
    for _ in range(50):
        publish(captured)
    until("the stale ones are taken", lambda: stage.messages("poll") == 0)
    for job in jobs:
        assert job.phase == "success"
        asked = shop.queries(job.provider_task_id)
        assert asked == stage.jobs.get(job.id).polls, "every call to Kie was claimed first"
        assert asked <= 5 + 1, "looks at 2, 4, 6, 8 and 10 s, and the one that the first of the doubled nudges began"


def _waiting(stage: Stage, ids: list[str]) -> list[Any]:
    rows = stage.query("SELECT id, version FROM jobs WHERE state = 'waiting'")
    return [row for row in rows if str(row.id) in ids]


def test_a_job_that_kills_its_workers_is_quarantined_and_the_others_finish(shop):
    """One job kills the worker that looks at it, another one the worker that copies its file: five times, then never."""
    stage, gate = shop.stage, shop.stage.gate
    others = stage.enqueue(4, "bystander [[duration=4]] [[outputs=1]]")
    looked, copied = (
        stage.jobs.enqueue(MODEL, {"prompt": f"poison {markers} [[outputs=1]]"}).id
        for markers in ("[[duration=100]]", "[[duration=1]] [[big=1]] [[drip=20000]]")
    )
    until("both are bought", lambda: len(shop.creates("poison")) == 2)
    tasks = {"duration=100" in create["prompt"]: create["taskId"] for create in shop.creates("poison")}
    gate.withhold(tasks[True])
    killed = Counter[str]()

    def downloads() -> int:
        return sum(tasks[False] in entry["path"] for entry in stage.simulator.ledger()["downloads"])

    def both_ended() -> bool:
        if gate.waiting(tasks[True]):
            kill(shop.quick)
            killed["look"] += 1
            gate.let_go(tasks[True])
            until("the dead worker's request is dropped", lambda: gate.waiting(tasks[True]) == 0)
            gate.withhold(tasks[True])
            shop.quick = stage.start(QUICK)
            make_due(stage, looked)  # instead of waiting for the end of the dead worker's claim
        if downloads() > killed["copy"]:
            kill(shop.copies)
            killed["copy"] += 1
            shop.copies = stage.start(COPIES)
        return all(stage.jobs.get(job_id).phase == "fail" for job_id in (looked, copied))

    until("both have ended", both_ended, 120)
    gate.let_go(tasks[True])
    assert killed == {"look": 5, "copy": 5}
    assert [stage.jobs.get(job_id).reason for job_id in (looked, copied)] == [Reason.QUARANTINED] * 2
    assert {job.phase for job in stage.ended(others)} == {"success"}
    assert len(shop.creates("poison")) == 2


def make_due(stage: Stage, job_id: str) -> None:
    """Move a job's next look into the past."""
    with stage.jobs.database.write() as tx:
        tx.execute(update(jobs).where(jobs.c.id == job_id).values(due_at=clock(-60), renudge_at=None))


def test_a_worker_that_sleeps_through_its_lapse_brings_its_task_id_after_all(shop):
    """Stopped inside the create call until its job is parked, it wakes up with Kie's answer: a fact, merged late."""
    stage, job_id = shop.stage, shop.job_of_zombie
    until("the job is parked", lambda: stage.jobs.get(job_id).phase == "unconfirmed", 60)
    kill(shop.zombie, signal.SIGCONT)
    (job,) = stage.ended([job_id]) if _woke_up(stage, job_id) else (stage.jobs.get(job_id),)
    told = [line.to_state for line in stage.jobs.timeline(job_id) if line.to_state not in (None, line.from_state)]
    assert told == ["queued", "submitting", "unconfirmed", "waiting", "storing", "success"], stage.log_of(shop.zombie)
    assert job.phase == "success"
    assert len(shop.creates("zombie")) == 1


def _woke_up(stage: Stage, job_id: str) -> bool:
    """Wait until the sleeper has merged what it knows; False where it knew nothing."""
    try:
        return bool(until("it is followed", lambda: stage.jobs.get(job_id).phase != "unconfirmed", 15))
    except AssertionError:
        return False
