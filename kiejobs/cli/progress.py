"""How far something long is: a bar on a terminal, elsewhere a plain line now and then. On standard error."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from kiejobs.cli import render

_SAY_EVERY_S = 10.0


class Progress(Protocol):
    """What is told how far it is."""

    def stand(self, done: int, words: str) -> None:
        """Take note of how far it is, and in words how."""


@contextmanager
def progress_of(title: str, total: int) -> Iterator[Progress]:
    """Show how far it is while the block runs."""
    console = render.err()
    if not console.is_terminal:
        yield _Lines(title, total)
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("{task.fields[words]}", markup=False),
    )
    with progress.Progress(*columns, console=console, transient=True) as shown:
        yield _Bar(shown, shown.add_task(title, total=total, words=""))


class _Bar:
    def __init__(self, shown: Any, task: Any) -> None:
        self._shown, self._task = shown, task

    def stand(self, done: int, words: str) -> None:
        """Move the bar."""
        self._shown.update(self._task, completed=done, words=words)


class _Lines:
    """A line when it begins to move, every ten seconds while it does, and at the end."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._started = time.monotonic()
        self._said_at = float("-inf")
        self._said = ""

    def stand(self, done: int, words: str) -> None:
        """Print a line if it is time for one."""
        now = time.monotonic()
        said = f"{self._title}: {done} of {self._total} ({words})"
        if said != self._said and (done == self._total or now - self._said_at >= _SAY_EVERY_S):
            render.say(f"{now - self._started:6.1f} s  {said}", to=render.err())
            self._said, self._said_at = said, now
