"""Jobs that are in flight at once, without the minutes it takes to get there: rows and the simulator's tasks, in bulk.

Each is `waiting`, three minutes old (the ladder's last rung, 15 s), due at a moment of the next rung, and has its nudge in
the broker, as if its last look had published it.
"""

import random
import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import local
from typing import Any

import requests
from sqlalchemy import insert

from kiejobs import nudge
from kiejobs.db.clock import clock
from kiejobs.db.tables import jobs, payloads, submissions
from kiejobs.nudge import poll_nudge
from kiejobs.pacing import rung_s
from tests.acceptance.stage import Stage

AGE_S = 180.0
RUNG_S = rung_s(AGE_S)
MODEL = "grok-imagine/text-to-image"
BEGIN_S = 3.0
"""Before the first of them is due."""

_here = local()


def fill(stage: Stage, count: int, duration_s: float) -> list[str]:
    """Put so many jobs in flight that Kie finishes after `duration_s`; return their ids."""
    with ThreadPoolExecutor(4) as pool:
        tasks = list(pool.map(lambda number: _task(stage, number, duration_s), range(count)))
    rng = random.Random(7)
    due = [BEGIN_S + rng.uniform(0, RUNG_S) for _ in tasks]
    rows = [_row(task, wait_s) for task, wait_s in zip(tasks, due, strict=True)]
    with stage.jobs.database.write() as tx:
        for row in rows:
            tx.execute(insert(jobs).values(**row))
        tx.execute(insert(payloads), [{"job_id": row["id"], "request": {"input": {}}} for row in rows])
        for row in rows:
            tx.execute(insert(submissions).values(**_submission(row)))
    publish = nudge.publisher(nudge.producer_app(stage.env["KIEJOBS_BROKER_URL"]))
    publish(poll_nudge(row["id"], 3, countdown_s=wait_s, polls=40) for row, wait_s in zip(rows, due, strict=True))
    return [row["id"] for row in rows]


def _task(stage: Stage, number: int, duration_s: float) -> str:
    if not hasattr(_here, "session"):
        _here.session = requests.Session()
    prompt = f"{number} [[duration={duration_s:g}]] [[outputs=1]]"
    answer = _here.session.post(
        f"{stage.simulator.base_url}/api/v1/jobs/createTask",
        headers={"Authorization": "Bearer key-of-the-stage"},
        json={"model": MODEL, "input": {"prompt": prompt}},
        timeout=30,
    )
    return str(answer.json()["data"]["taskId"])


def _row(task_id: str, wait_s: float) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "tenant": "default",
        "account": "default",
        "model": MODEL,
        "family": "jobs",
        "priority": "interactive",
        "state": "waiting",
        "version": 3,
        "created_at": clock(-AGE_S - 5),
        "accepted_at": clock(-AGE_S),
        "due_at": clock(wait_s),
        "submission_id": str(uuid.uuid4()),
        "provider_task_id": task_id,
        "word": "generating",
        "polls": 40,
        "request_hash": "0" * 64,
    }


def _submission(row: dict[str, Any]) -> dict[str, Any]:
    same = {name: row[name] for name in ("tenant", "account", "model", "request_hash", "provider_task_id")}
    times = {"sending_at": clock(-AGE_S - 1), "deadline_at": clock(-AGE_S + 31), "settled_at": clock(-AGE_S)}
    return same | times | {"id": row["submission_id"], "job_id": row["id"], "seq": 1, "state": "accepted"}
