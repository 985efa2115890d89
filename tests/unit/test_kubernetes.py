"""The manifests of ops/kubernetes: valid, the same processes as in docker-compose.yml, and scaled by figures that exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from sqlalchemy import text

from kiejobs import settings
from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.jobs import JobState
from tests.factories import alter, alter_outputs, make_job
from tests.support import missing

TOP = Path(__file__).parents[2]
FOLDER = TOP / "ops" / "kubernetes"
SCHEMA = json.loads((TOP / "tests/data/kubernetes.json").read_text(encoding="utf-8"))
SERVICES = yaml.safe_load((TOP / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
ALL: list[dict[str, Any]] = [
    document
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
PROCESSES = {
    "quick": "worker-quick",
    "copies": "worker-copies",
    "beat": "beat",
    "gateway": "gateway",
    "flower": "flower",
    "migrate": "migrate",
}
"""Each process, and the service of docker-compose.yml that it is."""
RIGHTS = {
    "kiejobs-database": {"KIEJOBS_DATABASE_URL"},
    "kiejobs-storage": {"AWS_SECRET_ACCESS_KEY"},
    "kiejobs-kie": {"KIE_API_KEY"},
    "kiejobs-gateway": {"KIEJOBS_GATEWAY_KEYS"},
    "kiejobs-flower": {"KIEJOBS_FLOWER_AUTH"},
    "kiejobs-broker": {"KIEJOBS_BROKER_URL"},
}
"""What each secret is there for."""


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in ALL if one["kind"] == kind}


PODS: dict[str, dict[str, Any]] = {
    name.removeprefix("kiejobs-"): one["spec"]["template"]["spec"]
    for name, one in (of_kind("Deployment") | of_kind("Job")).items()
}


def container(name: str) -> dict[str, Any]:
    (only,) = PODS[name]["containers"]
    found: dict[str, Any] = only
    return found


def secrets_of(name: str) -> set[str]:
    return {one["secretRef"]["name"] for one in container(name)["envFrom"] if "secretRef" in one}


@pytest.mark.parametrize("one", ALL, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_a_manifest_is_valid(one):
    """By Kubernetes' own schema, unknown fields refused; KEDA's kinds are looked at below."""
    if one["apiVersion"].startswith("keda.sh/"):
        assert one["kind"] in ("ScaledObject", "TriggerAuthentication")
        return
    validator = jsonschema.Draft202012Validator({**SCHEMA, **SCHEMA["kinds"][one["kind"]]})
    assert [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(one)] == []


def test_kustomize_takes_all_of_them():
    """What is applied is what is in the folder."""
    if shutil.which("kubectl") is None:
        missing("kubectl on PATH")
    done = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    made = [(one["kind"], one["metadata"]["name"]) for one in yaml.safe_load_all(done.stdout)]
    assert sorted(made) == sorted((one["kind"], one["metadata"]["name"]) for one in ALL)


def test_the_kustomization_names_every_file():
    named = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert sorted(named) == sorted(path.name for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")


def test_there_is_a_pod_for_every_process_and_no_other():
    assert set(PODS) == set(PROCESSES)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_pod_runs_what_the_container_of_compose_runs(name):
    """The same image and the same words."""
    service = SERVICES[PROCESSES[name]]
    assert container(name)["image"] == service["image"]
    assert container(name)["command"] == service["command"]


@pytest.mark.parametrize("name", PROCESSES)
def test_a_pod_can_do_little(name):
    """Nobody in particular, a read-only root, no capabilities, no token of the cluster, a bound on memory."""
    pod, inside = PODS[name], container(name)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert inside["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert inside["resources"]["limits"]["memory"]
    assert {"hostNetwork", "hostPID", "hostIPC"} & pod.keys() == set()
    assert all("hostPath" not in volume for volume in pod["volumes"])


@pytest.mark.parametrize("name", PROCESSES)
def test_no_variable_of_a_service_is_taken_for_a_setting(name):
    """Kubernetes would set KIEJOBS_GATEWAY_PORT for the Service kiejobs-gateway, and the process would refuse to start."""
    assert PODS[name]["enableServiceLinks"] is False


@pytest.mark.parametrize("name", PROCESSES)
def test_a_pod_has_the_rights_that_its_container_of_compose_has(name):
    """The key that buys goes to the workers alone, and so on, as docker-compose.yml divides them."""
    there = set(SERVICES[PROCESSES[name]]["environment"])
    needed = {secret for secret, named in RIGHTS.items() if named & there}
    if name == "migrate":
        needed -= {"kiejobs-broker"}  # it has the common settings there, and uses the database alone
    assert secrets_of(name) == needed


def test_gateways_cannot_start_without_the_secret_that_they_share():
    """Sessions of the pages are signed with it; a pod that made one of its own would know nobody from the other pod."""
    (named,) = [one for one in container("gateway")["env"] if one["name"] == "KIEJOBS_CALLBACK_SECRET"]
    assert named["valueFrom"] == {"secretKeyRef": {"name": "kiejobs-gateway", "key": "KIEJOBS_CALLBACK_SECRET"}}
    page = (TOP / "docs" / "operations.md").read_text(encoding="utf-8")
    made = "".join(line for line in page.splitlines() if "generic kiejobs-gateway" in line)
    assert "--from-literal=KIEJOBS_CALLBACK_SECRET=" in made


def test_every_name_that_is_set_or_spoken_of_is_a_setting():
    """A misspelt one stops the process."""
    (config,) = of_kind("ConfigMap").values()
    named = set(config["data"]) | {one["name"] for name in PROCESSES for one in container(name).get("env", [])}
    told = (FOLDER / "settings.yaml").read_text(encoding="utf-8")
    named |= set(re.findall(r"\b(?:KIEJOBS|KIE|AWS)_[A-Z_]+", told))
    assert named - set(settings.names()) == set()
    for secret, names in RIGHTS.items():
        assert re.search(rf"{secret}\b[^#]*\b{min(names)}", told), f"{secret} is not explained"


@pytest.mark.parametrize(("name", "node"), [("quick", "quick"), ("copies", "copies"), ("beat", None), ("flower", None)])
def test_health_is_asked_as_in_compose(name, node):
    """The same question; a worker's by the name that it gives itself, which in a pod is the pod's."""
    inside, check = container(name), SERVICES[PROCESSES[name]]["healthcheck"]["test"]
    for probe in (inside["readinessProbe"], inside["livenessProbe"]):
        if name == "flower":
            assert probe["httpGet"]["path"] in check[-1]
        else:
            asked = probe["exec"]["command"][-1]
            assert asked == check[-1].replace("$$", "$")
            assert node is None or f'--destination "{node}@$(hostname)"' in asked


def test_a_gateway_stays_in_service_while_broker_or_beat_are_down():
    """It takes jobs safely then; /readyz would take all gateways away at once."""
    inside = container("gateway")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert inside[probe]["httpGet"] == {"path": "/healthz", "port": "http"}


def test_no_call_is_cut_off_by_a_stop():
    """Copies give back within seconds; a chat model's call may take ten minutes."""
    assert PODS["quick"]["terminationGracePeriodSeconds"] > 630
    assert PODS["copies"]["terminationGracePeriodSeconds"] >= 60


