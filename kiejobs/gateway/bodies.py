"""Reading what a request brings, within bounds of size, depth and time, before anything is made of it."""

import asyncio
import json
import re
from typing import Annotated, Any, NoReturn

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from kiejobs.errors import TooLarge, Unreadable, WrongMediaType
from kiejobs.gateway.limits import Limits, deeper_than
from kiejobs.gateway.services import Uses

_AT_ONCE_BYTES = 16 * 1024
"""A body up to here is read by the event loop itself; a larger one on a thread, so that callbacks go on."""

_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
"""The texts in JSON; one that never ends reaches to the end, so that no body is looked at twice."""


async def read_body(request: Request, *, at_most: int, within_s: float) -> bytes:
    """Read the whole body. TooLarge, 408 where it comes too slowly, Unreadable where it is cut off."""
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for piece in request.stream():
                body += piece
                if len(body) > at_most:
                    raise TooLarge(f"the body is larger than {at_most} bytes")
    except TimeoutError:
        raise HTTPException(408, f"the body did not come within {within_s:g} s", {"Connection": "close"}) from None
    except ClientDisconnect:
        raise Unreadable("the body was cut off") from None
    return bytes(body)


async def _json_object(request: Request, services: Uses) -> dict[str, Any]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        # Also what keeps a form on some web page from being a request: it cannot have this type.
        raise WrongMediaType(f"the body is {media_type[:100] or 'of no type'}, not application/json")
    return await _parsed(request, services.limits)


async def _optional_json_object(request: Request, services: Uses) -> dict[str, Any]:
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    return await _json_object(request, services) if has_body else {}


async def _parsed(request: Request, limits: Limits) -> dict[str, Any]:
    body = await read_body(request, at_most=limits.body_bytes, within_s=limits.body_within_s)
    if len(body) <= _AT_ONCE_BYTES:
        return _read(body, limits)
    return await run_in_threadpool(_read, body, limits)


def _read(body: bytes, limits: Limits) -> dict[str, Any]:
    """Read a JSON object. What takes long is refused first: hundreds of thousands of values in a body of two megabytes."""
    outside = _STRINGS.sub(b"", body)
    if sum(outside.count(mark) for mark in (b",", b"[", b"{")) > limits.values:
        raise Unreadable(f"the body has more than {limits.values} values")
    try:
        # Decoded here, because json would take UTF-16 and halves of surrogate pairs as well.
        value = json.loads(body.decode("utf-8-sig"), parse_constant=_no_constant, object_pairs_hook=_once_each)
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text: it cannot be written
    except RecursionError:
        raise Unreadable(f"the body is nested deeper than {limits.depth}") from None
    except UnicodeError:
        raise Unreadable("the body is no text in UTF-8") from None
    except ValueError as error:
        raise Unreadable(f"the body is no JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise Unreadable("the body is no JSON object")
    if deeper_than(value, limits.depth):
        raise Unreadable(f"the body is nested deeper than {limits.depth}")
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; one that names a field twice means something else to every reader."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("an object has the same name twice")
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


JsonObject = Annotated[dict[str, Any], Depends(_json_object)]
"""A route's parameter: the JSON object in the body."""

OptionalJsonObject = Annotated[dict[str, Any], Depends(_optional_json_object)]
"""A route's parameter: the JSON object in the body, empty where there is no body."""
