"""OpenAI's chat completions, as the GPT and Gemini models answer; a stream ends with `[DONE]`.

Source: docs.kie.ai/market/chat/gpt-5-2, docs.kie.ai/market/gemini/gemini-2.5-pro.
"""

from typing import Any

from kiejobs.simulator.chat.reply import Reply, event, needs_list, texts_in
from kiejobs.simulator.fields import Body


class Completions:
    """`messages` in, `choices` out."""

    def texts(self, body: Body) -> str:
        """The content of all messages."""
        return texts_in(body.get("messages"))

    def problem(self, body: Body) -> str:
        """Messages there must be."""
        return needs_list(body, "messages")

    def whole(self, reply: Reply) -> dict[str, Any]:
        """One choice with a message."""
        message = {"role": "assistant", "content": reply.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return _frame(reply, "chat.completion", choice) | _usage(reply)

    def events(self, reply: Reply) -> list[bytes]:
        """The role, the pieces, the reason to stop with the usage, and the end."""
        role = _delta(reply, {"role": "assistant", "content": ""}, None)
        pieces = [_delta(reply, {"content": piece}, None) for piece in reply.pieces]
        last = _delta(reply, {}, "stop") | _usage(reply)
        return [event(chunk) for chunk in (role, *pieces, last)] + [event("[DONE]")]


def _frame(reply: Reply, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    head = {"id": f"chatcmpl-{reply.id}", "object": kind, "created": reply.created_s, "model": reply.model}
    return head | {"choices": [choice]}


def _delta(reply: Reply, delta: dict[str, str], reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return _frame(reply, "chat.completion.chunk", choice)


def _usage(reply: Reply) -> dict[str, Any]:
    usage = {
        "prompt_tokens": reply.asked_tokens,
        "completion_tokens": reply.said_tokens,
        "total_tokens": reply.all_tokens,
    }
    return {"usage": usage, "credits_consumed": reply.credits}
