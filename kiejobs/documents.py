"""Jobs and their parts as JSON documents: camelCase, times in ISO 8601 UTC.

The one spelling of what the command line prints with `--json` and of what the HTTP API answers.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kiejobs.advice import advice
from kiejobs.jobs import UNWELL, Event, Job, Output

if TYPE_CHECKING:
    from kiejobs.db.accounts import Account
    from kiejobs.db.deliveries import Delivery
    from kiejobs.db.endpoints import Endpoint
    from kiejobs.kie.catalogue import Model


def job_document(job: Job, timeline: Iterable[Event] | None = None) -> dict[str, Any]:
    """Describe a job; with its timeline where one is given."""
    document: dict[str, Any] = {
        "generationId": job.id,
        "providerTaskId": job.provider_task_id,
        "state": job.state,
        "phase": job.phase,
        "message": job.message,
        "model": job.model,
        "tenant": job.tenant,
        "account": job.account,
        "progress": job.progress,
        "polls": job.polls,
        "foundBy": job.found_by,
        "placeInLine": job.place_in_line,
        "createdAt": _moment(job.created_at),
        "acceptedAt": _moment(job.accepted_at),
        "endedAt": _moment(job.ended_at),
        "resultUrls": [output.url for output in job.outputs if output.url],
        "outputs": [output_document(output) for output in job.outputs],
        "error": _error(job),
        "credits": None if job.credits is None else float(job.credits),
        "late": job.late,
        "metadata": job.metadata,
    }
    if timeline is not None:
        document["timeline"] = [event_document(event) for event in timeline]
    return document


def _error(job: Job) -> dict[str, Any] | None:
    if job.phase not in UNWELL and job.reason is None:
        return None
    return {"code": job.code, "reason": job.reason, "message": job.message, "action": advice(job)}


def output_document(output: Output) -> dict[str, Any]:
    """Describe one result file."""
    return {
        "index": output.index,
        "state": output.state,
        "role": output.role,
        "key": output.key,
        "url": output.url,
        "mediaType": output.media_type,
        "sizeBytes": output.size_bytes,
        "receivedBytes": output.received_bytes,
        "sha256": output.sha256,
        "error": output.error,
        "expiresAt": _moment(output.expires_at),
    }


def event_document(event: Event) -> dict[str, Any]:
    """Describe one line of a timeline."""
    return {
        "at": _moment(event.at),
        "kind": event.kind,
        "who": event.who,
        "from": event.from_state,
        "to": event.to_state,
        "note": event.note,
        "detail": event.detail,
    }


def _moment(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def account_document(account: "Account") -> dict[str, Any]:
    """Describe a Kie account; its key is nowhere in it."""
    return {
        "name": account.name,
        "pausedUntil": _moment(account.paused_until),
        "pauseCode": account.pause_code,
        "pauseNote": account.pause_note,
        "modelsPaused": dict(account.models_paused),
        "credits": account.credits,
        "checkedAt": _moment(account.checked_at),
        "driftCredits": account.drift_credits,
        "freeCreates": account.free_creates,
    }


def delivery_document(delivery: "Delivery") -> dict[str, Any]:
    """Describe a message to a producer."""
    return {
        "id": delivery.id,
        "generationId": delivery.job_id,
        "sequence": delivery.sequence,
        "type": delivery.kind,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "dueAt": _moment(delivery.due_at),
        "url": delivery.url,
        "error": delivery.error,
        "createdAt": _moment(delivery.created_at),
        "deliveredAt": _moment(delivery.delivered_at),
    }


def address_document(address: "Endpoint") -> dict[str, Any]:
    """Describe an address that messages go to."""
    return {
        "url": address.url,
        "isDefault": address.is_default,
        "disabledAt": _moment(address.disabled_at),
        "gaveUp": address.gave_up,
    }


def model_document(model: "Model") -> dict[str, Any]:
    """Describe a model of the catalogue, without its parameters."""
    return {
        "id": model.id,
        "kind": model.kind,
        "vendor": model.vendor,
        "status": model.status,
        "note": model.note,
        "doc": model.doc,
        "date": model.date.isoformat(),
        "priceCredits": model.price_credits,
        "typicalS": model.typical_s,
    }
