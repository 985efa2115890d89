"""Notify: send one message to a producer, and say when to try again where that did not work."""

import logging
import time
from typing import Any
from urllib.parse import urlsplit

from kiejobs import counted, logs, pacing
from kiejobs.db import deliveries
from kiejobs.errors import SettingsError
from kiejobs.jobs import DeliveryState
from kiejobs.notify import TIMEOUT_S, Answer, post
from kiejobs.nudge import notify_nudge
from workers.runtime import Runtime

log = logging.getLogger(__name__)

CLAIM_S = 2 * TIMEOUT_S + 15.0
"""Longer than any try: to connect may take as long as to answer."""

BUSY_S = 10.0
"""For how long a message waits whose receiver is busy with others; the sweep finds it then."""


def notify(rt: Runtime, delivery_id: str) -> bool:
    """Send one due message; False where somebody else does, or it has to be tried again.

    One whose receiver is slow, and has others on their way to it, waits without that counting as a try.
    """
    try:
        secrets = rt.settings.webhooks_signed_with
    except SettingsError as error:
        log.error("message %s waits: %s. %s", delivery_id, error, error.remedy)
        deliveries.explain(rt.database, delivery_id, f"{error}. {error.remedy}")
        return False
    claim = deliveries.claim(rt.database, delivery_id, claim_s=CLAIM_S)
    if claim is None:
        rt.counts.add(counted.STALE, "notify")
        return False
    logs.note(job=claim.job_id)
    beside = {"resultUrls": _urls(rt, claim.body), "metadata": claim.metadata}
    body = claim.body | {"data": claim.body["data"] | beside}
    with rt.receivers.slot(urlsplit(claim.url).netloc.lower()) as free:
        if not free:
            deliveries.postpone(rt.database, claim, wait_s=BUSY_S * (1 + rt.jitter() / 2))
            return False
        answer = post(rt.webhooks, claim.url, delivery_id=claim.id, body=body, secrets=secrets, at_s=time.time())
    wait_s = None if answer.banned else pacing.redeliver_s(claim.attempts, jitter=rt.jitter())
    rt.counts.add(counted.MESSAGES, _outcome(answer, wait_s))
    if answer.delivered:
        return deliveries.close(rt.database, claim, DeliveryState.DELIVERED, wait_s=None, error=None)
    log.warning("job %s: message %s not delivered (%s)", claim.job_id, claim.id, answer.said)
    if answer.gone:
        deliveries.close_gone(rt.database, claim, error=answer.said)
        return False
    state = DeliveryState.GAVE_UP if wait_s is None else DeliveryState.PENDING
    deliveries.close(rt.database, claim, state, wait_s=wait_s, error=answer.said)
    if wait_s is not None and wait_s <= pacing.MAX_WAIT_S:
        rt.publish([notify_nudge(claim.job_id, claim.id, countdown_s=wait_s)])
    return False


def _outcome(answer: Answer, wait_s: float | None) -> str:
    if answer.delivered:
        return "delivered"
    if answer.gone:
        return "gone"
    return "gave_up" if wait_s is None else "failed"


def _urls(rt: Runtime, body: dict[str, Any]) -> list[str]:
    top = rt.settings.storage.rstrip("/")
    return [f"{top}/{output['key']}" for output in body["data"]["outputs"] if output["key"]]
