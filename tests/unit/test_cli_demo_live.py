"""`demo --live`: what is told of the money when it ends early."""

from pathlib import Path

import pytest

from kiejobs.cli import demo_live
from kiejobs.cli.demo_screen import DemoScreen
from kiejobs.db.session import Database
from kiejobs.jobs import JobState
from tests.factories import job_row, make_job


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in the folder, where no `.env` lies."""
    monkeypatch.chdir(tmp_path)


def told(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said when it is interrupted now."""
    with pytest.raises(KeyboardInterrupt), demo_live.accounted_for(DemoScreen(to_stderr=False), folder):
        raise KeyboardInterrupt
    return capsys.readouterr().out


def test_before_anything_was_enqueued_nothing_was_bought(tmp_path, capsys):
    """Not even the database is there."""
    assert told(tmp_path, capsys) == "\nNothing was bought.\n"
    assert not (tmp_path / "kiejobs.db").exists()


def test_a_job_that_was_not_sent_is_canceled(sqlite: Database, tmp_path, capsys):
    """Else `up` on this folder would buy it, some day."""
    job = make_job(sqlite)
    assert told(tmp_path, capsys) == "\nNothing was bought.\n"
    assert job_row(sqlite, job.id).state == "canceled"


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.TIMEOUT, JobState.STORING])
def test_a_task_that_kie_has_is_paid_for(sqlite: Database, tmp_path, capsys, state):
    """With its id, the folder, and how to go on."""
    job = make_job(sqlite, state)
    said = told(tmp_path, capsys)
    assert (
        f"is paid for, and not stored yet.\nKie's task: {job.task_id}\nJob {job.id} is kept in\n  {tmp_path}\n" in said
    )
    assert said.endswith("up\n")


@pytest.mark.parametrize("state", [JobState.SUBMITTING, JobState.UNCONFIRMED])
def test_of_a_create_call_that_was_cut_off_nobody_knows(sqlite: Database, tmp_path, capsys, state):
    """Neither *paid for* nor *nothing was bought* would be true."""
    job = make_job(sqlite, state)
    said = told(tmp_path, capsys)
    assert "nobody knows whether the generation is paid for" in said
    assert f"kiejobs adopt {job.id} TASK_ID" in said


@pytest.mark.parametrize("state", [JobState.SUCCESS, JobState.FAIL])
def test_a_job_that_has_ended_was_told_of(sqlite: Database, tmp_path, capsys, state):
    """Nothing is said twice."""
    make_job(sqlite, state)
    assert told(tmp_path, capsys) == ""


def test_settings_that_lead_elsewhere_stand_empty_before_the_command(sqlite: Database, tmp_path, capsys, monkeypatch):
    """`up` would look into that database and find no such job."""
    (tmp_path / ".env").write_text("KIEJOBS_DATABASE_URL=postgresql+psycopg://me@db/jobs\n")
    monkeypatch.setenv("KIEJOBS_STORAGE_URL", "s3://bucket")
    make_job(sqlite, JobState.WAITING)
    command = told(tmp_path, capsys).splitlines()[-1].strip()
    assert command.startswith("KIEJOBS_DATABASE_URL= KIEJOBS_STORAGE_URL= KIEJOBS_DATA_DIR=")
