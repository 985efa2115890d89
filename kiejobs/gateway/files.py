"""Input files: a service sends the bytes once and names the file in as many inputs as it likes.

The body is the file itself, no form. It goes to a temporary file first, so that memory stays bounded and nothing is kept
of what is cut off; what it is, is read from its bytes, not from its header.
"""

import asyncio
import tempfile
from typing import BinaryIO, Self, cast

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from kiejobs.errors import InvalidInput, StorageUnavailable, TooLarge, TooManyRequests, Unreadable
from kiejobs.gateway.callers import Writer
from kiejobs.gateway.limits import Room
from kiejobs.gateway.schemas import StoredFile, answers
from kiejobs.gateway.services import Services, Uses

router = APIRouter(prefix="/api", tags=["files"])

_IN_MEMORY_BYTES = 1024 * 1024
_RETRY_AFTER_S = 5.0
_NO_ROOM = "Give the gateway's temporary folder more room, or send smaller files."
_BODY = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}, "required": True}


@router.post(
    "/files",
    summary="Upload an input file",
    status_code=201,
    responses=answers({201: StoredFile}, 400, 408, 413, 422),
    openapi_extra={"requestBody": _BODY},
)
async def upload(request: Request, jobs: Writer, services: Uses) -> JSONResponse:
    """Keep a file for inputs. Put the answer where an input wants a URL; the same file is kept once."""
    limits = services.limits
    with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as file, _Held(services.room, limits.file_bytes) as held:
        try:
            async with asyncio.timeout(limits.file_within_s):
                await _receive(request, file, held)
        except TimeoutError:
            said = f"the file did not come within {limits.file_within_s:g} s"
            raise HTTPException(408, said, {"Connection": "close"}) from None
        except OSError as error:
            raise StorageUnavailable(f"the file cannot be held here: {error.strerror}", remedy=_NO_ROOM) from None
        key = await run_in_threadpool(_keep, services, jobs.tenant, file, limits.file_bytes)
    return JSONResponse({"$file": {"key": key}}, 201)


class _Held:
    """How much of one file is here, within its own bound and that of all files on their way."""

    def __init__(self, room: Room, most_bytes: int) -> None:
        self._room, self._most_bytes = room, most_bytes
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._room.give_back(self.size_bytes)

    def add(self, size_bytes: int) -> None:
        """Count a piece; TooLarge, or TooManyRequests where others hold all the room."""
        if self.size_bytes + size_bytes > self._most_bytes:
            most = self._most_bytes
            raise TooLarge(f"the file has more than {most} bytes", remedy=f"Send at most {most} bytes.")
        if not self._room.take(size_bytes):
            raise TooManyRequests("more files are being received than fit", retry_after_s=_RETRY_AFTER_S)
        self.size_bytes += size_bytes


async def _receive(request: Request, file: "tempfile.SpooledTemporaryFile[bytes]", held: _Held) -> None:
    try:
        async for piece in request.stream():
            held.add(len(piece))
            if held.size_bytes > _IN_MEMORY_BYTES:
                await run_in_threadpool(file.write, piece)
            else:
                file.write(piece)
    except ClientDisconnect:
        raise Unreadable("the file was cut off") from None
    if not held.size_bytes:
        raise InvalidInput("the file is empty", field="file", allowed="an image, a video, audio or JSON")


def _keep(services: Services, tenant: str, file: "tempfile.SpooledTemporaryFile[bytes]", most: int) -> str:
    return services.store.put_input(tenant, cast(BinaryIO, file), max_bytes=most)
