"""Query parameters: read by name, an unknown one refused, and the opaque cursor of a list."""

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from kiejobs.db.deliveries import Delivery
from kiejobs.errors import InvalidInput
from kiejobs.jobs import Job

Word = TypeVar("Word", bound=StrEnum)
Place = tuple[datetime, str]
"""Where a page ends: when its last job was created, and its id."""

MOST = 200
LONGEST = 500
"""Of a text's characters."""


def only(given: Mapping[str, str], *allowed: str) -> None:
    """Refuse a parameter that the route does not know: a misspelt filter would list everything."""
    for name in given:
        if name not in allowed:
            near = get_close_matches(name[:100], allowed, n=1)
            meant = f": did you mean {near[0]!r}?" if near else ""
            raise InvalidInput(
                f"{name[:100]!r} is not known here{meant}", field=name[:100], allowed=", ".join(allowed) or "none"
            )


def word(given: Mapping[str, str], name: str, words: type[Word]) -> Word | None:
    """Read one of an enumeration's words."""
    value = given.get(name)
    if value is None:
        return None
    try:
        return words(value)
    except ValueError:
        allowed = " or ".join(words)
        raise InvalidInput(f"{name} is {value[:100]!r}", field=name, given=value, allowed=allowed) from None


def text(given: Mapping[str, str], name: str) -> str | None:
    """Read a text as long as any that is kept."""
    value = given.get(name)
    if value is not None and (not value or len(value) > LONGEST or "\0" in value):
        allowed = f"1 to {LONGEST} characters, without NUL"
        raise InvalidInput(f"{name} is {value[:100]!r}", field=name, given=value, allowed=allowed)
    return value


def number(given: Mapping[str, str], name: str, *, default: int, most: int = MOST) -> int:
    """Read a whole number from 1 to `most`."""
    value = given.get(name)
    if value is None:
        return default
    if not value.isascii() or not value.isdecimal() or len(value) > 6 or not 1 <= int(value) <= most:
        raise InvalidInput(f"{name} is {value[:100]!r}", field=name, given=value, allowed=f"1 to {most}")
    return int(value)


def moment(given: Mapping[str, str], name: str) -> datetime | None:
    """Read a time in ISO 8601; one without an offset is UTC."""
    value = given.get(name)
    if value is None:
        return None
    try:
        # In a query an unescaped plus sign reads as a blank.
        read = datetime.fromisoformat(value.replace(" ", "+") if "T" in value else value)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        allowed = "a time such as 2026-01-31T12:00:00Z"
        raise InvalidInput(f"{name} is {value[:100]!r}", field=name, given=value, allowed=allowed) from None


def cursor_of(last: Job | Delivery) -> str:
    """Write down where a page ended."""
    place = json.dumps([last.created_at.isoformat(), last.id])
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def place_of(cursor: str | None) -> Place | None:
    """Read a cursor."""
    if not cursor:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        at, job_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        read = datetime.fromisoformat(at)
        if read.tzinfo is None:
            raise ValueError("no offset")
        return read.astimezone(UTC), str(UUID(job_id))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, binascii.Error):
        raise InvalidInput(
            "the cursor is none of this list", field="cursor", given=cursor, allowed="`nextCursor` of the page before"
        ) from None
