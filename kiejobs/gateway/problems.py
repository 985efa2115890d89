"""Errors as `application/problem+json` (RFC 9457): what happened, whose fault, at which field, what to do.

Each class of the error tree has one row here; an error that nobody foresaw is 500 and says nothing of its inside. Every
answer that is no success has this form, those of the framework too.
"""

import logging
import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from kiejobs import errors
from kiejobs.errors import InvalidInput, KieJobsError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_SHOWN = 200
_SAID = 2000
"""Of a sentence's characters; a stranger's words may stand in it."""
_RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one class of errors is told."""

    status: int
    code: str


KINDS: dict[type[KieJobsError], _Kind] = {
    errors.InvalidInput: _Kind(422, "invalid_input"),
    errors.IdempotencyConflict: _Kind(409, "idempotency_conflict"),
    errors.JobNotFound: _Kind(404, "not_found"),
    errors.ObjectMissing: _Kind(404, "not_found"),
    errors.NotPossible: _Kind(409, "not_possible"),
    errors.WaitTimeout: _Kind(504, "wait_timeout"),
    errors.Unreadable: _Kind(400, "unreadable"),
    errors.Unauthorized: _Kind(401, "unauthorized"),
    errors.Forbidden: _Kind(403, "forbidden"),
    errors.TooLarge: _Kind(413, "too_large"),
    errors.WrongMediaType: _Kind(415, "wrong_media_type"),
    errors.TooManyRequests: _Kind(429, "too_many_requests"),
    errors.DependencyError: _Kind(503, "unavailable"),
    errors.SettingsError: _Kind(503, "misconfigured"),
    errors.KieJobsError: _Kind(500, "internal"),
}
"""Class → how it is told; a class without a row is told as the nearest one above it."""


_OUTSIDE: dict[type[KieJobsError], str] = {
    errors.DatabaseUnavailable: "the database does not answer",
    errors.DatabaseNotMigrated: "the database has no kiejobs schema, or an older one",
    errors.StorageUnavailable: "the storage cannot be written or read just now",
    errors.SettingsError: "the gateway is not set up for this",
}
"""What whoever asks is told of these: their own words may name hosts, users and folders, and are for the log."""
_COME_AGAIN = (
    "Come again after `Retry-After` seconds; if it stays, the gateway's log says why, `kiejobs doctor` what to do."
)


def kind_of(error: KieJobsError) -> _Kind:
    """Return the row of an error's class, or of the nearest one above it."""
    return next(KINDS[base] for base in type(error).__mro__ if base in KINDS)


def document(error: KieJobsError) -> dict[str, Any]:
    """Describe an error as a problem."""
    kind = kind_of(error)
    said = next((_OUTSIDE[base] for base in type(error).__mro__ if base in _OUTSIDE), None)
    detail, action = (said, _COME_AGAIN) if said else (str(error)[:_SAID], error.remedy)
    told = _document(kind.status, kind.code, detail, action)
    told["reason"] = error.reason
    if isinstance(error, InvalidInput):
        told |= {"field": _shown(error.field), "given": _shown(error.given), "allowed": error.allowed or None}
    return told


def answer(error: KieJobsError) -> JSONResponse:
    """Make the response for an error."""
    told = document(error)
    headers = {}
    if isinstance(error, errors.TooManyRequests):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    elif told["status"] == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(_RETRY_AFTER_S)
    elif told["status"] == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(told, told["status"], headers, MEDIA_TYPE)


def _document(status: int, code: str, detail: str, action: str) -> dict[str, Any]:
    return {
        "type": f"urn:kiejobs:problem:{code.replace('_', '-')}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "reason": None,
        "field": None,
        "given": None,
        "allowed": None,
        "action": action,
    }


def _shown(given: object) -> Any:
    """What was given, if it is short: an answer is no mirror for a whole body."""
    if given is None or isinstance(given, bool | int) or (isinstance(given, float) and math.isfinite(given)):
        return given
    text = given if isinstance(given, str) else repr(given)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def add_to(app: FastAPI) -> None:
    """Answer every error of the application as a problem."""

    @app.exception_handler(KieJobsError)
    async def ours(request: Request, error: KieJobsError) -> JSONResponse:
        if kind_of(error).status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("%s %s: %s %s", request.method, request.url.path, error, error.remedy)
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
        name = ".".join(where) or "body"
        return answer(InvalidInput(f"{name}: {first['msg']}", field=name, given=first.get("input")))

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).name.lower()
        told = _document(error.status_code, code, str(error.detail), _ACTIONS.get(error.status_code, ""))
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_methods(request))
        return JSONResponse(told, error.status_code, headers, MEDIA_TYPE)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        told = _document(
            500, "internal", "the gateway made a mistake", "Try again; if it stays, read the gateway's log."
        )
        return JSONResponse(told, 500, media_type=MEDIA_TYPE)


def _methods(request: Request) -> list[str]:
    """Every method that the path has; the framework names those of one route alone."""
    routes = request.app.router.routes
    return [
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]


_ACTIONS = {
    404: "Check the path; `GET /openapi.json` lists what there is.",
    405: "Check the method; the `Allow` header says what there is.",
}
