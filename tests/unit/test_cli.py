"""The command line: what is typed, what is printed, how it ends."""

import io
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kiejobs import __version__, errors
from kiejobs.cli import render
from kiejobs.cli.app import app
from kiejobs.cli.exits import exit_code_of, exit_code_of_job
from kiejobs.cli.values import read_input, split_pairs, value_of
from kiejobs.documents import job_document
from kiejobs.errors import InvalidInput, KieJobsError, Reason
from kiejobs.jobs import Job, JobState, Output, OutputState
from kiejobs.kie import catalogue
from kiejobs.producer import KieJobs
from kiejobs.settings import Settings
from tests.factories import alter, alter_outputs, make_job

KLING = "kling-2.6/text-to-video"
GOOD = ("--prompt", "a cat", "-i", "duration=5", "-i", "sound=false", "-i", "aspect_ratio=1:1")
JOB = Job(
    id="2c3b0d4e-2b68-4a52-9a9a-3c9a9d6f3c11",
    tenant="default",
    account="default",
    model=KLING,
    phase=JobState.SUCCESS,
    created_at=datetime(2026, 11, 21, 5, 0, tzinfo=UTC),
    outputs=(Output(0, OutputState.STORED, "result", "k/0.mp4", "/m/k/0.mp4", "video/mp4", 5, 5, "ab" * 32),),
)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every command runs in an empty folder, which becomes its data dir's parent."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def run(*arguments: str, stdin: str | None = None) -> Result:
    """Run one command."""
    return CliRunner().invoke(app, list(arguments), input=stdin)


def parsed(result: Result) -> dict:
    """The one JSON document of a command."""
    return json.loads(result.stdout)


# Values.


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("5", "string", "5"),
        ("true", "string", "true"),
        ("5", "number", 5),
        ("0.5", "number", 0.5),
        ("7", "integer", 7),
        ("false", "boolean", False),
        ('["https://a/b.png"]', "array", ["https://a/b.png"]),
        ('{"a": 1}', "object", {"a": 1}),
        ("abc", "number", "abc"),
        ("NaN", "number", "NaN"),
        ("5", "any", "5"),
        ("true", "any", True),
        ("[1]", "any", [1]),
        ("null", "any", "null"),
        ("", "any", ""),
    ],
)
def test_a_value_is_read_as_the_field_wants_it(text: str, kind: str, value: object) -> None:
    """Text stays text where the field is text or unknown; what is no JSON is left for the check to name."""
    assert value_of(text, kind) == value


def test_the_catalogue_decides_over_each_field() -> None:
    """Kling's duration is text that looks like a number; its sound is a boolean."""
    given = read_input(catalogue.find(KLING), ["duration=5", "sound=true", "new_field=[1]"], None, "a cat = a cat")
    assert given == {"prompt": "a cat = a cat", "duration": "5", "sound": True, "new_field": [1]}


def test_which_output_is_meant_is_typed_as_a_number() -> None:
    """`--input output=2` of an operation on an earlier job; elsewhere a field of that name is what the model takes."""
    assert read_input(catalogue.find("suno/wav"), ["job=0f3c", "output=2"], None, None) == {"job": "0f3c", "output": 2}
    assert read_input(catalogue.find(KLING), ["output=2"], None, None) == {"output": "2"}


def test_what_is_typed_later_wins(tmp_path: Path) -> None:
    """First the document, then --prompt, then --input."""
    (tmp_path / "request.json").write_text('{"prompt": "from the file", "seed": 1, "n": 2}')
    given = read_input(None, ["n=three"], "request.json", "typed")
    assert given == {"prompt": "typed", "seed": 1, "n": "three"}


@pytest.mark.parametrize("pairs", [["novalue"], ["=x"], ["a=1", "a=2"]])
def test_a_pair_that_is_none_is_refused(pairs: list[str]) -> None:
    """No `=`, no key, or a key twice."""
    with pytest.raises(InvalidInput, match="--input"):
        split_pairs(pairs, option="--input")


