"""The check of a request's input against the catalogue, at enqueue.

Refuses what Kie is known to refuse, with one plain line that names the model, the field, what was given and what is
allowed. What is merely unknown comes back as warnings. A value that is a reference to another job's output,
`{"$from": {...}}`, stands for text or a list that nobody knows yet and passes.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from kiejobs.errors import InvalidInput
from kiejobs.kie.catalogue.entries import Field, Model, Type, closest, find, near
from kiejobs.references import is_reference

_SHOWN_CHARACTERS = 60
_SHOWN_CHOICES = 20
_NAMED_STRANGERS = 20
"""As many fields as are warned about by name; a stranger may send thousands."""

_UNDOCUMENTED_SWITCHES = frozenset({"nsfw_checker"})
"""Taken by many models whose pages leave it out: no reason for a warning."""


def check(model_id: str, given: Mapping[str, Any], *, strict: bool = False) -> tuple[str, ...]:
    """Return warnings about this input; raise InvalidInput for the first thing in it that cannot work.

    An unknown model is a warning, or with `strict` an InvalidInput of the field `model`.
    """
    if not isinstance(given, Mapping):
        raise InvalidInput(
            f"input of {_clean(model_id)}: given {_show(given)} ({_word(given)}), allowed an object",
            field="input",
            given=given,
            allowed="object",
        )
    model = find(model_id)
    if model is None:
        return (_unknown_model(model_id, strict=strict),)
    for field in model.fields:
        if field.name in given:
            _check_value(model, field, given[field.name])
        elif field.must_be_given:
            raise _missing(model, field, given)
    return _warnings(model, given)


def _unknown_model(model_id: str, *, strict: bool) -> str:
    meant = near(model_id)
    question = f"; did you mean {meant}?" if meant else ""
    fact = f"model {_clean(model_id)} is not in the catalogue"
    if strict:
        raise InvalidInput(
            fact + question,
            field="model",
            given=model_id,
            allowed=meant or "a model of the catalogue",
            remedy="Check the spelling of the model; its exact id is on its page at https://docs.kie.ai.",
        )
    return f"{fact}; it is sent to Kie's jobs API as it is{question}"


def _missing(model: Model, field: Field, given: Mapping[str, Any]) -> InvalidInput:
    allowed = describe(field)
    misspelt = closest(field.name, _unknown(model, given))
    add = f"Add it; see {model.doc}"
    if model.parent and field.name in model.parent.fields:
        add = f"Name one of your finished jobs as input.job: {field.name} is filled in from it. Or add it; see {model.doc}"
    return InvalidInput(
        f"input.{field.name} of {model.id}: not given, required is {allowed}",
        field=f"input.{field.name}",
        allowed=allowed,
        remedy=f"Rename {_clean(misspelt)} to {field.name}." if misspelt else add,
    )


def _check_value(model: Model, field: Field, value: Any) -> None:
    fault = _fault(field, value)
    if fault:
        allowed = describe(field)
        raise InvalidInput(
            f"input.{field.name} of {model.id}: given {_show(value)} ({fault}), allowed {allowed}",
            field=f"input.{field.name}",
            given=value,
            allowed=allowed,
            remedy=f"Change it; see {model.doc}",
        )
    if field.type == "array" and not is_reference(value):
        for number, item in enumerate(value):
            _check_value(model, Field(name=f"{field.name}[{number}]", type=field.items), item)


def _fault(field: Field, value: Any) -> str:
    """Return what this value is, in words, if the field cannot take it; else nothing."""
    if is_reference(value) and field.type in {"string", "array"}:
        return ""
    if not _FITS[field.type](value) or (field.allowed and value not in field.allowed):
        return _word(value)
    match field.type:
        case "string":
            return _text_fault(field, value)
        case "number" | "integer":
            return "" if _within(field.minimum, value, field.maximum) else _word(value)
        case "array":
            return "" if _within(field.min_items, len(value), field.max_items) else _word(value)
        case _:
            return ""


def _text_fault(field: Field, value: str) -> str:
    if not _within(None, len(value), field.max_length):
        return f"text of {len(value)} characters"
    return "blank text" if field.required and not value.strip() else ""


def _warnings(model: Model, given: Mapping[str, Any]) -> tuple[str, ...]:
    found = []
    if model.withdrawn:
        found.append(f"model {model.id} is withdrawn: {model.note}")
    if not model.fields:
        found.append(f"the fields of {model.id} are not in the catalogue; the input is sent as it is")
        return tuple(found)
    for name in _unknown(model, given):
        meant = closest(name, (field.name for field in model.fields if field.name not in given))
        question = f"; did you mean {meant}?" if meant else ""
        found.append(f"input.{_clean(name)} of {model.id} is not in the catalogue; it is sent as it is{question}")
    for field in model.fields:
        if field.required and field.name not in given:
            default = _show(field.default)
            found.append(
                f"input.{field.name} of {model.id}: not given; Kie calls it required, its default is {default}"
            )
    return tuple(found)


def _unknown(model: Model, given: Mapping[str, Any]) -> list[str]:
    known = {field.name for field in model.fields} | _UNDOCUMENTED_SWITCHES
    return [str(name) for name in given if name not in known][:_NAMED_STRANGERS]


# What a value is.


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and value == int(value)


_FITS: dict[str, Callable[[Any], bool]] = {
    "any": lambda value: True,
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": _is_whole,
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list | tuple),
    "object": lambda value: isinstance(value, Mapping),
}


def fits(kind: Type, value: Any) -> bool:
    """Say whether a value is of one of the catalogue's types."""
    return _FITS[kind](value)


