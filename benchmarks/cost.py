"""What a generation costs beside the textbook Celery implementation: `python -m benchmarks.cost [--small]`.

`benchmarks.textbook` and kiejobs do the same jobs one after the other: the same simulated Kie (creates lifted to 20 per
second), a private Redis each, the same S3 server, files of 1 MiB, the same ladder, sixteen threads for calls to Kie (the
textbook's one worker also copies; kiejobs has a second worker of four threads for that, and beat). Counted is the CPU time
of all their workers (beat included) from the moment they are ready to the moment the last file is stored; Redis and, for
kiejobs, PostgreSQL are given beside it. Then both once more with `kill -9` of every worker when half of the creates are
made, and a start of the same a second later; the textbook also with late acknowledgement, which is its usual remedy.
"""

import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from celery import Celery

from benchmarks.figures import Figure, cpu_s, options, peak_mb, postgresql_cpu_s, settle, tell
from benchmarks.observed import looks
from kiejobs.simulator import Simulator
from tests.acceptance.stage import BEAT, COPIES, QUICK, Stage, kill, until
from tests.contract.s3server import s3_server

MODEL = "grok-imagine/text-to-image"
CREATES_PER_S = 20
LIMITS = {"KIEJOBS_CREATE_LIMIT": str(10 * CREATES_PER_S), "KIEJOBS_QUERY_LIMIT_PER_S": "1000"}
AS_SHIPPED = {"KIEJOBS_SWEEP_INTERVAL_S": "10", "KIEJOBS_SWEEP_GRACE_S": "10", "KIEJOBS_LEASE_S": "60"}
AS_SHIPPED |= {"KIEJOBS_HTTP_TIMEOUT_S": "30"}
PARKED_AFTER_S = 90.0
"""From a kill inside a create call: its deadline, 30 s, and a sweep."""


@dataclass(frozen=True)
class Load:
    """The jobs of a run."""

    jobs: int
    shortest_s: float
    longest_s: float

    def requests(self) -> list[dict[str, Any]]:
        """Make the requests; the same ones for everybody."""
        rng = random.Random(7)
        prompts = [
            f"{n} [[duration={rng.uniform(self.shortest_s, self.longest_s):.2f}]] [[outputs=1]] [[big=1]]"
            for n in range(self.jobs)
        ]
        return [{"model": MODEL, "input": {"prompt": prompt}} for prompt in prompts]

    @property
    def within_s(self) -> float:
        """How long a run may take where nothing goes wrong."""
        return self.jobs / CREATES_PER_S + self.longest_s + 120


@dataclass
class Contender:
    """One implementation on its own stage: what starts it, what feeds it, what it has stored."""

    stage: Stage
    folder: Path
    load: Load
    workers: list[Any] = field(default_factory=list)

    def pids(self) -> list[int]:
        return [worker.pid for worker in self.workers]

    def kill(self) -> None:
        for worker in self.workers:
            kill(worker)
        self.workers.clear()

    def stored(self) -> int:
        """Count the files in the bucket."""
        return sum(path.is_file() and not path.name.startswith(".") for path in self.folder.rglob("*"))


class Ours(Contender):
    """kiejobs: two workers, and beat."""

    looked = ""

    def start(self) -> None:
        observed = ("-I", "benchmarks.observed") if self.looked else ()
        extra = {"BENCH_LOOKS": self.looked} if self.looked else {}
        self.workers = [self.stage.start((*QUICK, *observed), extra), self.stage.start(COPIES)]
        until("our workers are ready", lambda: all(map(self.stage.is_ready, self.workers)), 60)
        self.workers.append(self.stage.start(BEAT))
        until("beat is ready", lambda: self.stage.query("SELECT name FROM pulses"))

    def feed(self) -> None:
        self.stage.jobs.enqueue_many(self.load.requests())

    def settled(self) -> int:
        """Count the jobs that have ended, or stand visibly as `unconfirmed`."""
        return int(
            self.stage.query("SELECT count(*) AS n FROM jobs WHERE ended_at IS NOT NULL OR state = 'unconfirmed'")[0].n
        )

    def states(self) -> dict[str, int]:
        return {row.state: row.n for row in self.stage.query("SELECT state, count(*) AS n FROM jobs GROUP BY state")}

    def database_cpu_s(self) -> float:
        return postgresql_cpu_s(self.stage.settings.database.rpartition("/")[2])