@pytest.mark.parametrize("text", ["", "[1]", "{", '"text"'])
def test_an_input_document_must_be_an_object(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input that holds anything else is refused."""
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    with pytest.raises(InvalidInput, match="--input-json"):
        read_input(None, [], "-", None)


# How commands end.


def test_every_error_has_its_exit_code() -> None:
    """2 for what the user can correct, 3 for what cannot be reached, 4 for what is not finished."""
    assert exit_code_of(InvalidInput("no", field="f")) == 2
    assert exit_code_of(errors.SettingsError("no")) == 2
    assert exit_code_of(errors.IdempotencyConflict("no")) == 2
    assert exit_code_of(errors.JobNotFound("no")) == 2
    assert exit_code_of(errors.NotPossible("no")) == 2
    assert exit_code_of(errors.DatabaseUnavailable("no")) == 3
    assert exit_code_of(errors.BrokerUnavailable("no")) == 3
    assert exit_code_of(errors.WaitTimeout("no")) == 4


@pytest.mark.parametrize("phase", list(JobState))
def test_every_state_has_its_exit_code(phase: JobState) -> None:
    """0 for success, 1 for an end without result, 4 for everything that may still change."""
    code = {JobState.SUCCESS: 0, JobState.FAIL: 1, JobState.CANCELED: 1}.get(phase, 4)
    assert exit_code_of_job(replace(JOB, phase=phase)) == code


def test_an_error_is_one_line_and_its_remedy_without_a_traceback() -> None:
    """An unknown job: exit code 2, nothing on standard output, what to do on standard error."""
    result = run("show", "no-such-job")
    assert result.exit_code == 2
    assert result.stdout == ""
    remedy = "Check the id with `kiejobs list --all-tenants`."
    assert result.stderr.splitlines() == ["Error: there is no job no-such-job", remedy]


def test_an_error_is_a_document_too_where_one_was_asked_for() -> None:
    """--json keeps its promise when things go wrong."""
    result = run("submit", KLING, "--json", "--prompt", "x", "-i", "duration=7", "-i", "sound=false")
    assert result.exit_code == 2
    error = parsed(result)["error"]
    assert error["field"] == "input.duration"
    assert '"5" or "10"' in error["message"]
    assert error["action"]


@pytest.mark.parametrize(
    ("words", "field", "said"),
    [
        (["show"], "JOB", "Missing argument 'JOB'"),
        (["list", "--limit", "x"], "--limit", "valid integer"),
        (["list", "--state", "nope"], "--state", "'nope' is not one of 'waiting'"),
        (["list", "--nope"], "--nope", "No such option"),
        (["deliveries", "--tenant", "a b"], "--tenant", "'a b' is no tenant name"),
        (["deliveries", "default", "--nope"], "--nope", "No such option"),
        (["nothing-like-it"], None, "No such command"),
    ],
)
def test_wrong_usage_is_a_document_too_where_one_was_asked_for(words, field, said):
    """Beside typer's lines; with words of ours, not of what checks the values."""
    result = run(*words, "--json")
    error = parsed(result)["error"]
    assert (result.exit_code, error["field"], said in error["message"]) == (2, field, True), error
    assert error["action"].endswith("--help")
    assert "Usage:" in result.stderr
    assert "Value error" not in result.output
    assert run(*words).stdout == ""


def test_json_before_the_command_is_wrong_usage_as_a_document() -> None:
    """It is an option of the commands."""
    result = run("--json", "list")
    assert (result.exit_code, parsed(result)["error"]["field"]) == (2, "--json")


def test_what_is_allowed_stands_in_the_document() -> None:
    """As on standard error."""
    result = run("submit", KLING, *GOOD, "--validate", "nope", "--json")
    assert parsed(result)["error"]["allowed"] == "on or strict or off"
    assert parsed(run("show", "no-such-job", "--json"))["error"]["allowed"] is None


def test_wrong_usage_ends_with_2() -> None:
    """Options and commands that do not exist."""
    assert run("nothing-like-it").exit_code == 2
    assert run("list", "--state", "perhaps").exit_code == 2
    assert run("submit").exit_code == 2


def test_a_setting_that_is_misspelt_ends_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names what was probably meant."""
    monkeypatch.setenv("KIEJOBS_BROKERURL", "x")
    result = run("list")
    assert result.exit_code == 2
    assert "Did you mean KIEJOBS_BROKER_URL?" in result.stderr


def test_a_database_that_does_not_answer_ends_with_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens on port 1."""
    monkeypatch.setenv("KIEJOBS_DATABASE_URL", "postgresql+psycopg://u:hidden@127.0.0.1:1/x")
    result = run("list")
    assert result.exit_code == 3
    assert "database does not answer" in result.stderr
    assert "hidden" not in result.output


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://a:hidden@h:notaport/x", "is no address of a database"),
        ("postgresql://a:never@hidden@127.0.0.1:9/x", "has more than one @"),
        ("postgresql+asyncpg://a:hidden@h/x", "names postgresql+asyncpg, which cannot be used here"),
        ("mysql://a:hidden@h/x", "names mysql, which kiejobs does not run on"),
        ("sqlite:///letter.txt", "letter.txt is not an SQLite database"),
    ],
)
def test_a_database_that_cannot_be_used_is_a_wrong_setting(empty_folder, monkeypatch, url, said):
    """One line and what to do, as a document too; the doctor says the same."""
    (empty_folder / "letter.txt").write_text("Dear reader, this is a letter and no database.\n" * 100)
    monkeypatch.setenv("KIEJOBS_DATABASE_URL", url)
    result = run("list", "--json")
    error = parsed(result)["error"]
    assert (result.exit_code, said in error["message"]) == (2, True), error
    assert "KIEJOBS_DATABASE_URL" in error["message"] + error["action"]
    (check, *_) = [one for one in parsed(run("doctor", "--json"))["checks"] if one["name"] == "database"]
    assert (check["level"], check["message"], check["action"]) == ("bad", error["message"], error["action"])
    assert "hidden" not in result.output


