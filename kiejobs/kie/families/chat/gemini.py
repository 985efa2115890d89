"""Gemini's own dialect: `candidates` whose content has `parts`; a stream sends them a few at a time.

Source: the pages under https://docs.kie.ai/market/gemini and https://ai.google.dev/api/generate-content. Pure.
"""

from collections.abc import Mapping
from typing import Any

from kiejobs.kie.families.chat.events import Payload, Stream
from kiejobs.kie.reading import mapping


def speaks(payload: Mapping[str, Any]) -> bool:
    """Say whether this is an answer, or a piece of one, in this dialect."""
    return bool(_candidates(payload))


def text(whole: Mapping[str, Any]) -> str:
    """Return the words of the first candidate, without its thoughts."""
    first = mapping(next(iter(_candidates(whole)), None))
    said = [part["text"] for part in _parts(first) if isinstance(part.get("text"), str) and not part.get("thought")]
    return "".join(said)


def gathered(stream: Stream) -> tuple[Payload, bool]:
    """Put a stream's pieces together; it has ended where every candidate has a `finishReason`."""
    whole: Payload = {}
    candidates: dict[Any, Payload] = {}
    for payload in stream.payloads:
        whole |= {name: value for name, value in payload.items() if name != "candidates" and value is not None}
        for piece in _candidates(payload):
            index = piece.get("index") if isinstance(piece.get("index"), int) else 0
            known = candidates.setdefault(index, {"index": index, "content": {"role": "model", "parts": []}})
            known |= {name: value for name, value in piece.items() if name != "content" and value is not None}
            known["content"]["parts"] += _parts(piece)
    ended = bool(candidates) and all(one.get("finishReason") for one in candidates.values())
    return whole | {"candidates": [candidates[index] for index in sorted(candidates)]}, ended


def _candidates(payload: Mapping[str, Any]) -> list[Payload]:
    listed = payload.get("candidates")
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def _parts(candidate: Mapping[str, Any]) -> list[Payload]:
    listed = mapping(candidate.get("content")).get("parts")
    return [part for part in listed if isinstance(part, dict)] if isinstance(listed, list) else []
