"""What the records of the older families have in common: a status word or flag, an error, times, the request as text."""

from collections.abc import Mapping
from datetime import UTC, datetime

from kiejobs.simulator.orders import to_json
from kiejobs.simulator.tasks import FAIL, GENERATING, SUCCESS, WAITING, Look, Task

FLAGS: Mapping[str, int] = {WAITING: 0, GENERATING: 0, SUCCESS: 1, FAIL: 3}
"""The `successFlag` most of them share: running, done, failed; 2 is a task that could not be created."""

CALLBACK_CODES = frozenset({400, 401, 408, 413, 422, 451, 500, 501, 531})


def word(task: Task, look: Look, words: Mapping[str, int | str]) -> int | str:
    """The status of this look in a family's own words; a scenario may put another one at the end."""
    said = words.get(look.state, look.state)
    if look.state in (SUCCESS, FAIL) and task.scenario.ends:
        said = task.scenario.ends
    return int(said) if isinstance(said, str) and said.isdigit() else said


def error(task: Task, look: Look) -> dict[str, object]:
    """`errorCode`, a number, and `errorMessage`; null unless it failed."""
    if look.state != FAIL:
        return {"errorCode": None, "errorMessage": None}
    code, message = task.failure
    return {"errorCode": as_number(code), "errorMessage": message}


def as_number(code: str) -> int | str:
    """A failCode as the older families give it."""
    return int(code) if code.isdigit() else code


def verdict(task: Task, look: Look, msg: str) -> dict[str, object]:
    """`code` and `msg` at the top of a callback; a failure's own code where it is one that callbacks use."""
    if look.state != FAIL:
        return {"code": 200, "msg": msg}
    code, message = task.failure
    return {"code": int(code) if code.isdigit() and int(code) in CALLBACK_CODES else 501, "msg": message}


def times(task: Task, look: Look) -> dict[str, int | None]:
    """`createTime` and `completeTime` in milliseconds; null until the end is seen."""
    ended = look.state in (SUCCESS, FAIL)
    return {"createTime": task.created_at_ms, "completeTime": task.completed_at_ms if ended else None}


def as_text(at_ms: int | None) -> str | None:
    """A time as `YYYY-MM-DD HH:MM:SS`."""
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def as_iso(at_ms: int | None, precision: str = "seconds") -> str | None:
    """A time as `YYYY-MM-DDTHH:MM:SSZ`, if asked for with milliseconds."""
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def param_json(task: Task) -> str:
    """The request as JSON text."""
    url = task.order.callback_url
    return to_json(task.order.given | ({"callBackUrl": url} if url else {}))
