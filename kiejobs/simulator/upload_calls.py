"""The upload calls: a file as base64 text, as a form, or by its address. Free, and answered with `success` on top.

Kie has a host of its own for them; here they share the API's port. The answer is as seen on the wire; what is said of a
bad upload is not recorded.
Source: docs.kie.ai/file-upload-api/upload-file-base-64, upload-file-stream, upload-file-url.
"""

import asyncio
import base64
import binascii
import http.client
import mimetypes
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response

from kiejobs.simulator.answers import authorization
from kiejobs.simulator.callbacks import connect_to
from kiejobs.simulator.codes import UNAUTHORIZED, refusal_text
from kiejobs.simulator.orders import read_json, to_json
from kiejobs.simulator.provider import Provider
from kiejobs.simulator.uploads import Upload, name_of_its_own

FETCH_WITHIN_S = 30.0
FETCH_AT_MOST_BYTES = 100 * 1024 * 1024
BAD = 400


@dataclass(frozen=True, slots=True)
class Parcel:
    """A file on its way in."""

    folder: str
    name: str
    content: bytes
    mime: str


class BadUpload(ValueError):
    """The upload cannot be taken; the text says why."""


def add_uploads(api: FastAPI, provider: Provider) -> None:
    """Put the three calls into the API."""

    @api.post("/api/file-base64-upload")
    async def base64_upload(request: Request) -> Response:
        return await _take(provider, request, _from_base64)

    @api.post("/api/file-stream-upload")
    async def stream_upload(request: Request) -> Response:
        content_type = request.headers.get("content-type", "")
        return await _take(provider, request, lambda raw: _from_form(content_type, raw))

    @api.post("/api/file-url-upload")
    async def url_upload(request: Request) -> Response:
        return await _take(provider, request, _from_address)


async def _take(provider: Provider, request: Request, read: Any) -> Response:
    account, path = provider.accounts.of(authorization(request)), request.url.path
    if account is None:
        return _answer(UNAUTHORIZED, refusal_text(UNAUTHORIZED))
    raw = await request.body()
    try:
        parcel: Parcel = await asyncio.to_thread(read, raw)
    except BadUpload as error:
        provider.ledger.add("uploads", account=account.name, path=path, code=BAD, url=None, bytes=0)
        return _answer(BAD, str(error))
    upload = provider.uploads.add(account.name, parcel.folder, parcel.name, parcel.content, parcel.mime)
    url = f"{provider.links.files_url}{upload.path}"
    provider.ledger.add("uploads", account=account.name, path=path, code=200, url=url, bytes=len(upload.content))
    return _answer(200, "File uploaded successfully", _data(upload, url))


def _answer(code: int, msg: str, data: object = None) -> Response:
    body = {"success": code == 200, "code": code, "msg": msg} | ({"data": data} if data else {})
    return Response(to_json(body), media_type="application/json")


def _data(upload: Upload, url: str) -> dict[str, object]:
    at = datetime.fromtimestamp(upload.at_ms / 1000, UTC)
    return {
        "success": True,
        "fileName": upload.name,
        "filePath": upload.path.removeprefix("/"),
        "downloadUrl": url,
        "fileSize": len(upload.content),
        "mimeType": upload.mime,
        "uploadedAt": f"{at:%Y-%m-%dT%H:%M:%S}.{upload.at_ms % 1000:03d}Z",
    }


def _from_base64(raw: bytes) -> Parcel:
    """`base64Data` is bare or a data URL, which also says what it is."""
    body = _required(raw, "base64Data", "uploadPath")
    head, comma, rest = body["base64Data"].partition(",")
    mime = head.removeprefix("data:").partition(";")[0] if comma else ""
    try:
        content = base64.b64decode(rest if comma else head, validate=True)
    except (binascii.Error, ValueError):
        raise BadUpload("base64Data is not valid") from None
    return _parcel(body["uploadPath"], body.get("fileName"), content, mime)


def _from_form(content_type: str, raw: bytes) -> Parcel:
    """`file`, `uploadPath` and, if wanted, `fileName`, as multipart/form-data."""
    form = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + raw)
    parts = {_name(part): part for part in form.iter_parts()} if form.is_multipart() else {}
    if "file" not in parts or "uploadPath" not in parts:
        raise BadUpload("file and uploadPath are required")
    file = parts["file"]
    name = _bytes(parts["fileName"]).decode() if "fileName" in parts else ""
    mime = file.get_content_type() if file["content-type"] else ""
    named = mimetypes.guess_extension(mime) or "." + (file.get_filename() or "").rpartition(".")[2]
    return _parcel(_bytes(parts["uploadPath"]).decode(), name or name_of_its_own(named), _bytes(file), mime)


def _name(part: Message) -> str:
    return str(part.get_param("name", "", header="content-disposition"))


def _bytes(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _from_address(raw: bytes) -> Parcel:
    """The file is fetched from `fileUrl`."""
    body = _required(raw, "fileUrl", "uploadPath")
    content, mime = _fetch(body["fileUrl"])
    path_name = urlsplit(body["fileUrl"]).path.rpartition("/")[2]
    return _parcel(body["uploadPath"], body.get("fileName") or path_name, content, mime)


def _fetch(url: str) -> tuple[bytes, str]:
    try:
        connection = connect_to(url, FETCH_WITHIN_S)
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"User-Agent": "kiejobs-simulator"})
        answer = connection.getresponse()
        content = answer.read(FETCH_AT_MOST_BYTES + 1)
        connection.close()
    except (OSError, ValueError, http.client.HTTPException):
        raise BadUpload("fileUrl cannot be fetched") from None
    if answer.status != http.HTTPStatus.OK or len(content) > FETCH_AT_MOST_BYTES:
        raise BadUpload("fileUrl cannot be fetched, or is too large")
    return content, answer.headers.get_content_type()


def _required(raw: bytes, *names: str) -> dict[str, str]:
    body = read_json(raw)
    texts = {k: v for k, v in body.items() if isinstance(v, str) and v} if isinstance(body, dict) else {}
    missing = [name for name in names if name not in texts]
    if missing:
        raise BadUpload(f"{missing[0]} is required")
    return texts


def _parcel(folder: str, name: str | None, content: bytes, mime: str) -> Parcel:
    name = name or name_of_its_own(mimetypes.guess_extension(mime) or "")
    guessed = mimetypes.guess_type(name)[0]
    return Parcel(folder, name, content, mime or guessed or "application/octet-stream")
