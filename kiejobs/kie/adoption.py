"""Whether a task that somebody named is the one a submission bought.

Pure. A task id alone proves nothing: ids can be guessed, mistyped or forged, and nobody knows whether Kie lets one
account read another's record. So what the record echoes must agree with what was sent, in all that both have: the model,
every field of the input, our callback address where one is echoed, and the time. The address is the submission's own and
cannot be guessed: a record that echoes it needs no creation time.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

EARLIER = timedelta(seconds=60)
LATER = timedelta(minutes=10)
"""How far Kie's creation time may lie before and after the moment the create call began."""


@dataclass(frozen=True, slots=True)
class Echo:
    """What a task's record says of the request that made it. None where the record does not say."""

    model: str | None
    """None only in the families whose records never name a model."""
    input: dict[str, Any] | None
    callback_url: str | None
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class Sent:
    """What a submission sent, and when."""

    model: str
    input: dict[str, Any]
    callback_url: str | None
    sending_at: datetime


def mismatch(echo: Echo, sent: Sent) -> str | None:
    """Say why the task cannot be the submission's; None where everything agrees."""
    if echo.model is not None and echo.model != sent.model:
        return f"the task is of model {echo.model}, not {sent.model}"
    if echo.input is None:
        return "the task's record does not say what was asked for"
    for name, value in sent.input.items():
        if name not in echo.input:
            return f"the task was not given {name!r}"
        if not _same(value, echo.input[name]):
            return f"the task was given another {name!r}"
    if echo.callback_url is not None and echo.callback_url != (sent.callback_url or ""):
        return "the task calls back somewhere else"
    if echo.created_at is None:
        return None if echo.callback_url else "the task's record has no creation time that can be read"
    if not sent.sending_at - EARLIER <= echo.created_at <= sent.sending_at + LATER:
        return f"the task was made at {echo.created_at:%Y-%m-%d %H:%M:%S} UTC, not when this job was sent"
    return None


def _same(sent: Any, echoed: Any) -> bool:
    """Compare JSON values; 5 and 5.0 are the same, 5 and "5" are not."""
    if isinstance(sent, bool) or isinstance(echoed, bool):
        return sent is echoed
    if isinstance(sent, dict) and isinstance(echoed, dict):
        return all(name in echoed and _same(value, echoed[name]) for name, value in sent.items())
    if isinstance(sent, list | tuple) and isinstance(echoed, list):
        return len(sent) == len(echoed) and all(map(_same, sent, echoed))
    return bool(sent == echoed)
