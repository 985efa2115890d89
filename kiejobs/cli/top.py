"""`top`: the whole installation at a glance, again and again. A live table on a terminal, elsewhere a line per look."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kiejobs.cli import render
from kiejobs.cli.render import Json, examples
from kiejobs.jobs import JobState

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kiejobs.db.figures import AccountFigures, Figures, InFlight
    from kiejobs.producer import KieJobs

ROWS = 100
"""At most so many jobs, and no more than fit a terminal."""
_SWEEP_LATE_S = 60.0
_BESIDE = {"age": 7, "polls": 7, "progress": 10, "next look": 13, "copied": 10}
"""Columns that a narrow terminal does without, with the characters that each takes, the gap before it included."""
_LEFT_OUT = ("copied", "polls", "age", "progress", "next look")
"""In this order."""
_LEAST_WIDTH = 64
"""For the job's id, its state and the beginning of its model."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    lines = ("kiejobs top", "kiejobs top --once", "kiejobs top --json | jq .dueLagS")
    app.command(short_help="Watch the whole installation.", epilog=examples(*lines))(top)


def top(
    every_s: Annotated[float, typer.Option("--every-s", min=0.2, help="Look again after so many seconds.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    json: Json = False,
) -> None:
    """Show the line, the jobs in flight, how late they are, the accounts and their budgets, until Ctrl-C.

    All tenants together; it reads the database alone. With --json, or --once, one look.
    """
    from kiejobs.producer import KieJobs

    jobs = KieJobs(who="cli")
    if json:
        render.print_json(_document(look(jobs)))
    elif once:
        render.out().print(_screen(look(jobs)))
    else:
        _watch(jobs, every_s)


@dataclass(frozen=True)
class Look:
    """What one look found."""

    now: "Figures"
    jobs: "list[InFlight]"
    limits: dict[str, int]


def look(jobs: "KieJobs") -> Look:
    """Read how things stand."""
    from kiejobs.db import figures

    settings = jobs.settings
    window_s = settings.create_window_s + settings.create_margin_s
    now = figures.figures(jobs.database, settings.keys, window_s=window_s)
    limits = {name: settings.create_limit_of(name) for name in now.accounts}
    return Look(now, figures.in_flight(jobs.database, limit=ROWS), limits)


def _watch(jobs: "KieJobs", every_s: float) -> None:
    console = render.out()
    try:
        if not console.is_terminal:
            while True:
                render.say(_line(look(jobs)), to=console)
                time.sleep(every_s)  # noqa: TID251 - a person watches; a Ctrl-C inside an Event's wait may break its lock
        from rich.live import Live

        def screen() -> "RenderableType":
            return _screen(look(jobs), console.width, console.height)

        with Live(screen(), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(every_s)  # noqa: TID251
                live.update(screen(), refresh=True)
    except KeyboardInterrupt:
        return


def _by_state(found: Look) -> dict[str, int]:
    from kiejobs.db.figures import HELD

    states: Counter[str] = Counter()
    states[JobState.QUEUED] = sum(found.now.in_line.values())
    for (state, _), count in found.now.unfinished.items():
        states[state] += count
    return {state: states[state] for state in (JobState.QUEUED, HELD, *JobState) if states[state]}


def _line(found: Look) -> str:
    """Say one look in one line."""
    states = ", ".join(f"{count} {state}" for state, count in _by_state(found).items()) or "no unfinished job"
    accounts = ", ".join(_account(name, own, found) for name, own in found.now.accounts.items())
    todo = "".join(f"; {one}" for one in _todo(found))
    return f"{found.now.at:%H:%M:%S}  {states}; {_standing(found)}; {accounts}{todo}"


def _standing(found: Look) -> str:
    now = found.now
    return f"lag {render.seconds(now.lag_s['jobs'])}, {now.unsaved} unsaved, {_sweep(now)}"


def _sweep(now: "Figures") -> str:
    age_s = now.runs_s.get("sweep")
    return "the sweep never ran" if age_s is None else f"sweep {render.seconds(age_s)} ago"


def _account(name: str, own: "AccountFigures", found: Look) -> str:
    credits = "" if own.credits is None else f", {own.credits:g} credits"
    paused = ", creates paused" if own.paused else ""
    waits = found.now.first_in_line_s.get(name, 0.0)
    line = f", first in line for {render.seconds(waits)}" if waits else ""
    return f"{name} {own.creates} of {found.limits[name]} creates{line}{credits}{paused}"


def _todo(found: Look) -> list[str]:
    """Say what needs a person, and where they go."""
    from kiejobs.db.figures import LATE_S, OTHER

    now = found.now
    parked = _by_state(found).get(JobState.UNCONFIRMED, 0)
    strangers = sum(count for (account, _, _), count in now.in_line.items() if account == OTHER)
    told = [
        (now.runs_s.get("sweep", _SWEEP_LATE_S) >= _SWEEP_LATE_S, "no sweep: start beat and a quick worker"),
        (parked, f"{parked} unconfirmed: kiejobs list -A --phase unconfirmed"),
        (strangers, f"{strangers} in line for an account that nobody has a key for: kiejobs accounts"),
        (any(own.paused for own in now.accounts.values()), "creates are paused: kiejobs accounts"),
        (now.lag_s["jobs"] > LATE_S, "looks are late: kiejobs doctor"),
        (now.lag_s["outputs"] > LATE_S, "copies are late: kiejobs list -A --unsaved"),
        (now.messages_gave_up, f"{now.messages_gave_up} messages given up: kiejobs deliveries -A --state gave_up"),
    ]
    return [words for holds, words in told if holds]


def _screen(found: Look, width: int | None = None, height: int | None = None) -> "RenderableType":
    """Lay a look out; in a terminal of this size, a line per job, with the columns and the jobs that fit."""
    from rich.console import Group
    from rich.text import Text

    now = found.now
    heads = [Text(f"kiejobs  {now.at:%Y-%m-%d %H:%M:%S} UTC", style="bold")]
    states = "   ".join(f"{count} {state}" for state, count in _by_state(found).items()) or "no unfinished job"
    heads += [Text(states), Text(_standing(found), style="dim")]
    heads += [
        Text(render.clean(_account(name, own, found)), style="red" if own.paused else "")
        for name, own in now.accounts.items()
    ]
    heads += [Text(words, style="bold yellow") for words in _todo(found)]
    for head in heads:
        head.no_wrap, head.overflow = width is not None, "ellipsis"
    columns = _columns(width)
    room = ROWS if height is None else max(height - len(heads) - 3, 0)  # a gap, the table's head, the rest
    shown = [[_cells(job)[column] for column in columns] for job in found.jobs[:room]]
    table = render.table(columns, shown)
    if width is not None:
        for column in table.columns:
            column.no_wrap, column.overflow = True, "ellipsis" if column.header == "model" else "crop"
        table.columns[1].ratio, table.expand = 1, True
    left = sum(now.unfinished.values()) - len(shown)
    rest = [Text(f"… and {left} more: kiejobs list -A", style="dim")] if left > 0 and found.jobs else []
    return Group(*heads, Text(""), table, *rest)


def _columns(width: int | None) -> list[str]:
    columns = ["job", "model", "state", *_BESIDE]
    for name in _LEFT_OUT if width is not None else ():
        if sum(_BESIDE.get(column, 0) for column in columns) + _LEAST_WIDTH > (width or 0):
            columns.remove(name)
    return columns


def _cells(job: "InFlight") -> dict[str, str]:
    return {
        "job": job.id,
        "model": job.model,
        "state": job.state,
        "age": render.seconds(job.age_s),
        "polls": str(job.polls or ""),
        "progress": "" if job.progress is None else f"{job.progress * 100:.0f} %",
        "next look": _next_look(job.due_in_s),
        "copied": render.size(job.received_bytes) if job.received_bytes else "",
    }


def _next_look(due_in_s: float) -> str:
    return f"in {render.seconds(due_in_s)}" if due_in_s >= 0 else f"{render.seconds(-due_in_s)} late"


def _document(found: Look) -> dict[str, Any]:
    now = found.now
    return {
        "at": now.at.isoformat(),
        "jobs": _by_state(found),
        "dueLagS": now.lag_s["jobs"],
        "unsaved": now.unsaved,
        "messagesPending": now.messages_pending,
        "lastRunS": now.runs_s,
        "accounts": [
            {
                "name": name,
                "paused": own.paused,
                "credits": own.credits,
                "creates": own.creates,
                "createsLimit": found.limits[name],
                "firstInLineS": now.first_in_line_s.get(name, 0.0),
            }
            for name, own in now.accounts.items()
        ],
        "inFlight": [
            {
                "generationId": job.id,
                "tenant": job.tenant,
                "model": job.model,
                "phase": job.state,
                "ageS": job.age_s,
                "polls": job.polls,
                "progress": job.progress,
                "dueInS": job.due_in_s,
                "receivedBytes": job.received_bytes,
            }
            for job in found.jobs
        ],
    }
