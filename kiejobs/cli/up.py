"""`up`: everything at once for development, in the foreground, until Ctrl-C.

One per data dir: a lock that dies with the process holds the folder, and `up.json` in it tells the other commands where
broker, dashboard and simulator are.
"""

import fcntl
import json as jsonlib
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from kiejobs.cli import render
from kiejobs.cli.render import Json, examples
from kiejobs.errors import KieJobsError, SettingsError

if TYPE_CHECKING:
    from kiejobs.cli.processes import Program, Supervisor
    from kiejobs.settings import Settings

_GATEWAY_PORT, _FLOWER_PORT, _SIMULATOR_PORT, _FILES_PORT = 8787, 5555, 8788, 8789
_READY_WITHIN_S = 60.0
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_red", "bright_cyan")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    lines = (
        "kiejobs up                            # no key set: with the simulator, nothing is paid",
        "KIE_API_KEY=… kiejobs up              # the real Kie",
        "kiejobs up --simulator                # the simulator although a key is set",
        "KIEJOBS_BROKER_URL=redis://… KIEJOBS_DATABASE_URL=postgresql+psycopg://… kiejobs up",
    )
    app.command(short_help="Run everything here, until Ctrl-C.", epilog=examples(*lines))(up)


class AlreadyUp(KieJobsError):
    """Another `up` runs on this data dir."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What this `up` runs, decided before anything is started."""

    programs: "list[Program]"
    addresses: dict[str, Any]
    ports: dict[str, int]
    notes: list[str] = field(default_factory=list)


def up(
    *,
    simulator: Annotated[
        bool | None,
        typer.Option("--simulator/--no-simulator", help="Run the local Kie. Default: unless a key is set."),
    ] = None,
    gateway_port: Annotated[int | None, typer.Option(help="The HTTP API's port. Default: 8787, or a free one.")] = None,
    flower_port: Annotated[int | None, typer.Option(help="The dashboard's port. Default: 5555, or a free one.")] = None,
    simulator_port: Annotated[int | None, typer.Option(help="Default: 8788, or a free one.")] = None,
    files_port: Annotated[int | None, typer.Option(help="Of the simulator's files. Default: 8789, or free.")] = None,
    json: Json = False,
) -> None:
    """Run it all here: broker, schema, two workers, beat, gateway, Flower, and the simulator unless a key is set.

    Other commands in this folder find it by themselves. Ctrl-C ends everything. For development: production runs the
    same processes under a supervisor of its own.
    """
    from kiejobs.cli import environment
    from kiejobs.cli.processes import StopAsked, Supervisor
    from kiejobs.kie import catalogue
    from kiejobs.settings import load

    settings = load()
    catalogue.use(settings.catalogue)
    environment.checkout()
    with_simulator = simulator if simulator is not None else not settings.keys
    environment.require(["obstore", "flower", "fastapi", "jinja2", "uvicorn"])
    folder = _data_dir(settings)
    with _only_one(folder):
        keep_toys_and_jobs_apart(settings, folder, simulator=with_simulator)
        lines = _Lines(as_json=json)
        with suppress(StopAsked), Supervisor(lines.show) as programs:
            try:
                asked = _Asked(with_simulator, gateway_port, flower_port, simulator_port, files_port)
                _run(programs, settings, folder, lines, asked)
            except StopAsked:
                lines.say("\nStopping …")
                raise
            finally:
                (folder / "up.json").unlink(missing_ok=True)
        lines.say("All stopped.")


def keep_toys_and_jobs_apart(settings: "Settings", folder: Path, *, simulator: bool) -> None:
    """Refuse to buy what was enqueued for the simulator, and to let the simulator fulfil what was enqueued for Kie."""
    toys, jobs = folder / "simulated", folder / "paid"
    if simulator and not settings.database.startswith("sqlite"):
        raise SettingsError(
            "KIEJOBS_DATABASE_URL names a database of real jobs, which a simulator must not fulfil",
            remedy="Set KIE_API_KEY to run for real, or unset KIEJOBS_DATABASE_URL to play.",
        )
    if settings.database.startswith("sqlite"):
        if (toys if not simulator else jobs).exists():
            made_for = "the simulator" if not simulator else "Kie"
            go_on = "Set KIE_API_KEY to go on with them. " if simulator else ""
            raise SettingsError(
                f"the jobs in {folder} were made for {made_for}",
                remedy=f"{go_on}Give the other kind a folder of its own: KIEJOBS_DATA_DIR=…",
            )
        (toys if simulator else jobs).touch()


