"""Where a tenant's messages go: the address of jobs that name none, and addresses that want nothing more."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from kiejobs.documents import address_document
from kiejobs.errors import InvalidInput
from kiejobs.gateway.bodies import JsonObject
from kiejobs.gateway.callers import Admin, Reader
from kiejobs.gateway.schemas import Addresses, answers
from kiejobs.producer import KieJobs

router = APIRouter(prefix="/api/addresses", tags=["deliveries"])


def _body(*, nullable: bool) -> dict[str, Any]:
    url: dict[str, Any] = {"type": ["string", "null"] if nullable else "string", "maxLength": 2000}
    shape = {"type": "object", "required": ["url"], "properties": {"url": url}}
    example = {"url": "https://service.example/kiejobs"}
    content = {"application/json": {"schema": shape, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


@router.get("", summary="Where messages go", responses=answers({200: Addresses}))
def addresses(jobs: Reader) -> JSONResponse:
    """List the address that is told of generations which name none, and those that answered 410 Gone."""
    return _listed(jobs)


@router.put(
    "/default",
    summary="Set where messages go",
    responses=answers({200: Addresses}, 400, 413, 415, 422),
    openapi_extra=_body(nullable=True),
)
def set_default(jobs: Admin, body: JsonObject) -> JSONResponse:
    """Tell this address of every generation that names no `callbackUrl`; null: nobody. Needs the scope admin."""
    jobs.addresses.set_default(None if "url" in body and body["url"] is None else _url(body))
    return _listed(jobs)


@router.post(
    "/enable",
    summary="Send to an address again",
    responses=answers({200: Addresses}, 400, 404, 413, 415, 422),
    openapi_extra=_body(nullable=False),
)
def enable(jobs: Admin, body: JsonObject) -> JSONResponse:
    """Send again to an address that answered 410 Gone. What it missed is sent by …/resend. Needs the scope admin."""
    jobs.addresses.enable(_url(body))
    return _listed(jobs)


def _listed(jobs: KieJobs) -> JSONResponse:
    return JSONResponse({"addresses": [address_document(one) for one in jobs.addresses.list()]})


def _url(body: dict[str, Any]) -> str:
    url = body.get("url")
    if not isinstance(url, str) or not url:
        raise InvalidInput("url is missing or no text", field="url", given=url, allowed="an http(s) URL")
    return url
