"""What the commands print: lines, tables, one JSON document, errors. Colour and control codes on a terminal only.

Results go to standard output; progress, hints and errors to standard error. Text that came from elsewhere is shown
without control characters, so that no message of a stranger can drive a terminal.
"""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kiejobs.errors import InvalidInput, KieJobsError
from kiejobs.jobs import Job, JobState, OutputState

if TYPE_CHECKING:
    from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, and progress to standard error.")]


def examples(*lines: str) -> str:
    """Return the end of a command's help: examples, one per line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if console.is_dumb_terminal:  # it cannot draw again what it has drawn: for us, a file
        console = Console(stderr=stderr, highlight=False, markup=False, emoji=False, force_terminal=False)
    if not console.is_terminal:
        console.width = 1000  # a file has no edge to cut ids at
    return console


def out() -> "Console":
    """Return the console on standard output."""
    return _console(stderr=False)


def err() -> "Console":
    """Return the console on standard error."""
    return _console(stderr=True)


def say(text: str, *, style: str | None = None, to: "Console | None" = None) -> None:
    """Print one line, never wrapped."""
    (to or out()).print(clean(text), style=style, soft_wrap=True)


def hint(text: str) -> None:
    """Print a line about what to do next, beside the result."""
    say(text, style="dim", to=err())


def print_json(document: Any) -> None:
    """Print the one JSON document."""
    print(json.dumps(document, ensure_ascii=False, indent=2, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Any:
    """Make a table without lines: one line per row, nothing cut."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(clean(cell) for cell in row))
    return made


def facts(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one per line; a fact without a value is left out."""
    for name, value in rows:
        if value:
            say(f"{name:<11} {value}")


def tell_error(error: KieJobsError, *, as_json: bool) -> None:
    """Say what went wrong and what to do about it: two lines on standard error, with `--json` also a document."""
    say(f"Error: {error}", style="bold red", to=err())
    if isinstance(error, InvalidInput) and error.allowed and error.allowed not in str(error):
        say(f"Allowed: {error.allowed}", to=err())
    if error.remedy:
        say(error.remedy, to=err())
    if as_json:
        field, allowed = getattr(error, "field", None), getattr(error, "allowed", None)
        print_json(error_document(str(error), error.remedy, field=field, allowed=allowed))


def error_document(message: str, action: str, *, field: str | None = None, allowed: str | None = None) -> Any:
    """Describe what went wrong: the document that `--json` prints instead of a result."""
    return {"error": {"message": message, "action": action, "field": field, "allowed": allowed or None}}


def clean(text: str) -> str:
    """Return the text without control characters; line ends stay."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)


def size(count: int | None) -> str:
    """Say a number of bytes: `812 B`, `3.4 MB`."""
    if count is None:
        return "–"
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def seconds(seconds: float) -> str:
    """Say a time in its two greatest units."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d"


def standing(job: Job) -> str:
    """Say in a few words where a job stands, for a person who watches it."""
    match job.phase:
        case JobState.QUEUED if job.message:
            return f"queued: {job.message}"
        case JobState.QUEUED:
            return f"queued, place {job.place_in_line} in line" if job.place_in_line else "queued"
        case JobState.WAITING if not job.polls:
            return "accepted by Kie"
        case JobState.WAITING:
            percent = f", {_percent(job.progress)}" if job.progress is not None else ""
            return f"waiting for Kie, {polls(job.polls)}{percent}"
        case JobState.STORING:
            return f"storing {_copied(job)}"
        case JobState.SUCCESS:
            return f"success{' (late)' if job.late else ''}, {_copied(job)}"
        case JobState.FAIL:
            return f"fail: {job.reason or 'unknown'}"
        case JobState.TIMEOUT:
            return "timeout: Kie is late, still looking"
        case JobState.UNCONFIRMED:
            return "unconfirmed: nobody knows yet whether Kie made it"
        case _:
            return str(job.phase)


def _percent(progress: float | None) -> str:
    return f"{progress * 100:.0f} %" if progress is not None else ""


def polls(count: int) -> str:
    """Say how often Kie was asked."""
    return f"{count} poll{'' if count == 1 else 's'}"


def _copied(job: Job) -> str:
    stored = [output for output in job.outputs if output.state is OutputState.STORED]
    whole = "" if job.ended or total_bytes(job) is None else f" of {size(total_bytes(job))}"
    files = f"{len(stored)} of {len(job.outputs)} file{'' if len(job.outputs) == 1 else 's'}"
    return f"{files}, {size(copied_bytes(job))}{whole}"


def copied_bytes(job: Job) -> int:
    """Count the bytes of a job's results that are stored or on their way."""
    return sum(output.size_bytes or output.received_bytes for output in job.outputs)


def total_bytes(job: Job) -> int | None:
    """Count the bytes of all of a job's results; None while a source has not said how many it has."""
    sizes = [output.size_bytes or output.expected_bytes for output in job.outputs]
    return sum(size for size in sizes if size is not None) if sizes and None not in sizes else None


def far(job: Job) -> float | None:
    """Say how far a job is, from 0 to 1, where Kie or the file server tells; None where nobody knows."""
    whole = total_bytes(job) if job.phase is JobState.STORING else None
    if whole:
        return min(copied_bytes(job) / whole, 1.0)
    return job.progress if job.phase is JobState.WAITING else None


def without_password(url: str) -> str:
    """Return an address without the passwords in it."""
    from kiejobs.redaction import Redaction, passwords_of

    return Redaction(passwords_of(url)).clean(url)


def program() -> str:
    """Return how a person here calls this program, so that what we suggest can be pasted."""
    import shutil
    import sys
    from pathlib import Path

    if shutil.which("kiejobs"):
        return "kiejobs"
    script = Path(sys.argv[0]).absolute()
    if script.name != "kiejobs":
        return "python -m kiejobs.cli"
    return str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else str(script)
