"""`kiejobs demo` as a newcomer runs it: real processes, both embedded brokers, nothing used and nothing left behind."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from kiejobs.cli import environment
from tests.support import missing

COMMAND = [sys.executable, "-m", "kiejobs.cli", "demo"]
POISON = {
    "KIE_API_KEY": "sk-never-use-this",
    "KIE_BASE_URL": "http://127.0.0.1:1",
    "KIEJOBS_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/nothing",
    "KIEJOBS_STORAGE_URL": "s3://nobodys-bucket",
    "KIEJOBS_NO_SUCH_SETTING": "1",
    "AWS_SECRET_ACCESS_KEY": "sk-never-use-this",
}
"""What a user's shell may hold; a demo that reads any of it fails."""


def start(folder: Path, *arguments: str, **more: str) -> "subprocess.Popen[str]":
    """Start a demo in an empty folder that holds a `.env` with a key."""
    (folder / ".env").write_text("KIE_API_KEY=sk-never-use-this\nKIEJOBS_BROKER_URL=redis://127.0.0.1:1/0\n")
    given = environment.with_checkout(environment.inherited()) | POISON | more
    return subprocess.Popen(
        [*COMMAND, *arguments], cwd=folder, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def left_in(folder: Path) -> list[str]:
    """The processes that work in this folder or below it."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            if Path(process.cwd()).is_relative_to(folder):
                found.append(" ".join(process.info["cmdline"] or []))
        except (psutil.Error, OSError):
            continue
    return found


@pytest.mark.parametrize("broker", ["redis", "fakeredis"])
def test_the_demo_stores_five_generations_and_explains_the_refused_one(broker: str, tmp_path: Path) -> None:
    """Within 60 s, exit code 0, each file on disk with its recorded size and SHA-256, nothing left running."""
    if broker == "redis" and not (shutil.which("redis-server") or shutil.which("valkey-server")):
        missing("redis-server on PATH")
    started = time.monotonic()
    demo = start(tmp_path, "--json", KIEJOBS_EMBEDDED_BROKER=broker)
    out, err = demo.communicate(timeout=110)
    assert demo.returncode == 0, err
    assert time.monotonic() - started < 60
    assert left_in(tmp_path) == []

    summary = json.loads(out)
    assert summary["ok"]
    assert (summary["broker"] == "fakeredis") == (broker == "fakeredis")
    ends = [(one["phase"], one["expected"]) for one in summary["generations"]]
    assert ends == [("success", "success")] * 5 + [("fail", "fail")]
    assert all(one["polls"] >= 2 for one in summary["generations"])
    assert len(next(one for one in summary["generations"] if one["model"].startswith("grok"))["outputs"]) > 1

    media = Path(summary["mediaDir"])
    assert media.is_relative_to(tmp_path / "kiejobs-data" / "demo-1")
    for output in (output for one in summary["generations"] for output in one["outputs"]):
        content = (media / output["key"]).read_bytes()
        assert len(content) == output["sizeBytes"] > 0
        assert hashlib.sha256(content).hexdigest() == output["sha256"]

    refused = summary["generations"][5]["error"]
    assert refused["reason"] == "content"
    assert refused["message"]
    assert refused["action"]
    assert "\x1b" not in out + err
    assert "sk-never-use-this" not in out + err


def test_a_demo_that_is_interrupted_leaves_nothing_running(tmp_path: Path) -> None:
    """Ctrl-C while the generations run: exit code 130, a plain line per change until then; and no `up` buys the rest."""
    demo = start(tmp_path)
    assert demo.stdout is not None
    seen = ""
    for line in demo.stdout:
        seen += line
        if "accepted by Kie" in line or "waiting for Kie" in line:
            break
    assert len(left_in(tmp_path / "kiejobs-data")) >= 5, seen
    os.kill(demo.pid, signal.SIGINT)
    rest, err = demo.communicate(timeout=40)
    assert demo.returncode == 130, err
    assert "Traceback" not in seen + rest + err
    assert left_in(tmp_path) == []

    env = environment.with_checkout(environment.without_settings()) | {"KIE_API_KEY": "sk-never-use-this"}
    env["KIEJOBS_DATA_DIR"] = "kiejobs-data/demo-1"
    command = [*COMMAND[:-1], "up"]
    up = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (up.returncode, "were made for the simulator" in up.stderr) == (2, True), up.stderr


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    """One clear line, nothing started."""
    demo = start(tmp_path, "--data-dir", ".")
    _, err = demo.communicate(timeout=30)
    assert demo.returncode == 2
    assert err.startswith("Error: ")
    assert "is not empty" in err
