"""`kiejobs up`: everything runs, other commands find it, a second one is refused, and at the end nothing is left."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from kiejobs.cli import environment
from kiejobs.cli.ports import free_port

HOOKS = {"KIEJOBS_EGRESS_ALLOW": "127.0.0.1:9"}
"""A service of this machine that wants to be told."""
COMMAND = [sys.executable, "-m", "kiejobs.cli"]


class Up:
    """A running `kiejobs up` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = [f"--{name}-port={free_port()}" for name in ("gateway", "flower", "simulator", "files")]
        self.log = folder / "up.log"
        with (folder / "up.out").open("w") as out, self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "up", "--json", *ports], cwd=folder, env=given() | HOOKS, stdout=out, stderr=log
            )
        assert eventually(lambda: self._told() is not None, within_s=60), self.log.read_text()
        self.addresses = self._told() or {}
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def _told(self) -> dict[str, str] | None:
        try:
            return json.loads((self.folder / "up.out").read_text())  # type: ignore[no-any-return]
        except ValueError:
            return None

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run another command in the same folder."""
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=given(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def nothing_left(self) -> bool:
        """Whether all that it started is gone."""
        return eventually(lambda: not any(lives(child) for child in self.children))

    def end(self) -> None:
        """End it, whatever became of the test."""
        self.process.kill()
        self.process.wait(20)
        for child in filter(lives, self.children):
            child.kill()


def given() -> dict[str, str]:
    """An environment without any setting."""
    return environment.with_checkout(environment.without_settings())


def eventually(true: Callable[[], bool], within_s: float = 60.0) -> bool:
    """Whether something becomes true in time."""
    until, pause = time.monotonic() + within_s, threading.Event()
    while not true():
        if time.monotonic() > until:
            return False
        pause.wait(0.1)
    return True


def lives(process: psutil.Process) -> bool:
    """Whether a process runs."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """A running `kiejobs up` that is ready."""
    running = Up(tmp_path)
    yield running
    running.end()


def test_up_serves_the_other_commands_of_its_folder_until_ctrl_c(up: Up) -> None:
    """Submit and wait, doctor, a second up; then SIGINT ends all of it with exit code 0."""
    marker = up.folder / "kiejobs-data" / "up.json"
    assert marker.stat().st_mode & 0o777 == 0o600
    assert json.loads(marker.read_text())["pid"] == up.process.pid
    assert len(up.children) >= 7  # broker, simulator, two workers, beat, gateway, Flower

    done = up.run("submit", "z-image", "--prompt", "a red door", "-i", "aspect_ratio=1:1", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout)["outputs"][0]
    assert Path(output["url"]).stat().st_size == output["sizeBytes"]

    shown = requests.get(f"{up.addresses['gatewayUrl']}/api/generations", timeout=10).json()["generations"]
    assert requests.get(shown[0]["resultUrls"][0], timeout=10).content == Path(output["url"]).read_bytes()
    ready = f"{up.addresses['gatewayUrl']}/readyz"  # its first sweep comes ten seconds after beat
    assert eventually(lambda: requests.get(ready, timeout=10).json()["ready"], within_s=40)

    wanted = {"model": "grok-imagine/text-to-image", "input": {"prompt": "x"}, "callbackUrl": "http://127.0.0.1:9/"}
    assert requests.post(f"{up.addresses['gatewayUrl']}/api/generations", json=wanted, timeout=10).status_code == 201

    refused = up.run("submit", "z-image", "-p", "no [[fail=moderation]]", "-i", "aspect_ratio=1:1", "--wait")
    assert refused.returncode == 1
    assert "what to do" in refused.stdout

    # it gives each part five seconds, which may not be enough while other tests run
    assert eventually(lambda: json.loads(up.run("doctor", "--json").stdout)["ok"], 90)

    second = up.run("up")
    assert second.returncode == 2
    assert f"(pid {up.process.pid})" in second.stderr.splitlines()[0]

    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(30) == 0, up.log.read_text()
    assert up.nothing_left()
    assert not marker.exists()
    assert "Traceback" not in up.log.read_text()


def test_a_worker_that_is_killed_comes_back_and_a_killed_up_leaves_nothing(up: Up) -> None:
    """The supervisor restarts its children; should it be killed itself, the kernel ends them."""
    worker = next(child for child in up.children if "quick@%h" in child.cmdline())
    worker.kill()
    assert eventually(lambda: "started again" in up.log.read_text())
    done = up.run("submit", "z-image", "--prompt", "a red door", "-i", "aspect_ratio=1:1", "--wait")
    assert done.returncode == 0, done.stderr

    up.children = psutil.Process(up.process.pid).children(recursive=True)
    os.kill(up.process.pid, signal.SIGKILL)
    up.process.wait(10)
    if sys.platform == "linux":
        assert up.nothing_left()
    assert up.run("doctor").returncode == 3  # the file that it left behind is not believed


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    """Nothing is left running, exit code 3."""
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        ended = subprocess.run(
            [*COMMAND, "up", f"--flower-port={port}"],
            cwd=tmp_path,
            env=given(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 3
    assert f"Error: port {port} is in use" in ended.stderr
    assert "Traceback" not in ended.stderr
