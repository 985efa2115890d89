"""Streams of events, read as a whole: the JSON of each event, whether the end was marked, and whether something was cut.

Pure. Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream. A line of bare
JSON counts as an event, too: a gateway that gives up in the middle says so in its own format.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kiejobs.writable import writable

END = "[DONE]"

Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stream:
    """What a body had in it. `cut`: an event's JSON did not come to its end."""

    payloads: tuple[Payload, ...]
    ended: bool = False
    cut: bool = False


def stream(text: str) -> Stream:
    """Read a body of events."""
    return _stream(_data(text))


def listed(payloads: list[Any]) -> Stream:
    """Take a JSON array for a stream of its items: so Gemini streams where nobody asked for events."""
    return Stream(tuple(one for one in payloads if isinstance(one, dict)))


def _stream(data: Iterable[str]) -> Stream:
    payloads, ended, cut = [], False, False
    for text in data:
        if text.strip() == END:
            ended = True
            continue
        try:
            payload = writable(json.loads(text))
        except (ValueError, RecursionError):
            cut = True
            continue
        if isinstance(payload, dict):
            payloads.append(payload)
    return Stream(tuple(payloads), ended, cut)


def _data(text: str) -> Iterator[str]:
    """Give the data of each event; an event's name is repeated in its JSON wherever it matters."""
    lines: list[str] = []
    for line in text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        field, colon, value = line.partition(":")
        if line.startswith("{"):
            yield line
        elif colon and field == "data":
            lines.append(value.removeprefix(" "))
        elif not line and lines:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)
