"""What a callback of Kie's proves, and what can be read in it.

Pure. The token in the address (a submission's id and a MAC of it) says which submission it is for, and that we made it;
it authorises one thing: to say "look at this task id for this submission". Kie's own signature covers the task id and
the time, not the body, so nothing else in a callback is ever believed.
"""

import base64
import binascii
import hmac
import re
import uuid
from typing import Any

_MAC_CHARACTERS = 32

SIGNED_WITHIN_S = 300.0
"""How far a signature's time may lie from ours. Kie names no limit; a captured signature is worth nothing afterwards."""

LONGEST_ID = 100

_TOKEN = re.compile(r"\b([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.)[0-9a-f]{32}\b")

STAGES = frozenset({"text", "first"})
"""Music tasks call back before they have ended, too. Source: https://docs.kie.ai/suno-api/generate-music-callbacks.md"""


def token(submission_id: str, secret: str) -> str:
    """Make the token of a submission."""
    return f"{submission_id}.{_mac(submission_id, secret)}"


def callback_url(public_url: str, submission_id: str, secret: str) -> str:
    """Make the address that Kie calls when the submission's task ends."""
    return f"{public_url.rstrip('/')}/callbacks/kie/{token(submission_id, secret)}"


def without_tokens(value: Any) -> Any:
    """Return a text or a record without the proof in our addresses, which Kie repeats: it is kept for people to read."""
    if isinstance(value, str):
        return _TOKEN.sub(r"\1***", value)
    if isinstance(value, dict):
        return {name: without_tokens(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [without_tokens(inner) for inner in value]
    return value


def submission_of(given: str, secret: str) -> str | None:
    """Return the submission that a token names; None where the token is not ours. Constant time."""
    submission_id, _, mac = given.partition(".")
    try:
        canonical = str(uuid.UUID(submission_id))
    except ValueError:
        canonical = str(uuid.UUID(int=0))
    genuine = hmac.compare_digest(mac.encode(), _mac(canonical, secret).encode())
    return canonical if genuine and canonical == submission_id else None


def task_id_of(body: Any) -> str | None:
    """Find the task id in a callback's body, in any of Kie's spellings; None where there is none or two differ.

    Source: https://docs.kie.ai, the callback pages of the families: `data.taskId`, `data.task_id`, `taskId`, `task_id`.
    """
    if not isinstance(body, dict):
        return None
    inner = body.get("data")
    data = inner if isinstance(inner, dict) else {}
    named = [value for place in (data, body) for key in ("taskId", "task_id") if (value := place.get(key))]
    if not named or any(value != named[0] for value in named):
        return None
    found = named[0]
    return found if isinstance(found, str) and len(found) <= LONGEST_ID and found.isprintable() else None


def is_stage(body: Any) -> bool:
    """Say whether a callback tells of a stage of a task that goes on."""
    data = body.get("data") if isinstance(body, dict) else None
    told = data.get("callbackType") if isinstance(data, dict) else None
    return isinstance(told, str) and told in STAGES


def signature_fault(
    task_id: str, timestamp: str | None, signature: str | None, *, key: str, now_s: float
) -> str | None:
    """Say what is wrong with the headers X-Webhook-Timestamp and X-Webhook-Signature; None where they are Kie's.

    base64(HMAC-SHA256(key, taskId + "." + timestamp)), compared in constant time.
    Source: https://docs.kie.ai/common-api/webhook-verification.md
    """
    if not timestamp or not signature:
        return "not signed"
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        return "its time is no Unix time in seconds"
    expected = hmac.new(key.encode(), f"{task_id}.{timestamp}".encode(), "sha256").digest()
    if not hmac.compare_digest(_decoded(signature), expected):
        return "its signature is not Kie's"
    if abs(now_s - int(timestamp)) > SIGNED_WITHIN_S:
        return f"signed more than {SIGNED_WITHIN_S:g} s ago, or ahead"
    return None


def _decoded(signature: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _mac(submission_id: str, secret: str) -> str:
    return hmac.new(secret.encode(), submission_id.encode(), "sha256").hexdigest()[:_MAC_CHARACTERS]
