"""The gateway's documents and problems, read back into the values and errors that they were written from."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import requests

from kiejobs import errors
from kiejobs.errors import GatewayUnavailable, KieJobsError, Reason
from kiejobs.jobs import Event, Job, JobState, Output, OutputState

_ERRORS: dict[str, type[KieJobsError]] = {
    "idempotency_conflict": errors.IdempotencyConflict,
    "not_found": errors.JobNotFound,
    "not_possible": errors.NotPossible,
    "unreadable": errors.Unreadable,
    "unauthorized": errors.Unauthorized,
    "forbidden": errors.Forbidden,
    "too_large": errors.TooLarge,
    "wrong_media_type": errors.WrongMediaType,
}
"""A problem's code → the class it was raised as in the gateway."""


def error_of(answer: requests.Response, body: bytes) -> KieJobsError:
    """Turn a problem back into the error that it tells of."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or "code" not in told:
        return GatewayUnavailable(f"the gateway answered {answer.status_code}, and no problem of its own")
    said, remedy = str(told.get("detail")), str(told.get("action") or "")
    if told["code"] == "invalid_input":
        field, allowed = str(told.get("field")), str(told.get("allowed") or "")
        return errors.InvalidInput(said, field=field, given=told.get("given"), allowed=allowed, remedy=remedy)
    if told["code"] == "too_many_requests":
        wait_s = answer.headers.get("Retry-After", "1")
        return errors.TooManyRequests(said, retry_after_s=float(wait_s) if wait_s.isdecimal() else 1.0, remedy=remedy)
    return _ERRORS.get(str(told["code"]), GatewayUnavailable)(said, remedy=remedy)


def job_of(told: dict[str, Any]) -> Job:
    """Read a generation; GatewayUnavailable where it is none, as from another service or a much newer gateway."""
    try:
        return _job(told)
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise GatewayUnavailable(f"the gateway answered with what is no generation: {error!r:.100}") from None


def _job(told: dict[str, Any]) -> Job:
    error = told.get("error") or {}
    return Job(
        id=told["generationId"],
        tenant=told["tenant"],
        account=told["account"],
        model=told["model"],
        phase=JobState(told["phase"]),
        created_at=datetime.fromisoformat(told["createdAt"]),
        reason=Reason(error["reason"]) if error.get("reason") else None,
        code=error.get("code"),
        message=told["message"],
        progress=told["progress"],
        polls=told["polls"],
        late=told["late"],
        provider_task_id=told["providerTaskId"],
        accepted_at=_moment(told["acceptedAt"]),
        ended_at=_moment(told["endedAt"]),
        credits=None if told["credits"] is None else Decimal(str(told["credits"])),
        place_in_line=told["placeInLine"],
        outputs=tuple(_output(one) for one in told["outputs"]),
        metadata=told["metadata"],
        found_by=told.get("foundBy"),
        reused=bool(told.get("reused")),
    )


def _output(told: dict[str, Any]) -> Output:
    return Output(
        index=told["index"],
        state=OutputState(told["state"]),
        role=told["role"],
        key=told["key"],
        url=told["url"],
        media_type=told["mediaType"],
        size_bytes=told["sizeBytes"],
        received_bytes=told["receivedBytes"],
        sha256=told["sha256"],
        error=told["error"],
        expires_at=_moment(told.get("expiresAt")),
    )


def event_of(told: dict[str, Any]) -> Event:
    """Read a line of a timeline."""
    states = (told["from"], told["to"])
    return Event(datetime.fromisoformat(told["at"]), told["kind"], told["who"], *states, told["note"], told["detail"])


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