def test_an_sqlite_file_that_cannot_be_opened_is_named(empty_folder, monkeypatch):
    """A folder in its place, or no permission: no server is spoken of."""
    monkeypatch.setenv("KIEJOBS_DATABASE_URL", f"sqlite:///{empty_folder}")
    result = run("list")
    assert result.exit_code == 3
    assert f"unable to open database file ({empty_folder})" in result.stderr
    assert "readable and writable" in result.stderr


@pytest.mark.parametrize("url", ["kafka://x", "redis://:hidden@h:notaport/0", "amqp://[::1/", "carrier-pigeon://x"])
def test_a_broker_that_cannot_be_used_is_a_wrong_setting(monkeypatch, url):
    """No client for it, no port, no scheme: how to write it."""
    monkeypatch.setenv("KIEJOBS_BROKER_URL", url)
    result = run("up")
    assert result.exit_code == 2
    assert "Error: KIEJOBS_BROKER_URL is no address of a broker" in result.stderr
    assert "redis://host:6379/0" in result.stderr
    (check,) = [one for one in parsed(run("doctor", "--json"))["checks"] if one["name"] == "broker"]
    assert (check["level"], "redis://host:6379/0" in check["action"]) == ("bad", True), check
    assert "hidden" not in result.output


def test_a_data_dir_that_cannot_be_written_is_named(empty_folder, monkeypatch):
    """`up` needs a file of its own there."""
    (empty_folder / "up.lock").mkdir()  # what also root cannot open as a file
    monkeypatch.setenv("KIEJOBS_DATA_DIR", str(empty_folder))
    result = run("up")
    assert result.exit_code == 2
    assert f"the data dir {empty_folder} cannot be written" in result.stderr
    assert "Set KIEJOBS_DATA_DIR" in result.stderr


