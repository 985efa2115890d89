"""Collects the facts of a soak: from the simulator over HTTP, from the database, from the stored files, from the logs.

What arrived at the producers' server is given: it has to stand still before the rows are read.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from sqlalchemy import func, select

from kiejobs import KieJobs
from kiejobs.db.clock import clock
from kiejobs.db.tables import callbacks, deliveries, events, jobs, outputs, payloads, submissions
from tests.acceptance.stage import Stage
from tests.chaos.facts import Arrival, Create, Facts, Job, Message, Move, Output, Submission
from tests.chaos.scenarios import label_of


def collect(
    stage: Stage,
    *,
    producers: Iterable[KieJobs],
    acknowledged: Mapping[str, str],
    addresses: Mapping[str, str],
    arrivals: tuple[Arrival, ...],
    keys: Mapping[str, str],
    secrets: re.Pattern[str],
    credits: float,
    sometimes: dict[str, int],
) -> Facts:
    """Collect everything. `keys` are the accounts' keys by name, `credits` what each account began with."""
    ledger: dict[str, Any] = stage.simulator.ledger()  # first: what follows asks Kie too, and is not to be counted
    tasks = {c["taskId"]: keys_of(c, keys) for c in ledger["creates"] if c["accepted"]}
    records = {task_id: _record(stage, key, task_id) for task_id, key in tasks.items()}
    left = sum(float(_ask(stage, key, "/api/v1/chat/credit")) for key in keys.values())
    with stage.jobs.database.read() as connection:
        job_rows = connection.execute(
            select(jobs, payloads.c.request).join(payloads, payloads.c.job_id == jobs.c.id)
        ).all()
        submission_rows = connection.execute(select(submissions).order_by(submissions.c.sending_at)).all()
        output_rows = connection.execute(select(outputs)).all()
        told = connection.execute(
            select(events).where(events.c.to_state.is_not(None)).order_by(events.c.job_id, events.c.id)
        ).all()
        message_rows = connection.execute(
            select(deliveries, clock().label("now")).order_by(deliveries.c.job_id, deliveries.c.sequence)
        ).all()
        refused = connection.scalar(
            select(func.count()).select_from(callbacks).where(callbacks.c.verdict.startswith("refused"))
        )
    return Facts(
        acknowledged=dict(acknowledged),
        creates=tuple(_create(create, records) for create in ledger["creates"]),
        jobs=tuple(
            Job(row.id, label_of(row.request["input"]["prompt"]), str(row.state), row.polls, row.reason, row.tenant)
            for row in job_rows
        ),
        submissions=tuple(
            Submission(
                row.id,
                row.job_id,
                str(row.state),
                row.provider_task_id,
                None if row.credits is None else float(row.credits),
                row.approved_by is not None,
            )
            for row in submission_rows
        ),
        outputs=tuple(_output(row, Path(stage.settings.storage)) for row in output_rows),
        moves=tuple(Move(row.job_id, row.from_state, row.to_state) for row in told),
        served={task_id: served(stage, tasks[task_id], record) for task_id, record in records.items()},
        unknown_spend=frozenset(entry.submission_id for producer in producers for entry in producer.unknown_spend()),
        spent=credits * len(keys) - left,
        addresses=dict(addresses),
        messages=tuple(_message(row) for row in message_rows),
        arrivals=arrivals,
        callbacks_refused=int(refused or 0),
        queries=len(ledger["queries"]),
        violations=ledger["create_violations"],
        leaks=len(ledger["leaks"]),
        secrets_in_logs=sum(_tells(path, secrets) for path in stage.folder.glob("*.log")),
        sometimes=sometimes,
    )


def keys_of(create: Mapping[str, Any], keys: Mapping[str, str]) -> str:
    """Return the key that a create call was made with: without a key map, the simulator's accounts are named by it."""
    return next(key for key in keys.values() if key == create["account"])


def overdue_messages(stage: Stage) -> list[str]:
    """List the messages that should be on their way by now."""
    due = (deliveries.c.state == "pending") & (deliveries.c.due_at <= clock())
    with stage.jobs.database.read() as connection:
        return list(connection.scalars(select(deliveries.c.id).where(due)))


def _message(row: Any) -> Message:
    return Message(
        id=row.id,
        job_id=row.job_id,
        sequence=row.sequence,
        kind=row.kind,
        state=str(row.state),
        address=urlsplit(row.url).path,
        attempts=row.attempts,
        due_in_s=None if row.due_at is None else (row.due_at - row.now).total_seconds(),
    )


def _tells(path: Path, secrets: re.Pattern[str]) -> bool:
    return bool(secrets.search(path.read_text(errors="replace")))


def _record(stage: Stage, key: str, task_id: str) -> Any:
    """Read a task's record; again where a scenario shows it unfinished once more, or without its result."""
    for _ in range(5):
        record = _ask(stage, key, f"/api/v1/jobs/recordInfo?taskId={task_id}")
        if record["state"] == "fail" or record["resultJson"]:
            break
    return record


def _ask(stage: Stage, key: str, path: str) -> Any:
    for _ in range(10):  # scenarios refuse the first few queries of a task
        headers = {"Authorization": f"Bearer {key}"}
        answer = requests.get(f"{stage.simulator.base_url}{path}", headers=headers, timeout=10)
        if answer.status_code == 200 and answer.json()["code"] == 200:
            return answer.json()["data"]
    raise AssertionError(f"the simulator does not answer {path}: {answer.status_code} {answer.text[:200]}")


def _create(create: dict[str, Any], records: Mapping[str, Any]) -> Create:
    task_id = create["taskId"]
    charged = float(records[task_id]["creditsConsumed"]) if task_id else 0.0
    return Create(label_of(create["prompt"]), create["at"], create["account"], task_id, charged)


def served(stage: Stage, key: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Fetch every file of a task from the simulator and return the digests, by index. What it spoils is left out."""
    prompt = str(record["param"])
    if record["state"] != "success" or "[[truncate" in prompt or "[[html-result" in prompt:
        return ()
    return tuple(_digest_at(stage, key, url) for url in _urls(stage, record))


def _urls(stage: Stage, record: Mapping[str, Any]) -> list[str]:
    result = json.loads(record["resultJson"] or "{}")
    songs = result.get("data") or []
    if songs:
        return [song["audio_url"] for song in songs] + [song["image_url"] for song in songs]
    return list(result.get("resultUrls") or [])


def _digest_at(stage: Stage, key: str, url: str) -> str:
    headers = {"Authorization": f"Bearer {key}"}
    fresh = requests.post(
        f"{stage.simulator.base_url}/api/v1/common/download-url", json={"url": url}, headers=headers, timeout=10
    )
    answer = requests.get(fresh.json()["data"], timeout=60)
    answer.raise_for_status()
    return hashlib.sha256(answer.content).hexdigest()


def _output(row: Any, media: Path) -> Output:
    path = media / row.key if row.key else None
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path and path.is_file() else None
    return Output(row.job_id, row.position, str(row.state), row.key, row.sha256, found, row.attempts)
