"""What real workers leave behind of what they saw: figures in the database, and log lines that say what they are about."""

import json
import signal

from kiejobs import counted
from kiejobs.counted import counts_of, spreads_of
from kiejobs.db import counters
from tests.acceptance.stage import Stage, has_redis, kill, until
from tests.support import missing


def test_a_worker_that_is_stopped_leaves_its_figures_and_lines_that_name_the_job(tmp_path):
    """Without waiting for the ten seconds after which it would have written them down anyway."""
    if not has_redis():
        missing("redis-server on PATH")
    with Stage(tmp_path, KIEJOBS_LOG_FORMAT="json") as stage:
        workers = stage.start_all()
        prompt = {"prompt": "a cat [[duration=1]] [[outputs=1]]"}
        (job,) = stage.ended([stage.jobs.enqueue("grok-imagine/text-to-image", prompt).id])
        for process in workers:
            kill(process, signal.SIGTERM)
        sums = counters.everything(stage.jobs.database)
        assert counts_of(counted.CREATES, sums)[("accepted",)] == 1
        assert counts_of(counted.KIE_CALLS, sums)[("create", "200")] == 1
        assert counts_of(counted.KIE_CALLS, sums)[("read", "200")] >= job.polls
        assert counts_of(counted.STORED_FILES, sums)[()] == 1
        assert counts_of(counted.STORED_BYTES, sums)[()] == job.outputs[0].size_bytes
        assert dict(spreads_of(counted.KIE_CALL_S, sums)[("create",)].at_most)[float("inf")] == 1
        (create,) = stage.query("SELECT id, provider_task_id FROM submissions")
        lines = [
            json.loads(line)
            for log in tmp_path.glob("*.log")
            for line in log.read_text().splitlines()
            if line[:1] == "{"
        ]
        (bought,) = [line for line in lines if "create call of submission" in line["message"]]
        assert bought["job"] == job.id
        assert bought["submission"].replace("-", "") == create.id.replace("-", "")
        assert bought["kie_task"] == create.provider_task_id
        assert bought["celery_task"] == job.id


def test_the_sweep_adds_the_timelines_up(tmp_path):
    """By itself, some seconds after they were written."""
    if not has_redis():
        missing("redis-server on PATH")
    with Stage(tmp_path) as stage:
        stage.start_all()
        until("counting has begun", lambda: ("tally", "last_event") in counters.everything(stage.jobs.database))
        prompt = {"prompt": "a cat [[duration=1]] [[outputs=1]]"}
        (job,) = stage.ended([stage.jobs.enqueue("grok-imagine/text-to-image", prompt).id])

        def ended() -> dict[tuple[str, ...], float]:
            return counts_of(counted.JOBS_ENDED, counters.everything(stage.jobs.database))

        assert until("its end is counted", ended) == {("success", "grok-imagine/text-to-image"): 1}
        polls = spreads_of(counted.POLLS, counters.everything(stage.jobs.database))[()]
        assert polls.sum == job.polls