def test_selectors_find_the_pods():
    """Services, budgets and policies of a process name the labels that its pods have."""
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in of_kind("Deployment").values()]
    for kind in ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"):
        for one in of_kind(kind).values():
            spec = one["spec"]
            wanted = spec["selector"] if "selector" in spec else spec["podSelector"]
            wanted = wanted.get("matchLabels", wanted)
            assert any(wanted.items() <= own.items() for own in labels), one["metadata"]["name"]


def test_only_the_gateway_can_be_connected_to():
    """Whoever is in the cluster reaches nothing else of ours."""
    policies = of_kind("NetworkPolicy")
    assert [name for name, one in policies.items() if one["spec"].get("ingress")] == ["kiejobs-gateway"]
    assert policies["kiejobs"]["spec"]["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "kiejobs"}}
    assert {port["name"] for port in container("gateway")["ports"]} == {"http"}


def test_workers_are_scaled_and_nobody_else_says_how_many_there_are():
    """A Deployment that also had `replicas` would set KEDA's number back at each apply."""
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in of_kind("ScaledObject").values()}
    assert scaled == {"kiejobs-quick", "kiejobs-copies"}
    for name, one in of_kind("Deployment").items():
        assert ("replicas" in one["spec"]) == (name not in scaled)
    for one in of_kind("ScaledObject").values():
        assert 1 <= one["spec"]["minReplicaCount"] < one["spec"]["maxReplicaCount"]
        for trigger in one["spec"]["triggers"]:
            assert trigger["type"] == "postgresql"
            assert trigger["authenticationRef"]["name"] in of_kind("TriggerAuthentication")
            assert all(isinstance(value, str) for value in trigger["metadata"].values())


def _asked(database: Database, name: str, index: int) -> int:
    """Ask a trigger's query, as KEDA does: one row with one whole number."""
    query = of_kind("ScaledObject")[name]["spec"]["triggers"][index]["metadata"]["query"]
    with database.read() as connection:
        ((value,),) = connection.execute(text(query)).all()
    assert isinstance(value, int)
    return value


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_the_queries_of_keda_say_how_late_rows_are(database):
    """Nothing to do is 0; the most overdue row counts, and of copies those that run, too."""
    assert [_asked(database, "kiejobs-quick", 0), _asked(database, "kiejobs-copies", 0)] == [0, 0]
    alter(database, make_job(database, JobState.WAITING).id, due_at=clock(-90))
    alter(database, make_job(database, JobState.WAITING).id, due_at=clock(60))
    waits, runs = make_job(database, JobState.STORING).id, make_job(database, JobState.STORING).id
    alter_outputs(database, waits, due_at=clock(-45))
    alter_outputs(database, runs, due_at=clock(40))
    assert 90 <= _asked(database, "kiejobs-quick", 0) <= 100
    assert 45 <= _asked(database, "kiejobs-copies", 0) <= 55
    with database.read() as connection:
        pending = connection.execute(text("SELECT count(*) FROM outputs WHERE due_at IS NOT NULL")).scalar_one()
    assert _asked(database, "kiejobs-copies", 1) == pending > 1


def test_a_copies_worker_is_scaled_by_what_it_copies_at_a_time():
    """The number behind -c."""
    command = container("copies")["command"]
    (busy,) = (
        one["metadata"]["targetQueryValue"]
        for one in of_kind("ScaledObject")["kiejobs-copies"]["spec"]["triggers"]
        if "count(*)" in one["metadata"]["query"]
    )
    assert busy == command[command.index("-c") + 1]
