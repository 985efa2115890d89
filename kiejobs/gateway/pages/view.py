"""From a template to an answer: escaping always on, the headers that keep a page from running what is not ours.

`PageRoute` answers what goes wrong on a page with a page; the HTTP API's problems are for programs.
"""

import json
import logging
import re
from collections.abc import Callable, Coroutine
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import jinja2
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from kiejobs.advice import advice
from kiejobs.errors import JobNotFound, KieJobsError
from kiejobs.gateway.pages import assets, words
from kiejobs.gateway.pages.session import COOKIE, Visitor
from kiejobs.gateway.pages.visitor import LoginNeeded, sessions_of
from kiejobs.gateway.problems import kind_of
from kiejobs.gateway.services import Services
from kiejobs.storage.addresses import for_strangers

log = logging.getLogger(__name__)

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'{media}; "
    "media-src 'self'{media}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send forms with `Origin: null`
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


@cache
def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("kiejobs.gateway.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in (
        "size",
        "duration",
        "ago",
        "moment",
        "credits",
        "drift",
        "percent",
        "ticked",
        "kind_of",
        "pieces",
        "standing",
        "progress",
        "sentence",
    ):
        made.filters[name] = getattr(words, name)
    made.filters["pretty"] = lambda value: json.dumps(value, ensure_ascii=False, indent=2, default=str)
    made.globals |= {"STATES": words.STATES, "MEANINGS": words.MEANINGS, "advice": advice, "asset": assets.address}
    return made


_OWN_PATH = re.compile(r"/|/health|/jobs/[0-9a-f-]{36}")


def page(name: str, services: Services, visitor: Visitor | None, *, status: int = 200, **shown: Any) -> HTMLResponse:
    """Render a template for somebody."""
    text = _templates().get_template(name).render(visitor=visitor, **shown)
    policy = _POLICY.format(media=_media_origin(services))
    return HTMLResponse(text, status, _HEADERS | {"Content-Security-Policy": policy})


def _media_origin(services: Services) -> str:
    """Return, with a space in front, the address of the storage where players follow a redirect to it."""
    try:
        link = for_strangers(services.store.link("origin/of/links", 60.0))
    except KieJobsError:
        return ""
    parts = urlsplit(link or "")
    return f" {parts.scheme}://{parts.netloc}" if parts.netloc else ""


def go(path: str) -> RedirectResponse:
    """Send a browser to a page, with GET."""
    return RedirectResponse(path, HTTPStatus.SEE_OTHER, {"Cache-Control": "no-store", "Referrer-Policy": "same-origin"})


class PageRoute(APIRoute):
    """A route whose errors are pages, and which sends strangers to the login."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's handler."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except LoginNeeded:
                return go(_to_login(request))
            except KieJobsError as error:
                return _problem(request, error)
            except RequestValidationError:
                return _problem(request, JobNotFound("there is no such page"))
            except HTTPException as error:
                return _problem(request, KieJobsError(str(error.detail)), error.status_code)

        return handled


def own_path(text: str) -> str:
    """Return a path of these pages as it is, anything else as the first page: nobody is led elsewhere."""
    return text if _OWN_PATH.fullmatch(text) else "/"


def _to_login(request: Request) -> str:
    to = own_path(request.url.path) if request.method == "GET" else "/"
    return "/login" if to == "/" else f"/login?to={to}"


def _problem(request: Request, error: KieJobsError, status: int | None = None) -> HTMLResponse:
    status = status or kind_of(error).status
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("%s %s: %s", request.method, request.url.path, error)
    services: Services = request.app.state.services
    visitor = sessions_of(request, services).visitor(request.cookies.get(COOKIE))
    shown = {"title": HTTPStatus(status).phrase, "error": error, "back": own_path(request.url.path.rpartition("/")[0])}
    return page("problem.html", services, visitor, status=status, **shown)
