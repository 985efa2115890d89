"""What may stand in an input for a URL that nobody knows yet: an output of another job, or a file kept in our storage.

`{"$from": {"job": ID, "output": 0}}` is an output of another job (`"all"`: the list of all its results), and
`{"$file": {"key": KEY, "name": NAME}}` an input file. They may stand anywhere in an input; shortly before the create call
each is replaced by a URL that Kie can fetch. Pure: knows the shapes, not where the URLs come from.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiejobs.errors import InvalidInput
from kiejobs.places import Steps, name_of, places
from kiejobs.storage.keys import checked_key

FROM, FILE = "$from", "$file"
MAX_REFERENCES = 100
"""In one input; each may have to be uploaded."""


@dataclass(frozen=True, slots=True)
class OutputOf:
    """An output of another job; `output` None stands for all its results."""

    job: str
    output: int | None = 0


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file in our storage."""

    key: str
    name: str | None = None


Reference = OutputOf | KeptFile


def is_reference(value: Any) -> bool:
    """Say whether a value stands for a URL; what is wrong within it is said by `references`."""
    return isinstance(value, Mapping) and (FROM in value or FILE in value)


def stands_for_many(value: Mapping[str, Any]) -> bool:
    """Say whether a reference stands for a list: all results of a job."""
    named = value.get(FROM)
    return isinstance(named, Mapping) and named.get("output") == "all"


def references(given: Any, *, tenant: str, field: str = "input") -> list[Reference]:
    """List what an input refers to; InvalidInput names the field of a reference that cannot be one."""
    found = []
    for path, value in places(given):
        if is_reference(value) and not path:
            said = f"{field} is a reference itself: Kie takes an object of named fields"
            raise InvalidInput(
                said, field=field, allowed=f'{{"image": {{"{FILE}": …}}}}, in whichever field takes a URL'
            )
        if is_reference(value) and not _inside_one(path):
            found.append(_read(value, tenant, name_of(path, field)))
        if len(found) > MAX_REFERENCES:
            said = f"{field} has more than {MAX_REFERENCES} references"
            raise InvalidInput(said, field=field, allowed=f"at most {MAX_REFERENCES}")
    return found


def replaced(given: Any, found: Callable[[Reference], Any]) -> Any:
    """Return the input with every reference replaced by what is found for it."""
    if is_reference(given):
        return found(_read(given, None, "input"))
    if isinstance(given, Mapping):
        return {name: replaced(value, found) for name, value in given.items()}
    if isinstance(given, list | tuple):
        return [replaced(value, found) for value in given]
    return given


def files_kept(given: Any, keep: Callable[[Path | bytes], str]) -> Any:
    """Return the input with every file in it, a `Path` or bytes, replaced by a reference to where `keep` put it."""
    if isinstance(given, Path | bytes | bytearray):
        content = bytes(given) if isinstance(given, bytearray) else given
        name = {"name": given.name} if isinstance(given, Path) else {}
        return {FILE: {"key": keep(content), **name}}
    if isinstance(given, Mapping):
        return {name: files_kept(value, keep) for name, value in given.items()}
    if isinstance(given, list | tuple):
        return [files_kept(value, keep) for value in given]
    return given


def _inside_one(path: Steps) -> bool:
    """Say whether a place lies within a reference, where it has another meaning."""
    return FROM in path or FILE in path


def _read(value: Mapping[str, Any], tenant: str | None, field: str) -> Reference:
    if len(value) != 1:
        raise InvalidInput(f"{field} is a reference and more", field=field, allowed=f"{FROM} or {FILE} alone")
    return _output(value[FROM], field) if FROM in value else _file(value[FILE], tenant, field)


def _output(named: Any, field: str) -> OutputOf:
    asked: Mapping[str, Any] = {"job": named} if isinstance(named, str) else named
    if not isinstance(asked, Mapping) or set(asked) - {"job", "output"}:
        raise InvalidInput(f"{field} names no job", field=field, allowed='{"$from": {"job": ID, "output": 0}}')
    output = asked.get("output", 0)
    counted = isinstance(output, int) and not isinstance(output, bool) and 0 <= output < 1000
    if not counted and output != "all":
        raise InvalidInput(f"{field}: {output!r} is no output", field=field, given=output, allowed='0, 1, … or "all"')
    return OutputOf(_job(asked.get("job"), field), None if output == "all" else output)


def _job(value: Any, field: str) -> str:
    try:
        return str(uuid.UUID(value))
    except (ValueError, AttributeError, TypeError):
        raise InvalidInput(f"{field}: {value!r} is no job", field=field, given=value, allowed="a job's id") from None


def _file(named: Any, tenant: str | None, field: str) -> KeptFile:
    key = named.get("key") if isinstance(named, Mapping) else None
    name = named.get("name") if isinstance(named, Mapping) else None
    foreign = tenant is not None and not _is_input_of(tenant, str(key))
    if not isinstance(key, str) or foreign or not isinstance(name, str | None) or set(named) - {"key", "name"}:
        raise InvalidInput(
            f"{field} names no file of yours", field=field, given=key, allowed='{"$file": {"key": KEY}} of an upload'
        )
    return KeptFile(key, name)


def _is_input_of(tenant: str, key: str) -> bool:
    """Say whether a key lies among a tenant's input files; `..` in it would lead to another's."""
    try:
        return checked_key(key).startswith(f"{tenant}/inputs/")
    except ValueError:
        return False
