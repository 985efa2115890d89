"""Scenarios as text, and the simulator as a program: its help, its first lines, its end."""

import json
import signal
import socket
import subprocess
import sys
from dataclasses import fields

import pytest
import requests

from kiejobs.simulator import Simulator, scenario_help
from kiejobs.simulator.__main__ import REMEDY, main
from kiejobs.simulator.scenarios import PLAIN, Outage, Scenario, UnknownScenario, parse_scenario, scenario_names

PROGRAM = [sys.executable, "-m", "kiejobs.simulator"]


def test_markers_combine_and_leave_the_prose_alone() -> None:
    """Anywhere in the prompt, with or without spaces."""
    scenario = parse_scenario("A [[duration=0.5]] cat [[ outputs = 3 ]] with [brackets] and [[Big Words]][[regress]]")
    assert scenario == Scenario(duration=0.5, outputs=3, regress=True)


def test_markers_for_follow_ups_are_kept_apart() -> None:
    """`next:` is for tasks that build on this one; both kinds are checked."""
    prompt = "[[outputs=3]] [[next:fail=500]] [[next:duration=1]]"
    assert parse_scenario(prompt) == Scenario(outputs=3)
    assert parse_scenario(prompt, follow_up=True) == Scenario(fail="500", duration=1)
    assert parse_scenario("[[next:fail=500]]") is PLAIN
    with pytest.raises(UnknownScenario):
        parse_scenario("[[next:fial=500]]")


def test_a_prompt_without_markers_is_a_good_day() -> None:
    """The default of every scenario is off."""
    assert parse_scenario("A cat") is PLAIN
    assert not any(getattr(PLAIN, entry.name) for entry in fields(PLAIN))


def test_poll_http_takes_a_status_and_a_number() -> None:
    """`502*5` is five times; alone it is three times."""
    assert parse_scenario("[[poll-http=502*5]]").poll_http == Outage(502, 5)
    assert parse_scenario("[[poll-http=502]]").poll_http == Outage(502, 3)


@pytest.mark.parametrize(
    ("prompt", "hint"),
    [
        ("[[regres]]", "did you mean [[regress]]?"),
        ("[[duration]]", "write [[duration=SECONDS]]"),
        ("[[duration=soon]]", "write [[duration=SECONDS]]"),
        ("[[duration=nan]]", "write [[duration=SECONDS]]"),
        ("[[hang=5]]", "it takes no value"),
        ("[[http=200]]", "from 400 to 599"),
        ("[[outputs=1000]]", "more than 100"),
    ],
)
def test_a_marker_that_is_wrong_says_what_to_write(prompt: str, hint: str) -> None:
    """A misspelt scenario must not let a test pass for nothing."""
    with pytest.raises(UnknownScenario) as error:
        parse_scenario(prompt)
    assert hint in str(error.value)


def test_a_create_with_a_wrong_marker_is_refused_with_the_hint() -> None:
    """The person who wrote the test reads it in the answer."""
    with Simulator() as kie:
        body = {"model": "z-image", "input": {"prompt": "[[hangs]]"}}
        url, key = f"{kie.base_url}/api/v1/jobs/createTask", {"Authorization": "Bearer k"}
        answer = requests.post(url, json=body, headers=key, timeout=5).json()
    assert answer["code"] == 422
    assert "did you mean [[hang]]?" in answer["msg"]


def test_the_help_names_every_scenario() -> None:
    """Made from the one table, so it cannot forget one."""
    text = scenario_help()
    assert len(scenario_names()) == len(fields(Scenario)) >= 28
    assert all(f"[[{name}]]" in text or f"[[{name}=" in text for name in scenario_names())
    assert max(map(len, text.splitlines())) <= 110


def test_help_on_the_command_line_shows_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` is where one looks first."""
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert scenario_help() in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_program_tells_its_addresses_serves_and_stops_quietly(number: signal.Signals) -> None:
    """One JSON document, two plain lines beside it, an API that answers, and an end with exit code 0 and no word."""
    command = [*PROGRAM, "--port=0", "--files-port=0", "--json", "--key=k=acme"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        ready = json.loads(program.stdout.readline())
        assert program.stderr.readline() == f"Kie simulator: {ready['simulatorUrl']}\n"
        assert program.stderr.readline() == f"Result files: {ready['filesUrl']}\n"
        url = f"{ready['simulatorUrl']}/api/v1/chat/credit"
        assert requests.get(url, headers={"Authorization": "Bearer k"}, timeout=5).json()["data"] == 10000
        program.send_signal(number)
        out, err = program.communicate(timeout=10)
    assert (program.returncode, out, err) == (0, "", "")


def test_without_json_the_addresses_are_on_standard_output() -> None:
    """What a person reads."""
    command = [*PROGRAM, "--port=0", "--files-port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline().startswith("Kie simulator: http://")
        assert program.stdout.readline().startswith("Result files: http://")
        program.send_signal(signal.SIGTERM)
        assert program.communicate(timeout=10) == ("", "")


def test_a_port_in_use_is_two_lines_and_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    """What to do, as a document too, and the port that was free is free again."""
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
        other.close()
        port = taken.getsockname()[1]
        flags = ["--port", str(free), "--files-port", str(port)]
        assert main(flags) == 3
        out, err = capsys.readouterr()
        assert main([*flags, "--json"]) == 3
    said = f"cannot listen on 127.0.0.1:{port}: Address already in use"
    assert (out, err) == ("", f"kiejobs simulator: {said}\n{REMEDY}\n")
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["message"], error["action"]) == (said, REMEDY)
    with Simulator(port=free) as kie:
        assert kie.base_url == f"http://127.0.0.1:{free}"


def test_a_public_host_is_used_in_addresses_and_links() -> None:
    """In a compose network others know this machine by another name."""
    with Simulator(host="0.0.0.0", public_host="simulator") as kie:
        assert kie.base_url.startswith("http://simulator:")
        assert kie.files_host_port.startswith("simulator:")
    with Simulator(host="0.0.0.0") as kie:
        assert kie.base_url.startswith("http://127.0.0.1:")


def test_the_simulator_can_be_stopped_twice_and_read_afterwards() -> None:
    """A test asserts on the ledger when all is over."""
    kie = Simulator().start()
    requests.get(f"{kie.base_url}/api/v1/jobs/recordInfo?taskId=x", timeout=5)
    kie.stop()
    kie.stop()
    queries = kie.ledger()["queries"]
    assert isinstance(queries, list)
    assert queries[0]["code"] == 401
    with pytest.raises(requests.ConnectionError):
        requests.get(kie.base_url, timeout=1)
