"""Generations over HTTP: accept, list, look, and order. Each route is one call of `KieJobs`, told as a document."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse

from kiejobs.db import reads
from kiejobs.documents import event_document, job_document
from kiejobs.errors import InvalidInput
from kiejobs.gateway import queries
from kiejobs.gateway.bodies import JsonObject, OptionalJsonObject
from kiejobs.gateway.callers import Reader, Writer
from kiejobs.gateway.schemas import (
    EXAMPLES,
    REQUEST,
    Accepted,
    AcceptedMany,
    Generation,
    Page,
    Queue,
    Timeline,
    answers,
    request_body,
)
from kiejobs.gateway.services import Uses
from kiejobs.jobs import Job, JobState, OutputState, PublicState

router = APIRouter(prefix="/api", tags=["generations"])

_BATCH = {
    "type": "object",
    "required": ["requests"],
    "additionalProperties": False,
    "properties": {"requests": {"type": "array", "minItems": 1, "maxItems": 100, "items": REQUEST}},
}
_BATCH_EXAMPLE = {"requests": [EXAMPLES[name]["value"] for name in ("picture", "prompt")]}
_RETRY = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "pay": {"type": "boolean", "default": False, "description": "Whether buying a new generation is all right."},
        "why": {"type": "string", "maxLength": 500, "description": "Kept with the job."},
    },
}
_ADOPT = {
    "type": "object",
    "required": ["taskId"],
    "additionalProperties": False,
    "properties": {"taskId": {"type": "string", "minLength": 1, "maxLength": 100, "description": "Kie's task id."}},
}


@router.post(
    "/generations",
    summary="Buy a generation",
    status_code=201,
    responses=answers(
        {201: Accepted, 200: {"model": Accepted, "description": "An earlier request's generation."}},
        400,
        408,
        409,
        413,
        415,
        422,
    ),
    openapi_extra=request_body(REQUEST, EXAMPLES),
)
def create(
    jobs: Writer, body: JsonObject, request: Request, idempotency_key: Annotated[str | None, Header()] = None
) -> JSONResponse:
    """Accept a generation: when this answers, its row is committed, also while the broker is down.

    201: it is new. 200: the same idempotency key came before with the same request, or `reuseWithinS` found one.
    """
    accepted = jobs.accept_one(_with_key(body, idempotency_key))
    told = _told(accepted.job, request) | {"reused": accepted.job.reused}
    place = {"Location": f"/api/generations/{accepted.job.id}"}
    return JSONResponse(told, 201 if accepted.created else 200, place)


def _with_key(body: dict[str, Any], header: str | None) -> dict[str, Any]:
    if header is None:
        return body
    if body.get("idempotencyKey") not in (None, header):
        raise InvalidInput(
            "the header Idempotency-Key and the field idempotencyKey differ",
            field="idempotencyKey",
            given=body["idempotencyKey"],
            allowed="one of the two, or the same in both",
        )
    return body | {"idempotencyKey": header}


def _with_keys(given: list[dict[str, Any]], header: str | None) -> list[dict[str, Any]]:
    """Give every request of a batch that has no key of its own one made of the header and its place."""
    if header is None:
        return given
    if not header.strip():
        raise InvalidInput("the header Idempotency-Key is empty", field="idempotencyKey", given="", allowed="a text")
    return [
        one | {"idempotencyKey": f"{header}/{place}"} if one.get("idempotencyKey") is None else one
        for place, one in enumerate(given)
    ]


@router.post(
    "/generations:batch",
    summary="Buy many generations, or none",
    status_code=201,
    responses=answers(
        {201: AcceptedMany, 200: {"model": AcceptedMany, "description": "Not one of them is new."}},
        400,
        408,
        409,
        413,
        415,
        422,
    ),
    openapi_extra=request_body(_BATCH, {"two": {"value": _BATCH_EXAMPLE}}),
)
def create_many(
    jobs: Writer,
    body: JsonObject,
    request: Request,
    services: Uses,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> JSONResponse:
    """Accept up to 100 generations in one transaction: all of them, or none. Each may have its own idempotencyKey.

    Those without one get theirs from the header Idempotency-Key, if it is sent: `KEY/0` for the first, `KEY/1` …
    """
    _only(body, "requests")
    given, most = body.get("requests"), services.limits.batch
    if not isinstance(given, list) or not 1 <= len(given) <= most or not all(isinstance(one, dict) for one in given):
        raise InvalidInput("requests is no list of requests", field="requests", allowed=f"1 to {most} JSON objects")
    accepted = jobs.accept(_with_keys(given, idempotency_key))
    told = [_told(one.job, request) | {"reused": one.job.reused} for one in accepted]
    return JSONResponse({"generations": told}, 201 if any(one.created for one in accepted) else 200)


@router.get(
    "/generations",
    summary="List generations",
    responses=answers({200: Page}, 422),
    openapi_extra={
        "parameters": [
            {"name": "state", "in": "query", "schema": {"type": "string", "enum": list(PublicState)}},
            {"name": "phase", "in": "query", "schema": {"type": "string", "enum": list(JobState)}},
            {
                "name": "model",
                "in": "query",
                "schema": {"type": "string", "minLength": 1, "maxLength": queries.LONGEST},
            },
            {"name": "since", "in": "query", "schema": {"type": "string", "format": "date-time"}},
            {"name": "until", "in": "query", "schema": {"type": "string", "format": "date-time"}},
            {
                "name": "limit",
                "in": "query",
                "schema": {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
            },
            {"name": "cursor", "in": "query", "schema": {"type": "string"}},
        ]
    },
)
def listed(jobs: Reader, request: Request) -> JSONResponse:
    """List the tenant's generations, newest first. `nextCursor` of one page is `cursor` of the next."""
    given = request.query_params
    queries.only(given, "state", "phase", "model", "since", "until", "limit", "cursor")
    limit = queries.number(given, "limit", default=50)
    found = jobs.list(
        state=queries.word(given, "state", PublicState),
        phase=queries.word(given, "phase", JobState),
        model=queries.text(given, "model"),
        since=queries.moment(given, "since"),
        until=queries.moment(given, "until"),
        limit=limit + 1,
        before=queries.place_of(given.get("cursor")),
    )
    page, more = found[:limit], len(found) > limit
    told = [_told(job, request) for job in page]
    return JSONResponse({"generations": told, "nextCursor": queries.cursor_of(page[-1]) if more else None})


