"""The catalogue's entries as JSON Schema, for the HTTP API and the command line.

Says what `check` says, in the standard's words: text and lists may be references to another job's output, and fields
that the catalogue does not know are let through.
"""

from typing import Any

from kiejobs.errors import InvalidInput
from kiejobs.kie.catalogue.entries import Field, Model, find, near

_REFERENCE = {
    "type": "object",
    "description": "An output of another job, filled in when that job has ended, or an input file that was handed in.",
    "properties": {"$from": {"type": ["object", "string"]}, "$file": {"type": "object"}},
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}


def schema(model_id: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of this model's input; raise InvalidInput for a model that is not known."""
    model = find(model_id)
    if model is None:
        raise InvalidInput(
            "this model is not in the catalogue, so there is no schema of its input",
            field="model",
            given=model_id,
            allowed=near(model_id) or "a model of the catalogue",
        )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": model.id,
        "description": _description(model),
        "type": "object",
        "properties": {field.name: _property(field) for field in model.fields} | _of_parent(model),
        **_required(model),
        "additionalProperties": True,
        "deprecated": model.withdrawn,
        "$defs": {"reference": _REFERENCE},
    }


def _of_parent(model: Model) -> dict[str, Any]:
    """What an operation on an earlier generation takes instead of Kie's ids."""
    if model.parent is None:
        return {}
    filled = ", ".join(sorted(model.parent.fields))
    job = {"type": "string", "format": "uuid", "description": f"A finished job of yours, which fills in {filled}."}
    if not (model.parent.part or model.parent.index):
        return {"job": job}
    output = {"type": ["integer", "null"], "minimum": 0, "description": "Which of that job's outputs is meant."}
    return {"job": job, "output": output}


def _required(model: Model) -> dict[str, Any]:
    """What must be given; of an operation on an earlier generation either our job or what it would fill in."""
    needed = [field.name for field in model.fields if field.must_be_given]
    filled = [name for name in needed if model.parent and name in model.parent.fields]
    rest = {"required": [name for name in needed if name not in filled]}
    return rest | {"anyOf": [{"required": ["job"]}, {"required": filled}]} if filled else rest


def _description(model: Model) -> str:
    return " ".join(part for part in (model.note, f"Makes {model.kind}. See {model.doc}") if part)


def _property(field: Field) -> dict[str, Any]:
    rule = _rule(field)
    if field.type in {"string", "array"}:
        rule = {"anyOf": [rule, {"$ref": "#/$defs/reference"}]}
    if field.default is not None:
        rule["default"] = field.default
    if field.note:
        rule["description"] = field.note
    return rule


def _rule(field: Field) -> dict[str, Any]:
    rule = {
        "type": None if field.type == "any" else field.type,
        "enum": list(field.allowed) or None,
        "minimum": field.minimum,
        "maximum": field.maximum,
        "maxLength": field.max_length,
        "minItems": field.min_items,
        "maxItems": field.max_items,
        "items": _items(field),
        "pattern": r"\S" if field.type == "string" and field.required else None,
    }
    return {word: limit for word, limit in rule.items() if limit is not None}


def _items(field: Field) -> dict[str, Any] | None:
    if field.type != "array" or field.items == "any":
        return None
    rule = {"type": field.items}
    return {"anyOf": [rule, {"$ref": "#/$defs/reference"}]} if field.items in {"string", "array"} else rule
