"""What a chat's answer means: an answer, a refusal, or an unknown outcome that may have cost money.

Errors come with HTTP 200 as Kie's envelope, as the vendor's `error` object, or as an event within a stream, so all three
are looked for before any content. An error before all content is a refusal by its code. Content without its end is
never an answer: a stream that was cut, or that broke off with an error, is *unknown*, and what came is kept as evidence.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from kiejobs.answers import Answered, Busy, Outcome, Refused, Result, Scope, Unknown
from kiejobs.errors import Reason
from kiejobs.kie.envelope import Envelope, as_int, refusal
from kiejobs.kie.families.chat import claude, completions, gemini, responses
from kiejobs.kie.families.chat.events import Payload, Stream, listed, stream
from kiejobs.kie.reading import CONTENT_WORDS, credits, mapping, once

_EVIDENCE_CHARACTERS = 20_000
_CREDITS = ("credits_consumed", "creditsConsumed")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How answers of one kind are told, read, and put together from a stream."""

    speaks: Callable[[Mapping[str, Any]], bool]
    text: Callable[[Mapping[str, Any]], str]
    gathered: Callable[[Stream], tuple[Payload, bool]]
    pictures: Callable[[Mapping[str, Any]], Iterator[str]] = lambda whole: iter(())


DIALECTS = (
    Dialect(completions.speaks, completions.text, completions.gathered, completions.pictures),
    Dialect(gemini.speaks, gemini.text, gemini.gathered),
    Dialect(responses.speaks, responses.text, responses.gathered),
    Dialect(claude.speaks, claude.text, claude.gathered),
)

VENDORS_REFUSALS = {
    "invalid_request_error": Reason.INVALID_INPUT,
    "request_too_large": Reason.INVALID_INPUT,
    "context_length_exceeded": Reason.INVALID_INPUT,
    "INVALID_ARGUMENT": Reason.INVALID_INPUT,
    "not_found_error": Reason.REFUSED,
    "model_not_found": Reason.REFUSED,
    "NOT_FOUND": Reason.REFUSED,
    "permission_error": Reason.REFUSED,
    "PERMISSION_DENIED": Reason.REFUSED,
    "content_filter": Reason.CONTENT,
    "content_policy_violation": Reason.CONTENT,
    "blocked": Reason.CONTENT,
}
"""The vendors' names for errors after which nothing was made. Sources: https://docs.anthropic.com/en/api/errors,
https://platform.openai.com/docs/guides/error-codes, https://ai.google.dev/gemini-api/docs/troubleshooting."""

VENDORS_BUSY = frozenset({"rate_limit_error", "rate_limit_exceeded", "RESOURCE_EXHAUSTED"})


@dataclass(frozen=True, slots=True)
class Fault:
    """An error as it was told: a number, where it has one, its names, and its words."""

    code: int | None
    names: tuple[str, ...]
    message: str


def outcome(answer: Envelope) -> Outcome:
    """Say what the answer to a chat call means."""
    if isinstance(answer.body, dict):
        return _whole(answer, answer.body)
    came = listed(answer.body) if isinstance(answer.body, list) else stream(answer.text)
    if not came.payloads or (answer.http_status >= 400 and _dialect(came.payloads) is None):
        fault = next(filter(None, map(fault_of, came.payloads)), None)
        return _refused(answer, fault) if fault else refusal(answer)
    return _streamed(answer, came)


def _whole(answer: Envelope, body: Payload) -> Outcome:
    fault = fault_of(body)
    said = next((one for one in (body, mapping(body.get("data"))) if _dialect([one])), None)
    dialect = _dialect([said]) if said else None
    if dialect and said and (fault or answer.http_status >= 400):
        return _broken_off(answer, dialect, said, fault)
    if fault:
        return _refused(answer, fault)
    if answer.http_status >= 400:
        return refusal(answer)
    if dialect and said:
        return _answered(dialect, dict(said), json.dumps(body, ensure_ascii=False), _spent([body, said]))
    return Unknown("Kie answered, but with no answer that can be read", "200", {"body": repr(body)[:2000]})


