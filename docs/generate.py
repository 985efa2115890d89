"""Writes the pages that are made from code: `python -m docs.generate`. A test fails where one is stale."""

from math import isinf
from pathlib import Path

from kiejobs import pacing
from kiejobs.jobs import JobState, public_state
from kiejobs.kie import catalogue
from kiejobs.kie.families import FAMILIES
from kiejobs.kie.family import Family
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


def _below(until_s: float) -> str:
    return "older" if isinf(until_s) else f"below {until_s:g} s"


def lifecycle() -> str:
    """Draw the lifecycle from its table."""
    arrows = "\n".join(f"    {before} --> {after} : {event}" for (before, event), after in TABLE.items())
    states = "\n".join(f"| `{state}` | {meaning} | `{public_state(state)}` |" for state, meaning in STATES.items())
    events = "\n".join(f"| `{event}` | {meaning} |" for event, meaning in MEANING.items())
    table = "\n".join(f"| `{before}` | `{event}` | `{after}` |" for (before, event), after in TABLE.items())
    rungs = "\n".join(f"| {_below(until)} | {wait:g} s |" for until, wait in pacing.LADDER)
    tail = "\n".join(f"| {_below(until)} | {wait:g} s |" for until, wait in pacing.TAIL)
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
            if default in (None, {}, frozenset(), ())
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
the process and says what was probably meant. Times ending in `_S` are seconds. `KIEJOBS_LIVE_TESTS` is no setting: it lets
`tests/live` buy at the real Kie, see [guarantees.md](guarantees.md#how-it-is-tested).

{settings_table()}"""


README = HERE.parent / "README.md"
_FIRST, _LAST = "<!-- settings: written by `python -m docs.generate` -->", "<!-- /settings -->"


def readme() -> str:
    """Return the README with its settings table written anew."""
    before, _, rest = README.read_text(encoding="utf-8").partition(_FIRST)
    after = rest.partition(_LAST)[2]
    return f"{before}{_FIRST}\n\n{settings_table()}\n{_LAST}{after}"


TWINS = {
    "gpt4o-image": "4o-image-api",
    "flux-kontext-pro": "flux1-kontext",
    "flux-kontext-max": "flux1-kontext",
    "veo3": "veo-3-1",
    "veo3_fast": "veo-3-1",
    "veo3_lite": "veo-3-1",
    "veo3/extend": "veo/extend",
    "veo3/1080p": "veo/get-1080p-video",
    "veo3/4k": "veo/get-4k-video",
    "runway": "runway",
    "runway/extend": "runway/extend-ai-video",
    "aleph": "runway/gen4-aleph",
    "suno": "ai-music-api/generate",
    "suno/generate": "ai-music-api/generate",
    "suno/extend": "ai-music-api/extend",
    "suno/upload-cover": "ai-music-api/upload-and-cover-audio",
    "suno/upload-extend": "ai-music-api/upload-and-extend-audio",
    "suno/add-instrumental": "ai-music-api/add-instrumental",
    "suno/add-vocals": "ai-music-api/add-vocals",
    "suno/mashup": "ai-music-api/mashup",
    "suno/replace-section": "ai-music-api/replace-section",
    "suno/sounds": "ai-music-api/sounds",
    "suno/lyrics": "ai-music-api/generate-lyrics",
    "suno/wav": "ai-music-api/convert-to-wav-format",
    "suno/music-video": "ai-music-api/create-music-video",
    "suno/stems": "ai-music-api/separate-vocals",
    "suno/midi": "ai-music-api/generate-midi-from-audio",
    "suno/cover-image": "ai-music-api/cover-generate",
    "suno/persona": "ai-music-api/generate-persona",
    "suno/style": "ai-music-api/boost-music-style",
    "suno/timestamped-lyrics": "ai-music-api/timeStamped-lyrics",
}
"""A model of an older API → what the jobs API has had in its place since September 2026. Source: Kie's pages of then."""


def families() -> str:
    """List the API families and what each makes, from their classes."""
    rows = "\n".join(f"| `{one.name}` | {_record(one)} | {_standing(one)} | {_count(one)} |" for one in FAMILIES)
    made = "\n".join(_made_by(one, model) for one in FAMILIES for model in sorted(one.models))
    return f"""{NOTICE}
# API families

A family is one file in `kiejobs/kie/families/`: how to create, how to read, what its words mean. The model's id chooses
it; a model that no other family claims goes to the jobs API. `family:model` names the family outright, as in
`jobs:runway`. In September 2026 Kie moved its other APIs onto the jobs API under new ids; the older ones still answer.

| family | record | today | models |
|---|---|---|---|
{rows}

## Models outside the jobs API

| model | family | create | today | on the jobs API |
|---|---|---|---|---|
{made}
"""


def _record(family: Family) -> str:
    return "answered at once" if family.create_deadline_s is not None else f"`{family.read('ID').path}`"


def _count(family: Family) -> str:
    return f"{len(family.models)}" if family.models else "all others, see [models.md](models.md)"


def _standing(family: Family) -> str:
    if family.models and all(_withdrawn(model) for model in family.models):
        return "withdrawn by Kie"
    return "older API" if any(model in TWINS for model in family.models) else "current"


def _withdrawn(model: str) -> bool:
    known = catalogue.find(model)
    return known is not None and known.withdrawn


def _made_by(family: Family, model: str) -> str:
    path = family.create(model, {"input": {}}, None).path
    standing = "**withdrawn**" if _withdrawn(model) else "older API" if model in TWINS else "current"
    twin = TWINS.get(model)
    shown = f"`{'jobs:' if twin == model else ''}{twin}`" if twin else ""
    return f"| `{model}` | `{family.name}` | `{path}` | {standing} | {shown} |"


def models() -> str:
    """List the models of the catalogue, a table per vendor."""
    listed: dict[str, list[catalogue.Model]] = {}
    for model in catalogue.models():
        listed.setdefault(model.vendor, []).append(model)
    vendors = "\n\n".join(_vendor(vendor, found) for vendor, found in sorted(listed.items()))
    return f"""{NOTICE}
# Models

{sum(map(len, listed.values()))} models, a table per vendor. A name leads to Kie's own page of the model where one is known;
`kiejobs models MODEL` shows every field with what it takes, `kiejobs models MODEL --schema` the same as JSON Schema. Any
other id is sent to the jobs API as it is. Prices are credits of the cheapest generation, as of the day given; Kie's own
price list decides. How to add a model, or to correct one, without a release: [catalogue.md](catalogue.md).

{vendors}
"""


def _vendor(vendor: str, found: list[catalogue.Model]) -> str:
    path = HERE.parent / "kiejobs" / "kie" / "catalogue" / f"{vendor}.toml"
    title = path.read_text(encoding="utf-8").partition("\n")[0].strip("# .")
    rows = "\n".join(_model_row(model) for model in found)
    heading = "| model | makes | needs | credits | status | as of |\n|---|---|---|---|---|---|"
    return f"## {title}\n\n{heading}\n{rows}"


def _model_row(model: catalogue.Model) -> str:
    name = f"`{model.id}`" if model.doc.endswith("/llms.txt") else f"[`{model.id}`]({model.doc})"
    needs = [field.name for field in model.fields if field.must_be_given]
    if model.parent and model.parent.fields.intersection(needs):
        needs = ["a finished job", *(name for name in needs if name not in model.parent.fields)]
    needed = ", ".join(needs) if model.fields or model.parent else "not known"
    price = "" if model.price_credits is None else f"{model.price_credits:g}"
    status = "**withdrawn**" if model.withdrawn else "current"
    return f"| {name} | {model.kind} | {needed} | {price} | {status} | {model.date} |"


PAGES = {"lifecycle.md": lifecycle, "settings.md": settings, "families.md": families, "models.md": models}


def main() -> None:
    """Write all pages."""
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
    README.write_text(readme(), encoding="utf-8")


if __name__ == "__main__":
    main()