@dataclass(frozen=True, slots=True)
class _Asked:
    simulator: bool
    gateway_port: int | None
    flower_port: int | None
    simulator_port: int | None
    files_port: int | None


def _run(programs: "Supervisor", settings: "Settings", folder: Path, lines: "_Lines", asked: _Asked) -> None:
    from kiejobs.db import migrate
    from kiejobs.db.session import Database

    broker_url, broker_kind = _broker(programs, settings, folder)
    database = Database(settings.database)
    lines.say("Database …")
    migrate.migrate(database)
    database.close()
    plan = _plan(settings, folder, broker_url, broker_kind, asked)
    for program in plan.programs:
        programs.start(program)
    _write_privately(folder / "up.json", plan.addresses)
    lines.begin(plan)
    watch = threading.Thread(target=_tell_when_ready, args=(plan, broker_url, lines), daemon=True)
    watch.start()
    while True:
        programs.look(1.0)


def _broker(programs: "Supervisor", settings: "Settings", folder: Path) -> tuple[str, str]:
    """Return the broker's URL: the one that is set, if it answers, or an embedded one, started."""
    from kiejobs.cli import broker, environment, stack
    from kiejobs.nudge import check_broker

    if settings.broker_url:
        url = settings.broker_url.get_secret_value()
        check_broker(url)
        return url, "yours"
    place = folder / "broker"
    place.mkdir(exist_ok=True)
    given = environment.with_checkout(environment.inherited())
    made = broker.embedded(settings.embedded_broker, place, given, rank=stack.BROKER_STOPS)
    programs.start(made.program)
    made.wait_for(programs)
    return made.url, f"embedded {made.kind}"


def _plan(settings: "Settings", folder: Path, broker_url: str, broker_kind: str, asked: _Asked) -> _Plan:
    from kiejobs.cli import environment, stack
    from kiejobs.cli.ports import LOOPBACK, free_port

    ours = {"KIEJOBS_BROKER_URL": broker_url, "KIEJOBS_DATA_DIR": str(folder)}
    ours["KIEJOBS_LOG_FORMAT"] = settings.log_format or "text"
    login = settings.flower_auth.get_secret_value() if settings.flower_auth else f"kiejobs:{secrets.token_urlsafe(9)}"
    ours["KIEJOBS_FLOWER_AUTH"] = login
    ports = {
        stack.GATEWAY: free_port(asked=asked.gateway_port, preferred=_GATEWAY_PORT),
        stack.FLOWER: free_port(asked=asked.flower_port, preferred=_FLOWER_PORT),
    }
    addresses: dict[str, Any] = {
        "pid": os.getpid(),
        "broker_url": broker_url,
        "broker": broker_kind,
        "gateway_url": f"http://{LOOPBACK}:{ports[stack.GATEWAY]}",
        "flower_url": f"http://{LOOPBACK}:{ports[stack.FLOWER]}",
    }
    notes = [] if settings.flower_auth else [f"Flower's login, made for this run: {login}"]
    if asked.simulator:
        api = free_port(asked=asked.simulator_port, preferred=_SIMULATOR_PORT)
        files = free_port(asked=asked.files_port, preferred=_FILES_PORT)
        ports[stack.SIMULATOR] = api
        ours |= stack.simulator_settings(api, files)
        yours = [
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in sorted(settings.egress_allow)
        ]
        ours["KIEJOBS_EGRESS_ALLOW"] = ",".join([ours["KIEJOBS_EGRESS_ALLOW"], *yours])
        ours["KIEJOBS_PUBLIC_URL"] = settings.public_url or str(addresses["gateway_url"])  # this Kie can call back
        worthless = {name: {"key": f"{stack.SIMULATOR_KEY}-{name}"} for name in settings.accounts}
        ours["KIEJOBS_ACCOUNTS"] = jsonlib.dumps(worthless)
        addresses |= {"simulator_url": f"http://{LOOPBACK}:{api}", "files_url": f"http://{LOOPBACK}:{files}"}
        notes.append("Jobs go to the simulator: nothing is paid." + (" Your key is not used." if settings.keys else ""))
    elif settings.keys:
        notes.append(f"Jobs go to {settings.base_url} with your key: they are paid for.")
    else:
        notes.append("No key is set and no simulator runs: jobs wait.")
    given = environment.with_checkout(environment.inherited()) | ours
    made = stack.Stack(given, Path.cwd())
    programs = [*made.workers(), made.beat(), made.gateway(ports[stack.GATEWAY]), made.flower(ports[stack.FLOWER])]
    if stack.SIMULATOR in ports:
        programs.insert(0, made.simulator(ports[stack.SIMULATOR], files))
    return _Plan(programs, addresses, ports, notes)


