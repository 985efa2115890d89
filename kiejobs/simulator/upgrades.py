"""Veo's better copies: 1080p, a GET to repeat until it has the link, and 4K, a POST that makes a paid task.

1080p says 400 "processing" until it is ready and costs nothing here. The first call for 4K is answered with its task
and no links; while it is made, another call for the same video is 422 "processing"; the first one after that has the
links with 200, all others have them with 422, as the page says of repeated requests. The task can also be asked for by
its own id, here and at record-info.
Source: docs.kie.ai/veo3-api/get-veo-3-1080-p-video, get-veo-3-4k-video.
"""

from fastapi import FastAPI, Request, Response

from kiejobs.simulator.accounts import Account
from kiejobs.simulator.answers import accepted, authorization, held_back, refused
from kiejobs.simulator.codes import INVALID
from kiejobs.simulator.families import FAMILIES
from kiejobs.simulator.families.veo import IN_4K, IN_1080P, Veo
from kiejobs.simulator.family import Refusal
from kiejobs.simulator.orders import Order, asked_of, parent_of, read_json
from kiejobs.simulator.provider import Provider
from kiejobs.simulator.tasks import Task
from kiejobs.simulator.wire import envelope

VEO = next(family for family in FAMILIES if isinstance(family, Veo))
IN_1080P_LATER = "1080P is processing. It should be ready in 1-2 minutes. Please check back shortly."
IN_4K_LATER = "4k is processing. It should be ready in 5-10 minutes. Please check back shortly."
IN_4K_AGAIN = "The video has been generated successfully"
NOT_READY = 400


def add_upgrades(api: FastAPI, provider: Provider) -> None:
    """Put both calls into the API."""

    @api.get(IN_1080P.path)
    async def in_1080p(request: Request) -> Response:
        account = provider.accounts.of(authorization(request))
        task_id = request.query_params.get("taskId", "")
        made = provider.refused_look(account) or _copy_of(provider, account, dict(request.query_params))
        code = made.code if isinstance(made, Refusal) else 200
        provider.write_query(account, task_id, IN_1080P.path, code)
        return refused(made) if isinstance(made, Refusal) else envelope(200, "success", made)

    @api.post(IN_4K.path)
    async def in_4k(request: Request) -> Response:
        raw, account = await request.body(), provider.accounts.of(authorization(request))
        if account and (task := _ordered(provider, account, raw)):
            return _again(provider, account, task)
        made = provider.create(authorization(request), VEO, IN_4K, raw)
        if isinstance(made, Refusal):
            return refused(made)
        await held_back(provider, made.scenario, request)
        return accepted(made.scenario, _links(provider, made))


def _copy_of(provider: Provider, account: Account | None, given: dict[str, str]) -> dict[str, str] | Refusal:
    """The link to the 1080p copy; asking for it the first time is what starts it."""
    parent = parent_of(IN_1080P, asked_of(IN_1080P, given), provider.tasks, account) if account else None
    if account is None or parent is None:
        return Refusal(INVALID, "taskId is required")
    if isinstance(parent, Refusal):
        return parent
    wish = parent.follow_up
    order = Order(
        account=account,
        family=VEO,
        operation=IN_1080P,
        model=IN_1080P.model,
        given=given,
        callback_url=None,
        scenario=wish,
        follow_up=wish,
        parent=parent,
    )
    task = parent.children.get(order.subject) or provider.start(order)
    if troubled := provider.trouble(task):
        return troubled
    if task.settled_s is None:
        return Refusal(NOT_READY, IN_1080P_LATER)
    return _failure(task) if task.failed else {"resultUrl": provider.links.of(task)[0]}


def _failure(task: Task) -> Refusal:
    code, message = task.failure
    return Refusal(int(code) if code.isdigit() else 500, message)


def _ordered(provider: Provider, account: Account, raw: bytes) -> Task | None:
    """The 4K task this body asks for again: by the id of its video, or by its own."""
    body = read_json(raw)
    if not isinstance(body, dict) or not isinstance(body.get("taskId"), str):
        return None
    named = provider.tasks.get(body["taskId"])
    if named is None or named.account is not account or named.order.family is not VEO:
        return None
    if named.order.operation is IN_4K:
        return named
    return named.children.get((IN_4K.path, str(body.get("index", 0))))


def _again(provider: Provider, account: Account, task: Task) -> Response:
    made = provider.refused_look(account) or provider.trouble(task)
    if made is None and task.failed and task.settled_s is not None:
        made = _failure(task)
    code, msg = (200, "success")
    if task.settled_s is None:
        code, msg = INVALID, IN_4K_LATER
    elif not task.first("4k", 1):
        code, msg = INVALID, IN_4K_AGAIN
    provider.write_query(account, task.id, IN_4K.path, made.code if made else code)
    return refused(made) if made else envelope(code, msg, _links(provider, task))


def _links(provider: Provider, task: Task) -> dict[str, object]:
    links = list(provider.links.of(task)) if task.made else None
    return {"taskId": task.id, "resultUrls": links and links[:1], "imageUrls": links and links[1:]}
