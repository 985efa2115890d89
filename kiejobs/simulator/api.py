"""The API: the four calls of Kie's jobs API that are simulated, on the paths and with the envelopes of the original.

Business errors are HTTP 200 with the status in the body's `code`; no answer carries Retry-After. How an accepted create
is answered (late, cut, not at all) is chosen here; what it means was decided by the provider before.
Source: docs.kie.ai/market/common/get-task-detail.md, common-api/get-account-credits.md, common-api/download-url.md.
"""

import asyncio
import json

from fastapi import FastAPI, Request, Response

from kiejobs.simulator.codes import INVALID, UNAUTHORIZED
from kiejobs.simulator.provider import Provider, Refusal
from kiejobs.simulator.tasks import Task
from kiejobs.simulator.wire import (
    CutBody,
    CutHeader,
    Reset,
    Silence,
    envelope,
    gateway_page,
    refusal,
    unless_gone,
)


def make_api(provider: Provider) -> FastAPI:
    """The API of this provider."""
    api = FastAPI(title="Kie simulator", openapi_url=None, docs_url=None, redoc_url=None)

    @api.post("/api/v1/jobs/createTask")
    async def create_task(request: Request) -> Response:
        made = provider.create(_authorization(request), await request.body())
        if isinstance(made, Refusal):
            return _refused(made)
        if made.scenario.slow:
            await unless_gone(asyncio.sleep(made.scenario.slow), request.receive)
        if provider.barrier.held:
            provider.barrier.waiting += 1
            try:
                await unless_gone(provider.barrier.opened.wait(), request.receive)
            finally:
                provider.barrier.waiting -= 1
        return _accepted(made)

    @api.get("/api/v1/jobs/recordInfo")
    async def record_info(request: Request) -> Response:
        seen = provider.query(_authorization(request), request.query_params.get("taskId", ""))
        return _refused(seen) if isinstance(seen, Refusal) else envelope(200, "success", seen)

    @api.get("/api/v1/chat/credit")
    async def credit(request: Request) -> Response:
        account = provider.accounts.of(_authorization(request))
        return envelope(200, "success", account.balance) if account else refusal(UNAUTHORIZED)

    @api.post("/api/v1/common/download-url")
    async def download_url(request: Request) -> Response:
        if provider.accounts.of(_authorization(request)) is None:
            return refusal(UNAUTHORIZED)
        link = provider.fresh_link(_url_of(await request.body()))
        return envelope(200, "success", link) if link else refusal(INVALID, "url is wrong")

    return api


def _authorization(request: Request) -> str:
    return request.headers.get("authorization", "")


def _url_of(raw: bytes) -> str:
    try:
        body = json.loads(raw)
    except ValueError:
        return ""
    url = body.get("url") if isinstance(body, dict) else None
    return url if isinstance(url, str) else ""


def _refused(made: Refusal) -> Response:
    return gateway_page(made.code) if made.page else refusal(made.code, made.msg)


def _accepted(task: Task) -> Response:
    """The answer to an accepted create, whole or as its scenario spoils it."""
    scenario = task.scenario
    if scenario.hang:
        return Silence()
    if scenario.reset:
        return Reset()
    if scenario.cut_header:
        return CutHeader()
    if scenario.http_after:
        return gateway_page(scenario.http_after)
    ids = {} if scenario.no_task_id else {"taskId": task.id, "recordId": task.id}
    answer = envelope(200, "success", ids)
    return CutBody(bytes(answer.body)) if scenario.cut_body else answer
