"""What statements cost with 100,000 jobs queued and 1,000,000 finished: `python -m benchmarks.backlog [--small]`.

A PostgreSQL database of its own is filled by `generate_series`; then the product's own functions run against it (pump,
sweep, enqueue, the beginning of a create, a look, a copy, the gateway's reads and `/metrics`), several times each. Every
statement is timed where it is executed and explained beside that; the plans go to `benchmarks/plans/`. What must not
appear is a sequential scan of a table that grows. At the end a worker and beat work on that backlog for a while, and the
worker's memory is read at the beginning and at the end.
"""

import re
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import event, text

from benchmarks.figures import Figure, options, rss_mb, settle, tell
from kiejobs.db import accounts, copies, counters, figures, ledger, looks, rescue, tally
from kiejobs.db.health import health
from kiejobs.db.session import Database
from kiejobs.nudge import Nudge
from kiejobs.producer import KieJobs
from kiejobs.simulator import Simulator
from tests.acceptance.stage import BEAT, QUICK, Stage, until
from workers.runtime import Runtime
from workers.sweeps.pump import pump
from workers.sweeps.stale import sweep

PLANS = Path(__file__).parent / "plans"
GROWING = ("jobs", "payloads", "submissions", "outputs", "deliveries", "events", "callbacks")
AT_MOST_MS = 10.0
FLAT_MB = 5.0
DUE = 2000
"""Jobs, outputs and messages that are in flight or due, beside the queued and the finished ones."""

FILL = """
INSERT INTO jobs (id, tenant, account, model, family, priority, state, version, created_at, line_at, due_at, accepted_at,
                  ended_at, submission_id, provider_task_id, polls, troubles, empty_looks, executions, nudges, late,
                  cancel_requested, sequence, request_hash, input_hash, credits, idempotency_key, word)
SELECT gen_random_uuid(), 'tenant' || n % 20, 'default',
       (ARRAY['z-image', 'veo3_fast', 'grok-imagine/text-to-image'])[1 + n % 3],
       'jobs', CASE WHEN n % 10 = 0 THEN 'batch' ELSE 'interactive' END, CAST(:state AS text), 4,
       now() - n * interval '1 second' * :age, CASE WHEN :state = 'queued' THEN now() - n * interval '1 second' END,
       CASE WHEN :state IN ('waiting', 'storing') THEN now() + (n % 20 - 10) * interval '1 second' END,
       CASE WHEN :state <> 'queued' THEN now() - n * interval '1 second' * :age END,
       CASE WHEN :state = 'success' THEN now() - n * interval '1 second' * :age + interval '60 seconds' END,
       CASE WHEN :state <> 'queued' THEN gen_random_uuid() END,
       CASE WHEN :state <> 'queued' THEN md5(:state || n) END, 12, 0, 0, 0, 0, false, false, 1,
       md5('r' || :state || n), md5('i' || :state || n), CASE WHEN :state = 'success' THEN 4 END,
       'key-' || :state || n, CASE WHEN :state <> 'queued' THEN 'generating' END
FROM generate_series(1, :count) AS n
"""
REST = (
    """INSERT INTO payloads (job_id, request)
    SELECT id, '{"input": {"prompt": "a red panda on a mossy log"}, "metadata": {}}' FROM jobs""",
    """INSERT INTO submissions (id, job_id, seq, tenant, account, model, state, request_hash, sending_at, deadline_at,
                                settled_at, provider_task_id, credits)
    SELECT submission_id, id, 1, tenant, account, model, 'accepted', request_hash, created_at, created_at + interval '32 s',
           created_at + interval '1 s', provider_task_id, credits FROM jobs WHERE submission_id IS NOT NULL""",
    """INSERT INTO outputs (job_id, position, role, state, version, due_at, nudges, attempts, refusals, executions, url,
                            expires_at, link_expired, received_bytes, key, media_type, size_bytes, sha256, stored_at)
    SELECT id, 0, 'result', CASE WHEN state = 'success' THEN 'stored' ELSE 'pending' END, 1,
           CASE WHEN state = 'storing' THEN now() - interval '1 second' END, 0, 1, 0, 0, 'https://files.example/' || id,
           created_at + interval '14 days', false, 0, tenant || '/' || id, 'image/png', 100000, repeat('0', 64), ended_at
    FROM jobs WHERE state IN ('success', 'storing')""",
    """INSERT INTO deliveries (id, job_id, sequence, kind, url, state, version, due_at, nudges, attempts, body, created_at)
    SELECT gen_random_uuid(), id, 1, 'job.succeeded', 'https://producer.example/hook',
           CASE WHEN rank <= 1000 THEN 'pending' ELSE 'delivered' END, 1,
           CASE WHEN rank <= 1000 THEN now() + (rank - 100) * interval '1 second' END, 0, 1, '{}', created_at
    FROM (SELECT id, created_at, row_number() OVER () AS rank FROM jobs WHERE state = 'success') AS ended
    WHERE rank % 4 = 0 OR rank <= 1000""",
    """INSERT INTO events (job_id, at, kind, who, from_state, to_state, note)
    SELECT id, created_at, 'queued', 'producer', NULL, 'queued', 'accepted' FROM jobs""",
    """INSERT INTO events (job_id, at, kind, who, from_state, to_state, note)
    SELECT id, ended_at, 'stored', 'worker', 'storing', 'success', 'every output is stored' FROM jobs
    WHERE state = 'success'""",
    "ANALYZE",
)


