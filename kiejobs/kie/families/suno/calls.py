"""What Suno's create calls have in common: a callback address that must be there, and codes with meanings of their own.

Source: https://docs.kie.ai/suno-api/generate-music and the pages beside it. Pure.
"""

from typing import Any

from kiejobs.answers import Accepted, Broken, Busy, NotVisible, Outcome, Refused, Scope
from kiejobs.errors import Reason
from kiejobs.kie.adoption import Echo
from kiejobs.kie.envelope import Envelope, as_json, refusal
from kiejobs.kie.family import Call, flat, given
from kiejobs.kie.reading import NOT_VISIBLE_CODES, broken, mapping, moment, task_id

NOBODY = "https://callback.invalid/"
"""Sent where callbacks are off: most creates are refused without an address ("Please enter callBackUrl."), and this one
belongs to nobody for ever. Source: RFC 2606, section 2."""

FAILED_CODES = frozenset({501, 531})
"""Envelope codes that end a task without a record: generation failed, and failed with the credits returned. Elsewhere
408 is one, too; here it also means too many calls."""

READABLE = NOT_VISIBLE_CODES | FAILED_CODES

_POOR = ("credit", "insufficient", "balance", "积分")
_KNOWN_WORK = ("copyright", "existing work", "known work", "matches", "protected")


def create_call(path: str, request: dict[str, Any], callback_url: str | None, *, needs_callback: bool = True) -> Call:
    """POST the input as it is, with `callBackUrl`: ours, or nobody's where one must be there; never a stranger's."""
    return flat(path, without_callback(request), callback_url or (NOBODY if needs_callback else None))


def created(answer: Envelope) -> Outcome:
    """`data.taskId`, or why there is none. A 409 may name the earlier task, which is not what this call made."""
    made = task_id(answer.data) if answer.effective_code != 409 else None
    return Accepted(made) if made else refused(answer)


def refused(answer: Envelope) -> Outcome:
    """Classify an answer without a task by its code and, where Suno's pages give one code two meanings, by its text.

    405 is the rate limit of the lyrics page; 413 a prompt that is too long, or audio of a known work; 429 the rate
    limit, but on several pages a lack of credits.
    """
    code, said = answer.effective_code, answer.message.lower()
    match code:
        case 409:
            return _there_already(answer)
        case 405 if answer.code is not None:  # as an HTTP status alone it is a gateway's, about the method
            return Busy(str(code), answer.message)
        case 413 if any(word in said for word in _KNOWN_WORK):
            return Refused(str(code), answer.message, Scope.JOB, Reason.CONTENT)
        case 429 if any(word in said for word in _POOR):
            return Refused(str(code), answer.message, Scope.ACCOUNT, Reason.CREDITS, try_another=True)
        case _:
            return refusal(answer)


def _there_already(answer: Envelope) -> Refused:
    earlier = task_id(answer.data)
    named = f" as Kie's task {earlier}" if earlier else ""
    said = f"Kie has made this for the same audio before{named}, and makes it once: {answer.message or 'conflict'}"
    return Refused("409", said, Scope.JOB, Reason.REFUSED)


def without_callback(request: dict[str, Any]) -> dict[str, Any]:
    """Return the input as records may echo it: whatever was sent but the address."""
    return {name: value for name, value in given(request).items() if name != "callBackUrl"}


def unseen(answer: Envelope) -> Broken | NotVisible:
    """Say what an answer without a record means; code 200 with `data` null is one, too."""
    if answer.code in FAILED_CODES:
        return broken(answer.code, answer.message)
    return NotVisible("Kie shows no record of this task")


def echoed(record: Any, told: dict[str, str]) -> Echo:
    """Read `param`, JSON text of the request, and the input's fields that the record tells under names of its own."""
    record = mapping(record)
    param = as_json(record.get("param"))
    asked = dict(param) if isinstance(param, dict) else {}
    address = record.get("callbackUrl") or asked.pop("callBackUrl", None)
    asked |= {name: record[key] for name, key in told.items() if record.get(key) is not None}
    return Echo(
        model=None,
        input=asked or None,
        callback_url=address if isinstance(address, str) and address != NOBODY else None,
        created_at=moment(record.get("createTime")),
    )
