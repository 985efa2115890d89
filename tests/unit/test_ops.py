"""The alert rules and the dashboard speak of figures that exist, and each alert says what to do."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.gateway.health import SWEEP_WITHIN_S
from kiejobs.gateway.metrics import Metrics
from kiejobs.jobs import JobState
from kiejobs.settings import Settings
from tests.factories import alter_outputs, make_job
from tests.support import missing
from workers.sweeps.accounts import watch

TOP = Path(__file__).parents[2]
RULES = TOP / "ops" / "prometheus" / "alerts.yml"
RULES_TEST = TOP / "ops" / "prometheus" / "alerts_test.yml"
DASHBOARD = TOP / "ops" / "grafana" / "kiejobs.json"
_NAME = re.compile(r"\bkiejobs_[a-z_]+")


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


@pytest.fixture
def exported(sqlite: Database, settings: Settings) -> dict[str, str]:
    """Every name that `/metrics` can tell, and its type."""
    alter_outputs(sqlite, make_job(sqlite, JobState.STORING).id, expires_at=clock(3600))
    kinds = {}
    for family in Metrics(settings, sqlite).collect():
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        kinds |= {f"{family.name}{end}": family.type for end in ends}
    return kinds


def test_every_figure_that_an_alert_or_a_panel_names_is_exported(exported):
    """A misspelt name is an alert that never fires."""
    told = [rule["expr"] for rule in alerts()]
    told += [target["expr"] for panel in panels() for target in panel["targets"]]
    named = {name for text in told for name in _NAME.findall(text)}
    assert len(named) > 25
    assert named - set(exported) == set()


def test_every_figure_is_on_the_dashboard_or_behind_an_alert(exported):
    """What nobody looks at need not be counted; a histogram's sum and count go with its buckets."""
    told = RULES.read_text() + DASHBOARD.read_text()
    unseen = {name for name in exported if not name.endswith(("_sum", "_count")) and name not in told}
    assert unseen == {"kiejobs_account_checked_seconds"}


def test_every_alert_has_a_paragraph_that_its_runbook_leads_to():
    """And the page has no paragraph of an alert that is gone."""
    page = (TOP / "docs" / "operations.md").read_text(encoding="utf-8")
    paragraphs = dict(re.findall(r"^### (Kiejobs\w+)\n\n(.+?)\n\n", page, re.MULTILINE | re.DOTALL))
    assert set(paragraphs) == {rule["alert"] for rule in alerts()}
    for rule in alerts():
        assert len(paragraphs[rule["alert"]]) > 80
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_every_alert_is_shown_to_fire_and_to_be_quiet():
    """Once where it must, once in the healthy installation."""
    tests = yaml.safe_load(RULES_TEST.read_text())["tests"]
    expected = [(one["alertname"], bool(one["exp_alerts"])) for test in tests for one in test["alert_rule_test"]]
    names = {rule["alert"] for rule in alerts()}
    assert {name for name, fires in expected if fires} == names
    assert {name for name, fires in expected if not fires} == names


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which("promtool")
    if found is None:
        missing("promtool on PATH (Debian: apt install prometheus)")
    return subprocess.run(
        [str(found), *words], capture_output=True, text=True, timeout=60, check=False, cwd=RULES.parent
    )


def test_promtool_takes_the_rules():
    done = promtool("check", "rules", RULES.name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_sees_each_alert_fire_on_what_it_is_for():
    done = promtool("test", "rules", RULES_TEST.name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_no_fault_in_the_text_of_the_figures(sqlite, settings):
    """Names, types and units as Prometheus wants them."""
    from prometheus_client import generate_latest

    make_job(sqlite, JobState.STORING)
    found = shutil.which("promtool")
    if found is None:
        missing("promtool on PATH (Debian: apt install prometheus)")
    text = generate_latest(Metrics(settings, sqlite).registry)
    done = subprocess.run([str(found), "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_expression_of_the_dashboard_is_promql(tmp_path):
    """Grafana's own variable stands for five minutes here."""
    told = [target["expr"].replace("$__rate_interval", "5m") for panel in panels() for target in panel["targets"]]
    rules = [{"record": f"panel:{index}", "expr": expr} for index, expr in enumerate(told)]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_balance_that_was_read_becomes_a_figure(sqlite, simulator, runtime, settings):
    """Credits and drift come by the watch."""
    for _ in range(2):
        watch(runtime(sqlite))
    told = {
        (one.name, tuple(one.labels.values())): one.value
        for family in Metrics(settings, sqlite).collect()
        for one in family.samples
    }
    assert told["kiejobs_account_credits", ("default",)] > 0
    assert ("kiejobs_account_credits_drift", ("default",)) in told


def test_the_slowest_sweep_that_can_be_set_sets_off_no_alert():
    """One that is late by a whole turn is still no sweep that stopped, and what it has yet to find is not late."""

    def most(name: str) -> float:
        return next(float(one.le) for one in Settings.model_fields[name].metadata if hasattr(one, "le"))

    def threshold(name: str) -> float:
        (rule,) = [rule for rule in alerts() if rule["alert"] == name]
        return float(rule["expr"].rpartition(">")[2])

    assert 2 * most("sweep_interval_s") <= SWEEP_WITHIN_S == threshold("KiejobsSweepStopped")
    assert most("sweep_interval_s") + most("sweep_grace_s") < threshold("KiejobsDueLag")