def _within(least: float | None, value: float, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


# How a value and a rule are put into words.


def describe(field: Field) -> str:
    """Return in a few words what the field takes, as `"5" or "10" (text)`."""
    if field.allowed:
        return f"{_choices(field.allowed)} ({_NOUNS[field.type]})"
    match field.type:
        case "string":
            least = 1 if field.required else None
            return "text" if field.max_length is None else f"text of {_range(least, field.max_length)} characters"
        case "number" | "integer":
            limits = _range(field.minimum, field.maximum)
            return f"{limits} ({_NOUNS[field.type]})" if limits else f"a {_NOUNS[field.type]}"
        case "array":
            limits = _range(field.min_items, field.max_items)
            each = "" if field.items == "any" else f", each {_NOUNS[field.items]}"
            most = field.max_items or field.min_items
            return f"a list of {limits} {'item' if most == 1 else 'items'}{each}" if limits else f"a list{each}"
        case _:
            return _NOUNS[field.type]


_NOUNS = {
    "any": "any value",
    "string": "text",
    "number": "number",
    "integer": "whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
}


def _range(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f"{least}" if least == most else f"{least} to {most}"
    if most is not None:
        return f"up to {most}"
    return "" if least is None else f"at least {least}"


def _choices(values: tuple[str | int | float, ...]) -> str:
    words = [_show(value) for value in values]
    if len(words) > _SHOWN_CHOICES:
        return f"{', '.join(words[:3])}, … or {words[-1]}"
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _word(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "text"
        case list() | tuple():
            return f"list of {_items(len(value))}"
        case Mapping():
            return "object"
        case _:
            return type(value).__name__


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count} items"


def _show(value: Any) -> str:
    """Return the value as JSON has it, on one line, shortened to 60 characters."""
    if isinstance(value, str):
        return f'"{_clean(value, _SHOWN_CHARACTERS - 2)}"'
    try:
        return _clean(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError):  # a date, a set, a list inside itself, a number of 5000 digits
        return type(value).__name__


def _clean(text: str, limit: int = _SHOWN_CHARACTERS) -> str:
    """Return the text on one line, printable and shortened: it may come from a stranger."""
    line = "".join(letter if letter.isprintable() else " " for letter in text[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"
