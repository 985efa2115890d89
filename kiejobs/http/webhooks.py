"""The check of a signed message, after Standard Webhooks (https://www.standardwebhooks.com), with nothing to install."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kiejobs.errors import KieJobsError

TOLERANCE_S = 300.0
_LONGEST_STAMP = 12
"""Digits of seconds since 1970."""


class WebhookRefused(KieJobsError):
    """A message is not signed with any of the secrets, or it is too old. Do not act on it."""

    remedy = "Check that the secret is one of KIEJOBS_WEBHOOK_SECRETS, and that the body is verified as it came."


def verify_webhook(
    secret: str | Sequence[str], headers: Mapping[str, str], body: bytes | str, *, now_s: float | None = None
) -> dict[str, Any]:
    """Return the message in a request's body if it is signed with one of the secrets (`whsec_…`) and not old.

    The body must be the bytes as they came. Several secrets may also stand in one text, with commas between them, as in
    KIEJOBS_WEBHOOK_SECRETS. WebhookRefused otherwise, whatever came. https://www.standardwebhooks.com
    """
    keys = _keys([secret] if isinstance(secret, str) else secret)
    lower = {str(name).lower(): str(value) for name, value in headers.items()}
    message_id, stamp = lower.get("webhook-id", ""), lower.get("webhook-timestamp", "")
    if not message_id or not stamp.isascii() or not stamp.isdecimal() or len(stamp) > _LONGEST_STAMP:
        raise WebhookRefused("the message has no id or no timestamp")
    now_s = time.time() if now_s is None else now_s
    if abs(now_s - int(stamp)) > TOLERANCE_S:
        raise WebhookRefused("the message is too old, or from the future")
    raw = body.encode("utf-8", "replace") if isinstance(body, str) else bytes(body)
    signed = f"{message_id}.{stamp}.".encode("utf-8", "replace") + raw
    given = [
        one[3:].encode("utf-8", "replace") for one in lower.get("webhook-signature", "").split() if one[:3] == "v1,"
    ]
    fits = [hmac.compare_digest(_signature(key, signed), theirs) for key in keys for theirs in given]
    if not any(fits):
        raise WebhookRefused("the message is not signed with a known secret")
    return _message(raw)


def _keys(secrets: Sequence[str]) -> list[bytes]:
    """Read the secrets; WebhookRefused where none is one. An empty one is none: everybody could sign with it."""
    listed = [one.strip() for secret in secrets for one in secret.split(",")]
    found = [key for one in listed if (key := _key(one.removeprefix("whsec_")))]
    if not found:
        raise WebhookRefused("no secret is given that a message can be signed with")
    return found


def _key(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        return b""


def _signature(key: bytes, signed: bytes) -> bytes:
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())


def _message(raw: bytes) -> dict[str, Any]:
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise WebhookRefused("the message is no JSON object")
    return told
