"""The golden files of `tests/golden`: found, read, and turned into answers and requests. See the README there."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from kiejobs.kie.envelope import Envelope, envelope
from kiejobs.kie.families import FAMILIES
from kiejobs.kie.family import Family

TOP = Path(__file__).parents[1] / "golden"
BY_NAME: dict[str, Family] = {family.name: family for family in FAMILIES}


@cache
def cases(kind: str, family: str = "*") -> list[str]:
    """The golden files of one kind, as `family/kind/name.json`."""
    return sorted(str(path.relative_to(TOP)) for path in TOP.glob(f"{family}/{kind}/*.json"))


@cache
def _text(case: str) -> str:
    return (TOP / case).read_text(encoding="utf-8")


def load(case: str) -> dict[str, Any]:
    """One file; a copy of its own each time."""
    return json.loads(_text(case))  # type: ignore[no-any-return]


def family_of(case: str) -> Family:
    """The family whose folder the file lies in."""
    return BY_NAME[case.partition("/")[0]]


def words_of(family: Family) -> dict[str, Any]:
    """The family's status words, as its pages have them."""
    return load(f"{family.name}/words.json")


def answer(body: Any, text: str | None = None) -> Envelope:
    """A body as the client reads it; `text` is one that is no JSON."""
    return envelope(200, json.dumps(body).encode() if text is None else text.encode())
