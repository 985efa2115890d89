"""Requests that come as bare Celery messages, from services that have nothing of kiejobs installed.

The task id becomes the job id (one that is no UUID becomes the same new id each time), so a message that comes twice is
one job. What cannot be accepted becomes a failed job that says why, because a producer with nothing but a task id has
nowhere else to look.
"""

import logging
import uuid
from typing import Any

from kiejobs import counted
from kiejobs.db import intake
from kiejobs.errors import IdempotencyConflict, InvalidInput
from kiejobs.producer import KieJobs
from workers.runtime import Runtime

log = logging.getLogger(__name__)


def arrived(rt: Runtime, task_id: str, request: dict[str, Any]) -> str | None:
    """Accept a bare request as the job `task_id`; return the job to send, None where there is none."""
    # A message that was sent cannot be refused any more: to wait in the broker would only hide it.
    settings = rt.settings.model_copy(update={"queue_limit": 0})
    jobs = KieJobs(
        settings, tenant=rt.settings.celery_tenant, database=rt.database, publish=lambda nudges: None, who="celery"
    )
    job_id = _uuid(task_id)
    try:
        if job_id is None:
            raise InvalidInput("the task id is no UUID, so it cannot be the job's id", field="task_id", given=task_id)
        if not isinstance(request, dict):
            raise InvalidInput("the request is no JSON object", field="request", given=request)
        return jobs.enqueue_request(request, id=job_id).id
    except InvalidInput as error:
        refused = intake.enter_refused(
            rt.database,
            tenant=jobs.tenant,
            job_id=job_id or str(uuid.uuid5(uuid.NAMESPACE_OID, f"{jobs.tenant} {task_id}")),
            model=str(request.get("model") or "unknown")[:200] if isinstance(request, dict) else "unknown",
            message=f"{error.field}: {error}",
        )
        log.warning("message %s refused (%s), see job %s", task_id[:64], error.field, refused)
    except IdempotencyConflict:
        rt.counts.add(counted.REQUESTS_DROPPED)
        log.warning("message %s dropped: its id or key belongs to another request", task_id[:64])
    return None


def is_id(value: object) -> bool:
    """Say whether a message's job id is one at all."""
    return isinstance(value, str) and _uuid(value) is not None


def _uuid(value: str) -> str | None:
    try:
        return str(uuid.UUID(value))
    except ValueError:
        return None
