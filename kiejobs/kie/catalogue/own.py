"""A folder of one's own catalogue files: the same TOML as those that ship, read strictly, all of it, at the start.

Kie adds models monthly; a file here adds or overrides entries without a release. A person writes it, so whatever is wrong
is a SettingsError of one line that names the file, the entry, the part at fault and what was probably meant. An entry
overrides the shipped one of the same id as a whole: what it leaves out is not filled in.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from kiejobs.errors import SettingsError
from kiejobs.kie.catalogue.checking import fits
from kiejobs.kie.catalogue.entries import Field, Model, Parent, by_id, closest

_LIMITS: Mapping[str, tuple[str, ...]] = {
    "minimum": ("number", "integer"),
    "maximum": ("number", "integer"),
    "max_length": ("string",),
    "min_items": ("array",),
    "max_items": ("array",),
}
"""Which types a limit belongs to."""


def read(folder: Path) -> dict[str, Model]:
    """Return the entries of every `*.toml` in the folder by id."""
    found: dict[str, Model] = {}
    written_in: dict[str, Path] = {}
    for path in _files(folder):
        for model_id, entry in _entries(path).items():
            if model_id in found:
                raise _fault(path, model_id, f"this model is also in {written_in[model_id].name}; one of them must go")
            found[model_id] = _model(path, model_id, entry)
            written_in[model_id] = path
    return found


def _files(folder: Path) -> list[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    except OSError as error:
        raise SettingsError(
            f"KIEJOBS_CATALOGUE: {folder} cannot be read: {error.strerror}",
            remedy="Name a folder of TOML files, or unset KIEJOBS_CATALOGUE.",
        ) from None
    if not found:
        raise SettingsError(
            f"KIEJOBS_CATALOGUE: {folder} holds no .toml file",
            remedy="Put a file of entries there, or unset KIEJOBS_CATALOGUE.",
        )
    return found


def _entries(path: Path) -> dict[str, dict[str, Any]]:
    from tomllib import loads

    try:
        document = by_id(loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:  # no text and no TOML are both values that cannot be read
        raise _fault(path, None, f"it is no TOML that can be read: {error}") from None
    if not document:
        raise _fault(path, None, 'it holds no entry; one begins with a line like ["vendor/model"]')
    return document


def _model(path: Path, model_id: str, entry: dict[str, Any]) -> Model:
    raw = {"status": "current", "note": "", **entry}
    given, parent = raw.pop("input", {}), raw.pop("parent", None)
    if not isinstance(given, dict):
        raise _fault(path, model_id, "input is no table of fields")
    listed = tuple(_field(path, model_id, name, limits) for name, limits in given.items())
    needed = None if parent is None else _made(Parent, path, model_id, "parent.", _table(parent))
    if needed and not (needed.task or needed.part):
        raise _fault(path, model_id, "parent names neither task nor part: nothing would be filled in")
    parts = raw | {"id": model_id, "vendor": path.stem, "fields": listed, "parent": needed}
    made: Model = _made(Model, path, model_id, "", parts)
    if made.withdrawn and not made.note:
        raise _fault(path, model_id, "note is missing: it says why the model is withdrawn")
    return made


def _field(path: Path, model_id: str, name: str, limits: Any) -> Field:
    made: Field = _made(Field, path, model_id, f"input.{name}.", _table(limits) | {"name": name})
    for part, words in _faults(made):
        raise _fault(path, model_id, f"input.{name}.{part} {words}")
    return made


def _faults(field: Field) -> Iterator[tuple[str, str]]:
    """Say what of a field contradicts the rest of it."""
    for limit, types in _LIMITS.items():
        if getattr(field, limit) is not None and field.type not in types:
            yield limit, f"limits {' and '.join(types)} fields, and this one is of type {field.type}"
    if field.items != "any" and field.type != "array":
        yield "items", f"belongs to arrays, and this field is of type {field.type}"
    if not all(fits(field.type, value) for value in field.allowed):
        yield "allowed", f"holds a value that is not of type {field.type}"
    if field.default is not None and not fits(field.type, field.default):
        yield "default", f"is not of type {field.type}"
    if field.default is not None and field.allowed and field.default not in field.allowed:
        yield "default", "is not among the allowed values"


def _table(value: Any) -> dict[str, Any]:
    """Return a table with its lists as the tuples that entries hold; what is no table is left for the check to name."""
    if not isinstance(value, dict):
        return {"": value}
    return {
        part: tuple(each) if part in {"allowed", "families"} and isinstance(each, list) else each
        for part, each in value.items()
    }


@cache
def _strict(kind: Any) -> Any:
    """Return a class of values whose parts are checked against their annotations, without conversion."""
    from pydantic import ConfigDict
    from pydantic.dataclasses import dataclass

    return dataclass(kind, config=ConfigDict(strict=True, extra="forbid"), frozen=True)


def _made(kind: Any, path: Path, model_id: str, place: str, parts: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    unknown = next((part for part in parts if part not in _names(kind)), None)
    if unknown is not None:
        raise _fault(path, model_id, _unknown(kind, place, unknown))
    try:
        _strict(kind)(**parts)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        part = place + str(first["loc"][0])
        said = "is missing" if first["type"] == "missing" else f"is {first['input']!r}: {_lower(str(first['msg']))}"
        raise _fault(path, model_id, f"{part} {said}") from None
    return kind(**parts)


def _names(kind: type[Any]) -> list[str]:
    return [part.name for part in fields(kind)]


def _unknown(kind: type[Any], place: str, part: str) -> str:
    if not part:
        return f"{place.rstrip('.')} is no table"
    if kind is Model and part in {"fields", "vendor"}:
        return f"{part} is no part of an entry: fields stand under input, the vendor is the file's name"
    near = closest(part, [*_names(kind), *(["input"] if kind is Model else [])])
    what = "a field" if kind is Field else "an entry"
    return f"{place}{part} is no part of {what}" + (f"; did you mean {near}?" if near else "")


def _lower(said: str) -> str:
    return said[:1].lower() + said[1:]


def _fault(path: Path, model_id: str | None, said: str) -> SettingsError:
    where = f'{path}, ["{model_id}"]' if model_id else str(path)
    return SettingsError(
        f"KIEJOBS_CATALOGUE: {where}: {said}",
        remedy="Correct the file (docs/catalogue.md says what an entry is made of), or unset KIEJOBS_CATALOGUE.",
    )
