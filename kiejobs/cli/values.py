"""`--input key=value` and its relatives: what a person types, as the values that the model takes.

The catalogue's type of the field decides (`duration=5` stays the text "5" where the field is text). What is no JSON
where JSON is wanted stays text, so that the check of the input names the field and what it allows. `key=@file` hands a
file in.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kiejobs.errors import InvalidInput
from kiejobs.kie.catalogue import Model

_AS_JSON = ("number", "integer", "boolean", "array", "object")


def read_input(model: Model | None, pairs: Iterable[str], document: str | None, prompt: str | None) -> dict[str, Any]:
    """Put an input together: the JSON document first, then the prompt, then each `key=value`."""
    given = _document(document) if document else {}
    if prompt is not None:
        given["prompt"] = prompt
    types: dict[str, str] = {"output": "integer"} if model and model.parent else {}
    types |= {field.name: field.type for field in model.fields} if model else {}
    for name, text in split_pairs(pairs, option="--input"):
        given[name] = value_of(text, types.get(name, "any"))
    return given


def _files(text: str, kind: str) -> Any:
    """Read `@path`, or `@path,@path` for a list: files that are handed in with the request. `@@` is a plain `@`."""
    paths = [Path(name.removeprefix("@")).expanduser() for name in text.split(",@")]
    for path in paths:
        if not path.is_file():
            raise InvalidInput(
                f"there is no file {path}",
                field="--input",
                given=text,
                allowed="@ and the path of a file; @@ for a text that begins with @",
            )
    return paths if kind == "array" or len(paths) > 1 else paths[0]


def value_of(text: str, kind: str) -> Any:
    """Read one value of a field of this type; `any` is JSON if it is true, false, a list or an object, else text."""
    if text.startswith("@@"):
        return text[1:]
    if text.startswith("@"):
        return _files(text, kind)
    if kind == "string":
        return text
    try:
        value = json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text
    if kind in _AS_JSON or isinstance(value, bool | list | dict):
        return value
    return text


def split_pairs(pairs: Iterable[str], *, option: str) -> list[tuple[str, str]]:
    """Split `key=value`; InvalidInput where there is no `=`, or a key twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise InvalidInput(f"{option} {pair!r} is no key=value", field=option, given=pair, allowed="key=value")
        if name.strip() in found:
            raise InvalidInput(
                f"{option} names {name.strip()!r} twice", field=option, given=pair, allowed="each key once"
            )
        found[name.strip()] = text
    return list(found.items())


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _document(source: str) -> dict[str, Any]:
    wanted = {"field": "--input-json", "given": source, "allowed": "a file with a JSON object, or - for standard input"}
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "no text"
        raise InvalidInput(f"--input-json {source} cannot be read: {why}", **wanted) from None
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"--input-json {source} is no JSON: {error}", **wanted) from None
    if not isinstance(document, dict):
        raise InvalidInput(f"--input-json {source} is no JSON object", **wanted)
    return document
