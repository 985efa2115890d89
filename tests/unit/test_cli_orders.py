"""A person's orders from the command line: what is asked, what is said, how it ends."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kiejobs.cli.app import app
from kiejobs.db.session import Database
from kiejobs.jobs import JobState, OutputState
from kiejobs.lifecycle import Event
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


def test_retry_without_a_terminal_says_how_to_agree(run, sqlite):
    """Nobody answers: nothing is bought, and it is no failed job. Its help says when it does not ask."""
    job = make_job(sqlite, JobState.UNCONFIRMED)
    asked = run("retry", job.id, "--pay", answer="")
    assert (asked.exit_code, asked.stderr.splitlines()[-1]) == (2, "Add --yes to buy without being asked.")
    assert "Error: nothing was bought: there is no terminal" in asked.stderr
    assert job_row(sqlite, job.id).state == "unconfirmed"
    assert "not with --yes or --json" in " ".join(run("retry", "--help").output.split())


def test_who_pays_for_a_result_that_is_none_is_asked_and_buys(run, sqlite):
    """Storing it again would fail again; without --pay it is tried all the same, for free."""
    path = (Event.SENT, Event.ACCEPTED, Event.PRODUCED, Event.UNSTORABLE)
    given = {"path": path, "outputs_state": OutputState.FAILED, "reason": "result_invalid"}
    jobs = [make_job(sqlite, JobState.FAIL, **given) for _ in range(2)]
    assert run("retry", jobs[0].id).exit_code == 0
    assert run("retry", jobs[1].id, "--pay", answer="n\n").exit_code == 2
    assert [job_row(sqlite, job.id).state for job in jobs] == ["storing", "fail"]
    assert run("retry", jobs[1].id, "--pay", answer="y\n").exit_code == 0
    assert job_row(sqlite, jobs[1].id).state == "queued"


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 12345"), OSError("No username set")])
def test_who_has_no_name_here_gives_orders_by_number(run, sqlite, monkeypatch, error):
    """`docker run --user 12345` has no line in /etc/passwd."""

    def nameless() -> str:
        raise error

    monkeypatch.setattr("getpass.getuser", nameless)
    monkeypatch.setattr("os.getuid", lambda: 12345)
    job = make_job(sqlite, JobState.UNCONFIRMED)
    assert run("accounts").exit_code == 0
    assert run("retry", job.id, "--pay", "--yes").exit_code == 0
    assert job_row(sqlite, job.id).approved_by == "cli uid 12345"


def test_every_tenants_jobs_are_within_reach(run, sqlite):
    """Who has the command line has the database, and alerts are about everybody's jobs."""
    mine, theirs = make_job(sqlite), make_job(sqlite, JobState.UNCONFIRMED, tenant="shop")

    def listed(*words: str) -> list[str]:
        return [one["generationId"] for one in json.loads(run("list", "--json", *words).stdout)["generations"]]

    assert (listed(), listed("--tenant", "shop")) == ([mine.id], [theirs.id])
    assert sorted(listed("--all-tenants")) == sorted([mine.id, theirs.id])
    assert re.search(rf"{theirs.id}.* shop\b", run("list", "-A").output)
    assert run("list", "--tenant", "no such!").exit_code == 2
    assert "nobody knows" in run("show", theirs.id).output
    assert run("adopt", theirs.id, "f" * 32).exit_code == 0
    assert run("cancel", theirs.id).exit_code == 0
    assert job_row(sqlite, theirs.id).state == "canceled"
    assert json.loads(run("accounts", "--spend", "--json").stdout)["spend"][0]["tenant"] == "shop"


def test_an_empty_list_says_whose_it_is(run, sqlite):
    """Other tenants may have what was looked for; a job's id is looked for among everybody's."""
    make_job(sqlite, tenant="shop")
    for words in (["list"], ["list", "--unsaved"]):
        assert "of tenant default" in run(*words).stderr
        assert "--all-tenants" in run(*words).stderr
        assert "tenant" not in run(*words, "-A", "--state", "success").stderr
    assert "of tenant default; --all-tenants looks" in run("deliveries").stderr
    assert "another tenant" not in run("show", "0b8f3c1e-58a2-4b0e-9d7c-3d0f6a2a1e11").stderr


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
    slip = run("accounts", "--resume", "defualt")
    assert (slip.exit_code, "default" in slip.output) == (2, True)
    assert "defualt" not in run("accounts").output  # nor is it an account from now on


