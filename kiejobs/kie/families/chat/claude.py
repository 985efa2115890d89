"""The dialect of Claude's messages: blocks of `content`; a stream opens, grows and closes each by its index.

Source: the pages under https://docs.kie.ai/market/claude and https://docs.anthropic.com/en/docs/build-with-claude/streaming.
Pure.
"""

from collections.abc import Mapping
from typing import Any

from kiejobs.kie.envelope import as_json
from kiejobs.kie.families.chat.events import Payload, Stream
from kiejobs.kie.reading import mapping

_GROWS = {"text": "text", "thinking": "thinking", "signature": "signature", "partial_json": "input"}
"""What a delta adds, and where; a tool's input comes as JSON text in pieces."""


def speaks(payload: Mapping[str, Any]) -> bool:
    """Say whether this is an answer, or a piece of one that has content."""
    if payload.get("type") in ("content_block_start", "content_block_delta"):
        return True
    return isinstance(payload.get("content"), list) and bool(payload["content"] or payload.get("stop_reason"))


def text(whole: Mapping[str, Any]) -> str:
    """Return the words of all text blocks."""
    blocks = whole.get("content")
    said = [mapping(block).get("text") for block in blocks] if isinstance(blocks, list) else []
    return "".join(one for one in said if isinstance(one, str))


def gathered(stream: Stream) -> tuple[Payload, bool]:
    """Put a stream's events together; it has ended with `message_stop`."""
    whole: Payload = {}
    blocks: dict[Any, Payload] = {}
    ended = False
    for event in stream.payloads:
        match event.get("type"):
            case "message_start":
                whole |= mapping(event.get("message"))
            case "content_block_start":
                blocks[str(event.get("index"))] = dict(mapping(event.get("content_block")))
            case "content_block_delta":
                _grow(blocks.setdefault(str(event.get("index")), {}), mapping(event.get("delta")))
            case "message_delta":
                usage = {**mapping(whole.get("usage")), **mapping(event.get("usage"))}
                whole |= {**mapping(event.get("delta")), "usage": usage}
            case "message_stop":
                ended = True
    return whole | {"content": [_closed(block) for block in blocks.values()]}, ended


def _grow(block: Payload, delta: Mapping[str, Any]) -> None:
    for name, place in _GROWS.items():
        piece = delta.get(name)
        if isinstance(piece, str):
            have = block.get(place)
            block[place] = (have if isinstance(have, str) else "") + piece


def _closed(block: Payload) -> Payload:
    return block | {"input": as_json(block["input"])} if isinstance(block.get("input"), str) else block
