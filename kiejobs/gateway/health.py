"""`/healthz`: the process answers. `/readyz`: what it stands on answers too, part by part. Both without a key.

The broker is asked at most every two seconds, however often it is asked for here, on one thread of this module's own: a
broker that hangs holds no other route up. Nothing in an answer says where anything is.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anyio import CapacityLimiter, Lock
from anyio.to_thread import run_sync
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from kiejobs import __version__, nudge
from kiejobs.db import rescue
from kiejobs.errors import KieJobsError
from kiejobs.gateway.services import Services, Uses

SWEEP_WITHIN_S = 60.0
_ASK_AGAIN_S = 2.0

router = APIRouter(tags=["health"])


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that the gateway stands on."""

    ok: bool
    detail: str


class Readiness:
    """Asks the parts, and remembers for a moment what they said."""

    def __init__(self, services: Services, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._services, self._monotonic = services, monotonic
        self._asking, self._thread = Lock(), CapacityLimiter(1)
        self._parts: dict[str, Part] = {}
        self._asked_at_s = float("-inf")

    async def parts(self) -> dict[str, Part]:
        """Return what each part says; who asks while they are asked waits without a thread."""
        async with self._asking:
            if self._monotonic() - self._asked_at_s >= _ASK_AGAIN_S:
                self._parts = await run_sync(self._ask, limiter=self._thread)
                self._asked_at_s = self._monotonic()
            return self._parts

    def _ask(self) -> dict[str, Part]:
        return {"database": self._database(), "broker": self._broker(), "sweep": self._sweep()}

    def _database(self) -> Part:
        return _tried(lambda: rescue.last_beat_age_s(self._services.database, "sweep"))

    def _broker(self) -> Part:
        broker = self._services.settings.broker
        return _tried(lambda: nudge.check_broker(broker)) if broker else Part(ok=False, detail="no broker is set")

    def _sweep(self) -> Part:
        try:
            age_s = rescue.last_beat_age_s(self._services.database, "sweep")
        except KieJobsError:
            return Part(ok=False, detail="the database does not say")
        if age_s is None:
            return Part(ok=False, detail="the sweep never ran: start beat and a worker")
        return Part(ok=age_s < SWEEP_WITHIN_S, detail=f"ran {age_s:.0f} s ago")


def _tried(ask: Callable[[], object]) -> Part:
    try:
        ask()
    except KieJobsError as error:
        return Part(ok=False, detail=f"{type(error).__name__}: {error.remedy}")
    return Part(ok=True, detail="answers")


@router.get("/healthz", summary="Whether the process answers")
async def healthz() -> dict[str, str]:
    """Answer; nothing else is asked."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    summary="Whether database, broker and schedule answer",
    responses={503: {"description": "At least one part does not answer; `parts` says which."}},
)
async def readyz(services: Uses) -> JSONResponse:
    """Answer 200 if database and broker answer and the last sweep is younger than a minute, else 503."""
    parts = await services.readiness.parts()
    ready = all(part.ok for part in parts.values())
    told: dict[str, Any] = {name: {"ok": part.ok, "detail": part.detail} for name, part in parts.items()}
    headers = {} if ready else {"Retry-After": str(round(_ASK_AGAIN_S))}
    return JSONResponse({"ready": ready, "version": __version__, "parts": told}, 200 if ready else 503, headers)