def _streamed(answer: Envelope, came: Stream) -> Outcome:
    faults = [(number, fault) for number, one in enumerate(came.payloads) if (fault := fault_of(one))]
    before = came.payloads[: faults[0][0]] if faults else came.payloads
    dialect = _dialect(before)
    if dialect is None:
        said = "the stream had no answer in it"
        return _refused(answer, faults[0][1]) if faults else Unknown(said, "200", {"text": answer.text[:2000]})
    whole, ended = dialect.gathered(replace(came, payloads=before))
    if faults or not ended or came.cut or answer.http_status >= 400:
        return _broken_off(answer, dialect, whole, faults[0][1] if faults else None)
    raw = answer.text or json.dumps(answer.body, ensure_ascii=False)
    return _answered(dialect, whole, raw, _spent(list(came.payloads)))


def _broken_off(answer: Envelope, dialect: Dialect, whole: Mapping[str, Any], fault: Fault | None) -> Unknown:
    """Some of the answer came, so it may have been charged for: never a refusal, whatever the error's code."""
    evidence = {"text": dialect.text(whole)[:_EVIDENCE_CHARACTERS]}
    if fault:
        return Unknown(f"the answer broke off with an error: {fault.message}", str(fault.code or ""), evidence)
    why = "was cut before its end" if answer.http_status < 400 else f"came with HTTP {answer.http_status}"
    return Unknown(f"the answer {why}", None, evidence)


def _dialect(payloads: Any) -> Dialect | None:
    return next((one for one in DIALECTS if any(map(one.speaks, payloads))), None)


def _answered(dialect: Dialect, whole: Payload, raw: str, spent: Decimal | None) -> Answered:
    said = dialect.text(whole)
    results = [Result("result", document=said)] if said.strip() else []
    results.append(Result("document", document=json.dumps(whole, ensure_ascii=False, sort_keys=True)))
    results += [Result("linked", url=url) for url in dialect.pictures(whole)]
    return Answered(once(results), raw, spent)


def _spent(payloads: list[Any]) -> Decimal | None:
    """Return the credits that the answer names, the last of them; None where it names none."""
    places = [place for one in payloads for place in (mapping(one), mapping(mapping(one).get("usage")))]
    named = [credits(place.get(key)) for place in places for key in _CREDITS]
    return next((one for one in reversed(named) if one is not None), None)


def fault_of(payload: Mapping[str, Any]) -> Fault | None:
    """Find the error in an answer or an event: Kie's envelope, a vendor's `error`, a prompt that was blocked."""
    code = as_int(payload.get("code"))
    if code is not None and code != 200 and ("msg" in payload or "data" in payload):
        return Fault(code, (), str(payload.get("msg") or payload.get("message") or ""))
    blocked = mapping(payload.get("promptFeedback")).get("blockReason")
    if blocked and not payload.get("candidates"):
        return Fault(None, ("blocked",), f"the prompt was blocked: {blocked}")
    error = payload.get("error") or mapping(payload.get("response")).get("error")
    if not error and payload.get("type") == "error":
        error = payload
    if not error:
        return None
    told = mapping(error)
    names = tuple(str(told[key]) for key in ("code", "type", "status") if isinstance(told.get(key), str))
    return Fault(as_int(told.get("code")), names, str(told.get("message") or error)[:500])


def _refused(answer: Envelope, fault: Fault) -> Outcome:
    """Classify an error that came before all content: by its number as Kie's codes go, else by its name."""
    reason = next((VENDORS_REFUSALS[name] for name in fault.names if name in VENDORS_REFUSALS), None)
    if fault.code is None and not VENDORS_BUSY.isdisjoint(fault.names):
        return Busy(fault.names[0], fault.message)
    if fault.code is None and reason:
        found: Outcome = Refused(fault.names[0], fault.message, Scope.JOB, reason)
    elif fault.code is None and answer.http_status < 400:
        return Unknown(f"Kie answered with an error: {fault.message}", next(iter(fault.names), None))
    else:
        code = fault.code if fault.code is not None else answer.http_status
        found = refusal(replace(answer, code=code, message=fault.message))
    about_content = isinstance(found, Refused) and found.scope is Scope.JOB and _about_content(fault.message)
    return replace(found, reason=Reason.CONTENT) if about_content else found  # type: ignore[arg-type]


def _about_content(message: str) -> bool:
    return any(word in message.lower() for word in CONTENT_WORDS)
