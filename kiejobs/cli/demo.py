"""`demo`: the whole way on this machine, with nothing configured and nothing paid.

Real processes over real HTTP: an embedded broker, two workers, beat, SQLite, local storage, the simulator. It runs in a
folder of its own, drops every KIE_*, KIEJOBS_* and AWS_* name and reads no `.env`, so a key that is set is not touched.
With `--live` the user's Kie stands in for the simulator, and one picture is bought: see `demo_live`.
"""

import itertools
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kiejobs.cli import render
from kiejobs.cli.demo_screen import DemoScreen
from kiejobs.cli.examples import EXAMPLES, PICTURE, Attempt, Example
from kiejobs.cli.exits import Exit
from kiejobs.cli.render import Json, examples
from kiejobs.documents import job_document
from kiejobs.errors import SettingsError

if TYPE_CHECKING:
    from kiejobs.cli.broker import EmbeddedBroker
    from kiejobs.cli.demo_live import Purchase
    from kiejobs.cli.processes import Supervisor
    from kiejobs.producer import KieJobs

PATIENCE_S = 120.0
"""After so long the demo gives up; it takes about 25 s, on a slow machine 50."""
_LOOK_EVERY_S = 0.25


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    lines = (
        "kiejobs demo",
        "kiejobs demo --flower",
        "kiejobs demo --json",
        "KIEJOBS_EMBEDDED_BROKER=fakeredis kiejobs demo",
        "KIE_API_KEY=… kiejobs demo --live     # the real Kie: one picture, bought after it has asked",
    )
    app.command(short_help="See the whole way on this machine, nothing paid.", epilog=examples(*lines))(demo)


@dataclass(frozen=True, slots=True)
class _Stage:
    """What runs, and the producer that uses it."""

    folder: Path
    broker: "EmbeddedBroker"
    jobs: "KieJobs"
    notes: tuple[str, ...]

    @property
    def media(self) -> Path:
        return Path(self.jobs.settings.storage)


def demo(
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="A new or empty folder. Default: ./kiejobs-data/demo-<n>.")
    ] = None,
    flower: Annotated[
        bool, typer.Option("--flower", help="Also run the dashboard, and keep everything up until Ctrl-C.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Buy one picture at the real Kie, with KIE_API_KEY. Asks first.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --live: do not ask before paying.")] = False,
    json: Json = False,
) -> None:
    """See it work: six generations from request to stored file, on a local Kie. No key, no set-up, nothing paid.

    Runs an embedded broker, workers, schedule and simulator as real processes, sends the example requests of Kie's own
    documentation, and ends with what was stored and what failed. About 25 seconds; nothing is left running.

    With --live the real Kie takes the simulator's place: says what one picture of the cheapest model costs, asks, buys
    it, and shows the file and the credits before and after.
    """
    from kiejobs.cli import demo_live, environment
    from kiejobs.cli.processes import StopAsked, Supervisor

    if yes and not live:
        raise typer.BadParameter("there is nothing to agree to without --live", param_hint="--yes")
    environment.checkout()
    environment.require(["obstore", "fastapi", *(["flower"] if flower else [])])
    chosen = environment.embedded_broker()
    screen = DemoScreen(to_stderr=json)
    purchase = demo_live.agree(screen, yes=yes) if live else None
    started = time.monotonic()
    folder = _own_folder(data_dir)
    accounted: AbstractContextManager[None] = nullcontext()
    if purchase:
        screen.open_live(folder)
        accounted = demo_live.accounted_for(screen, folder)
    else:
        screen.open(folder)
    summary: dict[str, Any] | None = None
    with suppress(StopAsked), accounted, Supervisor(_Logs(folder / "logs").write) as programs:
        stage = _set_up(programs, folder, chosen, purchase, flower=flower)
        entries = _enqueue(stage.jobs, [PICTURE] if purchase else EXAMPLES)
        with screen.watching(entries):
            _follow(programs, stage.jobs, entries, screen, demo_live.PATIENCE_S if purchase else PATIENCE_S)
        summary = _summary(stage, entries, time.monotonic() - started)
        if purchase:
            summary |= purchase.document()
            screen.close_live(entries[0], summary)
        else:
            screen.close(entries, summary)
        _stay(programs, stage, screen, wanted=flower and not json)
    if summary is None:
        screen.say("Stopped.")
        raise typer.Exit(130)
    if json:
        render.print_json(summary)
    if not summary["ok"]:
        raise typer.Exit(Exit.FAILED)


