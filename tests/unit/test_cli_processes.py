"""The supervisor: what it starts it restarts, ends in order, and never leaves behind. And the embedded broker."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from kiejobs.cli import broker, environment, ports, stack
from kiejobs.cli.processes import Program, ProgramFailed, StopAsked, Supervisor
from kiejobs.errors import BrokerUnavailable, SettingsError
from tests.support import missing

CHECKOUT = environment.checkout()
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()"
POLITE = "import signal; print('up', flush=True); signal.pause()"


def program(name: str, source: str, folder: Path, *, rank: int = 0, stops_within_s: float = 5.0) -> Program:
    """A Python one-liner."""
    return Program(name, (sys.executable, "-c", source), inherited(), folder, rank, stops_within_s)


def inherited() -> dict[str, str]:
    """This environment, in which a child finds the package."""
    return environment.with_checkout(environment.inherited())


def eventually(true: Callable[[], bool], within_s: float = 60.0) -> bool:
    """Whether something becomes true in time."""
    until = time.monotonic() + within_s
    waiter = subprocess.Popen(["sleep", str(within_s)])
    try:
        while time.monotonic() < until:
            if true():
                return True
            try:
                waiter.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        return true()
    finally:
        waiter.kill()
        waiter.wait()


def test_lines_of_a_program_are_handed_on_with_its_name(tmp_path: Path) -> None:
    """Standard output and standard error alike."""
    lines: list[tuple[str, str]] = []
    with Supervisor(lambda name, line: lines.append((name, line))) as programs:
        programs.start(program("one", f"import sys; sys.stderr.write('hello\\n'); {POLITE}", tmp_path))
        programs.wait_until(lambda: programs.said("one", "up"), within_s=10, what="one")
    assert ("one", "hello") in lines


def test_a_program_that_dies_is_started_again(tmp_path: Path) -> None:
    """The first run ends, the second stays."""
    source = f"import os; os.path.exists('ran') or (open('ran', 'w').close(), os._exit(7)); {POLITE}"
    lines: list[str] = []
    with Supervisor(lambda name, line: lines.append(line)) as programs:
        programs.start(program("one", source, tmp_path))
        programs.wait_until(lambda: programs.said("one", "up"), within_s=10, what="one")
    assert any("exit code 7; started again" in line for line in lines)


def test_a_program_that_never_stays_up_is_given_up_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After five restarts within a minute; here after one, to be quick."""
    monkeypatch.setattr("kiejobs.cli.processes.RESTARTS_PER_MINUTE", 1)
    with pytest.raises(ProgramFailed, match=r"(?s)one ended with exit code 3.*no such port"), Supervisor() as programs:
        programs.start(program("one", "print('no such port'); raise SystemExit(3)", tmp_path))
        programs.wait_until(lambda: False, within_s=10, what="it")


def test_programs_end_in_the_order_of_their_ranks(tmp_path: Path) -> None:
    """The broker outlives its workers."""
    source = "import signal,sys,time; signal.signal(15, lambda *_: sys.exit(open('order','a').write(sys.argv[1])-1)); "
    source += "print('up', flush=True); signal.pause()"
    with Supervisor() as programs:
        for name, rank in (("b", 2), ("w", 0), ("o", 1)):
            made = program(name, source, tmp_path, rank=rank)
            programs.start(Program(name, (*made.command, name), made.environment, tmp_path, rank))
        programs.wait_until(lambda: all(programs.said(name, "up") for name in "bwo"), within_s=10, what="all")
    assert (tmp_path / "order").read_text() == "wob"


def test_what_does_not_stop_is_killed_with_its_children(tmp_path: Path) -> None:
    """SIGTERM is ignored by the program and by what it started."""
    source = f"import subprocess,sys; subprocess.Popen([sys.executable, '-c', 'import signal; {_IGNORE}']); {STUBBORN}"
    before = psutil.Process().children(recursive=True)  # what earlier tests keep running, like a resource tracker
    with Supervisor() as programs:
        programs.start(program("one", source, tmp_path, stops_within_s=0.3))
        programs.wait_until(lambda: programs.said("one", "up"), within_s=10, what="one")
        family = [one for one in psutil.Process().children(recursive=True) if one not in before]
        assert len(family) >= 2
    assert eventually(lambda: not any(_lives(one) for one in family))


_IGNORE = "signal.signal(15, signal.SIG_IGN); signal.pause()"


