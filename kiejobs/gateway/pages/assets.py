"""The style, the script and the icon: files of the package, named by their content, so that a browser keeps them."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fastapi import APIRouter, Request, Response

from kiejobs.errors import JobNotFound

router = APIRouter()

_TYPES = {"pages.css": "text/css", "live.js": "text/javascript", "icon.svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    media_type: str
    tag: str


@cache
def _asset(name: str) -> _Asset:
    content = (resources.files("kiejobs.gateway.pages") / "static" / name).read_bytes()
    return _Asset(content, f"{_TYPES[name]}; charset=utf-8", hashlib.sha256(content).hexdigest()[:12])


def address(name: str) -> str:
    """Return where a file is; another content has another address."""
    return f"/static/{name}?v={_asset(name).tag}"


@router.get("/static/{name}")
def static(name: str, request: Request) -> Response:
    """Give one of the files."""
    if name not in _TYPES:
        raise JobNotFound(f"there is no file {name[:100]!r}", remedy="Go to the first page.")
    asset = _asset(name)
    named = request.query_params.get("v") == asset.tag
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if named else "no-cache",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    return Response(asset.content, media_type=asset.media_type, headers=headers)
