"""The printed recipes, and a batch from the command line, as somebody runs them: against real workers and the simulator."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from kiejobs import Job
from tests.acceptance.stage import TOP, Stage, has_redis, until
from tests.support import missing


@pytest.fixture
def stage(tmp_path: Path):
    if not has_redis():
        missing("redis-server on PATH")
    with Stage(tmp_path) as made:
        made.start_all()
        yield made


def start(stage: Stage, *words: str) -> "subprocess.Popen[str]":
    """Run a Python program of a producer in an empty folder of the stage."""
    command = [sys.executable, *words]
    return subprocess.Popen(
        command, cwd=stage.folder, env=stage.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def recipe(stage: Stage, name: str, *words: str) -> tuple[int, list[str], str]:
    """Run a recipe to its end: its exit code, its lines, its errors."""
    program = start(stage, str(TOP / "examples" / name), *words)
    out, err = program.communicate(timeout=120)
    return program.returncode, out.splitlines(), err


def sent(stage: Stage, model: str) -> list[dict]:
    """The create calls of a model that the simulator took."""
    return [create for create in stage.creates() if create["model"] == model]


def input_of(stage: Stage, job: Job) -> dict:
    """The input that reached the simulator, as the task's record tells it."""
    answer = requests.get(
        f"{stage.simulator.base_url}/api/v1/jobs/recordInfo",
        params={"taskId": job.provider_task_id},
        headers={"Authorization": f"Bearer {stage.env['KIE_API_KEY']}"},
        timeout=10,
    )
    return json.loads(json.loads(answer.json()["data"]["param"])["input"])


def test_the_banner_series_is_bought_once_and_kept(stage: Stage) -> None:
    """Two takes of each product, a failure that stops no other, and nothing bought by the second run."""
    products = ("Smartphone X [[duration=1]]", "Smart Watch [[duration=1]] [[fail=moderation]]")
    code, lines, err = recipe(stage, "banner_series.py", *products)
    assert code == 1, err
    kept = [line for line in lines if line.startswith("Smartphone X [[duration=1]], take ")]
    assert len(kept) >= 2
    assert all(Path(line.rpartition(": ")[2]).stat().st_size for line in kept)
    refused = [line for line in lines if line.startswith("Smart Watch")]
    assert len(refused) == 2
    assert all(": fail, content: " in line for line in refused)
    assert len(sent(stage, "4o-image-api")) == 4
    assert recipe(stage, "banner_series.py", products[0])[1] == kept
    assert len(stage.creates()) == 4


def test_a_video_begins_with_the_picture_that_was_made_for_it(stage: Stage) -> None:
    """Each video was sent after its picture was there, with an address of that very picture."""
    features = ("Night vision [[duration=1]]", "Cloud storage [[duration=1]]")
    code, lines, err = recipe(stage, "image_to_video.py", *features)
    assert code == 0, err + stage.logs()
    assert [line.partition(":")[0] for line in lines] == list(features)
    assert all(Path(line.partition(": ")[2]).suffix == ".mp4" for line in lines)
    creates = stage.creates()
    assert sorted(create["model"] for create in creates) == ["flux1-kontext"] * 2 + ["veo-3-1"] * 2
    for video in stage.jobs.list(model="veo-3-1"):
        (address,) = input_of(stage, video)["image_urls"]
        (picture,) = stage.jobs.get(video.metadata["picture"]).outputs
        assert hashlib.sha256(requests.get(address, timeout=10).content).hexdigest() == picture.sha256


def test_a_video_whose_picture_fails_is_never_bought(stage: Stage) -> None:
    """It ends with the reason, and costs nothing."""
    code, lines, err = recipe(stage, "image_to_video.py", "Night vision [[duration=1]] [[fail=moderation]]")
    assert code == 1, err
    assert ": fail, parent: " in lines[0]
    assert [create["model"] for create in stage.creates()] == ["flux1-kontext"]


def test_a_batch_that_was_killed_is_run_again_and_buys_nothing_twice(stage: Stage) -> None:
    """Killed without a word while it waits; the second run finds every job and tells how each line ended."""
    asked = [
        {"model": "grok-imagine/text-to-image", "input": {"prompt": f"{number} [[duration=2]] [[outputs=1]]"}}
        for number in range(24)
    ]
    (stage.folder / "many.jsonl").write_text("\n".join(map(json.dumps, asked)))
    words = ("-m", "kiejobs.cli", "submit", "--batch", "many.jsonl", "--wait", "--json")
    first = start(stage, *words)
    until("the first creates", stage.creates)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=30)
    second = start(stage, *words)
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    told = json.loads(out)
    assert (told["enqueued"], told["found"], told["states"]) == (0, 24, {"success": 24})
    lines = [json.loads(line) for line in (stage.folder / "many.results.jsonl").read_text().splitlines()]
    assert [line["line"] for line in lines] == list(range(1, 25))
    assert all(Path(line["outputs"][0]["url"]).stat().st_size == line["outputs"][0]["sizeBytes"] for line in lines)
    assert len(stage.creates()) == 24
