"""OpenAI's responses, as the GPT, Codex and Grok models answer: named events, the last one with the whole response.

Source: docs.kie.ai/market/chat/gpt-5-4, docs.kie.ai/market/codex/gpt-codex, docs.kie.ai/market/grok/grok-4-3.
"""

from typing import Any

from kiejobs.simulator.chat.reply import Reply, event, texts_in
from kiejobs.simulator.fields import Body


class Responses:
    """`input` in, `output` out."""

    def texts(self, body: Body) -> str:
        """The instructions and the input, which is a text or a list of messages."""
        return "\n".join(filter(None, (texts_in(body.get("instructions")), texts_in(body.get("input")))))

    def problem(self, body: Body) -> str:
        """Model and input there must be."""
        missing = [name for name in ("model", "input") if not body.get(name)]
        return f"{missing[0]} is required" if missing else ""

    def whole(self, reply: Reply) -> dict[str, Any]:
        """One message with one text."""
        return _response(reply, "completed", [_item(reply, "completed", [_part(reply.text)])], _usage(reply))

    def events(self, reply: Reply) -> list[bytes]:
        """The response begun, its text piece by piece, and the whole of it."""
        begun = _response(reply, "in_progress", [], None)
        where = {"item_id": f"msg_{reply.id}", "output_index": 0, "content_index": 0}
        text, item = reply.text, _item(reply, "completed", [_part(reply.text)])
        named: list[tuple[str, dict[str, Any]]] = [
            ("response.created", {"response": begun}),
            ("response.in_progress", {"response": begun}),
            ("response.output_item.added", {"output_index": 0, "item": _item(reply, "in_progress", [])}),
            ("response.content_part.added", {**where, "part": _part("")}),
            *(("response.output_text.delta", {**where, "delta": piece}) for piece in reply.pieces),
            ("response.output_text.done", {**where, "text": text}),
            ("response.content_part.done", {**where, "part": _part(text)}),
            ("response.output_item.done", {"output_index": 0, "item": item}),
            ("response.completed", {"response": self.whole(reply)}),
        ]
        return [event({"type": name, "sequence_number": n, **data}, name) for n, (name, data) in enumerate(named)]


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _item(reply: Reply, status: str, content: list[Any]) -> dict[str, Any]:
    return {"type": "message", "id": f"msg_{reply.id}", "status": status, "role": "assistant", "content": content}


def _usage(reply: Reply) -> dict[str, int]:
    return {
        "input_tokens": reply.asked_tokens,
        "output_tokens": reply.said_tokens,
        "total_tokens": reply.all_tokens,
    }


def _response(reply: Reply, status: str, output: list[Any], usage: dict[str, int] | None) -> dict[str, Any]:
    head = {"id": f"resp_{reply.id}", "object": "response", "created_at": reply.created_s, "status": status}
    tail = {"credits_consumed": reply.credits} if usage else {}
    return head | {"model": reply.model, "output": output, "usage": usage, "error": None} | tail
