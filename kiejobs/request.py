"""A request for a generation, as a mapping with the fields of `POST /api/generations`: read, checked, made a job.

Whatever is wrong is refused here, before anything is stored, naming the field, what was given and what is allowed. Knows
no database; what a model takes is the catalogue's to say.
"""

import json
import uuid
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from kiejobs.db.follow_ups import FollowUp
from kiejobs.db.intake import NewJob
from kiejobs.errors import InvalidInput
from kiejobs.jobs import DEFAULT_ACCOUNT, Priority
from kiejobs.kie import catalogue
from kiejobs.kie.families import chosen
from kiejobs.places import places
from kiejobs.prompts import composed
from kiejobs.references import OutputOf, is_reference, references, stands_for_many
from kiejobs.storage.addresses import how_to_allow, url_refused
from kiejobs.storage.input_urls import unreachable

Egress = frozenset[tuple[str, int]]
"""Exact host and port pairs that may be called although they are not public."""

MAX_INPUT_BYTES = 1024 * 1024
MAX_METADATA_BYTES = 64 * 1024
"""It comes back with every look at the job, and with every message about it."""
MAX_DEPTH = 100
"""Of lists and objects inside one another: what is written here is read by code that goes down level by level."""
MAX_FALLBACKS = 10
_LONGEST_S = 366 * 86400
_PRIORITIES = tuple(Priority)
_REQUEST_FIELDS = frozenset(
    {"model", "input", "prompt", "options", "provider", "idempotencyKey", "metadata", "priority", "account", "validate"}
    | {"fallbackModels", "callbackUrl", "reuseWithinS", "promptParts"}
)


def new_job(request: Mapping[str, Any], *, tenant: str, who: str, allow: Egress, id: str | None = None) -> NewJob:
    """Check a request and make the job it asks for; InvalidInput names the field at fault."""
    unknown = sorted(set(request) - _REQUEST_FIELDS)
    if unknown:
        allowed = ", ".join(sorted(_REQUEST_FIELDS))
        near = get_close_matches(unknown[0][:100], _REQUEST_FIELDS, n=1)
        meant = f": did you mean {near[0]!r}?" if near else ""
        raise InvalidInput(f"{unknown[0]!r} is no field of a request{meant}", field=unknown[0], allowed=allowed)
    family, model = chosen(_text(request, "model"))
    plain = _input(request)
    validate = _given(request, "validate", "on")
    _one_of("validate", validate, ("on", "strict", "off"))
    _one_of("provider", _given(request, "provider", "kie"), ("kie",))
    priority = _given(request, "priority", Priority.INTERACTIVE)
    _one_of("priority", priority, _PRIORITIES)
    follow, plain = _follow(request, model, _listed(model, plain))
    given = _composed(request, model, plain)
    choices = [{"model": model, "family": family.name, "input": given}, *_fallbacks(request, plain, follow)]
    for choice in choices:
        _refuse_unreachable(choice["input"], allow)
    referred = [one for choice in choices for one in references(choice["input"], tenant=tenant)]
    warnings = [text for one in choices for text in _checked(one["model"], one["input"], str(validate), follow)]
    asked: dict[str, Any] = {"input": given, "metadata": _metadata(request)}
    if referred:
        asked["references"] = len(referred)
    if len(choices) > 1:
        asked["choices"] = choices
    return NewJob(
        tenant=tenant,
        account=_text(request, "account", default=DEFAULT_ACCOUNT),
        model=model,
        family=family.name,
        request=asked,
        priority=Priority(priority),
        callback_url=_callback_url(request, allow),
        idempotency_key=_text(request, "idempotencyKey", default="") or None,
        id=_uuid(id) if id is not None else None,
        warnings=tuple(warnings),
        who=who,
        parents=tuple(dict.fromkeys(one.job for one in referred if isinstance(one, OutputOf))),
        follow=follow,
        reuse_within_s=_seconds(request, "reuseWithinS"),
    )


def _listed(model: str, given: dict[str, Any]) -> dict[str, Any]:
    """Put a reference to one thing into a list where the model's field takes a list."""
    known = catalogue.find(model)
    lists = {field.name for field in known.fields if field.type == "array"} if known else set()
    return {
        name: [value] if name in lists and is_reference(value) and not stands_for_many(value) else value
        for name, value in given.items()
    }


def _follow(request: Mapping[str, Any], model: str, given: dict[str, Any]) -> tuple[FollowUp | None, dict[str, Any]]:
    """Read `job` and `output` of an operation on an earlier generation; return what is left of the input."""
    known = catalogue.find(model)
    if known is None or known.parent is None or "job" not in given:
        return None, given
    output = given.get("output")
    if output is not None and (not isinstance(output, int) or isinstance(output, bool) or output < 0):
        raise InvalidInput(f"input.output is {output!r}", field="input.output", given=output, allowed="0, 1, …")
    needs = known.parent
    follow = FollowUp(
        job=_uuid(given["job"], "input.job"),
        output=output,
        account=request.get("account"),
        families=needs.families,
        task=needs.task,
        part=needs.part,
        index=needs.index,
        takes_all=needs.takes_all,
    )
    return follow, {name: value for name, value in given.items() if name not in ("job", "output")}


