"""The chaos soak: `python -m tests.chaos.soak --minutes 10 --jobs 300 [--seed N] [--database …]`.

Real workers, gateway, beat, broker and database buy at the simulator while processes are killed and stopped, the broker
is flushed, connections are cut and the storage goes away; Kie calls back once, often, late or never; producers' servers
err and hang up; customers cancel, look and repeat themselves; an operator adopts what is parked. Then the faults stop,
everything comes to rest, and `verdict` judges by Kie's ledger, rows, bytes and what the producers were told.
The seed is printed; it fixes what is asked for and which faults come in which order, not the machine's timing.
"""

import argparse
import base64
import json
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests

from kiejobs import KieJobs, nudge
from kiejobs.errors import KieJobsError, NotPossible
from kiejobs.jobs import Job
from kiejobs.nudge import poll_nudge, store_nudge
from kiejobs.simulator import Simulator
from tests.acceptance.stage import BEAT, QUICK, Stage, free_port, until
from tests.chaos.collect import collect, overdue_messages
from tests.chaos.facts import Facts
from tests.chaos.faults import Crew, Nemesis, missed_callbacks
from tests.chaos.inbox import Inbox
from tests.chaos.messages import retold
from tests.chaos.scenarios import HOPELESS, POOR, TENANTS, Order, label_of, orders
from tests.chaos.verdict import ENDED, judge, report

CREDITS = 1_000_000.0
KEYS = {"default": "key-of-the-soak-0001", POOR: "key-of-the-soak-0002"}
LATE_S = 22.0
HMAC_KEY, CALLBACK_SECRET = "hmac-key-of-the-soak", "callback-secret-of-the-soak-0001"
WEBHOOK_SECRETS = [f"whsec_{base64.b64encode(word * 4).decode()}" for word in (b"new-soak", b"old-soak")]
SECRETS = re.compile(
    "|".join(map(re.escape, (*KEYS.values(), HMAC_KEY, CALLBACK_SECRET, *WEBHOOK_SECRETS)))
    + r"|/callbacks/kie/[0-9a-f-]+\.[0-9a-f]"  # the proof in an address that was given to Kie
)
"""What stands in no log and in no message."""
SETTINGS = {
    "KIE_API_KEY": KEYS["default"],
    "KIE_WEBHOOK_HMAC_KEY": HMAC_KEY,
    "KIEJOBS_ACCOUNTS": json.dumps({POOR: {"key": KEYS[POOR], "hmac_key": HMAC_KEY}}),
    "KIEJOBS_CALLBACK_SECRET": CALLBACK_SECRET,
    "KIEJOBS_WEBHOOK_SECRETS": ",".join(WEBHOOK_SECRETS),
    "KIEJOBS_POLL_TIMEOUT_S": "14",
    "KIEJOBS_QUERY_LIMIT_PER_S": "50",
    "KIEJOBS_DOWNLOAD_TIMEOUT_S": "60",
}
COPIES = ("worker", "-Q", "store", "-c", "6", "-n", "copies{n}@%h")
CREW = {"quick-1": QUICK, "quick-2": QUICK, "copies": COPIES, "beat": BEAT}
"""And a gateway, whose port is the run's."""
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """How long, how much, on what."""

    faults_s: float
    jobs: int
    seed: int
    database: str = "postgresql"
    broker: str = "redis"
    recovery_s: float = 240.0
    aloud: bool = True


