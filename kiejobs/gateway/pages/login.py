"""Logging in with a key of the HTTP API, and out."""

from typing import Any

from fastapi import APIRouter, Request, Response

from kiejobs.errors import Unauthorized
from kiejobs.gateway.generations import base_url
from kiejobs.gateway.pages.session import COOKIE, LIVES_S
from kiejobs.gateway.pages.view import PageRoute, go, own_path, page
from kiejobs.gateway.pages.visitor import Order, form_of, sessions_of
from kiejobs.gateway.services import Uses

router = APIRouter(route_class=PageRoute)


@router.get("/login")
def login_page(request: Request, services: Uses) -> Response:
    """Ask for a key; where none is needed, or somebody is logged in, go on."""
    if sessions_of(request, services).visitor(request.cookies.get(COOKIE)) is not None:
        return go("/")
    return page("login.html", services, None, fault=None, to=own_path(request.query_params.get("to", "")))


@router.post("/login")
async def login(request: Request, services: Uses) -> Response:
    """Begin a session."""
    form = await form_of(request)
    to = own_path(form.get("to", ""))
    try:
        cookie = sessions_of(request, services).begin(form.get("key", ""))
    except Unauthorized as error:
        return page("login.html", services, None, status=401, fault=error, to=to)
    answer = go(to)
    answer.set_cookie(COOKIE, cookie, max_age=int(LIVES_S), **_attributes(request))
    return answer


@router.post("/logout")
async def logout(request: Request, order: Order) -> Response:
    """End a session: the browser forgets it, and it dies by itself within hours."""
    answer = go("/login")
    answer.delete_cookie(COOKIE, **_attributes(request))
    return answer


def _attributes(request: Request) -> dict[str, Any]:
    secure = base_url(request).startswith("https:")
    return {"path": "/", "httponly": True, "samesite": "strict", "secure": secure}
