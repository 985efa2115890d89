"""Scenarios: what the simulator does out of the ordinary when a prompt asks for it with `[[name]]` or `[[name=value]]`.

The fields of `Scenario` are the one table: name, value, meaning. The parser, the help text and the start page are made
from it. A marker nobody knows is an error, never ignored: a misspelt scenario would let a test pass for nothing. With
`next:` in front it is for the follow-ups of this task. No clock, no sockets, no tasks here.
"""

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from itertools import groupby
from typing import Any, NamedTuple


class UnknownScenario(ValueError):
    """A marker in the prompt has a name or a value the simulator does not know."""


class Outage(NamedTuple):
    """An HTTP error answered to the first so many queries."""

    status: int
    times: int


def _flag(text: str) -> bool:
    if text:
        raise ValueError("it takes no value")
    return True


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 10**8:
        raise ValueError("not a sensible number of seconds")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 0 < value <= 10**9:
        raise ValueError("not a positive whole number")
    return value


def _few(text: str) -> int:
    value = _count(text)
    if value > 100:
        raise ValueError("more than 100")
    return value


def _http_status(text: str) -> int:
    value = int(text)
    if not 400 <= value <= 599:
        raise ValueError("not an HTTP status from 400 to 599")
    return value


def _outage(text: str) -> Outage:
    status, _, times = text.partition("*")
    return Outage(_http_status(status), _count(times or "3"))


def _word(text: str) -> str:
    if not re.fullmatch(r"[\w.-]+", text):
        raise ValueError("not a single word")
    return text


def _marker(part: str, value: str, read: Callable[[str], object], meaning: str) -> Any:
    absent = False if read is _flag else None
    return field(default=absent, metadata={"part": part, "value": value, "read": read, "meaning": meaning})


CREATE, RECORD, RESULT, CALLBACK = "The create call", "The record", "The result files", "The callback"
CHAT = "The chat answer (it takes those of the create call, too)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything one prompt asked for; the defaults are a Kie on a good day."""

    refuse: int | None = _marker(CREATE, "CODE", _count, "answer this body code; nothing made, nothing charged")
    http: int | None = _marker(CREATE, "STATUS", _http_status, "answer this HTTP status as an HTML page; nothing made")
    http_after: int | None = _marker(CREATE, "STATUS", _http_status, "make the task, then answer an HTML error page")
    slow: float | None = _marker(CREATE, "SECONDS", _seconds, "make the task, answer only after so long")
    hang: bool = _marker(CREATE, "", _flag, "make the task, never answer until the client hangs up")
    reset: bool = _marker(CREATE, "", _flag, "make the task, reset the connection without an answer")
    cut_header: bool = _marker(CREATE, "", _flag, "make the task, close in the middle of the answer's headers")
    cut_body: bool = _marker(CREATE, "", _flag, "make the task, close in the middle of the answer's body")
    no_task_id: bool = _marker(CREATE, "", _flag, "make the task, answer 200 without a taskId")

    duration: float | None = _marker(RECORD, "SECONDS", _seconds, "how long the generation takes")
    fail: str | None = _marker(RECORD, "CODE", _word, "fail with this failCode (or fail=moderation) and refund")
    null_record: float | None = _marker(RECORD, "SECONDS", _seconds, "say 422 recordInfo is null for so long")
    poll_429: int | None = _marker(RECORD, "N", _count, "answer body code 429 to the first N queries")
    poll_http: Outage | None = _marker(  # noqa: RUF009  it is a dataclass field
        RECORD, "STATUS*N", _outage, "answer this HTTP status with an HTML page to the first N queries (3)"
    )
    odd_state: str | None = _marker(RECORD, "WORD", _word, "report this state between waiting and success")
    regress: bool = _marker(RECORD, "", _flag, "report success once, then waiting once, then success")
    ends: str | None = _marker(RECORD, "WORD", _word, "end with this status word or flag: 4, CALLBACK_EXCEPTION, ...")

    outputs: int | None = _marker(RESULT, "N", _few, "make N result files")
    empty_result: bool = _marker(RESULT, "", _flag, "leave resultJson empty the first 2 times success is reported")
    result_object: bool = _marker(RESULT, "", _flag, 'give {"resultObject": {...}} and no files')
    result_songs: bool = _marker(RESULT, "", _flag, 'give {"data": [song, song]} with audio_url and image_url')
    first_last_frame: bool = _marker(RESULT, "", _flag, "add firstFrameUrl and lastFrameUrl to resultUrls")
    expired_link: bool = _marker(RESULT, "", _flag, "answer 403 until download-url was asked for a fresh link")
    dead_link: bool = _marker(RESULT, "", _flag, "answer 404, always")
    truncate: bool = _marker(RESULT, "", _flag, "promise the whole Content-Length, close after half of it")
    html_result: bool = _marker(RESULT, "", _flag, "answer 200 with an HTML page instead of the file")
    drip: int | None = _marker(RESULT, "BYTES_PER_S", _count, "send the file this slowly")
    big: int | None = _marker(RESULT, "MIB", _count, "send a valid file of at least this many MiB")

    no_callback: bool = _marker(CALLBACK, "", _flag, "never call callBackUrl")
    dup_callback: int | None = _marker(CALLBACK, "N", _few, "call callBackUrl N times")
    late_callback: float | None = _marker(CALLBACK, "SECONDS", _seconds, "call callBackUrl so long after the end")

    stream_error: int | None = _marker(CHAT, "CODE", _count, "break off in the middle with an error envelope")


