"""The dialect of responses: an `output` of items; a stream ends with an event that repeats the whole response.

Source: https://docs.kie.ai/market/codex/gpt-codex and https://platform.openai.com/docs/api-reference/responses. Pure.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from kiejobs.kie.families.chat.events import Payload, Stream
from kiejobs.kie.reading import mapping

_LAST = frozenset({"response.completed", "response.incomplete"})
"""The second stopped for a reason that the response names, such as its token limit; it is an answer all the same."""


def speaks(payload: Mapping[str, Any]) -> bool:
    """Say whether this is an answer, or an event that brings content."""
    kind = str(payload.get("type"))
    if kind.startswith(("response.output_", "response.content_", "response.reasoning")):
        return True
    return bool(_items(mapping(payload.get("response"))) if kind in _LAST else _items(payload))


def text(whole: Mapping[str, Any]) -> str:
    """Return the words of all messages in the output."""
    return "".join(_words(whole))


def gathered(stream: Stream) -> tuple[Payload, bool]:
    """Take the response of the last event; without one, what has come so far."""
    last = [event for event in stream.payloads if str(event.get("type")) in _LAST]
    whole = dict(mapping(last[-1].get("response"))) if last else {}
    if not _items(whole):
        items = [event.get("item") for event in stream.payloads if event.get("type") == "response.output_item.done"]
        whole["output"] = [item for item in items if isinstance(item, dict)] or _so_far(stream)
    return whole, bool(last)


def _so_far(stream: Stream) -> list[Payload]:
    pieces = [event.get("delta") for event in stream.payloads if event.get("type") == "response.output_text.delta"]
    said = "".join(piece for piece in pieces if isinstance(piece, str))
    return [{"type": "message", "content": [{"type": "output_text", "text": said}]}] if said else []


def _items(whole: Mapping[str, Any]) -> list[Payload]:
    listed = whole.get("output")
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def _words(whole: Mapping[str, Any]) -> Iterator[str]:
    for item in _items(whole):
        parts = item.get("content") if item.get("type", "message") == "message" else None
        for part in parts if isinstance(parts, list) else []:
            said = mapping(part).get("text")
            if isinstance(said, str):
                yield said
