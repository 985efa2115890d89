"""A stored result: a redirect to a signed link where the storage makes those, else its bytes.

What comes from Kie is media and is never executed: its type is the one that was sniffed when it was stored, browsers may
not guess another, what is no image, video or audio is a download, and a sandbox is around the rest.
"""

from pathlib import PurePosixPath

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.concurrency import iterate_in_threadpool

from kiejobs.errors import JobNotFound
from kiejobs.gateway.callers import Reader
from kiejobs.gateway.schemas import answers
from kiejobs.gateway.services import Services, Uses
from kiejobs.jobs import Output, OutputState

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
    link = services.store.link(found.key, LINK_LIVES_S)
    if link is not None:
        return RedirectResponse(link, 302, {"Cache-Control": "no-store"})
    headers = _headers(found, job.id)
    if found.sha256 and _matches(request.headers.get("if-none-match"), found.sha256):
        return Response(status_code=304, headers=headers)
    return _bytes(services, found.key, headers, found.media_type or "application/octet-stream")


def _bytes(services: Services, key: str, headers: dict[str, str], media_type: str) -> Response:
    path = services.store.path(key)
    if path is None:
        reading = services.store.read(key)
        headers["Content-Length"] = str(reading.size_bytes)
        return StreamingResponse(iterate_in_threadpool(reading), headers=headers, media_type=media_type)
    if not path.is_file():
        services.store.read(key).close()  # says that it is not there
    return FileResponse(path, headers=headers, media_type=media_type)  # knows ranges


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
        "Cache-Control": "private, max-age=31536000, immutable",
    }


def _matches(header: str | None, sha256: str) -> bool:
    named = [one.strip().removeprefix("W/").strip('"') for one in (header or "").split(",")]
    return sha256 in named or "*" in named