@router.get(
    "/generations/{generation_id}",
    summary="Look at a generation",
    responses=answers({200: Generation}, 404),
)
def show(generation_id: str, jobs: Reader, request: Request) -> JSONResponse:
    """Say where a generation stands, with its outputs, what went wrong and what to do, and its timeline."""
    job, events = jobs.get_whole(generation_id)
    return JSONResponse(_told(job, request) | {"timeline": [event_document(event) for event in events]})


@router.get(
    "/generations/{generation_id}/timeline",
    summary="What happened to a generation",
    responses=answers({200: Timeline}, 404),
)
def timeline(generation_id: str, jobs: Reader) -> JSONResponse:
    """Tell what happened to a generation, oldest line first."""
    return JSONResponse({"timeline": [event_document(event) for event in jobs.timeline(generation_id)]})


@router.post(
    "/generations/{generation_id}/cancel",
    summary="Give a generation up",
    responses=answers({200: Generation}, 404, 409),
)
def cancel(generation_id: str, jobs: Writer, request: Request) -> JSONResponse:
    """Give a generation up; its `message` says whether it is billed. 409 while it is stored and after its end."""
    return _after(jobs, jobs.cancel(generation_id), request)


@router.post(
    "/generations/{generation_id}/retry",
    summary="Try a generation again",
    responses=answers({200: Generation}, 400, 404, 408, 409, 413, 415, 422),
    openapi_extra=request_body(_RETRY, {"free": {"value": {"pay": False}}}, required=False),
)
def retry(generation_id: str, jobs: Writer, body: OptionalJsonObject, request: Request) -> JSONResponse:
    """Store the result again for free while Kie has it; with `pay`, else buy a new generation. 409 says what it needs.

    With `pay`, a result that was no result (`result_invalid`), or gone (`result_expired`), is bought at once.
    """
    _only(body, "pay", "why")
    pay, why = body.get("pay", False), body.get("why", "retry")
    if not isinstance(pay, bool):
        raise InvalidInput("pay is neither true nor false", field="pay", given=pay, allowed="true or false")
    if not isinstance(why, str) or len(why) > 500 or "\0" in why:
        raise InvalidInput("why is no text of at most 500 characters", field="why", given=why, allowed="a text")
    return _after(jobs, jobs.retry(generation_id, pay=pay, why=why), request)


@router.post(
    "/generations/{generation_id}/refresh",
    summary="Look at Kie now",
    responses=answers({200: Generation}, 404, 409),
)
def refresh(generation_id: str, jobs: Writer, request: Request) -> JSONResponse:
    """Let the workers look now instead of at the next due time. Answers at once."""
    return _after(jobs, jobs.refresh(generation_id), request)


@router.post(
    "/generations/{generation_id}/adopt",
    summary="Name Kie's task of an unconfirmed generation",
    responses=answers({200: Generation}, 400, 404, 408, 409, 413, 415, 422),
    openapi_extra=request_body(_ADOPT, {"named": {"value": {"taskId": "281e5b0f39b9"}}}),
)
def adopt(generation_id: str, jobs: Writer, body: JsonObject, request: Request) -> JSONResponse:
    """Name the task; a worker adopts it if its record is the generation's. Answers at once; the timeline tells."""
    _only(body, "taskId")
    task_id = body.get("taskId")
    if not isinstance(task_id, str) or not task_id.strip() or len(task_id) > 100 or not task_id.isprintable():
        allowed = "a text of at most 100 characters"
        raise InvalidInput("taskId is missing or no task id", field="taskId", given=task_id, allowed=allowed)
    return _after(jobs, jobs.adopt(generation_id, task_id), request)


@router.get("/queue", summary="How much waits", responses=answers({200: Queue}))
def queue(jobs: Reader) -> JSONResponse:
    """Count the tenant's unfinished generations: in line, held out of it, in flight."""
    found = reads.queue(jobs.database, tenant=jobs.tenant)
    return JSONResponse({"inLine": found.in_line, "held": found.held, "inFlight": found.in_flight})


def _after(jobs: Writer, job: Job, request: Request) -> JSONResponse:
    events = reads.timeline(jobs.database, job.id)
    return JSONResponse(_told(job, request) | {"timeline": [event_document(event) for event in events]})


def _only(body: dict[str, Any], *allowed: str) -> None:
    queries.only(dict.fromkeys(body, ""), *allowed)


def _told(job: Job, request: Request) -> dict[str, Any]:
    """Describe a job; its files have the addresses at which this gateway gives them."""
    base = base_url(request)
    files = (
        replace(file, url=f"{base}/api/generations/{job.id}/outputs/{file.index}")
        if file.state is OutputState.STORED
        else file
        for file in job.outputs
    )
    return job_document(replace(job, outputs=tuple(files)))


def base_url(request: Request) -> str:
    """Return the address that the caller used. A proxy in front says in X-Forwarded-Proto that it speaks TLS."""
    scheme = request.headers.get("x-forwarded-proto", request.url.scheme)
    return f"{'https' if scheme == 'https' else 'http'}://{request.headers.get('host', 'localhost')}"
