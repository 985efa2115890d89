"""Answers to accepted calls: late, held, cut or not at all, as the scenario asks; else whole.

What the call means was decided by the provider before.
"""

import asyncio

from fastapi import Request, Response

from kiejobs.simulator.family import Refusal
from kiejobs.simulator.provider import Provider
from kiejobs.simulator.scenarios import Scenario
from kiejobs.simulator.wire import CutBody, CutHeader, Reset, Silence, envelope, gateway_page, refusal, unless_gone


def authorization(request: Request) -> str:
    """The header that carries the key."""
    return request.headers.get("authorization", "")


def refused(made: Refusal) -> Response:
    """The answer to a call that changed nothing."""
    return gateway_page(made.code) if made.page else refusal(made.code, made.msg, made.data)


def seen(data: object) -> Response:
    """The answer to a query."""
    return refused(data) if isinstance(data, Refusal) else envelope(200, "success", data)


async def held_back(provider: Provider, scenario: Scenario, request: Request) -> None:
    """Wait as long as the scenario and the barrier say, but no longer than the client does."""
    if scenario.slow:
        await unless_gone(asyncio.sleep(scenario.slow), request.receive)
    if provider.barrier.held:
        provider.barrier.waiting += 1
        try:
            await unless_gone(provider.barrier.opened.wait(), request.receive)
        finally:
            provider.barrier.waiting -= 1


def spoiled(scenario: Scenario) -> Response | None:
    """What comes instead of an answer; None if one comes."""
    if scenario.hang:
        return Silence()
    if scenario.reset:
        return Reset()
    if scenario.cut_header:
        return CutHeader()
    return gateway_page(scenario.http_after) if scenario.http_after else None


def accepted(scenario: Scenario, data: object) -> Response:
    """The answer to an accepted call, whole or as its scenario spoils it."""
    answer = envelope(200, "success", data)
    return spoiled(scenario) or (CutBody(bytes(answer.body)) if scenario.cut_body else answer)
