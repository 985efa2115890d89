"""A stored result: a redirect to a signed link where readers can follow one, else its bytes.

What comes from Kie is media and is never executed: its type is the one that was sniffed when it was stored, browsers may
not guess another, what is no image, video or audio is a download, and a sandbox is around the rest.
"""

import re
from pathlib import PurePosixPath

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.concurrency import iterate_in_threadpool
from starlette.exceptions import HTTPException

from kiejobs.errors import JobNotFound
from kiejobs.gateway.callers import Reader
from kiejobs.gateway.schemas import answers
from kiejobs.gateway.services import Services, Uses
from kiejobs.jobs import Output, OutputState
from kiejobs.storage.addresses import for_strangers

router = APIRouter(prefix="/api", tags=["generations"])

LINK_LIVES_S = 3600.0
_SHOWN = ("image/", "video/", "audio/")
_NEVER_SHOWN = ("image/svg+xml",)
_PATH = "/generations/{generation_id}/outputs/{index}"
_RESPONSES = answers(
    {
        200: {"description": "The file.", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "The part of the file that the header Range asked for."},
        302: {"description": "Where the file is for the next hour."},
        304: {"description": "The file that the header If-None-Match names."},
    },
    404,
    416,
    422,
)


@router.get(_PATH, summary="A stored result", response_class=Response, responses=_RESPONSES)
@router.head(_PATH, include_in_schema=False)
def output(generation_id: str, index: int, jobs: Reader, request: Request, services: Uses) -> Response:
    """Give a result's bytes, or redirect to them for an hour. 404 until it is stored."""
    job = jobs.get(generation_id)
    found = next((one for one in job.outputs if one.index == index), None)
    if found is None or found.state is not OutputState.STORED or found.key is None:
        raise JobNotFound(
            f"job {job.id} has no stored output {index}", remedy="`outputs` of the generation lists what it has."
        )
    link = for_strangers(services.store.link(found.key, LINK_LIVES_S))
    if link is not None:
        return RedirectResponse(link, 302, {"Cache-Control": "no-store"})
    headers = _headers(found, job.id)
    if found.sha256 and _matches(request.headers.get("if-none-match"), found.sha256):
        return Response(status_code=304, headers=headers)
    return _bytes(services, found, headers, request)


def _bytes(services: Services, found: Output, headers: dict[str, str], request: Request) -> Response:
    key, media_type = found.key or "", found.media_type or "application/octet-stream"
    path = services.store.path(key)
    if path is None:
        return _from_bucket(services, key, headers, media_type, request)
    if not path.is_file():
        services.store.read(key).close()  # says that it is not there
    _ranges(request, path.stat().st_size)
    return FileResponse(path, headers=headers, media_type=media_type)  # knows ranges


def _from_bucket(
    services: Services, key: str, headers: dict[str, str], media_type: str, request: Request
) -> StreamingResponse | Response:
    """Serve an object whose bucket no reader can reach; of several ranges the whole."""
    whole = services.store.read(key)
    size_bytes = whole.size_bytes
    headers |= {"Accept-Ranges": "bytes", "Content-Length": str(size_bytes)}
    if request.method == "HEAD":
        return Response(headers=headers, media_type=media_type)
    ranges = _ranges(request, size_bytes)
    if len(ranges) != 1 or request.headers.get("if-range", headers["ETag"]) != headers["ETag"]:
        return StreamingResponse(iterate_in_threadpool(whole), headers=headers, media_type=media_type)
    ((first, end),) = ranges
    part = services.store.part(whole, first, end)
    headers |= {"Content-Range": f"bytes {first}-{end - 1}/{size_bytes}", "Content-Length": str(len(part))}
    return StreamingResponse(iterate_in_threadpool(part), 206, headers, media_type)


_RANGE = re.compile(r"(\d{1,15})-(\d{0,15})|-(\d{1,15})")


def _ranges(request: Request, size_bytes: int) -> list[tuple[int, int]]:
    """Read which bytes are asked for, as (first, end); HTTPException 416 for some that the file does not have.

    A `Range` that is none is taken out of the request, as RFC 9110 says.
    """
    unit, _, asked = request.headers.get("range", "").partition("=")
    found = [_RANGE.fullmatch(one.strip()) for one in asked.split(",")]
    if unit != "bytes" or any(one is None or (one[1] and one[2] and int(one[2]) < int(one[1])) for one in found):
        request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]
        return []
    if any(one and (int(one[1]) >= size_bytes if one[1] else int(one[3]) == 0) for one in found):
        raise HTTPException(416, f"the file has {size_bytes} bytes", {"Content-Range": f"bytes */{size_bytes}"})
    return [_bounds(one, size_bytes) for one in found if one]


def _bounds(one: re.Match[str], size_bytes: int) -> tuple[int, int]:
    if not one[1]:
        return max(size_bytes - int(one[3]), 0), size_bytes
    return int(one[1]), min(int(one[2]) + 1, size_bytes) if one[2] else size_bytes


def _headers(output: Output, job_id: str) -> dict[str, str]:
    media_type = output.media_type or ""
    shown = media_type.startswith(_SHOWN) and media_type not in _NEVER_SHOWN
    extension = PurePosixPath(output.key or "").suffix
    return {
        "ETag": f'"{output.sha256}"',
        "Content-Disposition": f'{"inline" if shown else "attachment"}; filename="{job_id}-{output.index}{extension}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "private, no-cache",  # asked for by ETag: what is bought again has the same address
    }


def _matches(header: str | None, sha256: str) -> bool:
    named = [one.strip().removeprefix("W/").strip('"') for one in (header or "").split(",")]
    return sha256 in named or "*" in named
