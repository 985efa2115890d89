"""`kiejobs demo --live`, with a simulator where the user's KIE_BASE_URL leads: what is asked, bought, shown, and kept."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiejobs.cli import environment
from kiejobs.simulator import Simulator
from tests.acceptance.stage import until
from tests.acceptance.test_demo import left_in
from tests.factories import finish

COMMAND = [sys.executable, "-m", "kiejobs.cli"]
KEY = "sk-live-0001"
PNG = b"\x89PNG\r\n\x1a\n"
NOT_TAKEN = {
    "KIEJOBS_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/nothing",
    "KIEJOBS_BROKER_URL": "redis://127.0.0.1:1/0",
    "KIEJOBS_STORAGE_URL": "s3://nobodys-bucket",
    "KIEJOBS_NO_SUCH_SETTING": "1",
    "AWS_SECRET_ACCESS_KEY": "sk-never-use-this",
}
"""What a user's shell may hold besides; a demo that reads any of it fails."""


@pytest.fixture
def kie() -> Iterator[Simulator]:
    """A Kie that knows one key."""
    with Simulator(keys=[KEY], credits=100.0, duration_s=1.0) as running:
        yield running


def given(kie: Simulator, **more: str) -> dict[str, str]:
    """The environment of somebody whose KIE_BASE_URL is this Kie."""
    leads = {"KIE_BASE_URL": kie.base_url, "KIEJOBS_EGRESS_ALLOW": kie.files_host_port}
    return environment.with_checkout(environment.inherited()) | leads | more


def demo(folder: Path, env: dict[str, str], *words: str, answer: str = "") -> "subprocess.CompletedProcess[str]":
    """Run it to its end with this answer on standard input, which is no terminal."""
    command = [*COMMAND, "demo", "--live", *words]
    return subprocess.run(
        command, cwd=folder, env=env, input=answer, capture_output=True, text=True, timeout=110, check=False
    )


def test_one_picture_is_bought_and_stored(kie: Simulator, tmp_path: Path) -> None:
    """The key is taken from `.env`, like `up` does; everything else is the demo's own."""
    (tmp_path / ".env").write_text(f"KIE_API_KEY={KEY}\nKIEJOBS_CATALOGUE=nowhere\n")
    done = demo(tmp_path, given(kie, **NOT_TAKEN), "--yes", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (bought,) = kie.ledger()["creates"]
    assert (bought["model"], bought["account"]) == ("z-image", KEY)
    (picture,) = told["generations"]
    assert picture["providerTaskId"] == bought["taskId"]
    output = picture["outputs"][0]
    assert (tmp_path / "kiejobs-data/demo-1/media" / output["key"]).read_bytes().startswith(PNG)
    assert (told["creditsBefore"], told["creditsAfter"]) == (100.0, 96.0)
    assert left_in(tmp_path) == []
    logs = "".join(file.read_text() for file in (tmp_path / "kiejobs-data/demo-1/logs").iterdir())
    assert KEY not in done.stdout + done.stderr + logs


def test_a_yes_buys_and_the_end_shows_what_it_cost(kie: Simulator, tmp_path: Path) -> None:
    """In words: before, what and for how much; after, the file, the task and the credits."""
    done = demo(tmp_path, given(kie, KIE_API_KEY=KEY), answer="y\n")
    assert done.returncode == 0, done.stderr
    assert f"one picture of z-image at {kie.base_url}, for about 0.8 credits (0.004 USD)" in done.stdout
    assert "Buy it?" in done.stderr
    (bought,) = kie.ledger()["creates"]
    for words in (
        f"    {tmp_path}/kiejobs-data/demo-1/media/default/",
        "/0.png\n",
        f"task     {bought['taskId']}\n",
        "credits  100 before, 96 after\n",
    ):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("env", "answer", "ends"),
    [
        ({"KIE_API_KEY": ""}, "y\n", (2, "Set KIE_API_KEY")),
        ({"KIE_API_KEY": "sk-of-nobody"}, "y\n", (3, "Check the key at https://kie.ai/api-key")),
        ({"KIE_API_KEY": KEY, "KIE_BASE_URL": "http://127.0.0.1:1"}, "y\n", (3, "this machine reaches the address")),
        ({"KIE_API_KEY": KEY}, "n\n", (2, "nothing was bought")),
        ({"KIE_API_KEY": KEY}, "", (2, "Add --yes to buy without being asked.")),
    ],
    ids=["no key", "a key that is refused", "no Kie", "a no", "no answer"],
)
def test_nothing_is_bought(
    kie: Simulator, tmp_path: Path, env: dict[str, str], answer: str, ends: tuple[int, str]
) -> None:
    """One clear line and what to do, no folder, nothing started; and Kie saw no create."""
    done = demo(tmp_path, given(kie, **env), answer=answer)
    assert (done.returncode, kie.ledger()["creates"]) == (ends[0], []), done.stderr
    assert ends[1] in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_bought_without_credits(tmp_path: Path) -> None:
    """Not even tried, also with --yes."""
    with Simulator(keys=[KEY], credits=0.0) as poor:
        done = demo(tmp_path, given(poor, KIE_API_KEY=KEY), "--yes")
        assert (done.returncode, poor.ledger()["creates"]) == (2, [])
    assert "Error: the account has 0 credits, and a picture costs about 0.8" in done.stderr
    assert "Add credits" in done.stderr


def test_who_interrupts_it_is_told_what_was_paid_for_and_goes_on_with_up(tmp_path: Path) -> None:
    """Ctrl-C while Kie works: the command that is printed stores the picture, and buys no other."""
    with Simulator(keys=[KEY], credits=100.0, duration_s=600.0) as kie:
        env = given(kie, KIE_API_KEY=KEY)
        process = subprocess.Popen(
            [*COMMAND, "demo", "--live", "--yes"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        seen = ""
        for line in process.stdout:
            seen += line
            if "waiting for Kie" in line:
                break
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == 130, seen + rest
        (bought,) = kie.ledger()["creates"]
        assert f"paid for, and not stored yet.\nKie's task: {bought['taskId']}\n" in rest
        assert f"\n  {tmp_path}/kiejobs-data/demo-1\n" in rest
        advised = re.search(r"^  (.*)KIEJOBS_DATA_DIR=(\S+) .*\bup$", rest, re.MULTILINE)
        assert advised, rest
        assert advised[1].startswith(f"KIE_API_KEY=… KIE_BASE_URL={kie.base_url} "), "in another shell they are not set"
        assert KEY not in rest

        finish(kie, str(bought["taskId"]))
        env |= {"KIEJOBS_DATA_DIR": advised[2]}
        with (tmp_path / "up.log").open("w") as log:
            up = subprocess.Popen([*COMMAND, "up"], cwd=tmp_path, env=env, stdout=log, stderr=log)
        media = tmp_path / advised[2] / "media"
        try:
            stored = until("the picture is stored", lambda: list(media.rglob("0.png")), 60)
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(40)
        assert stored[0].read_bytes().startswith(PNG), (tmp_path / "up.log").read_text()
        assert len(kie.ledger()["creates"]) == 1
        assert left_in(tmp_path) == []
