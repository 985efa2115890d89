"""A producer's own server, where the product's messages arrive: often, twice, or after it was down."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import requests

from tests.simulation.world import Violation, World

URL = "https://producer.example/generations"


@dataclass
class Inbox:
    """Stands where the guarded session for webhooks is; what it was told is kept by job."""

    world: World
    told: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    """Job → sequence → body."""
    ids: dict[str, tuple[str, int]] = field(default_factory=dict)

    @contextmanager
    def checked(self, _check: Callable[[], None]) -> Iterator[None]:
        """Watch the time of a call; here a call takes none."""
        yield

    @contextmanager
    def post(self, url: str, *, data: bytes, headers: dict[str, str], **_: Any) -> Iterator[Any]:
        """Take one message."""
        yield SimpleNamespace(
            status_code=self.world.effect(
                "message to the producer",
                lambda: self._take(json.loads(data), headers["webhook-id"]),
                fails=lambda: requests.ConnectionError("refused"),
                lost=lambda: requests.ReadTimeout("silence"),
            )
        )

    def _take(self, body: dict[str, Any], message_id: str) -> int:
        if self.world.chance(0.1):
            return 503
        job_id, sequence = body["data"]["generationId"], body["data"]["sequence"]
        if self.ids.setdefault(message_id, (job_id, sequence)) != (job_id, sequence):
            raise Violation(f"I14 message {message_id} tells of two things")
        known = self.told.setdefault(job_id, {}).setdefault(sequence, body)
        if known != body:
            raise Violation(f"I14 message {sequence} of job {job_id} has changed since it was first sent")
        self.world.counts["messages taken"] += 1
        return 200