def test_a_message_of_a_stranger_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters of Kie's or a user's text are not printed."""
    render.tell_error(KieJobsError("a\x1b]0;owned\x07b\x1b[2J"), as_json=False)
    assert "\x1b" not in capsys.readouterr().err


# What commands print.


def test_a_job_is_submitted_listed_and_shown() -> None:
    """No broker, no worker, no key: the row is there, and the command says that nobody works on it yet."""
    result = run("submit", KLING, *GOOD, "--metadata", "order=42")
    assert result.exit_code == 0, result.output
    job_id = result.stdout.strip()
    assert "waits in line until workers see this database" in result.stderr
    shown = parsed(run("show", job_id, "--json"))
    assert (shown["state"], shown["phase"], shown["placeInLine"]) == ("waiting", "queued", 1)
    assert shown["metadata"] == {"order": "42"}
    assert KieJobs(Settings(_env_file=None)).get(job_id).model == KLING
    assert job_id in run("list").stdout
    assert run("list", "--state", "success").stdout == ""
    assert "queued, place 1 in line" in run("show", job_id, "--timeline").stdout


def test_what_is_not_stored_yet_is_listed_and_all_safe_is_said() -> None:
    """The list of results that could still be lost: which file, until when, and why."""
    safe = run("list", "--unsaved")
    assert (safe.exit_code, safe.stdout) == (0, "")
    assert "Every result of tenant default is safe" in safe.stderr
    assert "Every result is safe" in run("list", "--unsaved", "-A").stderr
    jobs = KieJobs(Settings(_env_file=None))
    made = make_job(jobs.database, JobState.STORING)
    dies = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
    alter_outputs(jobs.database, made.id, error="the bucket does not exist", expires_at=dies)
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["list", "--unsaved"]).stdout
    assert made.id in shown
    assert "2030-01-02 03:04" in shown
    assert "the bucket does not exist" in shown
    (document,) = parsed(run("list", "--unsaved", "--json"))["generations"]
    assert document["outputs"][0]["expiresAt"] == dies.isoformat()
    assert parsed(run("list", "--unsaved", "--json", "--state", "success")) == {"generations": []}


def test_the_same_key_gives_the_same_job_and_another_request_is_refused() -> None:
    """Idempotency as in Python."""
    first = run("submit", KLING, *GOOD, "--idempotency-key", "order-42").stdout
    assert run("submit", KLING, *GOOD, "--idempotency-key", "order-42").stdout == first
    other = run("submit", KLING, *GOOD, "-i", "note=another", "--idempotency-key", "order-42")
    assert other.exit_code == 2
    assert "was used before" in other.stderr


@pytest.mark.parametrize(
    ("phase", "next_"),
    [(JobState.WAITING, "wait"), (JobState.UNCONFIRMED, "show"), (JobState.SUCCESS, "show"), (JobState.FAIL, "show")],
)
def test_a_job_that_comes_back_is_waited_for_only_while_it_changes(phase: JobState, next_: str) -> None:
    """The same key gives an earlier job; a parked one changes when a person decides."""
    job_id = run("submit", KLING, *GOOD, "--idempotency-key", "order-42").stdout.strip()
    alter(KieJobs(Settings(_env_file=None)).database, job_id, state=phase)
    again = run("submit", KLING, *GOOD, "--idempotency-key", "order-42")
    assert again.stdout.strip() == job_id
    assert f"Next: kiejobs {next_} {job_id}" in again.stderr


def test_waiting_for_a_job_that_nobody_works_on_ends_with_4() -> None:
    """With the job as it stands, and what to do next."""
    job_id = run("submit", KLING, *GOOD).stdout.strip()
    result = run("wait", job_id, "--timeout-s", "0.1", "--json")
    assert result.exit_code == 4
    assert parsed(result)["phase"] == "queued"
    assert "kiejobs wait" in run("wait", job_id, "--timeout-s", "0").stderr


def test_doubts_about_a_request_are_told_beside_its_id() -> None:
    """An unknown model is accepted, with a warning on standard error only."""
    result = run("submit", "nobody/knows-this", "--input-json", "-", stdin='{"prompt": "x"}')
    assert result.exit_code == 0
    assert len(result.stdout.split()) == 1
    assert "not in the catalogue" in result.stderr
    assert run("submit", "nobody/knows-this", "--prompt", "x", "--validate", "strict").exit_code == 2


def test_a_job_as_a_document_has_the_keys_of_the_http_api() -> None:
    """camelCase, ISO times, one entry per output, no error for a success."""
    document = json.loads(json.dumps(job_document(JOB, [])))
    assert document["generationId"] == JOB.id
    assert document["createdAt"] == "2026-11-21T05:00:00+00:00"
    assert document["resultUrls"] == ["/m/k/0.mp4"]
    assert document["outputs"][0]["sizeBytes"] == 5
    assert document["outputs"][0]["sha256"] == "ab" * 32
    assert document["error"] is None
    assert document["timeline"] == []
    assert not [key for key in document if "_" in key]


@pytest.mark.parametrize("reason", list(Reason))
def test_a_failed_job_says_what_to_do_whatever_the_reason(reason: Reason) -> None:
    """A new reason without advice fails here."""
    error = job_document(replace(JOB, phase=JobState.FAIL, reason=reason, code="500", message="broken"))["error"]
    assert error["reason"] == reason
    assert error["code"] == "500"
    assert error["action"]


def test_models_lists_all_and_describes_one() -> None:
    """As a table and as JSON Schema; a misspelt id is answered with the right one."""
    assert KLING in run("models").stdout
    assert "duration" in run("models", KLING).stdout
    assert parsed(run("models", KLING, "--json"))["input"]["properties"]["sound"]
    assert any(model["id"] == KLING for model in parsed(run("models", "--json"))["models"])
    wrong = run("models", "kling-2.6/text-to-vido")
    assert wrong.exit_code == 2
    assert KLING in wrong.stderr


def test_a_part_of_an_id_lists_the_models_that_hold_it() -> None:
    """Whatever the case; the schema alone is for one model."""
    listed = parsed(run("models", "SEEDANCE-2", "--json"))["models"]
    assert {"bytedance/seedance-2", "bytedance/seedance-2-fast"} <= {model["id"] for model in listed}
    assert all("seedance-2" in model["id"] for model in listed)
    (row,) = [line for line in run("models", "veo3/extend").stdout.splitlines() if line.startswith("job ")]
    assert "job=ID" in row
    (row,) = [line.split() for line in run("models", "suno/w").stdout.splitlines() if line.startswith("suno/wav")]
    assert row[-1] == "job", "what one of our jobs fills in is nothing that a person needs to know"
    assert parsed(run("models", KLING, "--schema"))["properties"]["duration"]
    assert run("models", "seedance-", "--schema").exit_code == 2
    assert run("models", "--schema").exit_code == 2


def test_migrate_says_what_it_did() -> None:
    """From nothing to the newest, then nothing to do."""
    first, second = parsed(run("migrate", "--json")), parsed(run("migrate", "--json"))
    assert (first["before"], first["after"]) == (None, second["after"])
    assert second["before"] == second["after"]
    assert "Nothing to do" in run("migrate").stdout


def test_help_has_examples_and_appears_at_once() -> None:
    """Every command; the whole program takes less than a second of CPU, however busy the machine is."""
    for command in ("demo", "up", "submit", "show", "list", "wait", "models", "doctor", "migrate"):
        assert "Examples:" in run(command, "--help").stdout, command
    assert "[[fail=CODE]]" in _program("simulator", "--help").stdout
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "demo" in _program("--help").stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_the_simulator_takes_its_own_flags() -> None:
    """A wrong one is wrong usage."""
    assert _program("simulator", "--nonsense").returncode == 2


def _program(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "kiejobs.cli", *arguments]
    checkout = str(Path(render.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": checkout}
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=False)


# The doctor.


def test_the_doctor_finds_nothing_configured_and_changes_nothing(empty_folder: Path) -> None:
    """A line for each thing, each with what to do, exit code 3, and no file made."""
    result = run("doctor", "--json")
    assert result.exit_code == 3
    report = parsed(result)
    level = {check["name"]: check["level"] for check in report["checks"]}
    assert not report["ok"]
    assert (level["Kie"], level["broker"], level["beat"], level["workers"]) == ("bad", "bad", "bad", "skipped")
    assert (level["settings"], level["storage"]) == ("ok", "ok")
    assert all(check["action"] for check in report["checks"] if check["level"] == "bad")
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KIEJOBS_DATABASE_URL", "sqlite:////proc/nope/x.db", "SQLite cannot write in /proc/nope"),
        ("KIEJOBS_DATABASE_URL", "sqlite:///:memory:", "a database in memory"),
        ("KIEJOBS_DATABASE_URL", "sqlite:///letter.txt/x.db", "letter.txt: Not a directory"),
        ("KIEJOBS_DATA_DIR", "letter.txt", "letter.txt: Not a directory"),
    ],
)
def test_the_doctor_finds_a_database_that_cannot_be_made(empty_folder, monkeypatch, name, value, said):
    """The place that is set is looked at, not the data dir's; nothing is made."""
    (empty_folder / "letter.txt").write_text("a file, no folder")
    monkeypatch.setenv(name, value)
    checks = {check["name"]: check for check in reversed(parsed(run("doctor", "--json"))["checks"])}
    assert (checks["database"]["level"], said in checks["database"]["message"]) == ("bad", True), checks["database"]
    assert name in checks["database"]["action"] + checks["database"]["message"]
    assert checks["storage"]["level"] == ("bad" if name == "KIEJOBS_DATA_DIR" else "ok")
    assert [one.name for one in empty_folder.iterdir()] == ["letter.txt"]


