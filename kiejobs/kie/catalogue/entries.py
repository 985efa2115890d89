"""The entries of the catalogue: what one says, and how it is found in the vendors' files.

A file holds one table `["model id"]` per model and its fields as inline tables under `["model id".input]`; what stands
above the first table holds for every entry that does not say otherwise. The headings serve as the index, so a look-up
parses one vendor's file only, once per process. A file that breaks these rules raises there; a unit test reads them all.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import date as Date  # noqa: N812 - `date` is the name of a part of an entry

_HEADING = re.compile(r'^\["([^"]+)"\]$', re.MULTILINE)


@dataclass(frozen=True)
class Field:
    """One parameter under `input`. None, or an empty `allowed`, means that nothing is known to limit it.

    `type` and `items` (of a list) are `string`, `number`, `integer`, `boolean`, `array`, `object`, or `any` where only
    the name is known. `required` is what Kie's pages say; a required field with a default may still be left out.
    """

    name: str
    type: str
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
    items: str = "any"

    @property
    def must_be_given(self) -> bool:
        """Whether a request without this field cannot work: Kie calls it required and names no default."""
        return self.required and self.default is None


@dataclass(frozen=True)
class Model:
    """One model of the jobs API. No `fields` at all means that they are not known, not that it takes none.

    `kind` is what it makes: `image`, `video`, `audio` or `text`. `status` is `current` or `withdrawn`, and then `note`
    says why. `doc` is Kie's page, `date` the day for which the facts hold.
    """

    id: str
    kind: str
    vendor: str
    fields: tuple[Field, ...]
    status: str
    note: str
    doc: str
    date: "Date"
    price_credits: float | None = None
    typical_s: float | None = None

    @property
    def withdrawn(self) -> bool:
        """Whether Kie no longer offers it."""
        return self.status == "withdrawn"


def find(model_id: str) -> Model | None:
    """Return the entry of exactly this id."""
    vendor = _index().get(model_id)
    return None if vendor is None else _entries(vendor)[model_id]


def models() -> list[Model]:
    """Return every entry, sorted by id."""
    return [_entries(vendor)[model_id] for model_id, vendor in sorted(_index().items())]


def near(model_id: str) -> str | None:
    """Return the known id that this one may be a misspelling of."""
    return closest(model_id, _index())


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

    document = loads(_texts()[vendor])
    shared = {part: value for part, value in document.items() if not isinstance(value, dict)}
    entries = {model_id: entry for model_id, entry in document.items() if isinstance(entry, dict)}
    return {model_id: _model(model_id, vendor, {**shared, **entry}) for model_id, entry in entries.items()}


def _model(model_id: str, vendor: str, entry: dict[str, Any]) -> Model:
    fields = tuple(_field(name, limits) for name, limits in entry.pop("input", {}).items())
    return Model(id=model_id, vendor=vendor, fields=fields, **{"status": "current", "note": "", **entry})


def _field(name: str, limits: dict[str, Any]) -> Field:
    return Field(name=name, **{**limits, "allowed": tuple(limits.get("allowed", ()))})
