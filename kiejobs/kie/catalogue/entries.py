"""The entries of the catalogue: what one says, and how it is found in the vendors' files.

A file holds one table `["model id"]` per model and its fields as inline tables under `["model id".input]`; what stands
above the first table holds for every entry that does not say otherwise. The headings serve as the index, so a look-up
parses one vendor's file only, once per process. A file that breaks these rules raises there; a unit test reads them all.
Entries of a folder of one's own (`use`) stand before those that ship, each as a whole.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date as Date  # noqa: N812 - `date` is the name of a part of an entry
from functools import cache
from pathlib import Path
from typing import Any, Literal

Kind = Literal["image", "video", "audio", "text"]
Status = Literal["current", "withdrawn"]
Type = Literal["string", "number", "integer", "boolean", "array", "object", "any"]

_HEADING = re.compile(r'^\["([^"]+)"\]$', re.MULTILINE)


@dataclass(frozen=True)
class Field:
    """One parameter under `input`. None, or an empty `allowed`, means that nothing is known to limit it.

    `type` and `items` (of a list) are `string`, `number`, `integer`, `boolean`, `array`, `object`, or `any` where only
    the name is known. `required` is what Kie's pages say; a required field with a default may still be left out.
    """

    name: str
    type: Type
    required: bool = False
    allowed: tuple[str | int | float, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    max_length: int | None = None
    """In characters."""
    min_items: int | None = None
    max_items: int | None = None
    default: Any = None
    note: str = ""
    items: Type = "any"

    @property
    def must_be_given(self) -> bool:
        """Whether a request without this field cannot work: Kie calls it required and names no default."""
        return self.required and self.default is None


@dataclass(frozen=True)
class Parent:
    """What an operation on an earlier generation needs of it: the fields that are filled in from one of our jobs.

    `task` takes Kie's task id, `part` Kie's id of the chosen output (a song's `audioId`), `index` its number among the
    results. With `takes_all`, `part` is left out where no output is chosen: the operation works on the whole task.
    `families` are the API families whose tasks it works on.
    """

    task: str | None = None
    part: str | None = None
    index: str | None = None
    takes_all: bool = False
    families: tuple[str, ...] = ("jobs",)

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields that are filled in."""
        return frozenset(name for name in (self.task, self.part, self.index) if name)


@dataclass(frozen=True)
class Model:
    """One model of the jobs API. No `fields` at all means that they are not known, not that it takes none.

    `kind` is what it makes: `image`, `video`, `audio` or `text`. `status` is `current` or `withdrawn`, and then `note`
    says why. `doc` is Kie's page, `date` the day for which the facts hold.
    """

    id: str
    kind: Kind
    vendor: str
    fields: tuple[Field, ...]
    status: Status
    note: str
    doc: str
    date: Date
    price_credits: float | None = None
    typical_s: float | None = None
    parent: Parent | None = None

    @property
    def withdrawn(self) -> bool:
        """Whether Kie no longer offers it."""
        return self.status == "withdrawn"


_used: tuple[Path | None, Mapping[str, Model]] = (None, {})


def use(folder: Path | None) -> None:
    """Let the entries of this folder's files stand before those that ship, or with None only those that ship.

    Holds for the whole process; read once, when the folder is named. SettingsError names the file, the entry and what is
    wrong with it, and nothing changes then.
    """
    global _used  # noqa: PLW0603 - what models take does not depend on who asks
    if folder != _used[0]:
        from kiejobs.kie.catalogue.own import read

        _used = (folder, read(folder) if folder else {})


def find(model_id: str) -> Model | None:
    """Return the entry of exactly this id."""
    own = _used[1].get(model_id)
    return own or _shipped(model_id)


def counted_as(model_id: str) -> str:
    """Return the name by which a model is counted, of which there are not many: its id, or `other` if it is unknown."""
    return model_id if find(model_id) else "other"


def models() -> list[Model]:
    """Return every entry, sorted by id."""
    own = _used[1]
    return [own.get(model_id) or _entries(_index()[model_id])[model_id] for model_id in sorted({*own, *_index()})]


def near(model_id: str) -> str | None:
    """Return the known id that this one may be a misspelling of."""
    return closest(model_id, [*_used[1], *_index()])


def _shipped(model_id: str) -> Model | None:
    vendor = _index().get(model_id)
    return None if vendor is None else _entries(vendor)[model_id]


def closest(word: str, words: Iterable[str]) -> str | None:
    """Return the word most like this one, whatever the case, or None if none is much like it."""
    from difflib import get_close_matches

    originals = {each.lower(): each for each in words}
    found = get_close_matches(word[:100].lower(), originals, n=1, cutoff=0.7)
    return originals[found[0]] if found else None


@cache
def _texts() -> dict[str, str]:
    from importlib.resources import files

    folder = files(__package__)
    return {
        file.name.removesuffix(".toml"): file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.endswith(".toml")
    }


@cache
def _index() -> dict[str, str]:
    return {model_id: vendor for vendor, text in _texts().items() for model_id in _HEADING.findall(text)}


@cache
def _entries(vendor: str) -> dict[str, Model]:
    from tomllib import loads

    return {model_id: _model(model_id, vendor, entry) for model_id, entry in by_id(loads(_texts()[vendor])).items()}


def by_id(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the raw entries of a file by their ids, each with what the lines above the first one give to all."""
    shared = {part: value for part, value in document.items() if not isinstance(value, dict)}
    return {model_id: {**shared, **entry} for model_id, entry in document.items() if isinstance(entry, dict)}


def _model(model_id: str, vendor: str, entry: dict[str, Any]) -> Model:
    fields = tuple(_field(name, limits) for name, limits in entry.pop("input", {}).items())
    parent = _parent(entry.pop("parent", None))
    return Model(id=model_id, vendor=vendor, fields=fields, parent=parent, **{"status": "current", "note": "", **entry})


def _parent(entry: dict[str, Any] | None) -> Parent | None:
    return Parent(**{**entry, "families": tuple(entry.get("families", ("jobs",)))}) if entry else None


def _field(name: str, limits: dict[str, Any]) -> Field:
    return Field(name=name, **{**limits, "allowed": tuple(limits.get("allowed", ()))})