def test_the_doctor_says_where_the_database_will_be(empty_folder, monkeypatch):
    """Not in the data dir, if another place is set."""
    monkeypatch.setenv("KIEJOBS_DATABASE_URL", f"sqlite:///{empty_folder}/elsewhere/x.db")
    checks = {check["name"]: check for check in reversed(parsed(run("doctor", "--json"))["checks"])}
    assert f"{empty_folder}/elsewhere/x.db, made when" in checks["database"]["message"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_the_doctor_names_a_file_that_it_may_not_read(empty_folder, monkeypatch):
    """The file of the database, whatever its content."""
    (empty_folder / "x.db").touch(mode=0o000)
    monkeypatch.setenv("KIEJOBS_DATABASE_URL", f"sqlite:///{empty_folder}/x.db")
    checks = {check["name"]: check for check in reversed(parsed(run("doctor", "--json"))["checks"])}
    assert f"{empty_folder}/x.db cannot be read and written" in checks["database"]["message"]


def test_the_doctor_never_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the key nor a password in an address, although all of it is named."""
    monkeypatch.setenv("KIE_API_KEY", "sk-very-secret")
    monkeypatch.setenv("KIE_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("KIEJOBS_BROKER_URL", "redis://:hushhush@127.0.0.1:1/0")
    monkeypatch.setenv("KIEJOBS_DATABASE_URL", "postgresql+psycopg://u:hidden@127.0.0.1:1/x")
    monkeypatch.setenv("KIEJOBS_STORAGE_URL", "s3://bucket-nobody-has")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    started = time.monotonic()
    result = run("doctor")
    assert result.exit_code == 3
    assert time.monotonic() - started < 8
    assert not any(secret in result.output for secret in ("sk-very-secret", "hushhush", "hidden"))
    for line in ("✗ Kie", "✗ database", "✗ broker", "✗ storage"):
        assert line in result.stdout


def test_the_doctor_stops_at_settings_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, its remedy, exit code 2."""
    monkeypatch.setenv("KIEJOBS_CREATE_LIMIT", "many")
    result = run("doctor", "--json")
    assert result.exit_code == 2
    assert parsed(result)["checks"][0]["name"] == "settings"


@pytest.mark.parametrize(("secrets", "level"), [(None, "note"), ("whsec_" + "a" * 32, "ok")])
def test_the_doctor_says_when_messages_cannot_be_signed(monkeypatch, secrets, level):
    """With PostgreSQL nobody makes a secret: each message would wait without a word."""
    monkeypatch.setenv("KIEJOBS_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/nothing")
    if secrets:
        monkeypatch.setenv("KIEJOBS_WEBHOOK_SECRETS", secrets)
    (check,) = [one for one in parsed(run("doctor", "--json"))["checks"] if one["name"] == "messages"]
    assert (check["level"], "KIEJOBS_WEBHOOK_SECRETS" in check["action"]) == (level, level == "note"), check


def test_the_doctor_names_an_account_that_no_worker_has_a_key_for(sqlite, tmp_path, monkeypatch):
    """Its jobs would stand in line for ever, without a word; one whose balance was read has a worker somewhere."""
    from kiejobs.db import tables
    from kiejobs.db.clock import clock
    from tests.factories import make_job

    monkeypatch.setenv("KIEJOBS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KIE_API_KEY", "secret")
    for account in ("default", "elsewhere", "slip"):
        make_job(sqlite, account=account, created_at=clock(-200))
    make_job(sqlite, account="fresh")
    with sqlite.write() as tx:
        tx.execute(tables.accounts.insert().values(name="elsewhere", checked_at=clock()))
    (check,) = [one for one in parsed(run("doctor", "--json"))["checks"] if one["name"] == "accounts"]
    assert (check["level"], "'slip' that wait to be sent: 1." in check["message"]) == ("note", True), check
    assert "KIEJOBS_ACCOUNTS" in check["action"]


def test_the_doctor_says_when_beat_has_stopped_and_when_it_is_back(sqlite, tmp_path, monkeypatch):
    """A minute of silence from either of its two tasks is the end of rescues, or of the line."""
    from sqlalchemy import update

    from kiejobs.db import rescue, tables
    from kiejobs.db.clock import clock

    def level() -> str:
        (check,) = [one for one in parsed(run("doctor", "--json"))["checks"] if one["name"] == "beat"]
        return check["level"]

    monkeypatch.setenv("KIEJOBS_DATA_DIR", str(tmp_path))
    for name in ("pump", "sweep"):
        rescue.beat(sqlite, name)
    assert level() == "ok"
    with sqlite.write() as tx:
        tx.execute(update(tables.pulses).where(tables.pulses.c.name == "sweep").values(at=clock(-61)))
    assert level() == "bad"
    rescue.beat(sqlite, "sweep")
    assert level() == "ok"


@pytest.mark.parametrize(("found_by", "level"), [(None, "ok"), ("poll", "note"), ("callback", "ok")])
def test_the_doctor_says_when_callbacks_are_on_and_none_arrives(sqlite, tmp_path, monkeypatch, found_by, level):
    """Counted from the jobs of the last day: by whom their end was found."""
    from kiejobs.jobs import JobState
    from tests.factories import make_job

    monkeypatch.setenv("KIEJOBS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KIEJOBS_PUBLIC_URL", "https://gate.example")
    if found_by:
        make_job(sqlite, JobState.SUCCESS, found_by=found_by)
    (check,) = [one for one in parsed(run("doctor", "--json"))["checks"] if one["name"] == "callbacks"]
    assert (check["level"], (found_by or "none yet") in check["message"]) == (level, True), check


@pytest.mark.parametrize(
    ("answer", "level", "said"),
    [
        (
            {"ready": True, "version": __version__, "parts": {"broker": {"ok": True, "detail": "answers"}}},
            "ok",
            "broker",
        ),
        ({"ready": True, "version": "0.0.1", "parts": {}}, "note", "runs version 0.0.1"),
        (
            {"ready": False, "version": __version__, "parts": {"broker": {"ok": False, "detail": "gone"}}},
            "note",
            "broker: gone",
        ),
        ({"hello": "world"}, "note", "does not answer as a gateway's"),
        (None, "note", "does not answer as a gateway's"),
    ],
)
def test_the_doctor_asks_the_gateway_what_it_misses(tmp_path, monkeypatch, answer, level, said):
    """Reachable, ready part by part, and of the same version; where no gateway is known, nothing is said."""

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self):
            content = json.dumps(answer).encode()
            self.send_response(200 if answer and answer.get("ready") else 503)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    monkeypatch.setenv("KIEJOBS_DATA_DIR", str(tmp_path))
    assert not [one for one in parsed(run("doctor", "--json"))["checks"] if one["name"] == "gateway"]
    with ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        if answer is None:
            server.shutdown()
            server.server_close()
        monkeypatch.setenv("KIEJOBS_PUBLIC_URL", f"http://127.0.0.1:{port}")
        (check,) = [one for one in parsed(run("doctor", "--json"))["checks"] if one["name"] == "gateway"]
        if answer is not None:
            server.shutdown()
    assert (check["level"], said in check["message"]) == (level, True), check
