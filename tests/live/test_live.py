"""The real Kie: what it answers, and one picture that is paid for.

    KIEJOBS_LIVE_TESTS=1 KIE_API_KEY=… python -m pytest tests/live

Nothing else may buy on the account meanwhile: balances are compared. Without both names all of it is skipped, in
continuous integration too. `tests/acceptance/test_live_tests.py` runs this file against the simulator.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kiejobs.answers import Finished, NotVisible, Refused
from kiejobs.cli import environment
from kiejobs.cli.demo_live import TAKEN
from kiejobs.kie import catalogue
from kiejobs.kie.client import KieClient
from kiejobs.kie.families import family_for
from kiejobs.settings import only

GIVEN = {name: os.environ[name] for name in TAKEN if os.environ.get(name)}
"""Read at import: before the first test all of it is taken out of the environment."""
WANTED = os.environ.get("KIEJOBS_LIVE_TESTS") == "1" and "KIE_API_KEY" in GIVEN

pytestmark = [
    pytest.mark.skipif(not WANTED, reason="no KIEJOBS_LIVE_TESTS=1 with KIE_API_KEY: these tests buy at Kie"),
    pytest.mark.timeout(900),
]

MODEL = "z-image"
JOBS = family_for(MODEL)


@pytest.fixture
def kie() -> KieClient:
    """A client with the key that was given."""
    settings = only(GIVEN)
    return KieClient(settings.base_url, settings.keys["default"].key.get_secret_value())


def test_the_balance_is_a_number(kie: KieClient) -> None:
    """It is what the sweep over the accounts compares the ledger with."""
    assert kie.credit() >= 0


def test_an_unknown_task_is_not_visible(kie: KieClient) -> None:
    """Neither failed nor finished: a fresh task looks like that, too."""
    seen, _ = kie.record(JOBS, "0" * 32)
    assert isinstance(seen, NotVisible)


def test_a_wrong_request_is_refused_and_costs_nothing(kie: KieClient) -> None:
    """An unknown model, because what Kie says of a bad parameter (422, or 500) does not tell whether it was paid for."""
    before = kie.credit()
    answered = kie.create(JOBS, "V0-no-such-model", {"input": {"prompt": "a red door"}})
    assert isinstance(answered, Refused)
    assert kie.credit() == before


def test_a_picture_is_bought_once_and_stored(kie: KieClient, tmp_path: Path) -> None:
    """From enqueue to the stored file, by real processes, for what the catalogue says."""
    price = catalogue.find(MODEL).price_credits
    command = [sys.executable, "-m", "kiejobs.cli", "demo", "--live", "--yes", "--json"]
    given = environment.with_checkout(environment.without_settings()) | GIVEN
    demo = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, timeout=700, check=False)
    assert demo.returncode == 0, demo.stderr
    told = json.loads(demo.stdout)
    (picture,) = told["generations"]
    content = (Path(told["mediaDir"]) / picture["outputs"][0]["key"]).read_bytes()
    assert content.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))
    seen, _ = kie.record(JOBS, picture["providerTaskId"])
    assert isinstance(seen, Finished)
    assert picture["credits"] == pytest.approx(price), "Kie's price is another one: correct the catalogue"
    assert told["creditsBefore"] - told["creditsAfter"] == pytest.approx(price)
