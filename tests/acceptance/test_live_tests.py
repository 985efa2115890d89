"""The tests that buy at the real Kie, run against the simulator; and that nobody runs them by accident."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kiejobs.simulator import Simulator
from kiejobs.simulator.models import PRICES, Kind
from tests.acceptance.stage import TOP

KEY = "sk-live-0001"
COMMAND = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "tests/live"]


@pytest.fixture
def kie(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """A Kie with this one key, where a picture costs what z-image does."""
    monkeypatch.setitem(PRICES, Kind.IMAGE, 0.8)
    with Simulator(keys=[KEY], credits=10.0, duration_s=1.0) as running:
        yield running


def live(kie: Simulator, **given: str) -> "subprocess.CompletedProcess[str]":
    """Run them as a person does who has a key."""
    leads = {"KIE_API_KEY": KEY, "KIE_BASE_URL": kie.base_url, "KIEJOBS_EGRESS_ALLOW": kie.files_host_port}
    env = os.environ | leads | given
    return subprocess.run(COMMAND, cwd=TOP, env=env, capture_output=True, text=True, timeout=150, check=False)


def accepted(kie: Simulator) -> list[str]:
    """The models of the creates that were paid for."""
    return [create["model"] for create in kie.ledger()["creates"] if create["accepted"]]


def test_all_of_them_pass_and_buy_one_picture(kie: Simulator) -> None:
    """One create is paid for, one is refused."""
    done = live(kie, KIEJOBS_LIVE_TESTS="1")
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
    assert accepted(kie) == ["z-image"]
    assert len(kie.ledger()["creates"]) == 2


@pytest.mark.parametrize("given", [{}, {"KIEJOBS_LIVE_TESTS": "1", "KIE_API_KEY": ""}], ids=["not asked for", "no key"])
def test_who_does_not_ask_for_them_is_told_that_they_were_skipped(kie: Simulator, given: dict[str, str]) -> None:
    """A key alone buys nothing; and continuous integration, which has no key, does not fail for it."""
    done = live(kie, REQUIRE_SERVICES="1", **given)
    assert done.returncode == 0, done.stdout
    assert "4  no KIEJOBS_LIVE_TESTS=1 with KIE_API_KEY: these tests buy at Kie" in done.stdout
    assert kie.ledger()["creates"] == []
    assert kie.ledger()["queries"] == []
