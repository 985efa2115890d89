"""Writes the pages that are made from code: `python -m docs.generate`. A test fails where one is stale."""

from pathlib import Path

from kiejobs import pacing
from kiejobs.jobs import JobState, public_state
from kiejobs.kie.families import FAMILIES
from kiejobs.lifecycle import MEANING, TABLE
from kiejobs.settings import Settings

HERE = Path(__file__).parent
NOTICE = "<!-- Written by `python -m docs.generate`. Change the code, not this page. -->"

STATES: dict[JobState, str] = {
    JobState.QUEUED: "accepted from the producer, not sent",
    JobState.SUBMITTING: "the intent is committed; the create call may be in flight",
    JobState.UNCONFIRMED: "nobody knows whether Kie took the create call; a person, a callback or a policy decides",
    JobState.WAITING: "Kie has the task",
    JobState.TIMEOUT: "10 minutes passed; the producer is told, looking goes on for a day",
    JobState.STORING: "the results are known, the files are being copied",
    JobState.SUCCESS: "every file is stored and verified",
    JobState.FAIL: "ended; `reason`, Kie's code and message say why",
    JobState.CANCELED: "the producer gave up",
}


def lifecycle() -> str:
    """Draw the lifecycle from its table."""
    arrows = "\n".join(f"    {before} --> {after} : {event}" for (before, event), after in TABLE.items())
    states = "\n".join(f"| `{state}` | {meaning} | `{public_state(state)}` |" for state, meaning in STATES.items())
    events = "\n".join(f"| `{event}` | {meaning} |" for event, meaning in MEANING.items())
    table = "\n".join(f"| `{before}` | `{event}` | `{after}` |" for (before, event), after in TABLE.items())
    rungs = "\n".join(f"| below {until:g} s | {wait:g} s |" for until, wait in pacing.LADDER)
    tail = "\n".join(f"| below {until:g} s | {wait:g} s |" for until, wait in pacing.TAIL)
    return f"""{NOTICE}
# The life of a job

What may happen is one table in `kiejobs/lifecycle.py`; anything that is not in it raises. What should happen is in
`kiejobs/decisions.py`, when to look again in `kiejobs/pacing.py`.

```mermaid
stateDiagram-v2
    [*] --> queued
{arrows}
    success --> [*]
    fail --> [*]
    canceled --> [*]
```

| state (`phase`) | meaning | what producers see (`state`) |
|---|---|---|
{states}

| event | what happened |
|---|---|
{events}

| from | event | to |
|---|---|---|
{table}

## When Kie is looked at

While `waiting`, counted from the moment the task id became known:

| age | wait |
|---|---|
{rungs}

After the timeout, until `KIEJOBS_SALVAGE_S`:

| age | wait |
|---|---|
{tail}
"""


def settings_table() -> str:
    """Lay the settings out as a table, from their class."""
    rows = []
    for info in Settings.model_fields.values():
        default = info.get_default(call_default_factory=True)
        shown = (
            "–"
            if default in (None, {}, frozenset())
            else f"`{default:g}`"
            if isinstance(default, float)
            else f"`{default}`"
        )
        rows.append(f"| `{info.alias}` | {shown} | {info.description} |")
    listed = "\n".join(rows)
    return f"| name | default | meaning |\n|---|---|---|\n{listed}\n"


def settings() -> str:
    """List the settings."""
    return f"""{NOTICE}
# Settings

Read from the environment and from `.env` in the working directory. An unknown `KIEJOBS_*` name or a wrong value stops
the process and says what was probably meant. Times ending in `_S` are seconds.

{settings_table()}"""


README = HERE.parent / "README.md"
_FIRST, _LAST = "<!-- settings: written by `python -m docs.generate` -->", "<!-- /settings -->"


def readme() -> str:
    """Return the README with its settings table written anew."""
    before, _, rest = README.read_text(encoding="utf-8").partition(_FIRST)
    after = rest.partition(_LAST)[2]
    return f"{before}{_FIRST}\n\n{settings_table()}\n{_LAST}{after}"


def families() -> str:
    """List the API families from their classes."""
    rows = "\n".join(
        f"| `{one.name}` | `{one.create('MODEL', {}, None).path}` | `{one.read('ID').path}` |" for one in FAMILIES
    )
    return f"""{NOTICE}
# API families

A family is one file in `kiejobs/kie/families/`: how to create, how to read, what its words mean. A model that no other
family claims goes to the jobs API.

| family | create | record |
|---|---|---|
{rows}
"""


PAGES = {"lifecycle.md": lifecycle, "settings.md": settings, "families.md": families}


def main() -> None:
    """Write all pages."""
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
    README.write_text(readme(), encoding="utf-8")


if __name__ == "__main__":
    main()
