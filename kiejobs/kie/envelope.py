"""Kie's envelope: `{code, msg, data}` inside nearly every answer, and what its codes mean.

Pure. The body's `code` is the truth where the body is an envelope; the HTTP status is 200 for most business errors and
decides only where the body is none (an HTML page, cut JSON). Source: https://docs.kie.ai and observed answers.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from kiejobs.answers import Busy, Outcome, Refused, Scope, Unknown
from kiejobs.errors import Reason
from kiejobs.kie.callbacks import without_tokens
from kiejobs.writable import writable

_MESSAGE_CHARACTERS = 500
_READ_BYTES = 1000
"""Of a body that is no envelope, to take 300 characters from: more, so that no address of ours is cut in its token."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One answer of Kie's. `code` is None where the body is no envelope; then `http_status` is all there is."""

    http_status: int
    code: int | None
    message: str
    data: Any
    parsed: bool
    body: Any = field(default=None, repr=False)
    """The whole JSON, for the families that answer without an envelope."""
    text: str = field(default="", repr=False)
    """The whole body where it is no JSON, such as a stream of events."""

    @property
    def effective_code(self) -> int:
        """The code to judge by: the body's, else the HTTP status."""
        return self.code if self.code is not None else self.http_status

    @property
    def ok(self) -> bool:
        """Whether Kie said yes: HTTP below 400 and code 200."""
        return self.http_status < 400 and self.code == 200


def envelope(http_status: int, body: bytes) -> Envelope:
    """Read an answer leniently. Never raises.

    Its message, which people and producers are shown, is without the token of an address of ours that Kie quotes.
    """
    try:
        parsed = writable(json.loads(body, parse_constant=_no_number))
    except (ValueError, RecursionError):  # includes bytes that are no UTF-8
        text = writable(body.decode("utf-8", "replace"))
        return Envelope(http_status, None, _words(body), None, parsed=False, text=text)
    if not isinstance(parsed, dict):
        return Envelope(http_status, None, _words(body), None, parsed=False, body=parsed)
    message = parsed.get("msg") or parsed.get("message") or ""  # one documented sample spells it `message`
    said = without_tokens(str(message))[:_MESSAGE_CHARACTERS]
    return Envelope(http_status, as_int(parsed.get("code")), said, parsed.get("data"), parsed=True, body=parsed)


_INTEGER = re.compile(r"-?[0-9]{1,18}")


def as_int(value: Any) -> int | None:
    """Read a number that may have come as text; None where it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    return None


def as_json(value: Any) -> Any:
    """Read JSON that may have come as text, or as text inside text; the value itself where it is neither."""
    for _ in range(3):
        if not isinstance(value, str):
            break
        try:
            value = writable(json.loads(value, parse_constant=_no_number))
        except (ValueError, RecursionError):
            break
    return value


def _no_number(_: str) -> None:
    """Read NaN and Infinity, which are no JSON, as nothing."""


def _words(body: bytes) -> str:
    text = without_tokens(writable(body[:_READ_BYTES].decode("utf-8", "replace")))
    return " ".join(text[:300].split())


REFUSALS: dict[int, tuple[Scope, Reason]] = {
    400: (Scope.JOB, Reason.REFUSED),
    401: (Scope.ACCOUNT, Reason.UNAUTHORIZED),
    402: (Scope.ACCOUNT, Reason.CREDITS),
    404: (Scope.JOB, Reason.REFUSED),
    405: (Scope.JOB, Reason.REFUSED),
    409: (Scope.JOB, Reason.REFUSED),
    413: (Scope.JOB, Reason.INVALID_INPUT),
    422: (Scope.JOB, Reason.INVALID_INPUT),
    433: (Scope.ACCOUNT, Reason.CREDITS),
    451: (Scope.JOB, Reason.INVALID_INPUT),
    455: (Scope.ACCOUNT, Reason.REFUSED),
    505: (Scope.MODEL, Reason.REFUSED),
}
"""Codes of a create call after which certainly no task exists: whom they concern, and why a job ends by them."""

THROTTLED = frozenset({429, 430})
"""Too many calls: nothing was made, nothing is queued at Kie."""


_MODEL_WORDS = ("not support", "not exist", "not publish", "not found", "unknown", "invalid")


def _about_the_model(answer: Envelope) -> bool:
    """Read the texts of a refused model: "… model is not supported", "… page does not exist or is not published"."""
    said = answer.message.lower()
    return ("model" in said or "page" in said) and any(words in said for words in _MODEL_WORDS)


def refusal(answer: Envelope) -> Outcome:
    """Classify a create call's answer that names no task: refused, busy, or unknown."""
    code = answer.effective_code
    in_front_of_kie = answer.code is None and code >= 500  # a page of a proxy: the create may have got through
    if code in THROTTLED:
        return Busy(str(code), answer.message)
    if code in REFUSALS and not in_front_of_kie:
        scope, reason = REFUSALS[code]
        another = reason is Reason.CREDITS or scope is Scope.MODEL or (code in (404, 422) and _about_the_model(answer))
        return Refused(str(code), answer.message or "no reason given", scope, reason, try_another=another)
    said = f"Kie answered {code}" + (f": {answer.message}" if answer.message else "")
    if answer.ok:
        said = "Kie said yes but named no task"
    elif code == 500:
        said += " (often a bad parameter; see Kie's log at https://kie.ai/logs)"
    evidence = {"http_status": answer.http_status, "code": answer.code, "message": answer.message}
    return Unknown(said, str(code), evidence | {"data": without_tokens(repr(answer.data))[:2000]})
