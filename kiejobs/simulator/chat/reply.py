"""What a chat model says, before it is put into a dialect; and how an event is written."""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from kiejobs.simulator.fields import Body
from kiejobs.simulator.orders import to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer, cut into the pieces a stream sends."""

    model: str
    pieces: tuple[str, ...]
    asked_tokens: int
    credits: float
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created_s: int = field(default_factory=lambda: int(time.time()))

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)

    @property
    def said_tokens(self) -> int:
        """How long it is."""
        return len(self.pieces)

    @property
    def all_tokens(self) -> int:
        """Question and answer."""
        return self.asked_tokens + self.said_tokens


class Dialect(Protocol):
    """How one vendor's API asks and answers."""

    def texts(self, body: Body) -> str:
        """Every text the body asks with."""

    def problem(self, body: Body) -> str:
        """What is wrong with a body; empty if nothing is."""

    def whole(self, reply: Reply) -> dict[str, Any]:
        """The answer in one piece."""

    def events(self, reply: Reply) -> list[bytes]:
        """The answer as a stream."""


def event(data: object, name: str = "") -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data if isinstance(data, str) else to_json(data)}\n\n".encode()


def texts_in(value: object) -> str:
    """The texts in a message's content: a text, or a list of parts of which some have one."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return texts_in(value.get("text", value.get("content", value.get("parts"))))
    if isinstance(value, list):
        return "\n".join(filter(None, map(texts_in, value)))
    return ""


def needs_list(body: Body, name: str) -> str:
    """Whether the list of messages is there."""
    return "" if isinstance(body.get(name), list) and body[name] else f"{name} is required"