@dataclass
class Watched:
    """Every statement that was executed: under which name, how long it took, and its plan."""

    name: str = ""
    times_ms: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    plans: dict[tuple[str, str], str] = field(default_factory=dict)

    def on(self, database: Database) -> None:
        """Watch the statements of this database's connections."""
        event.listen(database.engine, "before_cursor_execute", self._before)
        event.listen(database.engine, "after_cursor_execute", self._after)

    def off(self, database: Database) -> None:
        """Watch no more."""
        event.remove(database.engine, "before_cursor_execute", self._before)
        event.remove(database.engine, "after_cursor_execute", self._after)

    def _before(self, *given: Any) -> None:
        _, cursor, statement, parameters, context, many = given
        key = self.name, statement
        if key not in self.plans and re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)", statement):
            with cursor.connection.cursor() as beside:
                beside.execute("EXPLAIN " + statement, parameters[0] if many else parameters)
                self.plans[key] = "\n".join(row[0] for row in beside.fetchall())
        context.began = time.perf_counter()

    def _after(self, *given: Any) -> None:
        _, _, statement, _, context, _ = given
        self.times_ms.setdefault((self.name, statement), []).append(1000 * (time.perf_counter() - context.began))

    def worst_ms(self, *names: str) -> float:
        """Return the slowest statement of these, by its median."""
        return max(statistics.median(times) for (name, _), times in self.times_ms.items() if name in names)

    def scans(self) -> dict[str, list[str]]:
        """List the statements that read a growing table from one end to the other, by what ran them."""
        found: dict[str, list[str]] = {}
        pattern = re.compile(rf"Seq Scan on ({'|'.join(GROWING)})\b")
        for (name, statement), plan in self.plans.items():
            if pattern.search(plan):
                found.setdefault(name, []).append(" ".join(statement.split())[:160])
        return found

    def keep(self, folder: Path) -> None:
        """Write the plans down, one file for each name."""
        folder.mkdir(exist_ok=True)
        for name in {name for name, _ in self.plans}:
            parts = [
                f"-- {statistics.median(self.times_ms[key]):.2f} ms, median of {len(self.times_ms[key])}\n"
                f"{' '.join(key[1].split())}\n\n{plan}\n"
                for key, plan in self.plans.items()
                if key[0] == name and key in self.times_ms
            ]
            (folder / f"{name.replace(' ', '-').replace('/', '')}.txt").write_text("\n\n".join(parts))


def fill(database: Database, queued: int, finished: int) -> None:
    """Fill the tables."""
    with database.write() as tx:
        parts = (("queued", queued, 1), ("success", finished, 15), ("waiting", DUE, 0.05), ("storing", DUE, 0.05))
        for state, count, age in parts:
            tx.execute(text(FILL), {"state": state, "count": count, "age": age})
        for statement in REST:
            tx.execute(text(statement))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM"))


def _input() -> dict[str, Any]:
    return {"prompt": f"a heron, {time.monotonic_ns()}", "aspect_ratio": "1:1"}