def _tell_when_ready(plan: _Plan, broker_url: str, lines: "_Lines") -> None:
    """Wait, beside the supervisor, until everything answers, and say so."""
    from kiejobs.cli import stack
    from kiejobs.cli.ports import answers
    from kiejobs.nudge import producer_app

    app = producer_app(broker_url)
    waiting = threading.Event()
    missing: list[str] = []
    until = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < until:
        missing = [name for name, port in plan.ports.items() if not answers(port)]
        with suppress(Exception):  # whatever a broker that is just starting says
            nodes = app.control.inspect(timeout=0.5).ping() or {}
            here = {node.partition("@")[0] for node in nodes}
            missing += [name for name in (stack.QUICK, stack.COPIES) if name not in here]
            if not missing:
                lines.ready(plan)
                return
        waiting.wait(0.2)
    lines.say(
        f"Not answering after {_READY_WITHIN_S:.0f} s: {', '.join(missing) or 'the workers'}. See their lines above."
    )


class _Lines:
    """What `up` prints. With --json only the addresses go to standard output, everything else to standard error."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = render.err() if as_json else render.out()
        self._colours: dict[str, str] = {}
        self._lock = threading.Lock()

    def say(self, text: str, style: str | None = None) -> None:
        """Print a line of our own."""
        with self._lock:
            render.say(text, style=style, to=self._console)

    def show(self, name: str, line: str) -> None:
        """Print a line of a program, with its name in front."""
        from rich.text import Text

        with self._lock:
            colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
            self._console.print(Text(f"{name:<9} ", style=colour).append(render.clean(line), style=""), soft_wrap=True)

    def begin(self, plan: _Plan) -> None:
        """Say what was started, and where it will be."""
        self.say(f"Starting {', '.join(program.name for program in plan.programs)}. Ctrl-C ends them all.")
        for note in plan.notes:
            self.say(note, style="bold")

    def ready(self, plan: _Plan) -> None:
        """Say that everything answers, and where."""
        if self._as_json:
            with self._lock:
                render.print_json(_document(plan))
        shown = [
            ("gateway", plan.addresses["gateway_url"]),
            ("Flower", plan.addresses["flower_url"]),
            ("simulator", plan.addresses.get("simulator_url")),
            ("broker", f"{render.without_password(plan.addresses['broker_url'])} ({plan.addresses['broker']})"),
        ]
        self.say("\nReady.", style="bold green")
        for name, address in shown:
            if address:
                self.say(f"  {name:<10} {address}")
        for note in plan.notes:
            self.say(f"  {note}")
        self.say(
            '  Try, in another terminal here:  kiejobs submit z-image -p "a red door" -i aspect_ratio=1:1 --wait\n'
        )


def _document(plan: _Plan) -> dict[str, Any]:
    """The addresses with the JSON keys of the other commands."""
    words = {"pid": "pid", "broker_url": "brokerUrl", "broker": "broker", "flower_url": "flowerUrl"}
    words |= {"gateway_url": "gatewayUrl", "simulator_url": "simulatorUrl", "files_url": "filesUrl"}
    return {words[name]: value for name, value in plan.addresses.items()} | {"notes": plan.notes}


# The data dir: one owner at a time.


def _data_dir(settings: "Settings") -> Path:
    folder = settings.data_dir.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"the data dir {folder} cannot be made: {error.strerror}", remedy="Set KIEJOBS_DATA_DIR to another folder."
        ) from None
    return folder


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the folder; AlreadyUp names the one who does. The lock goes with the process, whatever ends it."""
    with _lock_file(folder) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            pid = lock.read().strip() or "unknown"
            raise AlreadyUp(
                f"`kiejobs up` runs on {folder} already (pid {pid})",
                remedy=f"Use that one, stop it (Ctrl-C there, or kill {pid}), or set KIEJOBS_DATA_DIR to another folder.",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _lock_file(folder: Path) -> TextIO:
    try:
        return (folder / "up.lock").open("a+")
    except OSError as error:
        raise SettingsError(
            f"the data dir {folder} cannot be written: {error.strerror}",
            remedy="Set KIEJOBS_DATA_DIR to another folder, or make this one writable for you.",
        ) from None


def _write_privately(path: Path, document: dict[str, Any]) -> None:
    """Write a file that only its owner may read, at once visible as a whole."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        jsonlib.dump(document, file, indent=2)
    new.replace(path)
