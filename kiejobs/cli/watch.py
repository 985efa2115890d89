"""Waiting for a job in front of a person: one live line on a terminal, a plain line per change elsewhere."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kiejobs.cli import render
from kiejobs.errors import WaitTimeout
from kiejobs.jobs import Job, JobState

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.spinner import Spinner

    from kiejobs.producer import KieJobs


def follow(jobs: "KieJobs", job_id: str, *, timeout_s: float) -> Job:
    """Wait until a job has ended, is parked, or the time is over; return it as it stands then.

    A parked (`unconfirmed`) job does not change by itself, so nobody waits for it.
    """
    with JobLine() as line:

        def see(job: Job) -> None:
            line.see(job)
            if job.phase is JobState.UNCONFIRMED:
                raise _Parked

        try:
            return jobs.wait(job_id, timeout_s=timeout_s, on_change=see)
        except (_Parked, WaitTimeout):
            return jobs.get(job_id)


class _Parked(Exception):
    """A way out of `wait`, no error."""


class JobLine:
    """Shows where one job stands, on standard error."""

    def __init__(self) -> None:
        self._console = render.err()
        self._started = time.monotonic()
        self._job: Job | None = None
        self._printed = ""
        self._live: Live | None = None
        self._spinner: Spinner | None = None
        if self._console.is_terminal:
            from rich import live

            self._live = live.Live(
                get_renderable=self._render, console=self._console, transient=True, refresh_per_second=8
            )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def see(self, job: Job) -> None:
        """Take note of a change."""
        self._job = job
        words = render.standing(job)
        if self._live is None and words != self._printed:
            render.say(f"{self._elapsed_s():6.1f} s  {words}", to=self._console)
        self._printed = words

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def _render(self) -> "RenderableType":
        from rich.spinner import Spinner

        if self._spinner is None:
            self._spinner = Spinner("dots")
        words = render.standing(self._job) if self._job else "looking"
        self._spinner.update(text=render.clean(f"{words}   {self._elapsed_s():.0f} s"))
        far = render.far(self._job) if self._job else None
        return self._spinner if far is None else _beside_bar(self._spinner, far)


def _beside_bar(spinner: "Spinner", far: float) -> "RenderableType":
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    grid.add_row(ProgressBar(total=1.0, completed=far, width=24), spinner)
    return grid