def test_an_account_that_only_a_job_names_is_listed_without_a_key(run, sqlite, monkeypatch):
    """Mostly a slip of the pen; its job waits for ever."""
    monkeypatch.setenv("KIE_API_KEY", "key-of-the-test")
    make_job(sqlite, account="studoi")
    told = run("accounts").output.partition("studoi")
    assert "key" not in told[0]
    assert re.search(r"unfinished\s+1 job\nkey\s+none in this environment", told[2])
    assert "creates go on where a worker has its key" in told[2]


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
    found = given_up(run, sqlite)
    assert (found["type"], found["attempts"]) == ("generation.failed", 9)
    again = json.loads(run("deliveries", "--resend", found["id"], "--json").stdout)["deliveries"][0]
    assert (again["state"], again["attempts"]) == ("pending", 0)


def test_messages_of_every_tenant_are_listed_and_sent_again(run, sqlite):
    """Who runs the installation is told how many were given up, not whose they are."""
    found = given_up(run, sqlite, tenant="shop")
    assert found["id"] not in run("deliveries").output
    assert re.search(rf"{found['id']}.* shop\b", run("deliveries", "-A", "--state", "gave_up").output)
    for words in (["--job", found["generationId"]], ["--resend", found["id"]]):
        (same,) = json.loads(run("deliveries", *words, "--json").stdout)["deliveries"]
        assert same["id"] == found["id"]
    assert "tenant" not in run("deliveries", "-A", "--state", "delivered").stderr
    unknown = run("deliveries", "--resend", "0b8f3c1e-58a2-4b0e-9d7c-3d0f6a2a1e11")
    assert (unknown.exit_code, "`kiejobs deliveries --all-tenants`" in unknown.stderr) == (2, True)


def given_up(run, database, **columns):
    """Make a job whose message was given up; return the message as `deliveries --json` lists it."""
    from sqlalchemy import update

    from kiejobs.db import deliveries, tables

    job = make_job(database, JobState.WAITING, callback_url="https://shop.example/hook", **columns)
    with database.write() as tx:
        deliveries.tell(tx, job.id, JobState.FAIL)
        tx.execute(update(tables.deliveries).values(state="gave_up", due_at=None, attempts=9))
    return json.loads(run("deliveries", "-A", "--state", "gave_up", "--json").stdout)["deliveries"][0]


def test_the_address_of_all_jobs_is_set_shown_and_taken_away(run, sqlite):
    """Also in its JSON; a private address is refused as wrong input."""
    url = "https://service.example/kiejobs"
    assert f"{url}  told of jobs that name no address" in run("deliveries", "default", url).output
    assert url not in run("deliveries", "default", "--tenant", "shop").output
    assert run("deliveries", "--tenant", "NO TENANT").exit_code == 2
    (shown,) = json.loads(run("deliveries", "default", "--json").stdout)["addresses"]
    assert shown == {"url": url, "isDefault": True, "disabledAt": None, "gaveUp": 0}
    assert run("deliveries", "default", "http://10.0.0.1/x").exit_code == 2
    assert json.loads(run("deliveries", "default", "--none", "--json").stdout) == {"addresses": []}


def test_an_address_and_none_at_once_are_refused(run, sqlite):
    """One of them would be passed over."""
    url = "https://service.example/kiejobs"
    run("deliveries", "default", url)
    refused = run("deliveries", "default", "https://service.example/other", "--none")
    assert (refused.exit_code, "--none stands alone" in refused.stderr) == (2, True)
    assert url in run("deliveries", "default").output


@pytest.mark.parametrize(
    ("url", "pair"),
    [
        ("http://127.0.0.1:9911/hook", "127.0.0.1:9911"),
        ("http://LOCALHOST/hook", "localhost:80"),
        ("https://[::1]/hook", "[::1]:443"),
    ],
)
def test_a_private_address_is_refused_with_what_would_allow_it(run, sqlite, monkeypatch, url, pair):
    """And that does allow it; what is wrong in its form is allowed by nothing."""
    refused = run("deliveries", "default", url)
    assert (refused.exit_code, f"add {pair} to KIEJOBS_EGRESS_ALLOW" in refused.stderr) == (2, True), refused.stderr
    monkeypatch.setenv("KIEJOBS_EGRESS_ALLOW", pair)
    assert run("deliveries", "default", url).exit_code == 0
    assert "KIEJOBS_EGRESS_ALLOW" not in run("deliveries", "default", "ftp://127.0.0.1/x").stderr
    assert "KIEJOBS_EGRESS_ALLOW" not in run("deliveries", "default", f"http://127.0.0.1/{'x' * 2000}").stderr


def test_a_disabled_address_is_shown_and_enabled(run, sqlite):
    """It answered 410; a person decides that it may be asked again."""
    from kiejobs.db import endpoints

    url = "https://service.example/gone"
    with sqlite.write() as tx:
        endpoints.disable(tx, "default", url)
    assert "disabled since" in run("deliveries", "default").output
    assert run("deliveries", "enable", url).exit_code == 0
    assert url not in run("deliveries", "default").output
    again = run("deliveries", "enable", url)
    assert (again.exit_code, "`kiejobs deliveries default`" in again.stderr) == (2, True)
