"""The units of ops/systemd: the same commands as in docker-compose.yml, and as closed as they say."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from kiejobs import settings
from tests.support import missing
from tests.unit.test_compose import SECRETS

TOP = Path(__file__).parents[2]
FOLDER = TOP / "ops" / "systemd"
SERVICES = yaml.safe_load((TOP / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
UNITS = {
    "kiejobs-quick@.service": "worker-quick",
    "kiejobs-copies@.service": "worker-copies",
    "kiejobs-beat.service": "beat",
    "kiejobs-gateway.service": "gateway",
    "kiejobs-flower.service": "flower",
    "kiejobs-migrate.service": "migrate",
}
"""Each unit, and the service of docker-compose.yml that is the same process."""
FILES = {path.name: path.read_text(encoding="utf-8") for path in (FOLDER / "env").glob("*.env")}


class Repeated(dict[str, object]):
    """Keeps every value of a key that is given several times, as units do."""

    def __setitem__(self, key: str, value: object) -> None:
        if isinstance(value, list) and isinstance(self.get(key), list):
            value = [*self[key], *value]  # type: ignore[misc]
        super().__setitem__(key, value)


def unit(name: str) -> dict[str, list[str]]:
    """Read the [Service] part of a unit: each key with its values."""
    parser = configparser.RawConfigParser(strict=False, dict_type=Repeated, empty_lines_in_values=False)  # type: ignore[arg-type]
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(FOLDER / name, encoding="utf-8")
    return {key: value.split("\n") for key, value in parser["Service"].items()}


def settings_of(name: str) -> set[str]:
    """Every name that the files of a unit speak of, set or as a comment."""
    used = [FILES[Path(path).name] for path in unit(name).get("EnvironmentFile", [])]
    lines = [line.lstrip("#") for text in used for line in text.splitlines()]
    return {line.partition("=")[0] for line in lines if "=" in line and " " not in line.partition("=")[0]}


def test_there_is_a_unit_for_every_process_and_no_other():
    assert {path.name for path in FOLDER.glob("*.service")} == set(UNITS)


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_runs_what_the_container_runs(name):
    """The same words, but for where a container listens and what it is called."""
    (command,) = unit(name)["ExecStart"]
    program, *words = command.replace("/opt/kiejobs/app/", "/app/").replace("%i", "").replace("%%h", "%h").split()
    there = list(SERVICES[UNITS[name]]["command"])
    if name == "kiejobs-gateway.service":
        there[there.index("--host=0.0.0.0")] = "--host=127.0.0.1"
    if name == "kiejobs-flower.service":  # its own configuration says loopback
        there = [word for word in there if not word.startswith(("--address", "--port"))]
    assert [Path(program).name, *words] == [word.replace('"', "") for word in there]


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_can_do_little(name):
    """Its own user, nothing of the machine that it could write but its state, nothing to gain."""
    told = unit(name)
    assert told["User"] == ["kiejobs"]
    assert told["ProtectSystem"] == ["strict"]
    assert told["CapabilityBoundingSet"] == [""]
    for key in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "MemoryDenyWriteExecute"):
        assert told[key] == ["yes"], key


def test_a_unit_is_started_again_for_ever():
    """A worker ends where its database is away; whoever gives it up after five tries has none when it is back."""
    for name in UNITS.keys() - {"kiejobs-migrate.service"}:
        assert unit(name)["Restart"] == ["always"]
        assert "\nStartLimitIntervalSec=0\n" in (FOLDER / name).read_text(encoding="utf-8")


def test_no_call_is_cut_off_by_a_stop():
    """Copies give back within seconds; a chat model's call may take ten minutes."""
    assert (
        int(unit("kiejobs-copies@.service")["TimeoutStopSec"][0])
        > settings.Settings.model_fields["lease_s"].default / 4
    )
    assert int(unit("kiejobs-quick@.service")["TimeoutStopSec"][0]) > 630


def test_only_workers_hold_what_buys_and_flower_holds_nothing_else():
    """The key that buys is given to the workers alone, as in docker-compose.yml."""
    holders = {name for name in UNITS if "KIE_API_KEY" in settings_of(name)}
    assert holders == {"kiejobs-quick@.service", "kiejobs-copies@.service"}
    for name in ("kiejobs-beat.service", "kiejobs-migrate.service", "kiejobs-flower.service"):
        assert SECRETS & settings_of(name) == set(), name
    assert settings_of("kiejobs-flower.service") == {"KIEJOBS_BROKER_URL", "KIEJOBS_FLOWER_AUTH"}


def test_flower_keeps_what_it_saw_where_no_other_unit_can_write():
    """It unpickles what it finds there."""
    folders = {name: unit(name).get("StateDirectory", [""])[0] for name in UNITS}
    assert [name for name, folder in folders.items() if folder == "kiejobs-flower"] == ["kiejobs-flower.service"]
    assert "KIEJOBS_DATA_DIR=/var/lib/kiejobs-flower" in unit("kiejobs-flower.service")["Environment"]


def test_every_name_of_the_files_is_a_setting():
    """A misspelt one stops the process."""
    named = {name for unit_name in UNITS for name in settings_of(unit_name)}
    assert named - set(settings.names()) == set()
    used = {Path(path).name for name in UNITS for path in unit(name).get("EnvironmentFile", [])}
    assert used == set(FILES)


@pytest.fixture
def verified(tmp_path: Path) -> list[Path]:
    """The units with this machine's programs in them: systemd looks whether they are there."""
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze on PATH (Debian: apt install systemd)")
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in [*FOLDER.glob("*.service"), *FOLDER.glob("*.target")]:
        text = path.read_text(encoding="utf-8").replace("/opt/kiejobs/app", str(tmp_path))
        text = re.sub(r"/opt/kiejobs/bin/\w+", str(program), text)
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    return sorted([*tmp_path.glob("*.service"), *tmp_path.glob("*.target")])


def test_systemd_finds_no_fault_in_the_units(verified):
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, verified)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_calls_the_units_closed(verified):
    """Its own score: 0 is nothing at all, 10 is everything."""
    for path in verified:
        if path.suffix == ".service":
            command = ["systemd-analyze", "security", "--offline=yes", "--threshold=15", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, f"{path.name}: {done.stdout[-200:]}{done.stderr}"
