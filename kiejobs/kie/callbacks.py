"""The token in the address that Kie calls back: which submission it is for, and that we made it.

Pure. `token` = the submission's id and a MAC of it. It authorises one thing: to say "look at this task id for this
submission". Kie's own signature does not cover the body, so nothing else in a callback is ever believed.
"""

import hmac
import uuid
from typing import Any

_MAC_CHARACTERS = 32


def token(submission_id: str, secret: str) -> str:
    """Make the token of a submission."""
    return f"{submission_id}.{_mac(submission_id, secret)}"


def callback_url(public_url: str, submission_id: str, secret: str) -> str:
    """Make the address that Kie calls when the submission's task ends."""
    return f"{public_url.rstrip('/')}/callbacks/kie/{token(submission_id, secret)}"


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
    named = {value for place in (data, body) for key in ("taskId", "task_id") if (value := place.get(key))}
    if len(named) != 1:
        return None
    found = named.pop()
    return found if isinstance(found, str) and 0 < len(found) <= 100 else None


def _mac(submission_id: str, secret: str) -> str:
    return hmac.new(secret.encode(), submission_id.encode(), "sha256").hexdigest()[:_MAC_CHARACTERS]
