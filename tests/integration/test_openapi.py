"""The OpenAPI document: a fuzzer calls what it describes, and finds neither a server error nor an undescribed answer."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from kiejobs.db.session import Database
from kiejobs.gateway.app import make_app
from kiejobs.gateway.limits import Limits
from kiejobs.jobs import JobState
from kiejobs.settings import Settings
from tests.factories import Nudges, make_job
from tests.gateways import KEYS, gateway_keys, running
from tests.support import missing

SECONDS = 25
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
)


@pytest.fixture
def keyed(settings: Settings) -> Settings:
    return Settings(_env_file=None, **(settings.model_dump() | {"gateway_keys": gateway_keys()}))


def test_a_fuzzer_finds_no_server_error_and_nothing_that_is_not_described(
    sqlite: Database, keyed: Settings, nudges: Nudges, tmp_path: Path
):
    """Schemathesis, all its phases, for 25 seconds. /readyz is left out: its 503 is an answer, not an error."""
    if find_spec("schemathesis") is None:
        missing("schemathesis (pip install schemathesis)")
    for state in (JobState.FAIL, JobState.SUCCESS, JobState.UNCONFIRMED, JobState.WAITING):
        make_job(sqlite, state, tenant="a")
    with running(keyed, sqlite, nudges, Limits(requests_per_s=1e6, burst=10**6)) as address:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"]
        command += ["--header", f"Authorization: Bearer {KEYS['a-admin']}", "--checks", ",".join(CHECKS)]
        command += ["--exclude-path", "/readyz", "--max-time", str(SECONDS), "--no-color", "--continue-on-failure"]
        home = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        ran = subprocess.run(
            command, cwd=tmp_path, env=home, capture_output=True, text=True, timeout=SECONDS + 60, check=False
        )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert "Test cases:" in ran.stdout


def test_every_route_is_described_with_its_problems(keyed: Settings):
    """Each has a summary and a description; what needs a key says so, and how it refuses."""
    described = make_app(keyed).openapi()
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            if path.startswith("/api/"):
                assert {"401", "403", "429", "503"} <= set(operation["responses"]), (method, path)
                assert operation["security"] == [{"HTTPBearer": []}], (method, path)
    assert json.dumps(described)  # nothing in it that is no JSON