def _checked(model: str, given: dict[str, Any], validate: str, follow: FollowUp | None) -> tuple[str, ...]:
    if validate == "off":
        return ()
    filled: dict[str, Any] = {name: "filled in" for name in (follow.task, follow.part) if name} if follow else {}
    if follow and follow.index:
        filled[follow.index] = follow.output or 0
    return catalogue.check(model, given | filled, strict=validate == "strict")


def _refuse_unreachable(given: dict[str, Any], allow: Egress) -> None:
    found = unreachable(given, allow)
    if found:
        name, why = found
        raise InvalidInput(
            f"Kie cannot fetch input.{name}: {why}",
            field=f"input.{name}",
            allowed="a public http(s) URL",
            remedy="Upload it: --input f=@file, or POST /api/files.",
        )


def _callback_url(request: Mapping[str, Any], allow: Egress) -> str | None:
    url = _text(request, "callbackUrl", default="", longest=2000)
    refused = url_refused(url, allow) if url else None
    if refused:
        raise InvalidInput(
            f"callbackUrl cannot be called: {refused}",
            field="callbackUrl",
            allowed="a public http(s) URL",
            remedy=how_to_allow(url),
        )
    return url or None


def _fallbacks(request: Mapping[str, Any], given: dict[str, Any], follow: FollowUp | None) -> list[dict[str, Any]]:
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
        family, model = chosen(_text(one, "model"))
        own = _input(one) if "input" in one else _composed(request, model, given)
        if (follow and "input" not in one) or _follow(one, model, own)[0]:
            allowed = '{"model", "input"} with Kie\'s own ids'
            said = f"{model} cannot take its task from a job: that is for the model asked for alone"
            raise InvalidInput(said, field="fallbackModels", given=entry, allowed=allowed)
        found.append({"model": model, "family": family.name, "input": own})
    return found


def _input(request: Mapping[str, Any]) -> dict[str, Any]:
    """Read `input`, or its short form: `prompt` and `options`. Where both are given, nobody knows which is meant."""
    short = [name for name in ("prompt", "options") if request.get(name) is not None]
    if request.get("input") is not None:
        if short:
            said = f"{short[0]} is given beside input, of which it is the short form"
            raise InvalidInput(said, field=short[0], allowed="input, or prompt and options")
        return _mapping(request, "input")
    given = _mapping(request, "options")
    if "prompt" in short:
        prompt = _text(request, "prompt")
        if given.get("prompt", prompt) != prompt:
            raise InvalidInput("prompt and options.prompt differ", field="options.prompt", allowed="one of the two")
        given = {"prompt": prompt} | given
    return given


def _composed(request: Mapping[str, Any], model: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the input with the prompt that `promptParts` make for this model, where there are any."""
    if request.get("promptParts") is None:
        return given
    return composed(_mapping(request, "promptParts"), given, catalogue.find(model))


def _refuse_unwritable(given: Any, name: str) -> None:
    """Refuse what is no JSON, what no database takes, and what is too much."""
    try:
        text = json.dumps(given, allow_nan=False, ensure_ascii=False, sort_keys=True)  # of one type, as for the hash
        size_bytes = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is no JSON: {type(error).__name__}", field=name, allowed="JSON values") from None
    if "\\u0000" in text and _holds_nul(given):
        raise InvalidInput(f"{name} holds a NUL character", field=name, allowed="text without NUL")
    if size_bytes > MAX_INPUT_BYTES:
        raise InvalidInput(f"{name} is larger than 1 MiB", field=name, allowed="at most 1 MiB; upload files first")
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deeper(given, MAX_DEPTH):
        allowed = f"at most {MAX_DEPTH} lists and objects inside one another"
        raise InvalidInput(f"{name} is nested too deeply", field=name, allowed=allowed)


def _holds_nul(given: Any) -> bool:
    return any(isinstance(word, str) and "\0" in word for path, value in places(given) for word in (value, *path[-1:]))


def _is_deeper(given: Any, levels: int) -> bool:
    level = [given]
    for _ in range(levels + 1):
        level = [one for value in level for one in _inside(value)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _given(request: Mapping[str, Any], name: str, default: str) -> Any:
    value = request.get(name)
    return default if value is None else value


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


def _metadata(request: Mapping[str, Any]) -> dict[str, Any]:
    value = _mapping(request, "metadata")
    if len(json.dumps(value, ensure_ascii=False).encode()) > MAX_METADATA_BYTES:
        allowed = "at most 64 KiB; keep the rest with the generation's id"
        raise InvalidInput("metadata is larger than 64 KiB", field="metadata", allowed=allowed)
    return value


def _seconds(request: Mapping[str, Any], name: str) -> float | None:
    value = request.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST_S:
        raise InvalidInput(
            f"{name} is no number of seconds", field=name, given=value, allowed="seconds, at most a year"
        )
    return float(value)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidInput(f"{name} is {value!r}", field=name, given=value, allowed=" or ".join(allowed))


def _uuid(value: str, field: str = "id") -> str:
    try:
        return str(uuid.UUID(value))
    except (ValueError, AttributeError, TypeError):
        raise InvalidInput(f"{value!r} is no UUID", field=field, given=value, allowed="a UUID") from None
