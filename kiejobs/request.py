"""A request for a generation, as a mapping with the fields of `POST /api/generations`: read, checked, made a job.

Whatever is wrong is refused here, before anything is stored, naming the field, what was given and what is allowed. Knows
no database; what a model takes is the catalogue's to say.
"""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from kiejobs.db.intake import NewJob
from kiejobs.errors import InvalidInput
from kiejobs.jobs import DEFAULT_ACCOUNT, Priority
from kiejobs.kie import catalogue
from kiejobs.kie.families import family_for
from kiejobs.storage.addresses import url_refused

Egress = frozenset[tuple[str, int]]
"""Exact host and port pairs that may be called although they are not public."""

MAX_INPUT_BYTES = 1024 * 1024
MAX_FALLBACKS = 10
_REQUEST_FIELDS = frozenset(
    {"model", "input", "prompt", "options", "provider", "idempotencyKey", "metadata", "priority", "account", "validate"}
    | {"fallbackModels", "callbackUrl"}
)


def new_job(request: Mapping[str, Any], *, tenant: str, who: str, allow: Egress, id: str | None = None) -> NewJob:
    """Check a request and make the job it asks for; InvalidInput names the field at fault."""
    unknown = sorted(set(request) - _REQUEST_FIELDS)
    if unknown:
        allowed = ", ".join(sorted(_REQUEST_FIELDS))
        raise InvalidInput(f"{unknown[0]!r} is no field of a request", field=unknown[0], allowed=allowed)
    model = _text(request, "model")
    given = _input(request)
    validate = request.get("validate") or "on"
    _one_of("validate", validate, ("on", "strict", "off"))
    _one_of("provider", request.get("provider") or "kie", ("kie",))
    priority = request.get("priority") or Priority.INTERACTIVE
    _one_of("priority", priority, tuple(Priority))
    choices = [{"model": model, "input": given}, *_fallbacks(request, given)]
    warnings = [text for choice in choices for text in _checked(choice["model"], choice["input"], str(validate))]
    asked: dict[str, Any] = {"input": given, "metadata": _mapping(request, "metadata")}
    if len(choices) > 1:
        asked["choices"] = choices
    return NewJob(
        tenant=tenant,
        account=_text(request, "account", default=DEFAULT_ACCOUNT),
        model=model,
        family=family_for(model).name,
        request=asked,
        priority=Priority(priority),
        callback_url=_callback_url(request, allow),
        idempotency_key=_text(request, "idempotencyKey", default="") or None,
        id=_uuid(id) if id is not None else None,
        warnings=tuple(warnings),
        who=who,
    )


def _checked(model: str, given: dict[str, Any], validate: str) -> tuple[str, ...]:
    return () if validate == "off" else catalogue.check(model, given, strict=validate == "strict")


def _callback_url(request: Mapping[str, Any], allow: Egress) -> str | None:
    url = _text(request, "callbackUrl", default="", longest=2000)
    refused = url_refused(url, allow) if url else None
    if refused:
        raise InvalidInput(
            f"callbackUrl cannot be called: {refused}", field="callbackUrl", allowed="a public http(s) URL"
        )
    return url or None


def _fallbacks(request: Mapping[str, Any], given: dict[str, Any]) -> list[dict[str, Any]]:
    """Read `fallbackModels`: ids that take the same input, or `{"model", "input"}`."""
    listed = request.get("fallbackModels") or []
    if not isinstance(listed, list | tuple) or len(listed) > MAX_FALLBACKS:
        allowed = f"a list of at most {MAX_FALLBACKS} models"
        raise InvalidInput("fallbackModels is no list, or too long a one", field="fallbackModels", allowed=allowed)
    found = []
    for entry in listed:
        one = {"model": entry} if isinstance(entry, str) else entry
        if not isinstance(one, Mapping) or set(one) - {"model", "input"}:
            raise InvalidInput("a fallback is a model's id, or {model, input}", field="fallbackModels", given=entry)
        found.append({"model": _text(one, "model"), "input": _input(one) if "input" in one else given})
    return found


def _input(request: Mapping[str, Any]) -> dict[str, Any]:
    """Read `input`, or the seeds' `prompt` and `options`."""
    if "input" in request and request["input"] is not None:
        given = _mapping(request, "input")
    else:
        given = _mapping(request, "options")
        if request.get("prompt") is not None:
            given = {"prompt": _text(request, "prompt"), **given}
    return given


def _refuse_unwritable(given: Any, name: str) -> None:
    """Refuse what is no JSON, what no database takes, and what is too much."""
    try:
        text = json.dumps(given, allow_nan=False, ensure_ascii=False)
        size_bytes = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is no JSON: {type(error).__name__}", field=name, allowed="JSON values") from None
    if "\\u0000" in text:
        raise InvalidInput(f"{name} holds a NUL character", field=name, allowed="text without NUL")
    if size_bytes > MAX_INPUT_BYTES:
        raise InvalidInput(f"{name} is larger than 1 MiB", field=name, allowed="at most 1 MiB; upload files first")


def _text(request: Mapping[str, Any], name: str, *, default: str | None = None, longest: int = 500) -> str:
    value = request.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{name} is missing or no text", field=name, given=value, allowed="a text")
    if len(value) > longest and name != "prompt":
        raise InvalidInput(
            f"{name} is longer than {longest} characters", field=name, allowed=f"at most {longest} characters"
        )
    _refuse_unwritable(value, name)
    return value


def _mapping(request: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = request.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name} is no JSON object", field=name, given=value, allowed="a JSON object")
    _refuse_unwritable(dict(value), name)
    return dict(value)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidInput(f"{name} is {value!r}", field=name, given=value, allowed=" or ".join(allowed))


def _uuid(value: str) -> str:
    try:
        return str(uuid.UUID(value))
    except (ValueError, AttributeError, TypeError):
        raise InvalidInput(f"{value!r} is no UUID", field="id", given=value, allowed="a UUID") from None