class Soak:
    """One run."""

    def __init__(self, plan: Plan, stage: Stage, inbox: Inbox) -> None:
        self.plan, self.stage, self.inbox = plan, stage, inbox
        self.producers = {tenant: _producer_of(stage, tenant) for tenant in TENANTS}
        self.acknowledged: dict[str, str] = {}
        self._of_job: dict[str, KieJobs] = {}
        self._spared: set[str] = set()
        self.seen: Counter[str] = Counter()
        self._over = threading.Event()
        self._faults_over = threading.Event()
        self._started = time.monotonic()

    def run(self) -> Facts:
        """Run all three phases and collect the facts."""
        rng = random.Random(self.plan.seed)
        asked = orders(self.plan.jobs, rng, late_s=LATE_S)
        gateway = ("gateway", "--port", str(urlsplit(str(self.stage.settings.public_url)).port))
        crew = Crew(self.stage, {**CREW, "gateway": gateway})
        try:
            return self._run(rng, asked, crew)
        finally:
            self._over.set()
            crew.end()

    def _run(self, rng: random.Random, asked: list[Order], crew: Crew) -> Facts:
        nemesis = Nemesis(self.stage, crew, random.Random(rng.random()), self._tell)
        until("a worker is ready", lambda: self.stage.is_ready(crew["quick-1"]), 60)
        threads = [
            self._thread(self._produce, asked, self.plan.faults_s * 0.8),
            self._thread(self._operate, random.Random(rng.random())),
            self._thread(self._meddle, random.Random(rng.random())),
        ]
        nemesis.rage(self.plan.faults_s)
        self._tell("the faults are over")
        nemesis.relent()
        threads[0].join(60)
        self._faults_over.set()
        self._come_to_rest()
        self._over.set()
        for thread in threads:
            thread.join(20)
        crew.end()
        self.seen["restarts"] = crew.restarts
        outages = ("flush", "broker restart", "database outage", "storage outage")
        self.seen["outages"] = sum(nemesis.brought[kind] for kind in outages)
        self._tell(f"at rest; {dict(nemesis.brought)}, {crew.restarts} restarts")
        arrivals = self.inbox.take_no_more()
        facts = collect(
            self.stage,
            producers=tuple(self.producers.values()),
            acknowledged=self.acknowledged,
            addresses={order.label: order.address for order in asked if order.address},
            arrivals=arrivals,
            keys=KEYS,
            secrets=SECRETS,
            credits=CREDITS,
            sometimes=self._sometimes() | {"messages told again": retold(arrivals)},
        )
        stop_all(self.stage)
        return facts

    def _thread(self, work: Callable[..., None], *given: Any) -> threading.Thread:
        thread = threading.Thread(target=work, args=given, name=work.__name__, daemon=True)
        thread.start()
        return thread

    def _tell(self, what: str) -> None:
        if self.plan.aloud:
            print(f"  {time.monotonic() - self._started:6.1f} s  {what}", flush=True)

    def _pause(self, seconds: float) -> None:
        self._over.wait(seconds)

    def _patiently(self, work: Callable[[], T], *, tries: int = 60) -> T:
        """Do as a careful caller does while the database is away: try again."""
        for _ in range(tries):
            try:
                return work()
            except NotPossible:
                raise
            except KieJobsError:
                self.seen["calls repeated"] += 1
                self._pause(0.5)
        return work()

    # ── producers and customers ──────────────────────────────────────────────────────────────────────────────────────

    def _produce(self, asked: list[Order], within_s: float) -> None:
        """Enqueue, evenly spread; each order has an idempotency key and is repeated until it is acknowledged."""
        for order in asked:
            job = self._patiently(lambda order=order: self._enqueue(order))  # type: ignore[misc]
            self._of_job[job.id] = self.producers[order.tenant]
            self._spared.update({job.id} if order.spared else ())
            self.acknowledged[order.label] = job.id
            self._pause(within_s / len(asked))

    def _enqueue(self, order: Order) -> Any:
        return self.producers[order.tenant].enqueue(
            order.model,
            {"prompt": order.prompt},
            idempotency_key=order.label,
            account=order.account,
            priority=order.priority,
            fallback_models=order.fallback_models,
            metadata={"label": order.label, "tenant": order.tenant},
            callback_url=self.inbox.url_of(order.address) if order.address else None,
            validate="off",
        )

    def _meddle(self, rng: random.Random) -> None:
        """Cancel a few, look impatiently at many, and deliver old messages again."""
        publish = nudge.publisher(nudge.producer_app(self.stage.env["KIEJOBS_BROKER_URL"]))
        old: list[nudge.Nudge] = []
        while not self._faults_over.is_set():
            self._pause(rng.uniform(0.3, 1.2))
            known = list(self.acknowledged.values())
            if not known:
                continue
            with suppress(KieJobsError):
                job_id = rng.choice(known[-60:])
                producer = self._of_job[job_id]
                job = producer.get(job_id)
                what = rng.random()
                if what < 0.06 and job_id not in self._spared:
                    producer.cancel(job.id)
                    self.seen["cancels"] += 1
                elif what < 0.35:
                    producer.refresh(job.id)
                elif job.phase in ("waiting", "timeout", "storing"):
                    rows = self.stage.query(
                        f"SELECT version FROM jobs WHERE provider_task_id = '{job.provider_task_id}'"
                    )
                    now = [poll_nudge(job.id, row.version) for row in rows] + [store_nudge(job.id, 0)]
                    old = [*old[-20:], *now]
                    publish([*now * 3, *old])
                    self.seen["redeliveries"] += 2 * len(now) + len(old)

    # ── the operator ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _operate(self, rng: random.Random) -> None:
        """Look at what is parked and no callback helps, and name its task from Kie's log; now and then a wrong one first."""
        noticed: dict[str, float] = {}
        mistaken: set[str] = set()
        while not self._over.is_set():
            self._pause(0.7)
            with suppress(KieJobsError):
                for job in self._listed("unconfirmed"):
                    since = noticed.setdefault(job.id, time.monotonic())
                    if time.monotonic() - since > 12 or self._faults_over.is_set():
                        self._adopt(job.id, rng, mistaken)

    def _adopt(self, job_id: str, rng: random.Random, mistaken: set[str]) -> None:
        accepted = self.stage.creates()
        labels = {known: label for label, known in self.acknowledged.items()}
        if job_id not in labels or self._named_already(job_id):
            return
        if job_id not in mistaken and accepted and rng.random() < 0.15:
            mistaken.add(job_id)
            wrong = rng.choice(accepted)
            if label_of(wrong["prompt"]) != labels[job_id]:
                self._of_job[job_id].adopt(job_id, wrong["taskId"])
                self.seen["wrong tasks named"] += 1
                return
        for create in accepted:
            if label_of(create["prompt"]) == labels[job_id]:
                self._of_job[job_id].adopt(job_id, create["taskId"])

    def _listed(self, phase: str) -> list[Job]:
        return [job for producer in self.producers.values() for job in producer.list(phase=phase, limit=200)]

    def _named_already(self, job_id: str) -> bool:
        waits = (
            "SELECT 1 FROM candidates JOIN jobs ON jobs.submission_id = candidates.submission_id"
            " WHERE candidates.state = 'open' AND jobs.id = :id"
        )
        return bool(self.stage.query(waits, id=self._id(job_id)))

    def _id(self, job_id: str) -> str:
        return job_id if self.stage.database == "postgresql" else job_id.replace("-", "")

    # ── what is seen on the way ──────────────────────────────────────────────────────────────────────────────────────

    def _rescues(self) -> int:
        """Count the looks, copies and messages that sweeps nudged because nobody took them, by what they say."""
        logs = "\n".join(path.read_text(errors="replace") for path in self.stage.folder.glob("worker-*.log"))
        said = (line for line in logs.splitlines() if "sweep: " in line)
        return sum(int(count) for line in said for count in re.findall(r"(\d+) (?:polls|copies|messages)", line))

    def _sometimes(self) -> dict[str, int]:
        """Say how often each thing happened without which the run proves nothing."""

        def count(statement: str) -> int:
            return int(self.stage.query(statement)[0][0])

        parked = "SELECT count(*) FROM events WHERE to_state = 'unconfirmed'"
        lapsed = parked + " AND note LIKE '%never reported%'"
        adopted = "SELECT count(*) FROM candidates WHERE state = 'adopted' AND source"
        found_by = "SELECT count(*) FROM jobs WHERE found_by"
        put_off = "SELECT count(*) FROM events WHERE kind = 'output_postponed'"
        messages = "SELECT count(*) FROM deliveries WHERE state ="
        return {
            "parked": count(parked),
            "of these lapsed": count(lapsed),
            "adopted by a person": count(f"{adopted} <> 'callback'"),
            "adopted by a callback": count(f"{adopted} = 'callback'"),
            "ends found by a callback": count(f"{found_by} = 'callback'"),
            "ends found without one": count(f"{found_by} <> 'callback'"),
            "callbacks missed": missed_callbacks(self.stage),
            "rescued by sweeps": self._rescues(),
            "redelivered or stale": self.seen["redeliveries"],
            "late results": count("SELECT count(*) FROM jobs WHERE late AND state = 'success'"),
            "copies put off": count(put_off),
            "messages delivered": count(f"{messages} 'delivered'"),
            "messages given up": count(f"{messages} 'gave_up'"),
            "outages": self.seen["outages"],
            "processes killed": self.seen["restarts"],
        }

    # ── recovery ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _come_to_rest(self) -> None:
        """Wait until every job has ended or is parked for good; an operator gives up what Kie refuses for ever."""
        end = time.monotonic() + self.plan.recovery_s
        while time.monotonic() < end:
            with suppress(KieJobsError):
                if not self._unrest():
                    signal.sigtimedwait([], 3)  # two sweeps more
                    if not self._unrest():
                        return
                self._help_along()
            signal.sigtimedwait([], 1)
        self._tell(f"it did not come to rest: {'; '.join(self._unrest())}")

    def _unrest(self) -> list[str]:
        """Say what is not at rest yet."""
        rows = self.stage.query("SELECT id, state FROM jobs")
        bought = {label_of(create["prompt"]) for create in self.stage.creates()}
        labels = {known.replace("-", ""): label for label, known in self.acknowledged.items()}
        parked = [labels.get(str(row[0]).replace("-", "")) for row in rows if row[1] == "unconfirmed"]
        moving = [f"job {row[0]} is {row[1]}" for row in rows if row[1] not in ENDED and row[1] != "unconfirmed"]
        named = [f"{label} is parked" for label in bought.intersection(filter(None, parked))]
        return moving + named + [f"message {message_id} is due" for message_id in overdue_messages(self.stage)]

    def _help_along(self) -> None:
        for phase in ("queued", "timeout", "waiting"):
            for job in self._listed(phase):
                if phase == "queued" and job.account == POOR and self._is_hopeless(job.id):
                    self._of_job[job.id].cancel(job.id)
                elif phase != "queued":
                    self._of_job[job.id].refresh(job.id)
        if any(account.pause_code and account.name == POOR for account in self.stage.jobs.accounts()):
            self.stage.jobs.resume(POOR)

    def _is_hopeless(self, job_id: str) -> bool:
        rows = self.stage.query("SELECT request FROM payloads WHERE job_id = :id", id=self._id(job_id))
        return any(marker in str(rows[0][0]) for marker in HOPELESS if marker != "[[refuse=505]]")


