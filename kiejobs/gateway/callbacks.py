"""Kie's callbacks: `POST /callbacks/kie/{token}`, answered at once, believed in nothing but a task id to look at.

In order: the token (before a byte of the body is read), the body within bounds of size and time, the task id, Kie's
signature where the account has a key, the log, the hint. 200 says that it is kept; 503 asks Kie to call again. The
database is waited for on a few threads of this module's own, so that a flood of callbacks slows no other route.
"""

import json
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Header, Request
from starlette.exceptions import HTTPException

from kiejobs.db import callbacks, candidates
from kiejobs.errors import DependencyError, Forbidden, Unreadable
from kiejobs.gateway.bodies import read_body
from kiejobs.gateway.services import Services, Uses
from kiejobs.kie.callbacks import is_stage, signature_fault, submission_of, task_id_of
from kiejobs.nudge import poll_nudge
from kiejobs.settings import Settings

log = logging.getLogger(__name__)

MAX_BYTES = 256 * 1024
"""A record with a long prompt and a dozen results is a tenth of this."""

WITHIN_S = 10.0
"""For a whole body. Kie waits 15 s for the answer: https://docs.kie.ai/veo3-api/generate-veo-3-video-callbacks.md"""

THREADS = 8
WAITING = 400
"""Callbacks that wait for a thread; more are asked to come again."""

NO_TASK = "it names no task, or two"
_NOT_OURS = "this is no address that kiejobs gave to Kie"
_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "No task id was found, or two that differ."},
    403: {"description": "The account has a signature key, and the callback is not signed with it, or too long ago."},
    404: {"description": "The address is not one that kiejobs gave to Kie."},
    408: {"description": "The body came too slowly."},
    413: {"description": "The body is too large."},
    503: {"description": "The database does not answer; call again."},
}

router = APIRouter(tags=["callbacks"])


class Receiver:
    """Takes the callbacks of one gateway. `now_s` is the time that signatures are judged by."""

    def __init__(self, services: Services, now_s: Callable[[], float] = time.time) -> None:
        self._services, self._now_s = services, now_s
        self._secret = _secret_of(services.settings)
        self._threads = CapacityLimiter(THREADS)

    def submission_of(self, token: str) -> str:
        """Return the submission that an address is for, without asking anybody; 404 where we did not make it."""
        submission_id = submission_of(token, self._secret) if self._secret else None
        if submission_id is None:
            raise HTTPException(404, _NOT_OURS)
        return submission_id

    async def take(self, submission_id: str, body: bytes, timestamp: str | None, signature: str | None) -> str:
        """Judge and keep a callback on a thread; return its verdict. What is refused is raised."""
        if self._threads.statistics().tasks_waiting >= WAITING:
            raise DependencyError("more callbacks come than can be taken", remedy="Call again in a moment.")
        return await run_sync(partial(self._take, submission_id, body, timestamp, signature), limiter=self._threads)

    def _take(self, submission_id: str, body: bytes, timestamp: str | None, signature: str | None) -> str:
        told = _parsed(body)
        task_id = task_id_of(told)

        def fault(account: str) -> str | None:
            return self._fault(account, task_id, timestamp, signature) if task_id else NO_TASK

        received = callbacks.receive(
            self._services.database, submission_id, task_id=task_id, stage=is_stage(told), body=body, fault=fault
        )
        if received is None:
            raise HTTPException(404, _NOT_OURS)
        if received.fault == NO_TASK:
            raise Unreadable("no task id was found, or two that differ", remedy="Send what Kie's callbacks send.")
        if received.fault is not None:
            log.warning("callback for submission %s refused: %s", submission_id, received.fault)
            raise Forbidden(f"the callback is refused: {received.fault}", remedy="Sign it with the account's key, now.")
        log.info("callback for submission %s names task %s: %s", submission_id, task_id, received.verdict)
        self._nudge(received.hint)
        return received.verdict

    def _fault(self, account: str, task_id: str, timestamp: str | None, signature: str | None) -> str | None:
        key = self._services.settings.hmac_key_of(account)
        return signature_fault(task_id, timestamp, signature, key=key, now_s=self._now_s()) if key else None

    def _nudge(self, hint: callbacks.Hint | None) -> None:
        if hint is not None:
            again = poll_nudge(
                hint.job_id, hint.version, countdown_s=hint.countdown_s, polls=hint.polls, by=candidates.CALLBACK
            )
            self._services.publish([again])


def _secret_of(settings: Settings) -> str | None:
    """Return what addresses are signed with; None, said once, where this gateway cannot know it."""
    if settings.callback_secret is None and not settings.database.startswith("sqlite"):
        # Where workers take callbacks they have it from this setting; one made here would fit no address of theirs.
        log.info("no callbacks are taken: KIEJOBS_CALLBACK_SECRET is not set")
        return None
    try:
        return settings.callbacks_signed_with
    except OSError as error:
        log.warning("no callbacks are taken: KIEJOBS_CALLBACK_SECRET is not set, and none can be made: %s", error)
        return None


async def _receiver(services: Uses) -> Receiver:
    return services.callbacks


@router.post("/callbacks/kie/{token}", summary="Kie says that a task has ended", responses=_RESPONSES)
async def kie_callback(
    token: str,
    request: Request,
    receiver: Annotated[Receiver, Depends(_receiver)],
    x_webhook_timestamp: Annotated[str | None, Header()] = None,
    x_webhook_signature: Annotated[str | None, Header()] = None,
) -> dict[str, str]:
    """Take a hint to look at a task now. Kie calls this itself; of the body nothing but the task id counts."""
    submission_id = receiver.submission_of(token)
    body = await read_body(request, at_most=MAX_BYTES, within_s=WITHIN_S)
    return {"received": await receiver.take(submission_id, body, x_webhook_timestamp, x_webhook_signature)}


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
