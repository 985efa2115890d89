"""Signs one message and POSTs it, after Standard Webhooks (https://www.standardwebhooks.com).

Headers `webhook-id` (stable over retries), `webhook-timestamp` and `webhook-signature`, one signature per secret, newest
first, so that secrets can be rotated. The address was given by a producer, so it is dialled through the egress guard, no
redirect is followed, and what it answers is not read.
"""

import json
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests
from standardwebhooks.webhooks import Webhook
from urllib3.exceptions import HTTPError

from kiejobs.errors import EgressRefused, SourceUnavailable
from kiejobs.storage.egress import GuardedSession

log = logging.getLogger(__name__)

BANNED = "its address leads to this network, not to a public one; KIEJOBS_EGRESS_ALLOW may name it"
GONE = 410
TIMEOUT_S = 15.0
"""For a receiver to take a message in, commit it, and answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one try, and in words for people. `gone`: the address wants nothing more. `banned`: never dialled."""

    said: str
    delivered: bool = False
    gone: bool = False
    banned: bool = False


def post(
    session: GuardedSession, url: str, *, delivery_id: str, body: dict[str, Any], secrets: list[str], at_s: float
) -> Answer:
    """Send one message once. `at_s` is the time of this try, in seconds since 1970. Never raises for the receiver's sake."""
    payload = json.dumps(body, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    headers = signed(payload, delivery_id=delivery_id, secrets=secrets, at_s=at_s)
    until = time.monotonic() + TIMEOUT_S

    def in_time() -> None:
        if time.monotonic() > until:
            raise SourceUnavailable(f"no answer within {TIMEOUT_S:g} s")

    try:
        with (
            session.checked(in_time),
            session.post(
                url, data=payload.encode(), headers=headers, timeout=(5.0, TIMEOUT_S), stream=True
            ) as response,
        ):
            status = response.status_code
    except EgressRefused as error:
        log.warning("message %s: %s", delivery_id, error)  # what names resolve to here is not for tenants
        return Answer(BANNED, banned=True)
    except SourceUnavailable as error:
        return Answer(str(error))
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        return Answer(f"not reached: {type(error).__name__}")
    return Answer(f"answered {status}", delivered=200 <= status < 300, gone=status == GONE)


def signed(payload: str, *, delivery_id: str, secrets: list[str], at_s: float) -> dict[str, str]:
    """Make the headers of a message. `secrets` are `whsec_…`, newest first."""
    moment = datetime.fromtimestamp(at_s, UTC)
    signatures = [Webhook(secret).sign(msg_id=delivery_id, timestamp=moment, data=payload) for secret in secrets]
    return {
        "Content-Type": "application/json",
        "webhook-id": delivery_id,
        "webhook-timestamp": str(int(at_s)),
        "webhook-signature": " ".join(signatures),
    }
