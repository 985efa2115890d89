"""What the demo shows: a live table on a terminal, a plain line per change elsewhere, and the end of the story."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kiejobs.advice import advice
from kiejobs.cli import render
from kiejobs.cli.examples import Attempt
from kiejobs.jobs import JobState

_STYLES = {JobState.SUCCESS: "green", JobState.FAIL: "red", JobState.STORING: "cyan", JobState.WAITING: "yellow"}


class DemoScreen:
    """Prints to standard output, or to standard error where that belongs to the JSON document."""

    def __init__(self, *, to_stderr: bool) -> None:
        self._console = render.err() if to_stderr else render.out()
        self._printed: dict[str, str] = {}

    def say(self, text: str, style: str | None = None) -> None:
        """Print a line."""
        render.say(text, style=style, to=self._console)

    def open(self, folder: Path) -> None:
        """Say what is about to happen."""
        self.say("kiejobs demo: real workers against a local Kie (the simulator). Nothing is paid.", style="bold")
        self.say("Settings and keys of this machine are not used. This run is kept in")
        self.say(f"  {folder}\n")
        self.say("Starting broker, simulator, two workers and the schedule …")

    def offer(self, kie: str, model: str, price: float, usd: float, credits: float) -> None:
        """Say what is about to be bought, before it is asked for."""
        self.say("kiejobs demo --live: real workers and the real Kie, with your key. This is paid for.", style="bold")
        self.say(f"It buys one picture of {model} at {kie}, for about {price:g} credits ({usd:g} USD).")
        self.say(f"The account has {_credits(credits)} credits.")

    def open_live(self, folder: Path) -> None:
        """Say what is about to happen, now that it is agreed to."""
        self.say("\nNo setting of this machine is used but those that lead to Kie. This run is kept in")
        self.say(f"  {folder}\n")
        self.say("Starting broker, two workers and the schedule …")

    @contextmanager
    def watching(self, attempts: Sequence[Attempt]) -> Iterator[None]:
        """Show the attempts while they run."""
        if not self._console.is_terminal:
            yield
            return
        from rich.live import Live

        with Live(get_renderable=lambda: _table(attempts), console=self._console, refresh_per_second=4):
            yield

    def see(self, attempt: Attempt) -> None:
        """Print a line for a change; a terminal has the live table."""
        words = render.standing(attempt.job)
        if not self._console.is_terminal and self._printed.get(attempt.job.id) != words:
            self.say(f"{attempt.elapsed_s:5.1f} s  {attempt.example.title:<30}  {words}")
        self._printed[attempt.job.id] = words

    def close(self, attempts: Sequence[Attempt], summary: dict[str, Any]) -> None:
        """Tell how it ended, and what to try next."""
        self._tell_stored([attempt for attempt in attempts if attempt.job.phase is JobState.SUCCESS])
        self._tell_failed([attempt for attempt in attempts if attempt.job.phase is not JobState.SUCCESS])
        self._tell_verdict(summary)
        self._tell_next(attempts, summary["dataDir"])

    def close_live(self, attempt: Attempt, summary: dict[str, Any]) -> None:
        """Tell what was bought, what it cost, and what to try next."""
        job = attempt.job
        if job.phase is JobState.SUCCESS:
            self._tell_stored([attempt], paths=True)
        elif job.ended:
            self._tell_failed([attempt])
        self.say("\nAt Kie (https://kie.ai/logs):", style="bold")
        self.say(f"  task     {job.provider_task_id or 'none'}")
        self.say(f"  credits  {_credits(summary['creditsBefore'])} before, {_credits(summary['creditsAfter'])} after")
        if job.credits is not None:
            self.say(f"           {_credits(float(job.credits))} for this generation, its record says")
        self._tell_verdict(summary)
        if job.ended:
            self._tell_next_live(job.id, summary["dataDir"])

    def _tell_verdict(self, summary: dict[str, Any]) -> None:
        for told in summary["generations"]:
            if told["trouble"]:
                self.say(f"Not as it should be: {told['title']}: {told['trouble']}", style="bold red")
        if summary["ok"]:
            self.say(f"\nAll as it should be, in {summary['tookS']:.0f} s, on {summary['broker']}.", style="bold green")
        else:
            self.say(f"\nThe programs' own lines are in {summary['dataDir']}/logs", style="bold red")

    def _tell_stored(self, attempts: Sequence[Attempt], *, paths: bool = False) -> None:
        self.say("\nStored (each file read back, size and SHA-256 as recorded):", style="bold")
        for attempt in attempts:
            self.say(f"  {attempt.example.title}: {attempt.elapsed_s:.1f} s, {render.polls(attempt.job.polls)}")
            for output in attempt.job.outputs:
                self.say(f"    {output.url if paths else output.key}")
                self.say(
                    f"      {output.media_type}  {render.size(output.size_bytes)}  sha256 {output.sha256}", style="dim"
                )

    def _tell_failed(self, attempts: Sequence[Attempt]) -> None:
        self.say("\nFailed:", style="bold")
        for attempt in attempts:
            job = attempt.job
            expected = " (on purpose)" if attempt.example.ends is job.phase else ""
            code = f" (Kie's code {job.code})" if job.code else ""
            self.say(f"  {attempt.example.title}{expected}: {job.reason or job.phase}{code}")
            self.say(f"    Kie says: {job.message or 'nothing'}")
            self.say(f"    {advice(job)}")

    def _tell_next(self, attempts: Sequence[Attempt], folder: str) -> None:
        program = render.program()
        self._tell_rows(
            [
                *_looks(program, folder, attempts[0].job.id),
                (f"{program} up", "the same, kept running, with a dashboard"),
                (
                    f'{program} submit z-image -p "a red door" -i aspect_ratio=1:1 --wait',
                    "beside `up`: a generation of yours",
                ),
                ("README.md", "how a service enqueues; how to run it for real"),
            ]
        )

    def _tell_next_live(self, job_id: str, folder: str) -> None:
        program = render.program()
        up = (f"{program} up", "kept running, with a dashboard, and with your key: what it is given is paid for")
        self._tell_rows([*_looks(program, folder, job_id), up])

    def _tell_rows(self, rows: Sequence[tuple[str, str]]) -> None:
        self.say("\nNext:", style="bold")
        for command, meaning in rows:
            self.say(f"  {command}")
            self.say(f"      {meaning}", style="dim")


def _looks(program: str, folder: str, job_id: str) -> list[tuple[str, str]]:
    here = f"KIEJOBS_DATA_DIR={short(folder)} {program}"
    return [(f"{here} list", "these jobs"), (f"{here} show {job_id} --timeline", "one job's story")]


def _credits(amount: float | None) -> str:
    return "not known" if amount is None else f"{amount:.10g}"  # `g` alone would round a large balance


def short(folder: str) -> str:
    """Return a path as a person here would type it."""
    path, here = Path(folder), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else folder


def _table(attempts: Sequence[Attempt]) -> Any:
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("generation", "state"):
        made.add_column(column)
    for column in ("polls", "elapsed", "bytes"):
        made.add_column(column, justify="right")
    for attempt in attempts:
        job = attempt.job
        state = Text(render.clean(render.standing(job)), style=_STYLES.get(job.phase, "dim"))
        copied = render.size(render.copied_bytes(job)) if job.outputs else ""
        made.add_row(attempt.example.title, state, str(job.polls or ""), f"{attempt.elapsed_s:.1f} s", copied)
    return made
