"""A file of requests, one JSON object per line with the fields of `POST /api/generations`: read and checked as a whole.

Every line is checked before anything is enqueued, and what is wrong with one is told by its number. A line without an
idempotency key gets one made of the file's name, what the line says, and how many equal lines stand before it: running
the same file again finds the jobs of the first run, wherever the lines have moved to, and buys only what is new.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kiejobs.errors import InvalidInput

if TYPE_CHECKING:
    from kiejobs.db.intake import NewJob

Check = Callable[[Mapping[str, Any]], "NewJob"]
"""Makes the job that a request asks for, without entering it; InvalidInput says what is wrong."""

_ALLOWED = "a file with one JSON object per line, or - for standard input"


@dataclass(frozen=True, slots=True)
class Line:
    """A request that can be entered, and what its sender should know of it."""

    number: int
    request: dict[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that cannot be entered, and why."""

    number: int
    error: InvalidInput


def read(source: str, *, defaults: Mapping[str, Any], check: Check) -> tuple[list[Line], list[Fault]]:
    """Read a file, or standard input for `-`; `defaults` are fields of every line that does not say otherwise."""
    texts = [(number, text) for number, text in enumerate(_lines(source), 1) if text.strip()]
    if not texts:
        raise InvalidInput(f"{source} holds no request", field="--batch", given=source, allowed=_ALLOWED)
    found = list(_checked(texts, Path(source).name, defaults, check))
    return [one for one in found if isinstance(one, Line)], [one for one in found if isinstance(one, Fault)]


def _lines(source: str) -> list[str]:
    """Cut at line feeds alone: what else Unicode takes for the end of a line may stand inside a text of JSON."""
    return _text(source).removeprefix("\ufeff").split("\n")


def _text(source: str) -> str:
    try:
        return sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "no text"
        raise InvalidInput(
            f"--batch {source} cannot be read: {why}", field="--batch", given=source, allowed=_ALLOWED
        ) from None


def _checked(
    texts: Iterable[tuple[int, str]], name: str, defaults: Mapping[str, Any], check: Check
) -> Iterator[Line | Fault]:
    equals: Counter[str] = Counter()
    keys: dict[str, tuple[int, str]] = {}
    for number, text in texts:
        try:
            request = {**defaults, **_object(text)}
            digest = _digest(request)
            if request.get("idempotencyKey") is None:
                request["idempotencyKey"] = f"batch-{_digest([name, digest, equals[digest]])[:40]}"
                equals[digest] += 1
            new = check(request)
            key, whole = str(request["idempotencyKey"]), new.request_hash()
            if keys.setdefault(key, (number, whole))[1] != whole:
                raise InvalidInput(
                    f"idempotencyKey {key!r} is also that of line {keys[key][0]}, for another request",
                    field="idempotencyKey",
                    allowed="a key of its own for each request",
                )
            yield Line(number, request, new.warnings)
        except InvalidInput as error:
            yield Fault(number, error)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"it is no JSON: {error}", field="line", allowed="one JSON object") from None
    if not isinstance(found, dict):
        raise InvalidInput("it is no JSON object", field="line", allowed="one JSON object")
    return found


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
