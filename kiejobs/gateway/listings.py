"""What there is besides generations: the models, Kie's accounts, the messages to producers."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from kiejobs.documents import account_document, delivery_document, model_document
from kiejobs.errors import JobNotFound
from kiejobs.gateway import queries
from kiejobs.gateway.callers import Admin, Reader, Writer
from kiejobs.gateway.schemas import Accounts, Deliveries, ModelInput, Models, answers
from kiejobs.jobs import DeliveryState
from kiejobs.kie import catalogue

router = APIRouter(prefix="/api")


@router.get("/models", tags=["models"], summary="List the models", responses=answers({200: Models}))
def models(jobs: Reader) -> JSONResponse:
    """List the models whose parameters are known. Others of Kie's jobs API work too."""
    return JSONResponse({"models": [model_document(model) for model in jobs.models()]})


@router.get(
    "/models/{model_id:path}",
    tags=["models"],
    summary="What a model takes",
    responses=answers({200: ModelInput}, 404),
)
def model(model_id: str, jobs: Reader) -> JSONResponse:
    """Give the JSON Schema (2020-12) of a model's input, as `input`. The id's slash may stand as it is."""
    found = catalogue.find(model_id)
    if found is None:
        near = catalogue.near(model_id)
        raise JobNotFound(
            f"{model_id[:200]} is not in the catalogue",
            remedy=(f"Did you mean {near}? " if near else "") + "GET /api/models lists those that are.",
        )
    return JSONResponse(model_document(found) | {"input": catalogue.schema(found.id)})


@router.get("/accounts", tags=["accounts"], summary="Kie's accounts", responses=answers({200: Accounts}))
def accounts(jobs: Admin) -> JSONResponse:
    """Say which accounts are paused and why, what they hold, and what nobody can explain. Needs the scope admin."""
    return JSONResponse({"accounts": [account_document(account) for account in jobs.accounts()]})


@router.get(
    "/deliveries",
    tags=["deliveries"],
    summary="Messages to producers",
    responses=answers({200: Deliveries}, 404, 422),
    openapi_extra={
        "parameters": [
            {"name": "state", "in": "query", "schema": {"type": "string", "enum": list(DeliveryState)}},
            {
                "name": "limit",
                "in": "query",
                "schema": {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
            },
            {"name": "generation", "in": "query", "schema": {"type": "string", "format": "uuid"}},
            {"name": "cursor", "in": "query", "schema": {"type": "string"}},
        ]
    },
)
def deliveries(jobs: Reader, request: Request) -> JSONResponse:
    """List the tenant's messages, newest first; `state=gave_up` are those that never arrived.

    `generation` is one generation's id; `nextCursor` of one page is `cursor` of the next.
    """
    given = request.query_params
    queries.only(given, "state", "generation", "limit", "cursor")
    limit = queries.number(given, "limit", default=50)
    found = jobs.deliveries(
        state=queries.word(given, "state", DeliveryState),
        job_id=given.get("generation"),
        limit=limit + 1,
        before=queries.place_of(given.get("cursor")),
    )
    page, more = found[:limit], len(found) > limit
    told = [delivery_document(one) for one in page]
    return JSONResponse({"deliveries": told, "nextCursor": queries.cursor_of(page[-1]) if more else None})


@router.post(
    "/deliveries/{delivery_id}/resend",
    tags=["deliveries"],
    summary="Send a message again",
    status_code=202,
    responses=answers({202: {"description": "It is due now."}}, 404),
)
def resend(delivery_id: str, jobs: Writer) -> JSONResponse:
    """Make a message due now, from the beginning of its schedule."""
    jobs.send_again(delivery_id)
    return JSONResponse({"id": delivery_id, "state": DeliveryState.PENDING}, 202)
