"""The dialect of chat completions: `choices` with a `message`, in streams with a `delta` that grows into one.

Source: https://docs.kie.ai/market/chat/gpt-5-2 and https://platform.openai.com/docs/api-reference/chat. Pure.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from kiejobs.kie.families.chat.events import Payload, Stream
from kiejobs.kie.reading import mapping, texts

_WHOLE_AT_ONCE = frozenset({"role", "id", "type", "name"})
"""Texts that are not sent in pieces; some send them with every piece."""


def speaks(payload: Mapping[str, Any]) -> bool:
    """Say whether this is an answer, or a piece of one, in this dialect."""
    return bool(_choices(payload))


def text(whole: Mapping[str, Any]) -> str:
    """Return the words of the first choice."""
    content = _message(whole).get("content")
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(mapping(part).get("text"), str))
    return content if isinstance(content, str) else ""


def pictures(whole: Mapping[str, Any]) -> Iterator[str]:
    """Give the addresses of pictures in the first choice; those that are inside the answer stay there."""
    message = _message(whole)
    for listed in (message.get("images"), message.get("content")):
        for part in listed if isinstance(listed, list) else []:
            for url in texts(mapping(mapping(part).get("image_url")).get("url")):
                if url.startswith(("https://", "http://")):
                    yield url


def gathered(stream: Stream) -> tuple[Payload, bool]:
    """Put a stream's pieces together; it has ended where a choice says why it stopped, or the stream its end."""
    whole: Payload = {}
    choices: dict[Any, Payload] = {}
    for payload in stream.payloads:
        whole |= {name: value for name, value in payload.items() if name != "choices" and value is not None}
        for piece in _choices(payload):
            index = piece.get("index") if isinstance(piece.get("index"), int) else 0
            choice = choices.setdefault(index, {"index": index, "message": {}, "finish_reason": None})
            _grow(choice["message"], mapping(piece.get("delta") or piece.get("message")))
            choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
    stopped = bool(choices) and all(choice["finish_reason"] for choice in choices.values())
    made = [choices[index] for index in sorted(choices)]
    return whole | {"object": "chat.completion", "choices": made}, stopped or stream.ended


def _choices(payload: Mapping[str, Any]) -> list[Payload]:
    listed = payload.get("choices")
    return [choice for choice in listed if isinstance(choice, dict)] if isinstance(listed, list) else []


def _message(whole: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(mapping(next(iter(_choices(whole)), None)).get("message"))


def _grow(whole: Payload, piece: Mapping[str, Any]) -> None:
    for name, value in piece.items():
        have = whole.get(name)
        if isinstance(value, str) and isinstance(have, str) and name not in _WHOLE_AT_ONCE:
            whole[name] = have + value
        elif isinstance(value, dict):
            whole[name] = dict(have) if isinstance(have, dict) else {}
            _grow(whole[name], value)
        elif isinstance(value, list):
            whole[name] = have if isinstance(have, list) else []
            _grow_list(whole[name], value)
        elif value is not None or name not in whole:
            whole[name] = value


def _grow_list(whole: list[Any], pieces: list[Any]) -> None:
    """Grow the item of the same `index`, such as a tool call; append what has none."""
    for piece in pieces:
        index = mapping(piece).get("index")
        same = next((one for one in whole if index is not None and mapping(one).get("index") == index), None)
        if same is None:
            whole.append(dict(piece) if isinstance(piece, dict) else piece)
        else:
            _grow(same, piece)
