"""`submit --batch`: a file of requests, entered in chunks, watched to the end, told in a result file of one line each.

Each chunk is one transaction, and every request has a key, so a run that was killed is simply run again: what is in line
already is found, not bought. A line that the database refuses (its key belongs to another request) holds up no other.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kiejobs.cli import render
from kiejobs.cli.batch_file import Fault, Line, read
from kiejobs.cli.exits import Exit
from kiejobs.cli.progress import progress_of
from kiejobs.documents import job_document
from kiejobs.errors import IdempotencyConflict, InvalidInput
from kiejobs.jobs import Job, JobState

if TYPE_CHECKING:
    from kiejobs.producer import KieJobs

CHUNK = 500
"""Requests per transaction: long enough to be fast, short enough to let other writers in between."""
_TOLD = 20
"""As many faults and warnings as are told one by one."""
_LOOK_EVERY_S = 1.0
_LOOKS_PER_S = 1000
"""As many rows of a large batch are read per second."""
_AT_REST = (JobState.TIMEOUT, JobState.UNCONFIRMED)
"""Not ended, but nothing that anybody should sit and wait for."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line and what became of it: its job, or why there is none. `created` says that this run made the job."""

    line: int
    job: Job | None = None
    error: str = ""
    created: bool = False

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.job is None or self.job.ended or self.job.phase in _AT_REST


def submit_batch(
    jobs: "KieJobs",
    source: str,
    *,
    defaults: dict[str, Any],
    skip_invalid: bool,
    wait: bool,
    timeout_s: float | None,
    as_json: bool,
) -> None:
    """Enter every request of a file, with `wait` watch them, and write the result file. Ends with its exit code."""
    from kiejobs.request import new_job

    check = partial(new_job, tenant=jobs.tenant, who=jobs.who, allow=jobs.settings.egress_allow)
    lines, faults = read(source, defaults=defaults, check=check)
    _tell(lines, faults)
    if faults and not (skip_invalid and lines):
        raise _refused(len(lines), faults)
    entries = [*_entered(jobs, lines), *(Entry(fault.number, error=_said(fault.error)) for fault in faults)]
    entries.sort(key=lambda entry: entry.line)
    written = _write(source, entries)
    if wait:
        entries = _followed(jobs, entries, timeout_s)
        written = _write(source, entries)
    _summarise(source, entries, written=written, waited=wait, as_json=as_json)
    code = _exit_code(entries, waited=wait)
    if code:
        raise typer.Exit(code)


def _tell(lines: Sequence[Line], faults: Sequence[Fault]) -> None:
    faulty = [f"Error: line {fault.number}: {_said(fault.error)}" for fault in faults]
    doubtful = [f"Warning: line {line.number}: {text}" for line in lines for text in line.warnings]
    for some, style in ((faulty, "red"), (doubtful, "yellow")):
        for text in some[:_TOLD]:
            render.say(text, style=style, to=render.err())
        if len(some) > _TOLD:
            render.say(f"… and {len(some) - _TOLD} more", style=style, to=render.err())


def _refused(good: int, faults: Sequence[Fault]) -> InvalidInput:
    first = faults[0]
    return InvalidInput(
        f"{len(faults)} of {good + len(faults)} lines cannot be accepted, and nothing was enqueued",
        field=f"line {first.number}: {first.error.field}",
        given=first.error.given,
        remedy="Correct them, or leave them out with --skip-invalid.",
    )


def _said(error: InvalidInput) -> str:
    where = "" if error.field in str(error) or error.field == "line" else f"{error.field}: "
    allowed = "" if not error.allowed or error.allowed in str(error) else f" (allowed: {error.allowed})"
    return f"{where}{error}{allowed}"


def _entered(jobs: "KieJobs", lines: Sequence[Line]) -> Iterator[Entry]:
    with progress_of("Enqueueing", len(lines)) as progress:
        for start in range(0, len(lines), CHUNK):
            yield from _chunk(jobs, lines[start : start + CHUNK])
            progress.stand(min(start + CHUNK, len(lines)), "in line")


def _chunk(jobs: "KieJobs", lines: Sequence[Line]) -> list[Entry]:
    """Enter a chunk in one transaction; line by line where one of it is refused, to find which."""
    try:
        accepted = jobs.accept([line.request for line in lines])
    except (IdempotencyConflict, InvalidInput) as error:
        if len(lines) > 1:
            return [entry for line in lines for entry in _chunk(jobs, [line])]
        said = _said(error) if isinstance(error, InvalidInput) else str(error)
        render.say(f"Error: line {lines[0].number}: {said}", style="red", to=render.err())
        return [Entry(lines[0].number, error=said)]
    return [Entry(line.number, one.job, created=one.created) for line, one in zip(lines, accepted, strict=True)]


