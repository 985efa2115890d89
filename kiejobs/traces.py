"""OpenTelemetry traces, one per job that ended: the whole way from enqueue to stored, a span for each state it was in.

A trace is made from the job's timeline when the sweep has counted its end, so no step waits for it and no column holds
it; one whose sweep dies between the two is missing. Its id is the job's, and so is the root span's, as `ids_of` says:
whoever knows the job's id can link to it. Notes and messages, which may hold words of strangers, are left out.
"""

import hashlib
import random
import threading
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context

from kiejobs import __version__
from kiejobs.jobs import Event, Job, JobState

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def ids_of(job_id: str) -> tuple[int, int]:
    """Return a job's trace id and the id of its root span."""
    return uuid.UUID(job_id).int, int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:8], "big")


class Traces:
    """Makes traces and hands them to an exporter, on a thread of the exporter's own. Safe to share between threads."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._ids = _Ids()
        resource = Resource.create({"service.name": "kiejobs", "service.version": __version__})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("kiejobs", __version__)

    def tell(self, job: Job, timeline: Sequence[Event]) -> None:
        """Make the trace of a job that ended."""
        self._ids.next = ids_of(job.id)
        root = self._tracer.start_span("generation", start_time=_ns(job.created_at), attributes=_attributes(job))
        for event in timeline:
            root.add_event(event.kind, {"who": event.who}, _ns(event.at))
        if job.phase is JobState.FAIL:
            root.set_status(Status(StatusCode.ERROR, str(job.reason or "")))
        context = set_span_in_context(
            NonRecordingSpan(SpanContext(*ids_of(job.id), is_remote=False, trace_flags=_SAMPLED))
        )
        for state, began, left in _stays(timeline):
            self._tracer.start_span(state, context, start_time=_ns(began)).end(_ns(left))
        root.end(_ns(timeline[-1].at if timeline else job.ended_at or job.created_at))

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


def otlp(endpoint: str) -> Traces:
    """Send traces by OTLP over HTTP; headers and time limits come from OpenTelemetry's own settings."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return Traces(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces"))


class _Ids(threading.local, IdGenerator):
    """Random ids, but for the root of this thread's next trace."""

    next: tuple[int, int] | None = None

    def generate_trace_id(self) -> int:
        return self.next[0] if self.next else random.getrandbits(128)

    def generate_span_id(self) -> int:
        if self.next is None:
            return random.getrandbits(64) or 1
        span_id, self.next = self.next[1], None
        return span_id


def _stays(timeline: Sequence[Event]) -> Iterator[tuple[str, datetime, datetime]]:
    """Give each state that the job was in, from when to when."""
    moves = [(event.to_state, event.at) for event in timeline if event.to_state and event.to_state != event.from_state]
    for (state, began), (_, left) in pairwise(moves):
        yield state, began, left


def _attributes(job: Job) -> dict[str, str | int | float]:
    told = {
        "kiejobs.job": job.id,
        "kiejobs.model": job.model,
        "kiejobs.account": job.account,
        "kiejobs.state": str(job.phase),
        "kiejobs.reason": str(job.reason) if job.reason else None,
        "kiejobs.task": job.provider_task_id,
        "kiejobs.polls": job.polls,
        "kiejobs.credits": None if job.credits is None else float(job.credits),
    }
    return {name: value for name, value in told.items() if value is not None}


def _ns(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000) * 1000
