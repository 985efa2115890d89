"""What a worker under measurement notes of its own looks: `celery worker -I benchmarks.observed`.

For each look at Kie's record, how long after it was due the request was about to be sent, and how many statements
the database was asked meanwhile. Kept in memory and written, one JSON line a look, twice a second to the file that
BENCH_LOOKS names. The product knows nothing of this.
"""

import json
import os
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from celery import signals
from sqlalchemy import event
from sqlalchemy.engine import Engine

from kiejobs.kie.client import KieClient
from kiejobs.nudge import Nudge
from workers.waiting import Waiting

POLL = "kiejobs.poll_status"
_here = threading.local()
_lines: list[dict[str, Any]] = []
_due: dict[tuple[str | None, Any], float] = {}


@signals.task_prerun.connect
def _begins(task: Any, **_: Any) -> None:
    _here.look = {"late_s": None, "statements": 0} if task.name == POLL else None
    eta, waited = task.request.eta, (task.request.id, (task.request.kwargs or {}).get("version"))
    _here.due_s = _due.pop(waited, None) or (datetime.fromisoformat(eta).timestamp() if eta else None)


@signals.task_postrun.connect
def _ends(task: Any, **_: Any) -> None:
    look = getattr(_here, "look", None)
    if look is not None:
        _here.look = None
        _lines.append(look)


@event.listens_for(Engine, "before_cursor_execute")
def _asked(*_: Any) -> None:
    look = getattr(_here, "look", None)
    if look is not None:
        look["statements"] += 1


def _record(client: KieClient, *given: Any, **more: Any) -> Any:
    look = getattr(_here, "look", None)
    if look is not None and _here.due_s is not None:
        look["late_s"] = time.time() - _here.due_s
    return _unobserved(client, *given, **more)


def _waits(waiting: Waiting, nudge: Nudge) -> bool:
    """Remember when a look is due that waits in the worker: no message says so."""
    if nudge.countdown_s:
        _due[nudge.task_id, nudge.kwargs.get("version")] = time.time() + nudge.countdown_s
    return _kept(waiting, nudge)


_kept = Waiting._waits
Waiting._waits = _waits  # type: ignore[method-assign]
_unobserved = KieClient.record
KieClient.record = _record  # type: ignore[method-assign]


def _write() -> None:
    path = Path(os.environ["BENCH_LOOKS"])
    never = threading.Event()
    while not never.wait(0.5):
        taken = [_lines.pop(0) for _ in range(len(_lines))]
        with path.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in taken)


def looks(path: Path) -> list[dict[str, Any]]:
    """Read what a worker has written."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


if "BENCH_LOOKS" in os.environ:
    threading.Thread(target=_write, name="observed", daemon=True).start()
