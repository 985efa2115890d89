"""The chat calls: which dialect is spoken where, and whether an answer is a stream when the body does not say.

There is no task: the answer comes at once, in the vendor's own shape, and is charged. A refusal is Kie's envelope with
HTTP 200; `[[stream-error=500]]` puts one into the middle of a stream, `[[fail=500]]` in place of the answer.
Source: the model pages under docs.kie.ai/market/chat, gemini, claude, codex and grok.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NamedTuple

from fastapi import FastAPI, Request, Response

from kiejobs.simulator.answers import authorization, held_back, refused, spoiled
from kiejobs.simulator.chat.claude import Claude
from kiejobs.simulator.chat.completions import Completions
from kiejobs.simulator.chat.gemini import Gemini
from kiejobs.simulator.chat.reply import Dialect, Reply, event
from kiejobs.simulator.chat.responses import Responses
from kiejobs.simulator.codes import failure, refusal_text
from kiejobs.simulator.family import Family, Operation, Refusal
from kiejobs.simulator.orders import Order, to_json
from kiejobs.simulator.provider import Provider
from kiejobs.simulator.tasks import Look, Task
from kiejobs.simulator.wire import CutBody, EventStream, refusal, unless_gone

PRICE = 0.02
_MARKERS = re.compile(r"\[\[[^\[\]]*\]\]")


class Place(NamedTuple):
    """One path, and how it answers."""

    path: str
    dialect: Dialect
    streams: bool


PLACES = (
    Place("/gpt-5-2/v1/chat/completions", Completions(), streams=False),
    Place("/{model}/v1/chat/completions", Completions(), streams=True),
    Place("/gemini/v1/models/{model}:streamGenerateContent", Gemini(), streams=True),
    Place("/claude/v1/messages", Claude(), streams=True),
    Place("/codex/v1/responses", Responses(), streams=False),
    Place("/api/v1/responses", Responses(), streams=False),
    Place("/grok/v1/responses", Responses(), streams=True),
)


class Chat(Family):
    """The family as the ledger knows it; it has no tasks, so nothing is ever drawn."""

    name = "chat"

    def record(self, task: Task, look: Look) -> dict[str, object]:
        """There are no records of tasks."""
        return {}

    def callback(self, task: Task, look: Look) -> dict[str, object]:
        """There are no callbacks."""
        return {}


CHAT = Chat()


def add_chat(api: FastAPI, provider: Provider) -> None:
    """Put every place into the API."""
    for place in PLACES:
        api.post(place.path)(_endpoint(provider, place))


def _endpoint(provider: Provider, place: Place) -> Callable[[Request], Awaitable[Response]]:
    operation = Operation(
        path=place.path,
        model=place.path.split("/")[1],
        rule=place.dialect.problem,
        price=PRICE,
        texts=place.dialect.texts,
        prompt=place.dialect.texts,
    )

    async def chat(request: Request) -> Response:
        named = request.path_params.get("model")
        here = replace(operation, path=request.url.path, model=named or operation.model)
        order = provider.serve(authorization(request), CHAT, here, await request.body())
        if isinstance(order, Refusal):
            return refused(order)
        await held_back(provider, order.scenario, request)
        if order.scenario.fail:
            order.account.is_refunded(order.price)
            code, msg = failure(order.scenario.fail)
            return refusal(int(code) if code.isdigit() else 500, msg)
        reply = _reply(order, here.model if named or place.path.startswith("/gpt") else order.model)
        streams = order.given.get("stream")
        return await _say(order, place, reply, request, streams=place.streams if streams is None else bool(streams))

    return chat


def _reply(order: Order, model: str) -> Reply:
    asked = _MARKERS.sub("", order.operation.texts(order.given)).strip()
    words = f"A simulated answer to: {asked[:200]}".split(" ")
    pieces = () if order.scenario.empty_result else (*(f"{word} " for word in words[:-1]), words[-1])
    return Reply(model=model, pieces=pieces, asked_tokens=max(1, len(asked) // 4), credits=order.price)


async def _say(order: Order, place: Place, reply: Reply, request: Request, *, streams: bool) -> Response:
    """The answer, whole or as events, at once or over the duration the scenario asks for."""
    scenario = order.scenario
    if spoilt := spoiled(scenario):
        return spoilt
    if streams:
        events = place.dialect.events(reply)
        pause_s = (scenario.duration or 0.0) / len(events)
        return EventStream(_broken_off(order, events), pause_s, cut=scenario.cut_body)
    if scenario.duration:
        await unless_gone(asyncio.sleep(scenario.duration), request.receive)
    if scenario.stream_error:
        return refusal(scenario.stream_error)
    body = to_json(place.dialect.whole(reply))
    return CutBody(body.encode()) if scenario.cut_body else Response(body, media_type="application/json")


def _broken_off(order: Order, events: list[bytes]) -> list[bytes]:
    """All events; or half of them, if an error or the end of the connection comes in the middle."""
    code = order.scenario.stream_error
    half = events[: len(events) // 2]
    if code:
        return [*half, event({"code": code, "msg": refusal_text(code), "data": None})]
    return half if order.scenario.cut_body else events
