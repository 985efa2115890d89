"""Small readings of wire values that every family needs: ids, texts, credits, progress, moments, a failure's words.

Pure and lenient: a missing or oddly typed value reads as "not there", never as an error. Status words are no business of
this module: the same word means different things in different families, so each has its own table.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any

from kiejobs.answers import Broken, NotVisible, Result
from kiejobs.errors import Reason
from kiejobs.kie.adoption import Echo
from kiejobs.kie.callbacks import without_tokens
from kiejobs.kie.envelope import Envelope, as_int, as_json
from kiejobs.writable import writable_credits

CONTENT_WORDS = (
    *("policy", "policies", "moderation", "moderator", "sensitive", "nsfw", "safety", "prohibited", "inappropriate"),
    "content filter",
)
"""Words in a failure's text that say that the prompt or the picture is at fault. Observed; Kie documents none."""

FAILED_CODES = frozenset({408, 501, 531})
"""Envelope codes that end a task although its record is missing: no result in time, generation failed."""

NOT_VISIBLE_CODES = frozenset({404, 422})
"""Envelope codes of a record call that say only that the task is not shown (yet)."""

TASK_ID_KEYS = ("taskId", "task_id", "recordId")

_YEAR_9000_MS = 221_845_392_000_000


def mapping(value: Any) -> Mapping[str, Any]:
    """Return an object as it is, and anything else as an empty one."""
    return value if isinstance(value, Mapping) else {}


def task_id(data: Any, keys: tuple[str, ...] = TASK_ID_KEYS) -> str | None:
    """Find a task's id, an opaque text, in the answer to a create call."""
    for key in keys:
        value = mapping(data).get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None


def word(value: Any) -> str:
    """Read a status word or flag as text: 1, 1.0 and "1" are one flag; "" where there is none."""
    number = as_int(value)
    if number is not None:
        return str(number)
    return value[:100] if isinstance(value, str) else ""


def texts(value: Any) -> list[str]:
    """List the texts of a text or of a list, without the empty ones."""
    values = value if isinstance(value, list) else [value]
    return [text.strip() for text in values if isinstance(text, str) and text.strip()]


def credits(value: Any) -> Decimal | None:
    """Read credits, a number or a text of one; None while unknown, which is not zero."""
    if value is None or isinstance(value, bool):
        return None
    try:
        return writable_credits(Decimal(str(value)))
    except InvalidOperation:
        return None


def share(value: Any, whole: float) -> float | None:
    """Read progress as 0 … 1 of `whole`; None where there is none."""
    if isinstance(value, bool):
        return None
    try:
        part = float(value) / whole
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(part, 0.0), 1.0) if isfinite(part) else None


def moment(value: Any) -> datetime | None:
    """Read a time in milliseconds since 1970, or as text with its zone. Text without a zone says nothing sure."""
    milliseconds = as_int(value)
    if milliseconds is None and isinstance(value, str):
        return _zoned(value)
    if not milliseconds or not 0 < milliseconds < _YEAR_9000_MS:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _zoned(text: str) -> datetime | None:
    try:
        read = datetime.fromisoformat(text.strip())
        return read.astimezone(UTC) if read.tzinfo else None
    except (ValueError, OverflowError):
        return None


def files(found: Any, keys: tuple[tuple[str, str], ...]) -> tuple[Result, ...]:
    """List the URLs under these keys, which are pairs of key and role: in the keys' order, every URL once.

    The whole or a list in it may come as JSON text, and a single URL without its list.
    """
    places = mapping(as_json(found))
    listed = [Result(role, url=url) for key, role in keys for url in texts(as_json(places.get(key)))]
    return once(listed)


def once(listed: list[Result]) -> tuple[Result, ...]:
    """Keep the first of each URL and document: the same file is not copied twice."""
    return tuple({result.url or result.document: result for result in reversed(listed)}.values())[::-1]


def param_echo(record: Any, model: str | None = None) -> Echo:
    """Read `paramJson`, the JSON text of the parameters of a dedicated API's create call, and `createTime`."""
    record = mapping(record)
    given = as_json(record.get("paramJson"))
    callback_url = mapping(given).get("callBackUrl")
    return Echo(
        model=model,
        input=given if isinstance(given, dict) else None,
        callback_url=callback_url if isinstance(callback_url, str) else None,
        created_at=moment(record.get("createTime")),
    )


def unseen(answer: Envelope) -> Broken | NotVisible:
    """Say what an answer without a record means."""
    if answer.code in FAILED_CODES:
        return broken(answer.code, answer.message)
    return NotVisible(answer.message or f"code {answer.effective_code}")


def broken(code: Any, message: Any, spent: Decimal | None = None) -> Broken:
    """Make a failure of Kie's code and words; the words decide whether the content was at fault."""
    said = without_tokens(str(message or "Kie gave no reason"))[:500]
    content = any(word in said.lower() for word in CONTENT_WORDS)
    return Broken(str(code or "")[:100], said, Reason.CONTENT if content else Reason.GENERATION, spent)
