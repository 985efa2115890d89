"""Callbacks with real processes: workers, gateway and a Kie that signs what it sends."""

import sys
import time
from uuid import UUID

import pytest
import requests

from kiejobs.db import reads
from kiejobs.kie.callbacks import token
from kiejobs.simulator import Simulator
from tests.acceptance.stage import BEAT, COPIES, QUICK, Stage, free_port, has_redis, kill, until
from tests.support import REAL_DATABASES, missing, postgresql_answers

HMAC_KEY, SECRET = "key-that-kie-signs-with", "c" * 32
SLOW_LANE = {"KIEJOBS_QUERY_LIMIT_PER_S": "0.01"}
"""Looks of one job lie a minute and more apart: whatever is found sooner was not found by its lane."""


@pytest.fixture(params=REAL_DATABASES)
def stage(request, tmp_path):
    if not has_redis():
        missing("redis-server on PATH")
    if request.param == "postgresql" and not postgresql_answers():
        missing("PostgreSQL on 127.0.0.1:5432")
    port = free_port()
    settings = {
        "KIEJOBS_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "KIEJOBS_CALLBACK_SECRET": SECRET,
        "KIE_WEBHOOK_HMAC_KEY": HMAC_KEY,
        "KIEJOBS_SWEEP_GRACE_S": "10",  # a busy machine is late without anything being lost
    } | SLOW_LANE
    simulator = Simulator(duration_s=2.0, hmac_key=HMAC_KEY)
    with Stage(tmp_path, database=request.param, simulator=simulator, **settings) as made:
        made.gateway_url = settings["KIEJOBS_PUBLIC_URL"]  # type: ignore[attr-defined]
        command = [sys.executable, "-m", "kiejobs.cli", "gateway", "--port", str(port)]
        made.processes.append(made._spawn(command, "gateway"))
        until("the gateway answers", lambda: _answers(f"{made.settings.public_url}/healthz"), 30)
        yield made


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == 200
    except (requests.ConnectionError, requests.Timeout):
        return False


def found_by(stage: Stage) -> dict[str, int]:
    return reads.finished_by(stage.jobs.database, None)


def test_the_callback_finishes_the_job_long_before_the_next_look(stage):
    """Signed by Kie, checked, looked at once, stored; and every forged one changes nothing on the way."""
    stage.start_all()
    began = time.monotonic()
    ids = stage.enqueue(3, "[[duration=16]] [[outputs=1]]")  # the lane is counted anew every 10 s
    bound = "SELECT id, provider_task_id FROM submissions WHERE provider_task_id IS NOT NULL"
    for row in until("Kie's tasks are known", lambda: len(found := stage.query(bound)) == 3 and found):
        forged = {"taskId": row.provider_task_id, "data": {"state": "success", "resultUrls": ["http://127.0.0.1:9/x"]}}
        address = f"{stage.settings.public_url}/callbacks/kie/{token(str(UUID(str(row.id))), SECRET)}"
        assert requests.post(address, json=forged, timeout=5).status_code == 403
    assert [job.phase for job in stage.ended(ids, 50)] == ["success"] * 3
    assert time.monotonic() - began < 55
    assert found_by(stage) == {"callback": 3}
    verdicts = [row.verdict for row in stage.query("SELECT verdict FROM callbacks ORDER BY id")]
    assert verdicts == ["refused: not signed"] * 3 + ["accepted"] * 3


def test_a_worker_killed_inside_the_create_call_is_made_good_by_the_callback(stage):
    """Nobody knows the task but Kie, and Kie says so; it is adopted without anybody's help, and bought once."""
    worker, _, _ = stage.start(QUICK), stage.start(COPIES), stage.start(BEAT)
    stage.hold_creates()
    (job_id,) = stage.enqueue(1, "[[duration=6]] [[outputs=1]]")
    until("Kie took the create call", lambda: stage.held_creates() == 1)
    kill(worker)
    stage.release_creates()
    stage.start(QUICK)
    (job,) = stage.ended([job_id], 60)
    assert job.phase == "success", stage.logs()
    assert len(stage.creates()) == 1
    assert [row.state for row in stage.query("SELECT state FROM candidates")] == ["adopted"]
    assert found_by(stage) == {"callback": 1}


def test_an_unconfirmed_job_is_adopted_by_the_callback(stage):
    """Kie took the task and did not say which: parked at once, adopted when it has ended."""
    stage.start_all()
    (job_id,) = stage.enqueue(1, "[[no-task-id]] [[duration=8]] [[outputs=1]]")
    until("it is parked", lambda: stage.jobs.get(job_id).phase == "unconfirmed")
    until("it is adopted and stored", lambda: stage.jobs.get(job_id).phase == "success")
    assert len(stage.creates()) == 1
    assert found_by(stage) == {"callback": 1}


@pytest.mark.parametrize("stage", ["postgresql"], indirect=True)
def test_with_every_callback_lost_jobs_still_finish(tmp_path, stage):
    """Polling is the safety net."""
    stage.env["KIEJOBS_QUERY_LIMIT_PER_S"] = "10"
    stage.start_all()
    ids = stage.enqueue(3, "[[duration=3]] [[outputs=1]] [[no-callback]]")
    assert [job.phase for job in stage.ended(ids, 60)] == ["success"] * 3
    assert found_by(stage) == {"poll": 3}
    assert stage.query("SELECT 1 FROM callbacks") == []
