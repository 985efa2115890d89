"""Notify: send one message to a producer, and say when to try again where that did not work."""

import logging
import time
from typing import Any

from kiejobs import pacing
from kiejobs.db import deliveries
from kiejobs.errors import SettingsError
from kiejobs.jobs import DeliveryState
from kiejobs.notify import TIMEOUT_S, post
from kiejobs.nudge import notify_nudge
from workers.runtime import Runtime

log = logging.getLogger(__name__)

CLAIM_S = TIMEOUT_S + 15.0


def notify(rt: Runtime, delivery_id: str) -> bool:
    """Send one due message; False where somebody else does, or it has to be tried again."""
    try:
        secrets = rt.settings.webhooks_signed_with
    except SettingsError as error:
        log.error("message %s waits: %s. %s", delivery_id, error, error.remedy)
        return False
    claim = deliveries.claim(rt.database, delivery_id, claim_s=CLAIM_S)
    if claim is None:
        return False
    body = claim.body | {"data": claim.body["data"] | {"resultUrls": _urls(rt, claim.body)}}
    answer = post(rt.webhooks, claim.url, delivery_id=claim.id, body=body, secrets=secrets, at_s=time.time())
    if answer.delivered:
        return deliveries.close(rt.database, claim, DeliveryState.DELIVERED, wait_s=None, error=None)
    wait_s = None if answer.gone else pacing.redeliver_s(claim.attempts, jitter=rt.jitter())
    state = DeliveryState.GAVE_UP if wait_s is None else DeliveryState.PENDING
    log.warning("job %s: message %s not delivered (%s)", claim.job_id, claim.id, answer.said)
    deliveries.close(rt.database, claim, state, wait_s=wait_s, error=answer.said)
    if wait_s is not None and wait_s <= pacing.MAX_WAIT_S:
        rt.publish([notify_nudge(claim.job_id, claim.id, countdown_s=wait_s)])
    return False


def _urls(rt: Runtime, body: dict[str, Any]) -> list[str]:
    top = rt.settings.storage.rstrip("/")
    return [f"{top}/{output['key']}" for output in body["data"]["outputs"] if output["key"]]
