"""The files host: public links on a port of their own, as Kie's results and uploads live on other hosts than its API.

A key has no business here: a request with an Authorization header is refused and written down as a leak. Links expire;
a link from download-url carries a sealed token and works for 20 minutes. Ranges are supported, so a cut download can be
resumed. Like the real CDN it refuses Python-urllib's default User-Agent.
"""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import FastAPI, Request, Response
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import Receive, Scope, Send

from kiejobs.simulator.media import MIB, make_media
from kiejobs.simulator.models import Kind
from kiejobs.simulator.provider import Provider
from kiejobs.simulator.tasks import Task
from kiejobs.simulator.wire import connection_of, gone

_SLICES_PER_S = 10
"""How finely a dripping file is cut."""


def make_files(provider: Provider) -> FastAPI:
    """The files host of this provider."""
    files = FastAPI(title="Kie simulator: files", openapi_url=None, docs_url=None, redoc_url=None)

    @files.api_route("/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    async def result_file(request: Request) -> Response:
        answer = _answer(provider, request)
        provider.ledger.add("downloads", path=request.url.path, status=answer.status_code)
        return answer

    return files


def _answer(provider: Provider, request: Request) -> Response:
    path, headers = request.url.path, request.headers
    if "authorization" in headers:
        provider.ledger.add("leaks", path=path, client=request.client.host if request.client else None)
        return _plain(400, "An API key does not belong here: result links are public.")
    if request.method not in ("GET", "HEAD"):
        return _plain(405, "Method Not Allowed")
    if headers.get("user-agent", "").startswith("Python-urllib"):
        return _plain(403, "Forbidden")
    if (upload := provider.uploads.get(path)) is not None:
        return Response(upload.content, media_type=upload.mime)
    task = provider.links.task_of(path)
    if task is None or task.scenario.dead_link:
        return _plain(404, "Not Found")
    if not provider.links.is_open(task, path, request.query_params.get("token")):
        return _plain(403, "Forbidden: the link has expired")
    if task.scenario.html_result:
        return HTMLResponse("<!doctype html><title>Just a moment...</title><p>Checking your browser.</p>\n")
    return _file(task, path, headers.get("range", ""), headers.get("if-range", ""))


def _plain(status: int, text: str) -> Response:
    return PlainTextResponse(text + "\n", status_code=status)


def _file(task: Task, path: str, wanted: str, if_range: str) -> Response:
    name, _, extension = path.rpartition("/")[2].partition(".")
    media = make_media(Kind(extension), task.id, int(name), (task.scenario.big or 0) * MIB)
    size, tag = len(media), f'"{task.id}-{name}"'
    part = None if if_range and if_range != tag else _range_of(wanted, size)
    headers = {"accept-ranges": "bytes", "etag": tag, "content-type": Kind(extension).content_type}
    if part is not None and part.start >= part.stop:
        return Response(status_code=416, headers={"content-range": f"bytes */{size}"})
    span = range(size) if part is None else part
    headers["content-length"] = str(len(span))
    if part is not None:
        headers["content-range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
    stop = span.start + len(span) // 2 if task.scenario.truncate else span.stop
    rate = task.scenario.drip
    slice_bytes = max(1, rate // _SLICES_PER_S) if rate else 65536
    chunks = media.read(span.start, stop, slice_bytes)
    pause_s = slice_bytes / rate if rate else 0.0
    return FileAnswer(200 if part is None else 206, headers, Flow(chunks, pause_s, cut=task.scenario.truncate))


def _range_of(wanted: str, size: int) -> range | None:
    """The bytes a Range header asks for, empty if there are none; None for the whole file (RFC 9110, 14.1.2)."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted.strip())
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size) if int(last) else range(size, size)
    stop = min(size, int(last) + 1) if last else size
    if last and int(last) < int(first):
        return None
    return range(min(int(first), size), stop)


@dataclass(frozen=True, slots=True)
class Flow:
    """How the bytes of an answer come: in which chunks, how slowly, and whether the connection is cut at their end."""

    chunks: Iterator[bytes]
    pause_s: float
    cut: bool


class FileAnswer(Response):
    """A file sent as its `Flow` says; never more than a chunk of it is in memory."""

    def __init__(self, status: int, headers: dict[str, str], flow: Flow) -> None:
        """An answer with exactly these headers."""
        super().__init__(status_code=status)
        self.raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._flow = flow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the headers and as much of the body as the flow has."""
        connection = connection_of(scope)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            for chunk in self._flow.chunks:
                if connection.is_closing():
                    return await gone(receive)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await asyncio.sleep(self._flow.pause_s)
            if self._flow.cut:
                connection.close()
                return await gone(receive)
        return await send({"type": "http.response.body", "body": b""})