def _producer_of(stage: Stage, tenant: str) -> KieJobs:
    return KieJobs(stage.settings, tenant=tenant, database=stage.jobs.database)


def stop_all(stage: Stage) -> None:
    """Tell the simulator to hang up on whoever still waits, so that the stage ends quickly."""
    with suppress(requests.RequestException):
        stage.release_creates()


def soak(plan: Plan, folder: Path) -> tuple[Facts, dict[str, list[str]]]:
    """Run a soak in a folder; return its facts and what speaks against it."""
    inbox = Inbox(signed_with=WEBHOOK_SECRETS, untold=SECRETS)
    simulator = Simulator(duration_s=2.0, credits=CREDITS, hmac_key=HMAC_KEY).start()
    settings = SETTINGS | {
        "KIEJOBS_PUBLIC_URL": f"http://127.0.0.1:{free_port()}",
        "KIEJOBS_EGRESS_ALLOW": f"{simulator.files_host_port},{inbox.host_port}",
    }
    try:
        with Stage(folder, database=plan.database, broker=plan.broker, simulator=simulator, **settings) as stage:
            facts = Soak(plan, stage, inbox).run()
    finally:
        inbox.close()
    return facts, judge(facts)


def main() -> int:
    """Run, print the report, return 0 where nothing speaks against it."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description="The chaos soak.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the faults last (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--broker", choices=("redis", "fakeredis"), default="redis")
    parser.add_argument("--keep", type=Path, help="a folder to leave logs and media in")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that what was started is ended
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    plan = Plan(options.minutes * 60, options.jobs, seed, options.database, options.broker)
    print(f"seed {seed}: {plan.jobs} jobs, {options.minutes:g} minutes of faults, {plan.database}, {plan.broker}")
    with tempfile.TemporaryDirectory(prefix="kiejobs-soak-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        facts, found = soak(plan, folder)
    print(report(facts, found))
    failed = any(found.values())
    again = f"python -m tests.chaos.soak --seed {seed} --jobs {plan.jobs} --minutes {options.minutes:g}"
    print(f"FAILED: {again}" if failed else "passed")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