def operations(stage: Stage, rt: Runtime) -> dict[str, Callable[[], object]]:
    """Name what is run; each takes a job of its own where it changes one."""
    database, budget = rt.database, rt.budget("default")
    tenant = KieJobs(stage.settings, tenant="tenant7", database=database, publish=lambda nudges: None)
    one = stage.query("SELECT id FROM jobs WHERE state = 'success' AND tenant = 'tenant7' LIMIT 1")[0].id
    in_line = [
        str(row.id) for row in stage.query("SELECT id FROM jobs WHERE state = 'queued' ORDER BY line_at LIMIT 500")
    ]
    waiting = [
        (str(row.id), row.version) for row in stage.query("SELECT id, version FROM jobs WHERE state = 'waiting'")
    ]
    storing = [str(row.id) for row in stage.query("SELECT id FROM jobs WHERE state = 'storing'")]

    def begin() -> None:
        with database.write() as tx:
            row = ledger.look(tx, in_line[0])
            assert row is not None
            ledger.begin(tx, in_line.pop(0), "default", budget, deadline_s=30, who="benchmark")

    def look() -> None:
        looks.claim(database, *waiting.pop(), claim_s=45, accounts=["default"])

    def copy() -> None:
        copies.most_urgent(database, within_s=3600)
        copies.claim(database, storing.pop(), 0, lease_s=60)

    return {
        "pump": lambda: pump(rt),
        "sweep": lambda: sweep(rt),
        "tally": lambda: tally.tally(database, str),
        "enqueue": lambda: tenant.enqueue("z-image", _input(), idempotency_key=str(time.monotonic_ns())),
        "enqueue with reuse": lambda: tenant.enqueue("z-image", _input(), reuse_within_s=86400),
        "begin a create": begin,
        "look": look,
        "jobs in flight": lambda: looks.in_flight(database, "default"),
        "copy": copy,
        "get": lambda: tenant.get_whole(str(one)),
        "list": lambda: tenant.list(limit=50),
        "list failed": lambda: tenant.list(state="fail", limit=50),
        "list waiting": lambda: tenant.list(state="waiting", limit=50),
        "list by model": lambda: tenant.list(model="veo3_fast", limit=50),
        "deliveries": lambda: tenant.deliveries(limit=50),
        "metrics": lambda: (figures.figures(database, ["default"], window_s=10), counters.everything(database)),
        "readyz": lambda: rescue.last_beat_age_s(database, "sweep"),
        "health page": lambda: health(database, allowances={}),
        "accounts": lambda: accounts.listed(database, {"default": budget}),
        "prune": lambda: rescue.forget_jobs(database, older_s=400 * 86400.0),
    }  # fmt: skip


QUICK_ONES = ("pump", "sweep", "enqueue", "enqueue with reuse", "begin a create", "look", "jobs in flight", "copy")
"""What runs for every job, or every second."""
READS = ("get", "list", "list waiting", "list by model", "deliveries", "readyz", "metrics", "health page")


def measure(queued: int, finished: int, rounds: int, working_s: float) -> tuple[dict[str, Any], list[Figure]]:
    """Fill, run everything, then let a worker run."""
    watched = Watched()
    simulator = Simulator(create_limit=0, credits=1e12)
    with (
        tempfile.TemporaryDirectory(prefix="kiejobs-bench-") as folder,
        Stage(Path(folder), database="postgresql", simulator=simulator) as stage,
    ):
        began = time.monotonic()
        fill(stage.jobs.database, queued, finished)
        filled_s = time.monotonic() - began
        sent: list[Nudge] = []
        rt = Runtime(stage.settings, sent.extend, database=stage.jobs.database)
        run_by_name = operations(stage, rt)
        watched.on(rt.database)
        for name, run in run_by_name.items():
            watched.name = name
            for _ in range(rounds):
                run()
        watched.off(rt.database)
        memory = _memory(stage, working_s)
    watched.keep(PLANS)
    return _judged(watched, filled_s, memory, queued, finished)


def _memory(stage: Stage, working_s: float) -> list[float]:
    worker = stage.start(QUICK)
    until("the worker is ready", lambda: stage.is_ready(worker), 60)
    stage.start(BEAT)
    settle(10.0)  # until every thread has been used
    found = []
    for _ in range(3):
        settle(working_s / 3)
        found.append(rss_mb(worker.pid))
    return found


def _judged(
    watched: Watched, filled_s: float, memory: list[float], queued: int, finished: int
) -> tuple[dict[str, Any], list[Figure]]:
    scans = watched.scans()
    slowest = {name: round(watched.worst_ms(name), 2) for name in sorted({name for name, _ in watched.times_ms})}
    beside = f"{queued:,} queued, {finished:,} finished"
    found = [
        Figure("slowest statement of the pump", slowest["pump"], "ms", AT_MOST_MS, beside=beside),
        Figure("slowest statement of the sweep", slowest["sweep"], "ms", AT_MOST_MS, beside=beside),
        Figure("slowest statement of enqueue, create, look, copy", watched.worst_ms(*QUICK_ONES), "ms", AT_MOST_MS),
        Figure("statements of these that scan a growing table", sum(len(scans.get(one, ())) for one in QUICK_ONES),
               at_most=0),
        Figure("slowest statement of the gateway's reads", watched.worst_ms(*READS), "ms"),
        Figure("growth of a worker's memory while it works on that", memory[-1] - memory[0], "MB", FLAT_MB,
               beside=f"{memory[0]:.0f} MB at the beginning"),
    ]  # fmt: skip
    details = {"slowest_ms": slowest, "scans": scans, "filled_s": round(filled_s, 1), "memory_mb": memory}
    return details, found


def main() -> None:
    """Run and judge."""
    given = options(__doc__).parse_args()
    tell(*measure(*((5_000, 50_000, 5, 15.0) if given.small else (100_000, 1_000_000, 9, 60.0))))


if __name__ == "__main__":
    main()
