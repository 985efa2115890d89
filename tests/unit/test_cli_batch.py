"""A file of requests: all checked first, entered once however often it is run, told in a result file."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from typer.testing import CliRunner, Result

from kiejobs.cli import batch
from kiejobs.cli.app import app
from kiejobs.db.session import Database
from kiejobs.db.tables import jobs as job_rows

GOOD: dict[str, Any] = {"model": "z-image", "input": {"prompt": "a cat", "aspect_ratio": "1:1"}}
WRONG: dict[str, Any] = {"model": "z-image", "input": {"prompt": "a cat", "aspect_ratio": "7:1"}}


@pytest.fixture
def folder(sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in whose settings lead to the test's database."""
    monkeypatch.setenv("KIEJOBS_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, *requests: Any, name: str = "requests.jsonl") -> Path:
    """A file with a line per request; text stands as it is."""
    lines = [one if isinstance(one, str) else json.dumps(one) for one in requests]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def run(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["submit", *words], input=stdin)


def results(folder: Path, name: str = "requests") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.results.jsonl").read_text().splitlines()]


def ids(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.scalars(select(job_rows.c.id)))


def end(database: Database, job_id: str, state: str, **more: Any) -> None:
    with database.write() as tx:
        tx.execute(update(job_rows).where(job_rows.c.id == job_id).values(state=state, line_at=None, **more))


def with_prompt(number: int) -> dict[str, Any]:
    return {"model": "z-image", "input": {"prompt": f"cat number {number}", "aspect_ratio": "1:1"}}


def test_every_line_becomes_a_job(folder: Path, sqlite: Database) -> None:
    """In the order of the file, empty lines left aside, and each with its line in the result file."""
    write(folder, with_prompt(1), "", with_prompt(2), GOOD)
    result = run("--batch", "requests.jsonl")
    assert result.exit_code == 0, result.output
    assert "3 of 3 enqueued: 3 queued." in result.stdout
    assert "waits in line until workers see this database" in result.stderr
    told = results(folder)
    assert [one["line"] for one in told] == [1, 3, 4]
    assert {one["generationId"] for one in told} == set(ids(sqlite))
    assert {(one["state"], one["phase"], one["error"]) for one in told} == {("waiting", "queued", None)}


def test_one_wrong_line_holds_back_all(folder: Path, sqlite: Database) -> None:
    """Its number, its field, what is allowed; nothing enqueued, no result file."""
    write(folder, GOOD, WRONG, "no json", '["list"]', {"modle": "z-image"})
    result = run("--batch", "requests.jsonl", "--json")
    assert result.exit_code == 2
    assert ids(sqlite) == []
    assert not (folder / "requests.results.jsonl").exists()
    assert 'Error: line 2: input.aspect_ratio of z-image: given "7:1" (text), allowed "1:1"' in result.stderr
    assert "Error: line 3: it is no JSON:" in result.stderr
    assert "Error: line 4: it is no JSON object" in result.stderr
    assert "Error: line 5: 'modle' is no field of a request: did you mean 'model'?" in result.stderr
    error = json.loads(result.stdout)["error"]
    assert error["message"] == "4 of 5 lines cannot be accepted, and nothing was enqueued"
    assert error["field"] == "line 2: input.aspect_ratio"
    assert "--skip-invalid" in error["action"]


def test_wrong_lines_can_be_left_out(folder: Path, sqlite: Database) -> None:
    """The rest is enqueued; the result file and the exit code say that something is missing."""
    write(folder, WRONG, GOOD)
    result = run("--batch", "requests.jsonl", "--skip-invalid")
    assert result.exit_code == 2
    assert len(ids(sqlite)) == 1
    first, second = results(folder)
    assert (first["line"], first["generationId"], first["error"]["reason"]) == (1, None, "invalid_input")
    assert "aspect_ratio" in first["error"]["message"]
    assert second["generationId"] == ids(sqlite)[0]


def test_the_same_file_again_buys_nothing_twice(folder: Path, sqlite: Database) -> None:
    """Not when lines move, not when lines are added: only what is new is bought. Equal lines are as many jobs."""
    write(folder, GOOD, GOOD, with_prompt(1))
    assert run("--batch", "requests.jsonl").exit_code == 0
    before = ids(sqlite)
    assert len(before) == 3
    again = json.loads(run("--batch", "requests.jsonl", "--json").stdout)
    assert (again["enqueued"], again["found"], again["refused"]) == (0, 3, 0)
    write(folder, with_prompt(2), with_prompt(1), GOOD, {"input": GOOD["input"], "model": "z-image"})
    assert "1 of 4 enqueued, 3 were there already" in run("--batch", "requests.jsonl").stdout
    assert len(ids(sqlite)) == 4
    assert {one["generationId"] for one in results(folder)} == set(ids(sqlite))


def test_another_file_or_a_key_of_ones_own_buys_again(folder: Path, sqlite: Database) -> None:
    """What the key is made of can be chosen."""
    write(folder, GOOD)
    write(folder, GOOD, name="other.jsonl")
    write(folder, GOOD | {"idempotencyKey": "mine"}, name="own.jsonl")
    for name in ("requests", "other", "own", "own"):
        assert run("--batch", f"{name}.jsonl").exit_code == 0
    assert len(ids(sqlite)) == 3


def test_a_key_twice_for_different_requests_is_a_wrong_line(folder: Path, sqlite: Database) -> None:
    """Found in the file, before anything is enqueued."""
    write(
        folder, GOOD | {"idempotencyKey": "k"}, GOOD | {"idempotencyKey": "k"}, with_prompt(1) | {"idempotencyKey": "k"}
    )
    result = run("--batch", "requests.jsonl")
    assert "Error: line 3: idempotencyKey 'k' is also that of line 1" in result.stderr
    assert (result.exit_code, ids(sqlite)) == (2, [])


def test_a_key_that_another_request_has_holds_up_no_other_line(folder: Path, sqlite: Database) -> None:
    """Only the database knows; the line is named, its neighbours in the chunk are enqueued."""
    assert run("z-image", "--prompt", "something else", "--idempotency-key", "k").exit_code == 0
    write(folder, with_prompt(1), GOOD | {"idempotencyKey": "k"}, with_prompt(2))
    result = run("--batch", "requests.jsonl")
    assert result.exit_code == 2
    assert "Error: line 2: 'k' was used before, for another request" in result.stderr
    assert [one["generationId"] is None for one in results(folder)] == [False, True, False]
    assert len(ids(sqlite)) == 3


def test_a_large_file_goes_in_by_chunks_and_a_killed_run_goes_on(
    folder: Path, sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each chunk is committed; the second run finds the first ones and buys the rest."""
    monkeypatch.setattr(batch, "CHUNK", 4)
    write(folder, *(with_prompt(number) for number in range(10)))
    entered = batch._chunk
    calls = []

    def killed_at_the_third(jobs: Any, lines: Any) -> Any:
        calls.append(len(lines))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return entered(jobs, lines)

    monkeypatch.setattr(batch, "_chunk", killed_at_the_third)
    assert run("--batch", "requests.jsonl").exit_code != 0
    assert len(ids(sqlite)) == 8
    monkeypatch.setattr(batch, "_chunk", entered)
    told = json.loads(run("--batch", "requests.jsonl", "--json").stdout)
    assert (told["enqueued"], told["found"], len(ids(sqlite))) == (2, 8, 10)


def test_waiting_ends_when_nothing_moves_any_more(folder: Path, sqlite: Database) -> None:
    """Success, failure, parked: the worst decides the exit code, and the results say it per line."""
    write(folder, with_prompt(1), with_prompt(2), with_prompt(3))
    assert run("--batch", "requests.jsonl").exit_code == 0
    made, broken, parked = [one["generationId"] for one in results(folder)]
    end(sqlite, made, "success")
    end(sqlite, parked, "unconfirmed")
    assert run("--batch", "requests.jsonl", "--wait", "--timeout-s", "0").exit_code == 4
    end(sqlite, broken, "success")
    assert run("--batch", "requests.jsonl", "--wait").exit_code == 4
    end(sqlite, broken, "fail", reason="content", message="flagged", code="400")
    result = run("--batch", "requests.jsonl", "--wait")
    assert result.exit_code == 1
    assert "Waiting: 3 of 3" in result.stderr
    second = results(folder)[1]
    assert (second["state"], second["error"]["reason"], second["error"]["message"]) == ("fail", "content", "flagged")
    end(sqlite, broken, "success")
    end(sqlite, parked, "success")
    assert run("--batch", "requests.jsonl", "--wait").exit_code == 0


def test_standard_input_is_a_file_too(folder: Path, sqlite: Database) -> None:
    """Its results lie in the folder one stands in."""
    result = run("--batch", "-", stdin=json.dumps(GOOD))
    assert result.exit_code == 0, result.output
    assert results(folder, "batch")[0]["generationId"] == ids(sqlite)[0]


def test_what_is_said_beside_the_file_holds_for_every_line(folder: Path, sqlite: Database) -> None:
    """Unless the line says otherwise."""
    write(folder, with_prompt(1), with_prompt(2) | {"priority": "interactive"})
    assert run("--batch", "requests.jsonl", "--priority", "batch", "--metadata", "order=7").exit_code == 0
    with sqlite.read() as connection:
        assert sorted(connection.scalars(select(job_rows.c.priority))) == ["batch", "interactive"]
    assert run("--batch", "requests.jsonl", "--prompt", "x").exit_code == 2
    assert run("z-image", "--batch", "requests.jsonl").exit_code == 2


def test_doubts_are_told_by_line(folder: Path) -> None:
    """As many as can be read; the rest is counted."""
    write(folder, *({"model": f"nobody/knows-{number}", "input": {"prompt": "x"}} for number in range(30)))
    result = run("--batch", "requests.jsonl")
    assert result.exit_code == 0
    assert "Warning: line 1: model nobody/knows-0 is not in the catalogue" in result.stderr
    assert "… and 10 more" in result.stderr


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00"])
def test_a_file_without_requests_is_refused(content: bytes, folder: Path) -> None:
    """Empty, blank, no text, not there."""
    (folder / "requests.jsonl").write_bytes(content)
    assert run("--batch", "requests.jsonl").exit_code == 2
    assert "nowhere.jsonl cannot be read" in run("--batch", "nowhere.jsonl").stderr


def test_only_a_line_feed_ends_a_line(folder: Path, sqlite: Database) -> None:
    """What else Unicode takes for the end of a line may stand in a text of JSON as it is; so may a mark at the start."""
    lines = [
        json.dumps(with_prompt(1) | {"metadata": {"note": f"a{mark}b"}}, ensure_ascii=False) for mark in "\u2028\x85"
    ]
    (folder / "requests.jsonl").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8", newline="")
    result = run("--batch", "requests.jsonl")
    assert result.exit_code == 0, result.stderr
    assert len(ids(sqlite)) == 2
    again = run("--batch", "-", stdin="\ufeff" + json.dumps(GOOD))
    assert again.exit_code == 0, again.stderr
    assert len(ids(sqlite)) == 3


def test_no_text_keeps_the_results_from_being_written(folder: Path, sqlite: Database) -> None:
    """Half a surrogate pair as a field's name is refused, and told."""
    write(folder, '{"\\ud800": 1, "model": "z-image"}', GOOD)
    assert run("--batch", "requests.jsonl", "--skip-invalid").exit_code == 2
    assert [one["generationId"] for one in results(folder)] == [None, *ids(sqlite)]


def test_a_result_file_that_cannot_be_written_is_not_promised(folder: Path, sqlite: Database) -> None:
    """The jobs are in line all the same."""
    write(folder, GOOD)
    (folder / "requests.results.jsonl").mkdir()
    result = run("--batch", "requests.jsonl")
    assert "requests.results.jsonl cannot be written" in result.stderr
    assert "results.jsonl" not in result.stdout
    assert json.loads(run("--batch", "requests.jsonl", "--json").stdout)["results"] is None
    assert len(ids(sqlite)) == 1


@pytest.mark.parametrize("name", ["input", "metadata"])
def test_what_is_nested_too_deeply_is_a_wrong_line(folder: Path, sqlite: Database, name: str) -> None:
    """Whatever goes down level by level later never meets it."""
    deep: Any = "x"
    for _ in range(99):
        deep = [deep]
    write(folder, GOOD | {"validate": "off", name: {"prompt": "x", "a": deep}})
    assert run("--batch", "requests.jsonl").exit_code == 0
    write(folder, GOOD | {"validate": "off", name: {"prompt": "x", "a": [deep]}})
    assert f"{name} is nested too deeply" in run("--batch", "requests.jsonl").stderr
    assert len(ids(sqlite)) == 1
