"""Anthropic's messages: named events, a content block begun, filled and ended. `credits_consumed` was seen on the wire.

Source: docs.kie.ai/market/claude/claude-sonnet-4-5.
"""

from typing import Any

from kiejobs.simulator.chat.reply import Reply, event, needs_list, texts_in
from kiejobs.simulator.fields import Body


class Claude:
    """`messages` in, `content` out."""

    def texts(self, body: Body) -> str:
        """The system text and all messages."""
        return "\n".join(filter(None, (texts_in(body.get("system")), texts_in(body.get("messages")))))

    def problem(self, body: Body) -> str:
        """The model is in the body here."""
        return needs_list(body, "messages") or ("" if body.get("model") else "model is required")

    def whole(self, reply: Reply) -> dict[str, Any]:
        """One block of text."""
        usage = {"input_tokens": reply.asked_tokens, "output_tokens": reply.said_tokens}
        content = [{"type": "text", "text": reply.text}]
        return _message(reply, content, "end_turn", usage) | {"credits_consumed": reply.credits}

    def events(self, reply: Reply) -> list[bytes]:
        """The message begun, its block piece by piece, and the end of both."""
        begun = _message(reply, [], None, {"input_tokens": reply.asked_tokens, "output_tokens": 0})
        stop = {"stop_reason": "end_turn", "stop_sequence": None}
        usage = {"output_tokens": reply.said_tokens}
        return [
            _event("message_start", message=begun),
            _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            *(_event("content_block_delta", index=0, delta={"type": "text_delta", "text": p}) for p in reply.pieces),
            _event("content_block_stop", index=0),
            _event("message_delta", delta=stop, usage=usage, credits_consumed=reply.credits),
            _event("message_stop"),
        ]


def _event(name: str, **data: object) -> bytes:
    return event({"type": name, **data}, name)


def _message(reply: Reply, content: list[Any], reason: str | None, usage: dict[str, int]) -> dict[str, Any]:
    return {
        "id": f"msg_{reply.id}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": usage,
    }
