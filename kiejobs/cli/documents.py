"""Jobs and their parts as JSON documents, with the keys of the HTTP API: camelCase, times in ISO 8601 UTC."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from kiejobs.cli.advice import advice
from kiejobs.jobs import Event, Job, JobState, Output

_UNWELL = (JobState.FAIL, JobState.TIMEOUT, JobState.UNCONFIRMED)


def job_document(job: Job, timeline: Iterable[Event] | None = None) -> dict[str, Any]:
    """Describe a job; with its timeline where one is given."""
    document: dict[str, Any] = {
        "generationId": job.id,
        "providerTaskId": job.provider_task_id,
        "state": job.state,
        "phase": job.phase,
        "model": job.model,
        "account": job.account,
        "progress": job.progress,
        "polls": job.polls,
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
    if job.phase not in _UNWELL and job.reason is None:
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
