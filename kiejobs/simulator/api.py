"""The API: every call of every family, on the paths and with the envelopes of the original.

Business errors are HTTP 200 with the status in the body's `code`; no answer carries Retry-After. The calls of a family
come from its table of operations; those that are like no other stand here, in `upgrades`, `uploads` and `chat`.
Source: docs.kie.ai/market/common/get-task-detail.md, common-api/get-account-credits.md, common-api/download-url.md.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response

from kiejobs.simulator.answers import accepted, authorization, held_back, refused, seen
from kiejobs.simulator.chat.endpoints import add_chat
from kiejobs.simulator.codes import INVALID, UNAUTHORIZED
from kiejobs.simulator.families import FAMILIES
from kiejobs.simulator.family import Family, Operation, Refusal
from kiejobs.simulator.orders import read_json
from kiejobs.simulator.provider import Provider
from kiejobs.simulator.tasks import Task
from kiejobs.simulator.upgrades import add_upgrades
from kiejobs.simulator.upload_calls import add_uploads
from kiejobs.simulator.wire import envelope, refusal

Endpoint = Callable[[Request], Awaitable[Response]]


def make_api(provider: Provider) -> FastAPI:
    """The API of this provider."""
    api = FastAPI(title="Kie simulator", openapi_url=None, docs_url=None, redoc_url=None)
    for family in FAMILIES:
        for operation in family.operations:
            endpoint = (
                _create(provider, family, operation)
                if operation.answer is None
                else _instant(provider, family, operation)
            )
            api.post(operation.path)(endpoint)
        api.get(family.record_path)(_query(provider, family))
    _add_common(api, provider)
    add_upgrades(api, provider)
    add_uploads(api, provider)
    add_chat(api, provider)
    return api


def _create(provider: Provider, family: Family, operation: Operation) -> Endpoint:
    async def create(request: Request) -> Response:
        made = provider.create(authorization(request), family, operation, await request.body())
        if isinstance(made, Refusal):
            return refused(made)
        await held_back(provider, made.scenario, request)
        return accepted(made.scenario, _ids(made))

    return create


def _ids(task: Task) -> dict[str, str]:
    if task.scenario.no_task_id:
        return {}
    return {"taskId": task.id} | ({"recordId": task.id} if task.order.operation.notes.get("record_id") else {})


def _instant(provider: Provider, family: Family, operation: Operation) -> Endpoint:
    async def instant(request: Request) -> Response:
        order = provider.serve(authorization(request), family, operation, await request.body())
        if isinstance(order, Refusal):
            return refused(order)
        await held_back(provider, order.scenario, request)
        return accepted(order.scenario, operation.answer(order) if operation.answer else None)

    return instant


def _query(provider: Provider, family: Family) -> Endpoint:
    async def query(request: Request) -> Response:
        task_id = request.query_params.get("taskId", "")
        return seen(provider.query(authorization(request), family, task_id, family.record_path))

    return query


def _add_common(api: FastAPI, provider: Provider) -> None:
    @api.get("/api/v1/chat/credit")
    async def credit(request: Request) -> Response:
        account = provider.accounts.of(authorization(request))
        return envelope(200, "success", account.balance) if account else refusal(UNAUTHORIZED)

    @api.post("/api/v1/common/download-url")
    async def download_url(request: Request) -> Response:
        if provider.accounts.of(authorization(request)) is None:
            return refusal(UNAUTHORIZED)
        link = provider.links.fresh(_text(await request.body(), "url"))
        return envelope(200, "success", link) if link else refusal(INVALID, "url is wrong")

    @api.post("/api/v1/gpt4o-image/download-url")
    async def download_url_of_4o(request: Request) -> Response:
        if provider.accounts.of(authorization(request)) is None:
            return refusal(UNAUTHORIZED)
        raw = await request.body()
        task = provider.tasks.get(_text(raw, "taskId"))
        if task is None or task.order.family.name != "4o":
            return refusal(INVALID, "recordInfo is null")
        link = provider.links.fresh(_text(raw, "url"), task)
        return envelope(200, "success", link) if link else refusal(INVALID, "url is wrong")


def _text(raw: bytes, name: str) -> str:
    body: Any = read_json(raw)
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, str) else ""