def _followed(jobs: "KieJobs", entries: list[Entry], timeout_s: float | None) -> list[Entry]:
    """Look at the jobs until nothing moves any more, or the time is over."""
    until = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
    with progress_of("Waiting", len(entries)) as progress:
        while True:
            entries = _looked_at(jobs, entries)
            progress.stand(sum(entry.settled for entry in entries), _counted(entries))
            left_s = until - time.monotonic()
            if left_s <= 0 or all(entry.settled for entry in entries):
                return entries
            pause_s = max(_LOOK_EVERY_S, len(entries) / _LOOKS_PER_S)
            time.sleep(min(pause_s, left_s))  # noqa: TID251 - a person who asked to wait waits here


def _looked_at(jobs: "KieJobs", entries: list[Entry]) -> list[Entry]:
    from kiejobs.db import reads

    open_ids = [entry.job.id for entry in entries if entry.job and not entry.settled]
    now = {job.id: job for job in reads.jobs_of(jobs.database, open_ids)}
    return [
        replace(entry, job=_whole(jobs, now[entry.job.id])) if entry.job and entry.job.id in now else entry
        for entry in entries
    ]


def _whole(jobs: "KieJobs", job: Job) -> Job:
    return jobs.get(job.id) if job.ended else job  # with where its files are


def _counted(entries: Sequence[Entry]) -> str:
    words = Counter("refused" if entry.job is None else str(entry.job.phase) for entry in entries)
    return ", ".join(f"{count} {word}" for word, count in words.most_common())


def _exit_code(entries: Sequence[Entry], *, waited: bool) -> Exit:
    phases = {entry.job.phase for entry in entries if entry.job}
    if waited and phases & {JobState.FAIL, JobState.CANCELED}:
        return Exit.FAILED
    if waited and any(entry.job and not entry.job.ended for entry in entries):
        return Exit.UNFINISHED
    return Exit.USAGE if any(entry.job is None for entry in entries) else Exit.DONE


# The result file.


def results_path(source: str) -> Path:
    """Return where the results of a file are written: `prompts.jsonl` has `prompts.results.jsonl` beside it."""
    path = Path("batch" if source == "-" else source)
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.results.jsonl")


def _write(source: str, entries: Sequence[Entry]) -> bool:
    """Write the result file; whoever reads it meanwhile sees the old one or the new one, whole. False where it cannot be."""
    path = results_path(source)
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_text(
            "".join(json.dumps(_result(entry), ensure_ascii=False, default=str) + "\n" for entry in entries),
            encoding="utf-8",
            errors="backslashreplace",  # half a surrogate pair of a refused line, written as JSON writes it
        )
        fresh.replace(path)
    except OSError as error:
        render.say(f"Warning: {path} cannot be written: {error.strerror}", style="yellow", to=render.err())
        return False
    return True


def _result(entry: Entry) -> dict[str, Any]:
    if entry.job is None:
        error = {"code": None, "reason": "invalid_input", "message": entry.error, "action": "Correct the line."}
        return {"line": entry.line, "generationId": None, "state": None, "phase": None, "outputs": [], "error": error}
    document = job_document(entry.job)
    return {"line": entry.line} | {
        name: document[name] for name in ("generationId", "state", "phase", "outputs", "error")
    }


def _summarise(source: str, entries: Sequence[Entry], *, written: bool, waited: bool, as_json: bool) -> None:
    made = sum(entry.created for entry in entries)
    found = sum(entry.job is not None for entry in entries) - made
    path = results_path(source)
    if as_json:
        counts = Counter(str(entry.job.state) for entry in entries if entry.job)
        refused = len(entries) - made - found
        render.print_json(
            {
                "lines": len(entries),
                "enqueued": made,
                "found": found,
                "refused": refused,
                "states": counts,
                "results": str(path) if written else None,
            }
        )
        return
    again = f", {found} were there already from an earlier run" if found else ""
    render.say(f"{made} of {len(entries)} enqueued{again}: {_counted(entries)}.")
    if written:
        render.say(f"One line each: {path}")
    if not waited:
        render.hint(f"Next: kiejobs submit --batch {source} --wait   (the same file again buys nothing twice)")