def _own_folder(asked: Path | None) -> Path:
    """Make the folder of this run; SettingsError where the one that was asked for is in use."""
    try:
        if asked is None:
            return _next_folder(Path("kiejobs-data").absolute())
        folder = asked.expanduser().absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise SettingsError(f"{folder} is not empty", remedy="Give the demo a new or empty folder with --data-dir.")
        return folder
    except OSError as error:
        where = asked or "kiejobs-data in this folder"
        raise SettingsError(
            f"{where} cannot be made: {error.strerror}", remedy="Name a folder that can be written with --data-dir."
        ) from None


def _next_folder(parent: Path) -> Path:
    parent.mkdir(exist_ok=True)
    for number in itertools.count(1):
        with suppress(FileExistsError):
            folder = parent / f"demo-{number}"
            folder.mkdir()
            return folder
    raise AssertionError("unreachable")


def _set_up(programs: "Supervisor", folder: Path, choice: str, purchase: "Purchase | None", *, flower: bool) -> _Stage:
    """Start everything; returns when broker and simulator listen. The workers come up meanwhile: rows wait in line."""
    from kiejobs.cli import broker, environment, stack
    from kiejobs.cli.ports import free_port
    from kiejobs.cli.up import keep_toys_and_jobs_apart
    from kiejobs.producer import KieJobs
    from kiejobs.settings import only

    given = environment.with_checkout(environment.without_settings())
    made = broker.embedded(choice, folder, given, rank=stack.BROKER_STOPS)
    api, files, dashboard = free_port(), free_port(), free_port()
    kie = purchase.kie.given if purchase else stack.simulator_settings(api, files)
    ours = kie | {
        "KIEJOBS_DATA_DIR": str(folder),
        "KIEJOBS_BROKER_URL": made.url,
        "KIEJOBS_LOG_FORMAT": "text",
        "KIEJOBS_FLOWER_AUTH": "demo:demo",
    }
    running = stack.Stack(given | ours, folder)
    programs.start(made.program)
    if not purchase:
        programs.start(running.simulator(api, files))
    jobs = KieJobs(only({"KIEJOBS_DATA_DIR": folder, "KIEJOBS_BROKER_URL": made.url}), who="demo")
    keep_toys_and_jobs_apart(jobs.settings, folder, simulator=not purchase)
    jobs.database  # noqa: B018 - makes the schema while the broker starts, before the workers look for it
    made.wait_for(programs)
    for program in [*running.workers(), running.beat(), *([running.flower(dashboard)] if flower else [])]:
        programs.start(program)
    notes = [f"Flower: http://127.0.0.1:{dashboard} (login demo:demo)"]
    if not purchase:
        programs.wait_until(lambda: programs.said(stack.SIMULATOR, "Kie simulator:"), within_s=30, what="the simulator")
        notes.append(f"Simulator: http://127.0.0.1:{api}")
    return _Stage(folder, made, jobs, tuple(notes))


def _enqueue(jobs: "KieJobs", wanted: Sequence[Example]) -> list[Attempt]:
    sent = [(one, jobs.enqueue(one.model, one.input, metadata={"demo": one.title})) for one in wanted]
    return [Attempt(one, job) for one, job in sent]


def _follow(
    programs: "Supervisor", jobs: "KieJobs", entries: list[Attempt], screen: DemoScreen, patience_s: float
) -> None:
    """Look at the jobs until all have ended, or patience has."""
    until = time.monotonic() + patience_s
    while any(not entry.job.ended for entry in entries) and time.monotonic() < until:
        programs.look(_LOOK_EVERY_S)
        for entry in entries:
            if not entry.job.ended:
                entry.see(jobs.get(entry.job.id))
                screen.see(entry)


def _stay(programs: "Supervisor", stage: _Stage, screen: DemoScreen, *, wanted: bool) -> None:
    """Keep everything up for a look around, until Ctrl-C."""
    if not wanted:
        return
    screen.say("\nStill running, until Ctrl-C:", style="bold")
    for note in stage.notes:
        screen.say(f"  {note}")
    while True:
        programs.look(1.0)


def _summary(stage: _Stage, entries: Sequence[Attempt], took_s: float) -> dict[str, Any]:
    troubles = {entry.job.id: entry.trouble(stage.media) for entry in entries}
    told = [
        {"title": entry.example.title, "expected": entry.example.ends, "tookS": round(entry.elapsed_s, 1)}
        | {"trouble": troubles[entry.job.id] or None}
        | job_document(entry.job)
        for entry in entries
    ]
    return {
        "ok": not any(troubles.values()),
        "tookS": round(took_s, 1),
        "broker": stage.broker.kind,
        "dataDir": str(stage.folder),
        "mediaDir": str(stage.media),
        "generations": told,
    }


class _Logs:
    """The programs' output, one file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def write(self, name: str, line: str) -> None:
        """Append a line."""
        with (self._folder / f"{name}.log").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