class Textbook(Contender):
    """The textbook: one worker."""

    late = False

    def start(self) -> None:
        words = ["celery", "-A", "benchmarks.textbook", "worker", "-P", "threads", "-c", "16", "-l", "INFO"]
        script = f"import sys; sys.argv = {words!r}; from celery.__main__ import main; main()"
        extra = {
            "TEXTBOOK_KIE": self.stage.simulator.base_url,
            "TEXTBOOK_BUCKET": "media",
            "TEXTBOOK_REDIS": self.stage.env["KIEJOBS_BROKER_URL"],
            "TEXTBOOK_ACKS_LATE": "1" if self.late else "0",
        }
        self.workers = [self.stage.run(script, extra)]
        self.producer = Celery(broker=extra["TEXTBOOK_REDIS"], set_as_current=False)
        inspect = self.producer.control.inspect(timeout=0.5)
        until("the textbook's worker is ready", inspect.ping, 60)

    def feed(self) -> None:
        Thread(target=self._feed, daemon=True).start()

    def _feed(self) -> None:
        """Hand the jobs in at the pace that Kie allows."""
        for request in self.load.requests():
            self.producer.send_task("benchmarks.textbook.submit", (request["model"], request["input"]))
            settle(1 / CREATES_PER_S)

    def settled(self) -> int:
        return self.stored()

    def states(self) -> dict[str, int]:
        return {"stored": self.stored()}

    def database_cpu_s(self) -> float:
        return 0.0


@contextmanager
def contender(kind: type[Contender], load: Load, **extra: Any) -> Iterator[Any]:
    """Set a stage for one implementation."""
    simulator = Simulator(create_limit=11 * CREATES_PER_S, credits=1e9)
    with tempfile.TemporaryDirectory(prefix="kiejobs-bench-") as name, s3_server(Path(name) / "s3") as s3:
        storage = s3.environment | {"KIEJOBS_STORAGE_URL": s3.url, "AWS_ENDPOINT_URL": s3.endpoint_url}
        settings = LIMITS | AS_SHIPPED | storage
        with Stage(Path(name), database="postgresql", simulator=simulator, **settings) as stage:
            made = kind(stage, s3.folder / s3.bucket, load)
            for attribute, value in extra.items():
                setattr(made, attribute, value)
            made.start()
            yield made


def cost(kind: type[Contender], load: Load) -> dict[str, float]:
    """Do all jobs; return what one took."""
    with contender(kind, load) as one:
        redis = one.stage.redis.pid
        before = cpu_s(*one.pids()), cpu_s(redis), one.database_cpu_s()
        began = time.monotonic()
        one.feed()
        until("all files are stored", lambda: one.stored() >= load.jobs and one.settled() >= load.jobs, load.within_s)
        after = cpu_s(*one.pids()), cpu_s(redis), one.database_cpu_s()
        took = [(late - early) / load.jobs for early, late in zip(before, after, strict=True)]
        ledger = one.stage.simulator.ledger()
        return {
            "cpu_ms": 1000 * took[0],
            "redis_cpu_ms": 1000 * took[1],
            "postgresql_cpu_ms": 1000 * took[2],
            "polls": len(ledger["queries"]) / load.jobs,
            "took_s": time.monotonic() - began,
            "peak_mb": max(peak_mb(pid) for pid in one.pids()),
            "all_mb": sum(peak_mb(pid) for pid in one.pids()),
            "creates": sum(create["accepted"] for create in ledger["creates"]),
        }


