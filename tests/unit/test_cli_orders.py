"""A person's orders from the command line: what is asked, what is said, how it ends."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kiejobs.cli.app import app
from kiejobs.db.session import Database
from kiejobs.jobs import JobState
from tests.factories import job_row, make_job, pause_account


@pytest.fixture
def run(sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a command on the test's database."""
    monkeypatch.setenv("KIEJOBS_DATA_DIR", str(tmp_path))
    return lambda *words, answer="": CliRunner().invoke(app, list(words), input=answer)


def test_cancel_says_whether_it_is_billed(run, sqlite):
    """Kie has no cancel; a taken task is paid for."""
    queued, waiting = make_job(sqlite), make_job(sqlite, JobState.WAITING)
    assert "before anything was bought" in run("cancel", queued.id).output
    assert "it is billed" in run("cancel", waiting.id).output


def test_retry_asks_before_it_pays(run, sqlite):
    """Without --pay it only says so; with it, it asks; a no buys nothing."""
    job = make_job(sqlite, JobState.UNCONFIRMED)
    refused = run("retry", job.id)
    assert (refused.exit_code, "may pay twice" in refused.output, "--pay" in refused.output) == (2, True, True)
    assert run("retry", job.id, "--pay", answer="n\n").exit_code == 2
    assert job_row(sqlite, job.id).state == "unconfirmed"
    assert run("retry", job.id, "--pay", "--why", "lost", answer="y\n").exit_code == 0
    row = job_row(sqlite, job.id)
    assert (row.state, row.approved_why) == ("queued", "lost")
    assert row.approved_by.startswith("cli ")


def test_adopt_is_for_unconfirmed_jobs(run, sqlite):
    """Any other job says why not, with exit code 2."""
    assert run("adopt", make_job(sqlite, JobState.WAITING).id, "f" * 32).exit_code == 2
    found = run("adopt", make_job(sqlite, JobState.UNCONFIRMED).id, "f" * 32)
    assert (found.exit_code, "reads Kie's record" in found.output) == (0, True)


def test_unconfirmed_jobs_are_listed_and_say_what_to_do(run, sqlite):
    """`list --phase unconfirmed` finds them; `show` names the two commands with the job's own id."""
    job = make_job(sqlite, JobState.UNCONFIRMED)
    make_job(sqlite)
    listed = json.loads(run("list", "--phase", "unconfirmed", "--json").stdout)
    assert [one["generationId"] for one in listed["generations"]] == [job.id]
    assert f"kiejobs adopt {job.id} TASK_ID" in " ".join(run("show", job.id).output.split())


def test_accounts_say_why_they_are_paused(run, sqlite):
    """The code and Kie's words; --resume ends it."""
    pause_account(sqlite)
    assert "creates paused (402)" in run("accounts").output
    assert "creates go on" in run("accounts", "--resume", "default").output


def test_spend_is_summed_up_and_the_unknown_is_listed(run, sqlite):
    """Null credits are counted as unknown, never as zero."""
    job = make_job(sqlite, JobState.UNCONFIRMED)
    found = json.loads(run("accounts", "--spend", "--json").stdout)
    assert (found["spend"][0]["creates"], found["spend"][0]["unknown"]) == (1, 1)
    assert found["unknownSpend"][0]["generationId"] == job.id


def test_a_foreign_job_is_unknown(run):
    """Exit code 2 and where to look."""
    found = run("cancel", "0b8f3c1e-58a2-4b0e-9d7c-3d0f6a2a1e11")
    assert (found.exit_code, "kiejobs list" in found.output) == (2, True)


def test_messages_are_listed_and_sent_again(run, sqlite):
    """A message that was given up is due once more."""
    from sqlalchemy import update

    from kiejobs.db import deliveries, tables

    job = make_job(sqlite, JobState.WAITING, callback_url="https://shop.example/hook")
    with sqlite.write() as tx:
        deliveries.tell(tx, job.id, JobState.FAIL)
        tx.execute(update(tables.deliveries).values(state="gave_up", due_at=None, attempts=9))
    found = json.loads(run("deliveries", "--state", "gave_up", "--json").stdout)["deliveries"][0]
    assert (found["type"], found["attempts"]) == ("generation.failed", 9)
    again = json.loads(run("deliveries", "--resend", found["id"], "--json").stdout)["deliveries"][0]
    assert (again["state"], again["attempts"]) == ("pending", 0)