PLAIN = Scenario()
_FIELDS = {entry.name.replace("_", "-"): entry for entry in fields(Scenario)}
_MARKER = re.compile(r"\[\[\s*(next:)?([a-z0-9-]+)\s*(?:=\s*([^\[\]]*?))?\s*\]\]")


def parse_scenario(text: str, *, follow_up: bool = False) -> Scenario:
    """The scenario `text` asks for; raises `UnknownScenario` with a sentence that says what to write instead.

    With `follow_up` it is what the text asks of the follow-ups, in markers such as `[[next:fail=500]]`.
    """
    if "[[" not in text:
        return PLAIN
    asked = {True: dict[str, Any](), False: dict[str, Any]()}
    for is_next, name, value in _MARKER.findall(text):
        asked[bool(is_next)][name.replace("-", "_")] = _value(name, value)
    return Scenario(**asked[follow_up]) if asked[follow_up] else PLAIN


def _value(name: str, value: str) -> object:
    entry = _FIELDS.get(name)
    if entry is None:
        near = get_close_matches(name, _FIELDS, n=1)
        hint = f"; did you mean [[{near[0]}]]?" if near else ""
        raise UnknownScenario(f"simulator: there is no scenario [[{name}]]{hint}")
    try:
        return entry.metadata["read"](value)
    except ValueError as error:
        msg = f"simulator: [[{name}={value}]] is wrong, write {_spelling(name, entry)} ({error})"
        raise UnknownScenario(msg) from None


def scenario_names() -> tuple[str, ...]:
    """Every marker's name, in the order of the help text."""
    return tuple(_FIELDS)


def scenario_help() -> str:
    """The table of all markers as plain text, for `--help`."""
    lines = [
        "Scenarios: write markers into the prompt, as many as you like: [[duration=0.5]] [[fail=500]].",
        "A call without a prompt takes them from any text of its body. A follow-up (extend, WAV, stems, 4K, ...) that",
        "has none takes those of its parent's prompt that begin with next: [[next:fail=500]].",
    ]
    for part, entries in groupby(_FIELDS.items(), lambda item: item[1].metadata["part"]):
        lines += ["", f"{part}:"]
        lines += [f"  {_spelling(name, entry):<24} {entry.metadata['meaning']}" for name, entry in entries]
    return "\n".join(lines)


def scenario_rows() -> str:
    """The same table as rows of HTML, for the start page."""
    return "\n".join(
        f"<tr><td><code>{_spelling(name, entry)}</code></td><td>{html.escape(entry.metadata['meaning'])}</td></tr>"
        for name, entry in _FIELDS.items()
    )


def _spelling(name: str, entry: "Field[Any]") -> str:
    metadata: Mapping[str, str] = entry.metadata
    return f"[[{name}={metadata['value']}]]" if metadata["value"] else f"[[{name}]]"