def killed(kind: type[Contender], load: Load, **extra: Any) -> dict[str, Any]:
    """Do all jobs with `kill -9` of every worker when half are bought; return what became of them."""
    with contender(kind, load, **extra) as one:
        one.feed()
        until("half are bought", lambda: len(one.stage.creates()) >= load.jobs // 2, load.within_s)
        one.kill()
        ledger = one.stage.simulator.ledger()
        at = max(entry["at"] for name in ("creates", "queries") for entry in ledger[name])
        bought = {create["taskId"] for create in ledger["creates"] if create["accepted"]}
        had = {path.name if kind is Ours else path.parent.name for path in one.folder.rglob("*") if path.is_file()}
        settle(1.0)
        one.start()
        end = time.monotonic() + load.longest_s + load.jobs / CREATES_PER_S + PARKED_AFTER_S
        while one.settled() < load.jobs and time.monotonic() < end:
            settle(0.5)
        seen = one.stage.simulator.ledger()
        accepted = [create for create in seen["creates"] if create["accepted"]]
        resumed = _first_looks_after(at, seen["queries"])
        looked_at_last = [task for task in bought if task in resumed]
        unfinished = bought - _finished_before(at, seen)
        return {
            "jobs": load.jobs,
            "settled": one.settled(),
            "lost": load.jobs - one.settled(),
            "states": one.states(),
            "creates": len(accepted),
            "doubled_creates": sum(n - 1 for n in Counter(create["prompt"] for create in accepted).values()),
            "in_flight_at_the_kill": len(unfinished),
            "never_looked_at_again": max(len(unfinished - set(resumed)) - one.states().get("unconfirmed", 0), 0),
            "polls_resumed_s": round(max((resumed[task] for task in looked_at_last), default=0.0), 1),
            "stored_before_the_kill": len(had),
        }


def _first_looks_after(at: float, queries: list[dict[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for query in queries:
        if query["at"] > at:
            found.setdefault(query["taskId"], query["at"] - at)
    return found


def _finished_before(at: float, ledger: dict[str, Any]) -> set[str]:
    """Name the tasks whose file was fetched before this moment: nobody has to look at those again."""
    fetched = {entry["path"].split("/")[-2] for entry in ledger["downloads"] if entry["at"] <= at}
    return {task for task in fetched if task}


def statements(load: Load) -> dict[str, float]:
    """Count the statements per poll of ours, from the worker itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "looks"
        with contender(Ours, load, looked=str(path)) as one:
            one.feed()
            until("all jobs are done", lambda: one.settled() >= load.jobs, load.within_s)
            settle(1.0)
        counts = [look["statements"] for look in looks(path)]
    return {"looks": len(counts), "median": statistics.median(counts), "mean": statistics.mean(counts)}


def measure(load: Load, rounds: int, *, kills: bool) -> tuple[dict[str, Any], list[Figure]]:
    """Run everything, in turn."""
    pairs = []
    for number in range(rounds):
        order = (Textbook, Ours) if number % 2 == 0 else (Ours, Textbook)
        found = {kind.__name__: cost(kind, load) for kind in order}
        pairs.append((found["Ours"], found["Textbook"]))
    asked = statements(Load(20, load.shortest_s, min(load.longest_s, 20)))
    ours, theirs = pairs[0]
    ratio = statistics.median(mine["cpu_ms"] / its["cpu_ms"] for mine, its in pairs)
    words = f"{ours['cpu_ms']:.0f} ms of CPU and {ours['polls']:.1f} looks per job"
    words += f"; textbook {theirs['cpu_ms']:.0f} ms and {theirs['polls']:.1f} looks"
    figures = [
        Figure("cost of a generation: workers' CPU time, ours / textbook", ratio, "×", at_most=0.6, beside=words),
        Figure("peak memory of a worker", max(one["peak_mb"] for one, _ in pairs), "MB", at_most=120,
               beside=f"textbook {theirs['peak_mb']:.0f} MB"),
        Figure("database statements per look, of short jobs", asked["mean"],
               beside="first looks tell news; `benchmarks.lateness` counts the others"),
    ]  # fmt: skip
    details: dict[str, Any] = {"jobs": load.jobs, "rounds": pairs, "statements": asked}
    if kills:
        more, judged = _killed(load)
        details |= more
        figures += judged
    return details, figures


def _killed(load: Load) -> tuple[dict[str, Any], list[Figure]]:
    ours, early = killed(Ours, load), killed(Textbook, load)
    late = killed(Textbook, load, late=True)
    beside = "textbook {} (early acknowledgement), {} (late)"
    figures = [
        Figure("killed: jobs neither ended nor parked when the run ended", ours["lost"], at_most=0,
               beside=beside.format(early["lost"], late["lost"])),
        Figure("killed: doubled creates", ours["doubled_creates"], at_most=0,
               beside=beside.format(early["doubled_creates"], late["doubled_creates"])),
        Figure("killed: jobs in flight that nobody looked at again", ours["never_looked_at_again"], at_most=0,
               beside=beside.format(early["never_looked_at_again"], late["never_looked_at_again"])),
        Figure("killed: until the last lane was polled again", ours["polls_resumed_s"], "s", at_most=30),
        Figure("killed inside a create call: jobs parked as `unconfirmed`", ours["states"].get("unconfirmed", 0)),
    ]  # fmt: skip
    return {"killed": {"ours": ours, "textbook, early": early, "textbook, late": late}}, figures


def main() -> None:
    """Run from the command line."""
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--no-kills", action="store_true")
    given = parser.parse_args()
    load = Load(60, 4, 15) if given.small else Load(500, 6, 60)
    tell(*measure(load, given.rounds, kills=not given.no_kills))


if __name__ == "__main__":
    main()
