"""Fields: what a create call's documentation says of its body, as a table, and the check that goes with it.

Kie's own words for a bad field are not recorded, so the sentences here are plain English; a client should go by the
code. Fields that no table names are let through, as Kie does.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field: its type in words, whether it must be there, and what it may be."""

    name: str
    type: str
    required: bool = False
    allowed: tuple[object, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    at_most: int | None = None

    def problem(self, value: object) -> str:
        """What is wrong with `value`; empty if nothing is."""
        if value is None or value in ("", []):
            return f"{self.name} is required" if self.required else ""
        if not isinstance(value, _TYPES[self.type]) or (isinstance(value, bool) and self.type != "flag"):
            return f"{self.name} must be a {self.type}"
        if self.allowed and value not in self.allowed:
            return f"{self.name} must be one of {', '.join(map(str, self.allowed))}"
        if isinstance(value, str | list):
            too_long = self.at_most is not None and len(value) > self.at_most
            return f"{self.name} is too long, at most {self.at_most}" if too_long else ""
        if isinstance(value, int | float) and not self.low <= value <= self.high:
            return f"{self.name} must be from {self.low} to {self.high}"
        return ""


_TYPES: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "flag": bool,
    "list": list,
    "number": (int, float),
    "text or number": (str, int),
}


def text(name: str, *allowed: str, required: bool = False, at_most: int | None = None) -> Field:
    """A text, if need be one of a few."""
    return Field(name=name, type="text", required=required, allowed=allowed, at_most=at_most)


def flag(name: str, *, required: bool = False) -> Field:
    """True or false."""
    return Field(name=name, type="flag", required=required)


def number(name: str, low: float = -math.inf, high: float = math.inf, *, required: bool = False) -> Field:
    """A number within bounds, both included."""
    return Field(name=name, type="number", required=required, low=low, high=high)


def urls(name: str, *, required: bool = False, at_most: int | None = None) -> Field:
    """A list of addresses."""
    return Field(name=name, type="list", required=required, at_most=at_most)


def one_of(name: str, *allowed: int, required: bool = False) -> Field:
    """A number out of a few; as text it is the same number."""
    both = (*allowed, *map(str, allowed))
    return Field(name=name, type="text or number", required=required, allowed=both)


def problem_of(body: Body, fields: Iterable[Field]) -> str:
    """What is wrong with the first bad field; empty if all are good."""
    return next((problem for field in fields if (problem := field.problem(body.get(field.name)))), "")
