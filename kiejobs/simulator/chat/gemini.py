"""Google's generateContent: every event of the stream is a whole answer with a piece of the text.

Source: docs.kie.ai/market/gemini/gemini-3-flash-v1betamodels.
"""

from typing import Any

from kiejobs.simulator.chat.reply import Reply, event, needs_list, texts_in
from kiejobs.simulator.fields import Body


class Gemini:
    """`contents` in, `candidates` out."""

    def texts(self, body: Body) -> str:
        """The parts of all contents."""
        return texts_in(body.get("contents"))

    def problem(self, body: Body) -> str:
        """Contents there must be."""
        return needs_list(body, "contents")

    def whole(self, reply: Reply) -> dict[str, Any]:
        """One candidate, and the reason to stop."""
        return _answer(reply, reply.text, "STOP") | _usage(reply)

    def events(self, reply: Reply) -> list[bytes]:
        """A candidate for each piece; the last one has the reason to stop and the usage."""
        pieces = [event(_answer(reply, piece, None)) for piece in reply.pieces]
        return [*pieces, event(_answer(reply, "", "STOP") | _usage(reply))]


def _answer(reply: Reply, text: str, reason: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    if reason:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "modelVersion": reply.model, "responseId": reply.id}


def _usage(reply: Reply) -> dict[str, Any]:
    usage = {
        "promptTokenCount": reply.asked_tokens,
        "candidatesTokenCount": reply.said_tokens,
        "totalTokenCount": reply.all_tokens,
    }
    return {"usageMetadata": usage, "credits_consumed": reply.credits}