def test_a_signal_asks_to_stop_and_handlers_are_given_back(tmp_path: Path) -> None:
    """Ctrl-C reaches whoever looks after the programs, never them directly."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(StopAsked), Supervisor() as programs:
        programs.start(program("one", POLITE, tmp_path))
        os.kill(os.getpid(), signal.SIGINT)
        programs.look(5)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_programs_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    """Even SIGKILL leaves nothing running."""
    source = (
        "import sys\nfrom pathlib import Path\nfrom kiejobs.cli.processes import Program, Supervisor\n"
        "from kiejobs.cli.environment import inherited\n"
        "with Supervisor() as programs:\n"
        f"    programs.start(Program('one', (sys.executable, '-c', {STUBBORN!r}), inherited(), Path('.'), 0))\n"
        "    programs.wait_until(lambda: programs.said('one', 'up'), within_s=10, what='one')\n"
        "    print('ready', flush=True)\n"
        "    programs.look(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", source], cwd=tmp_path, env=inherited(), stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "ready\n"
        children = psutil.Process(supervisor.pid).children(recursive=True)
        assert children
        supervisor.kill()
    assert eventually(lambda: not any(_lives(child) for child in children))


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


# The embedded broker.


@pytest.mark.parametrize("kind", ["redis", "fakeredis"])
def test_the_embedded_broker_takes_a_message_and_gives_it_back(kind: str, tmp_path: Path) -> None:
    """Both kinds, through kombu as the workers use it."""
    import kombu

    if kind == "redis" and broker._binary() is None:
        missing("redis-server on PATH")
    made = broker.embedded(kind, tmp_path, inherited(), rank=0)
    with Supervisor() as programs:
        programs.start(made.program)
        made.wait_for(programs)
        with kombu.Connection(made.url) as connection, connection.SimpleQueue("test") as queue:
            queue.put({"hello": "you"})
            message = queue.get(timeout=5)
            message.ack()
            assert message.payload == {"hello": "you"}
    assert not ports.answers(int(made.url.rpartition(":")[2].split("/")[0]))


def test_redis_cannot_be_forced_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clear error; without force, fakeredis is taken."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerUnavailable, match="no redis-server"):
        broker.embedded("redis", tmp_path, {}, rank=0)
    assert broker.embedded("auto", tmp_path, {}, rank=0).kind == "fakeredis"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Redis server v=5.0.7 sha=0", "fakeredis"),
        ("Redis server v=6.2.0 sha=0", "redis-server"),
        ("Valkey server v=8.1.0 sha=0", "redis-server"),
        ("nonsense", "fakeredis"),
    ],
)
def test_a_redis_that_is_too_old_is_not_taken(
    said: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client library needs 6.2."""
    binary = tmp_path / "redis-server"
    binary.write_text(f"#!/bin/sh\necho '{said}'\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert broker.embedded("auto", tmp_path, {}, rank=0).kind == kind


def test_the_demo_keeps_one_name_and_checks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that could hold a key is dropped."""
    for name in ("KIE_API_KEY", "kie_api_key", "KIEJOBS_DATABASE_URL", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "secret")
    assert not [name for name, value in environment.without_settings().items() if value == "secret"]
    monkeypatch.setenv("KIEJOBS_EMBEDDED_BROKER", "fakeredis")
    assert environment.embedded_broker() == "fakeredis"
    monkeypatch.setenv("KIEJOBS_EMBEDDED_BROKER", "rabbit")
    with pytest.raises(SettingsError, match="rabbit"):
        environment.embedded_broker()


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    """Only where it was asked for; else another one is found."""
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        taken = sock.getsockname()[1]
        with pytest.raises(ports.PortTaken, match=f"port {taken} is in use"):
            ports.free_port(asked=taken)
        assert ports.free_port(preferred=taken) != taken


def test_the_workers_cover_every_queue(tmp_path: Path) -> None:
    """What `up` starts consumes all that is published."""
    from kiejobs.nudge import QUEUES

    commands = [one.command for one in stack.Stack(inherited(), tmp_path).workers()]
    consumed = [queue for command in commands for queue in command[command.index("-Q") + 1].split(",")]
    assert sorted(consumed) == sorted(QUEUES)


def test_toys_and_real_jobs_are_kept_apart(tmp_path):
    """What was enqueued for the simulator is never bought, and the simulator fulfils no real job."""
    from kiejobs.cli.up import keep_toys_and_jobs_apart
    from kiejobs.errors import SettingsError
    from tests.factories import make_settings

    settings = make_settings(tmp_path)
    keep_toys_and_jobs_apart(settings, tmp_path, simulator=True)
    keep_toys_and_jobs_apart(settings, tmp_path, simulator=True)
    with pytest.raises(SettingsError, match="made for the simulator"):
        keep_toys_and_jobs_apart(settings, tmp_path, simulator=False)
    real = make_settings(tmp_path, database_url="postgresql://somebody@somewhere/jobs")
    with pytest.raises(SettingsError, match="real jobs"):
        keep_toys_and_jobs_apart(real, tmp_path, simulator=True)
