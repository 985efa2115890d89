"""The supervisor of `up` and `demo`: starts programs, reads their lines, restarts what dies, ends all of them.

Each program runs in a session of its own, so a Ctrl-C in the terminal reaches only us and the order of ending is ours:
by `rank`, SIGTERM to the group, SIGKILL for what stays. Should we be killed ourselves, the kernel ends the children
(`tether`). Must be used from the main thread: the parent-death signal follows the thread that started a child.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Self

from kiejobs.cli import tether
from kiejobs.errors import DependencyError

RESTARTS_PER_MINUTE = 5
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LAST_LINES = 40
_TICK_S = 0.1

OnLine = Callable[[str, str], None]
"""Called with a program's name and one line of its output, from any thread."""


class ProgramFailed(DependencyError):
    """A program that is needed does not stay up."""

    remedy = "Read its last lines above; `kiejobs doctor` says what is configured and reachable."


class StopAsked(Exception):
    """Ctrl-C, SIGTERM or SIGHUP: end everything."""


@dataclass(frozen=True, slots=True)
class Program:
    """Something to run. Programs of a lower `rank` are ended first, and wholly, before the next."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    rank: int
    stops_within_s: float = 5.0


@dataclass(eq=False)
class _Child:
    program: Program
    process: "subprocess.Popen[str] | None" = None
    reader: threading.Thread | None = None
    lines: "deque[str]" = field(default_factory=lambda: deque(maxlen=_LAST_LINES))
    deaths: list[float] = field(default_factory=list)
    restart_at: float = 0.0

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Runs programs until it is left; `with Supervisor(on_line) as programs: …`."""

    def __init__(self, on_line: OnLine = lambda name, line: None) -> None:
        self._on_line = on_line
        self._children: list[_Child] = []
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._asked = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked += 1
        self._wake.put(None)  # a SimpleQueue may be filled from a signal's handler, an Event may not

    def start(self, program: Program) -> None:
        """Start a program and keep it running."""
        child = _Child(program)
        self._children.append(child)
        self._spawn(child)

    def _spawn(self, child: _Child) -> None:
        wrapper = (sys.executable, "-I", "-S", str(tether.__file__), str(os.getpid()))
        child.process = subprocess.Popen(
            wrapper + child.program.command,
            cwd=child.program.folder,
            env=dict(child.program.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        child.reader = threading.Thread(target=self._read, args=(child, child.process), daemon=True)
        child.reader.start()

    def _read(self, child: _Child, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None  # noqa: S101 - it was asked for as a pipe
        for line in process.stdout:
            child.lines.append(line.rstrip())
            try:
                self._on_line(child.program.name, line.rstrip())
            except (OSError, SystemExit):  # nobody reads us any more: end, but let the child write on until then
                self._asked = self._asked or 1
                self._wake.put(None)

    def look(self, timeout_s: float = _TICK_S) -> None:
        """Wait so long, then restart what died. StopAsked on a signal, ProgramFailed where restarts do not help."""
        with suppress(Empty):
            self._wake.get(timeout=timeout_s)
        if self._asked:
            raise StopAsked
        for child in self._children:
            if child.process is None:
                if time.monotonic() >= child.restart_at:
                    self._spawn(child)
            elif not child.alive:
                self._bury(child, child.process)

    def wait_until(self, true: Callable[[], bool], *, within_s: float, what: str) -> None:
        """Wait for something to become true, looking after the programs; ProgramFailed if it does not in time."""
        until = time.monotonic() + within_s
        while not true():
            if time.monotonic() > until:
                raise ProgramFailed(f"{what} was not ready within {within_s:g} s")
            self.look(0.02)

    def said(self, name: str, words: str) -> bool:
        """Whether one of a program's last lines holds these words."""
        return any(
            words in line for child in self._children if child.program.name == name for line in list(child.lines)
        )

    def _bury(self, child: _Child, process: "subprocess.Popen[str]") -> None:
        self._end_group(process.pid)
        if child.reader:
            child.reader.join(1.0)
        child.process = None
        now = time.monotonic()
        child.deaths = [death for death in child.deaths if now - death < 60] + [now]
        name, ended = child.program.name, _ending(process.returncode)
        if len(child.deaths) > RESTARTS_PER_MINUTE:
            last = "\n".join(f"  {line}" for line in list(child.lines)[-8:])
            raise ProgramFailed(f"{name} {ended} {len(child.deaths)} times within a minute. Its last lines:\n{last}")
        wait_s = 0.5 * 2.0 ** (len(child.deaths) - 1)
        child.restart_at = now + wait_s
        self._on_line(name, f"{ended}; started again in {wait_s:g} s")

    def stop(self) -> None:
        """End all programs, lowest rank first. Another signal meanwhile ends them at once."""
        asked_before = self._asked
        for rank in sorted({child.program.rank for child in self._children}):
            ending = [child for child in self._children if child.program.rank == rank and child.alive]
            for child in ending:
                self._signal(child, signal.SIGTERM)
            until = time.monotonic() + max((child.program.stops_within_s for child in ending), default=0.0)
            while any(child.alive for child in ending) and time.monotonic() < until and self._asked == asked_before:
                with suppress(Empty):
                    self._wake.get(timeout=0.05)
            for child in ending:
                if child.alive:
                    self._on_line(child.program.name, "did not stop in time and is killed")
                    self._signal(child, signal.SIGKILL)
        for child in self._children:
            if child.process is not None:
                child.process.wait()
                self._end_group(child.process.pid)
            if child.reader is not None:
                child.reader.join(1.0)

    @staticmethod
    def _signal(child: _Child, number: int) -> None:
        if child.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(child.process.pid, number)

    @staticmethod
    def _end_group(pid: int) -> None:
        """End what a program that is gone may have left in its group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
