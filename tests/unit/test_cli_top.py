"""`top`, `show` and the bars of waits: the whole installation at a glance, and how far one job is."""

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kiejobs import KieJobs
from kiejobs.cli import render, top, watch
from kiejobs.cli.app import app
from kiejobs.db import figures, rescue
from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.jobs import Job, JobState, Output, OutputState
from tests.factories import age, alter_outputs, make_job, make_settings, pause_account

JOB = Job("j", "default", "default", "z-image", JobState.STORING, datetime(2026, 11, 21, 5, 0, tzinfo=UTC))


@pytest.fixture
def run(sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command on the test's database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIEJOBS_DATABASE_URL", f"sqlite:///{sqlite.url.database}")
    return lambda *words: CliRunner().invoke(app, list(words))


def a_busy_installation(database: Database) -> str:
    """One job in line, one at Kie, one being copied, an account that is paused."""
    age(database, make_job(database, JobState.QUEUED).id, 90)
    waiting = make_job(database, JobState.WAITING, polls=3, progress=0.4)
    make_job(database, JobState.SUCCESS)
    storing = make_job(database, JobState.STORING)
    alter_outputs(database, storing.id, received_bytes=3_400_000)
    pause_account(database)
    rescue.beat(database, "sweep")
    return waiting.id


def test_one_look_shows_the_line_the_jobs_in_flight_and_the_accounts(run, sqlite):
    waiting = a_busy_installation(sqlite)
    shown = run("top", "--once").stdout
    assert "1 queued   1 waiting   1 storing" in shown
    assert re.search(r"default \d of 20 creates, first in line for 1\d\d s, creates paused", shown)
    assert re.search(rf"{waiting}\s+z-image\s+waiting\s+(1[5-9]|[2-9]\d) s\s+3\s+40 %", shown)
    assert "3.4 MB" in shown
    assert "success" not in shown


def test_the_json_of_a_look_is_one_document(run, sqlite):
    waiting = a_busy_installation(sqlite)
    told = json.loads(run("top", "--json").stdout)
    assert told["jobs"] == {"queued": 1, "waiting": 1, "storing": 1}
    assert told["unsaved"] == 1
    assert told["lastRunS"]["sweep"] < 60
    assert told["accounts"][0]["paused"] is True
    assert {one["generationId"]: one["polls"] for one in told["inFlight"]}[waiting] == 3


def test_an_empty_installation_says_so(run):
    shown = run("top", "--once").stdout
    assert "no unfinished job" in shown
    assert "the sweep never ran" in shown


@pytest.mark.parametrize(("width", "height"), [(80, 24), (70, 16), (200, 50)])
def test_a_look_fits_the_terminal_with_what_needs_a_person_at_the_top(sqlite, tmp_path, width, height):
    """A line per job, no line broken or longer than the screen, its id whole; parked, late and slow jobs come first."""
    from rich.console import Console

    parked = make_job(sqlite, JobState.UNCONFIRMED, model="kling-2.6/text-to-video")
    late = make_job(sqlite, JobState.WAITING, due_at=clock(-50))
    slow = make_job(sqlite, JobState.TIMEOUT)
    for _ in range(30):
        make_job(sqlite, JobState.WAITING, model="kling-2.6/text-to-video")
    make_job(sqlite, account="studoi")
    pause_account(sqlite)
    found = top.look(KieJobs(make_settings(tmp_path), database=sqlite))
    console = Console(width=width, height=height, file=io.StringIO())
    with console.capture() as captured:
        console.print(top._screen(found, width, height))
    lines = captured.get().splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    shown = [line[:36] for line in lines if re.match(r"[0-9a-f]{8}-", line)]
    assert shown[:3] == [parked.id, late.id, slow.id][: len(shown)]
    for words in (
        "1 unconfirmed: kiejobs list -A",
        "1 in line for an account",
        "creates are paused",
        "looks are late",
        "no sweep",
    ):
        assert any(line.startswith(words) for line in lines), words
    assert any("more: kiejobs list -A" in line for line in lines) is (len(shown) < 33)


def test_in_flight_is_what_stands_behind_the_line(database):
    """Newest first, no more than asked for; neither what is in line nor what has ended."""
    made = []
    for seconds, state in ((30, JobState.WAITING), (20, JobState.STORING), (10, JobState.UNCONFIRMED)):
        made.append(make_job(database, state).id)
        age(database, made[-1], seconds)
    make_job(database, JobState.QUEUED)
    make_job(database, JobState.SUCCESS)
    assert [one.id for one in figures.in_flight(database, limit=10)] == made[::-1]
    assert [one.id for one in figures.in_flight(database, limit=1)] == made[-1:]


def environment(database: Database) -> dict[str, str]:
    return {**os.environ, "KIEJOBS_DATABASE_URL": f"sqlite:///{database.url.database}", "COLUMNS": "140", "LINES": "40"}


def interrupted(program: "subprocess.Popen[Any]") -> str:
    """Interrupt a program and return what it complained of; it is gone afterwards in any case."""
    try:
        program.send_signal(signal.SIGINT)
        _, complaint = program.communicate(timeout=30)
    finally:
        program.kill()
    return complaint or ""


PROGRAM = [sys.executable, "-m", "kiejobs.cli", "top", "--every-s", "0.2"]


def test_without_a_terminal_each_look_is_a_line(sqlite, tmp_path):
    """No colour, no control codes; it can be piped into a file."""
    a_busy_installation(sqlite)
    with subprocess.Popen(
        PROGRAM, env=environment(sqlite), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout
        lines = [program.stdout.readline() for _ in range(3)]
        complaint = interrupted(program)
    assert all(re.match(r"\d\d:\d\d:\d\d  1 queued, 1 waiting, 1 storing; lag ", line) for line in lines)
    assert not any("\x1b" in line for line in lines)
    assert (program.returncode, complaint) == (0, "")


def test_a_terminal_that_cannot_draw_gets_lines(sqlite, tmp_path):
    """TERM=dumb, as in an editor's shell: nothing would ever be seen of a table that is drawn again."""
    a_busy_installation(sqlite)
    ours, theirs = pty.openpty()
    dumb = environment(sqlite) | {"TERM": "dumb"}
    with subprocess.Popen(PROGRAM, env=dumb, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs) as program:
        os.close(theirs)
        seen = b""
        while select.select([ours], [], [], 60)[0] and seen.count(b"1 queued") < 3:
            seen += os.read(ours, 65536)
        program.kill()
    os.close(ours)
    assert seen.count(b"1 queued") >= 3
    assert b"\x1b" not in seen


def test_on_a_terminal_the_table_is_drawn_again_and_ctrl_c_gives_the_screen_back(sqlite, tmp_path):
    a_busy_installation(sqlite)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        PROGRAM, env=environment(sqlite) | {"TERM": "xterm"}, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs
    ) as program:
        os.close(theirs)
        seen = b""
        try:
            while seen.count(b"1 queued") < 3:
                seen += os.read(ours, 65536)
            program.send_signal(signal.SIGINT)
            while b"\x1b[?1049l" not in seen:
                seen += os.read(ours, 65536)
            program.wait(timeout=30)
        finally:
            program.kill()
    os.close(ours)
    assert b"\x1b[?1049h" in seen
    assert program.returncode == 0


def test_show_tells_the_story_without_being_asked(run, sqlite):
    """When, how long after the beginning, who, what, why; without it where that is wanted."""
    made = make_job(sqlite, JobState.SUCCESS)
    shown = run("show", made.id).stdout
    assert re.search(r"after\s+who\s+what\s+note", shown)
    assert re.search(r"factory\s+stored \(storing → success\)", shown)
    assert "factory" not in run("show", made.id, "--no-timeline").stdout
    assert [one["kind"] for one in json.loads(run("show", made.id, "--json").stdout)["timeline"]][-1] == "stored"


@pytest.mark.parametrize(
    ("outputs", "total", "far"),
    [
        ((), None, None),
        ((Output(0, OutputState.PENDING, "result", received_bytes=5),), None, None),
        ((Output(0, OutputState.PENDING, "result", received_bytes=5, expected_bytes=20),), 20, 0.25),
        (
            (
                Output(0, OutputState.STORED, "result", size_bytes=60, received_bytes=60),
                Output(1, OutputState.PENDING, "result", received_bytes=15, expected_bytes=40),
            ),
            100,
            0.75,
        ),
        ((Output(0, OutputState.PENDING, "result", received_bytes=30, expected_bytes=20),), 20, 1.0),
    ],
)
def test_how_far_a_copy_is_is_told_where_all_sizes_are_known(outputs, total, far):
    job = replace(JOB, outputs=outputs)
    assert render.total_bytes(job) == total
    assert render.far(job) == far
    assert (f" of {render.size(total)}" in render.standing(job)) is (total is not None)


def test_a_wait_shows_a_bar_where_somebody_says_how_far_it_is(monkeypatch):
    """And a spinner where nobody does."""
    from rich.console import Console

    console = Console(force_terminal=True, width=120, file=io.StringIO())
    monkeypatch.setattr(render, "err", lambda: console)
    line = watch.JobLine()

    def drawn(job: Job) -> str:
        line.see(job)
        with console.capture() as captured:
            console.print(line._render())
        return captured.get()

    assert "━" not in drawn(replace(JOB, phase=JobState.WAITING, polls=1))
    assert "━" in drawn(replace(JOB, phase=JobState.WAITING, polls=1, progress=0.5))
    half = Output(0, OutputState.PENDING, "result", received_bytes=5_000_000, expected_bytes=10_000_000)
    bar = drawn(replace(JOB, outputs=(half,)))
    assert "━" in bar
    assert "5.0 MB of 10.0 MB" in bar


def test_a_new_copy_forgets_how_far_the_one_before_it_was(database):
    """The next source may have another size."""
    from kiejobs.db import copies
    from tests.factories import outputs_of

    job = make_job(database, JobState.STORING)
    first = copies.claim(database, job.id, 0, lease_s=60)
    assert first is not None
    copies.renew(database, first, lease_s=60, received_bytes=7, expected_bytes=70)
    age(database, job.id, 100)
    assert copies.claim(database, job.id, 0, lease_s=60) is not None
    (row,) = outputs_of(database, job.id)
    assert (row.received_bytes, row.expected_bytes) == (0, None)
