"""What Kie's codes mean for a create call, and that no body can upset the reading of it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiejobs.answers import Busy, Refused, Scope, Unknown
from kiejobs.errors import Reason
from kiejobs.kie.callbacks import callback_url, token
from kiejobs.kie.envelope import as_int, as_json, envelope, refusal
from kiejobs.kie.reading import broken

HTML = b"<html><head><title>502 Bad Gateway</title></head></html>"
REFUSED = {
    400: (Scope.JOB, Reason.REFUSED),
    401: (Scope.ACCOUNT, Reason.UNAUTHORIZED),
    402: (Scope.ACCOUNT, Reason.CREDITS),
    404: (Scope.JOB, Reason.REFUSED),
    405: (Scope.JOB, Reason.REFUSED),
    409: (Scope.JOB, Reason.REFUSED),
    413: (Scope.JOB, Reason.INVALID_INPUT),
    422: (Scope.JOB, Reason.INVALID_INPUT),
    433: (Scope.ACCOUNT, Reason.CREDITS),
    451: (Scope.JOB, Reason.INVALID_INPUT),
    455: (Scope.ACCOUNT, Reason.REFUSED),
    505: (Scope.MODEL, Reason.REFUSED),
}
UNKNOWN = (408, 500, 501, 531, 550)


def body(code: object, msg: str = "as Kie says", data: Any = None) -> bytes:
    return json.dumps({"code": code, "msg": msg, "data": data}).encode()


@pytest.mark.parametrize("code", REFUSED)
def test_a_refused_code_says_whom_it_concerns(code: int) -> None:
    """HTTP 200 with the code in the body, as Kie answers nearly everything."""
    scope, reason = REFUSED[code]
    found = refusal(envelope(200, body(code)))
    assert isinstance(found, Refused)
    assert (found.code, found.message, found.scope, found.reason) == (str(code), "as Kie says", scope, reason)


@pytest.mark.parametrize("code", [429, 430])
def test_asked_too_often_is_busy(code: int) -> None:
    """Nothing was made, nothing is queued at Kie."""
    assert refusal(envelope(200, body(code))) == Busy(str(code), "as Kie says")


@pytest.mark.parametrize("code", [*UNKNOWN, 0, -1, 418, 600])
def test_every_other_code_is_unknown(code: int) -> None:
    """A code that does not prove that nothing was made is parked, with its evidence."""
    found = refusal(envelope(200, body(code)))
    assert isinstance(found, Unknown)
    assert found.code == str(code)
    assert found.evidence == {"http_status": 200, "code": code, "message": "as Kie says", "data": "None"}


def test_a_500_says_that_it_is_often_a_bad_parameter() -> None:
    """So that a person knows where to look."""
    found = refusal(envelope(200, body(500)))
    assert "often a bad parameter" in found.message


@pytest.mark.parametrize("status", [500, 502, 503, 504, 505, 520, 524, 599])
def test_a_gateways_page_is_unknown(status: int) -> None:
    """HTML from in front of Kie: the create may have got through."""
    answer = envelope(status, HTML)
    assert (answer.code, answer.parsed, answer.ok) == (None, False, False)
    assert isinstance(refusal(answer), Unknown)


@pytest.mark.parametrize("status", [status for status in REFUSED if status < 500])
def test_where_the_body_is_no_envelope_the_http_status_decides(status: int) -> None:
    """A page with status 401 refuses as code 401 does."""
    found = refusal(envelope(status, HTML))
    assert isinstance(found, Refused)
    assert (found.scope, found.reason) == REFUSED[status]


def test_a_page_with_status_429_is_busy() -> None:
    """As Kie's documents claim for throttling."""
    assert isinstance(refusal(envelope(429, HTML)), Busy)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [(500, 422, Refused), (503, 429, Busy), (422, 500, Unknown), (404, 402, Refused), (429, 501, Unknown)],
)
def test_the_bodys_code_wins_over_the_http_status(status: int, code: int, expected: type) -> None:
    """The body's code is Kie's word, the status only its wrapping."""
    found = refusal(envelope(status, body(code)))
    assert isinstance(found, expected)
    assert found.code == str(code)


def test_success_without_a_task_is_unknown() -> None:
    """Kie said yes: something was probably bought."""
    found = refusal(envelope(200, body(200, "success", {})))
    assert isinstance(found, Unknown)
    assert "named no task" in found.message


def test_a_200_in_an_error_status_is_not_a_yes() -> None:
    """HTTP 502 around code 200."""
    answer = envelope(502, body(200, "success", {"taskId": "t"}))
    assert not answer.ok
    assert isinstance(refusal(answer), Unknown)


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"17", b'"text"', b"\xff\xfe", b"{", b'{"code": 200, "da'])
def test_what_is_no_object_is_no_envelope(raw: bytes) -> None:
    """Cut JSON, other JSON, other bytes."""
    answer = envelope(200, raw)
    assert (answer.code, answer.parsed, answer.ok) == (None, False, False)
    assert isinstance(refusal(answer), Unknown)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (200, 200),
        ("200", 200),
        (" 422 ", 422),
        (200.0, 200),
        ("-1", -1),
        (200.5, None),
        ("", None),
        ("ok", None),
        (None, None),
        (True, None),
        ([], None),
        ({}, None),
        ("²", None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_a_number_may_come_as_text(value: object, expected: int | None) -> None:
    """Kie writes some codes as text; what is no number is none."""
    assert as_int(value) == expected


@pytest.mark.parametrize("value", ["--5", "-", "9" * 5000, "-" * 10 + "1"], ids=["--5", "-", "5000 digits", "dashes"])
def test_text_that_only_looks_like_a_number_is_none(value: str) -> None:
    """`envelope` never raises, so neither does this."""
    assert as_int(value) is None
    assert envelope(200, body(value)).code is None


def test_the_message_may_be_spelt_out() -> None:
    """One documented sample has `message`; a missing one is empty, a long one is cut."""
    assert envelope(200, b'{"code": 422, "message": "no"}').message == "no"
    assert envelope(200, b'{"code": 422}').message == ""
    assert len(envelope(200, body(422, "x" * 10_000)).message) == 500


@pytest.mark.parametrize("quoted", ["{}", "cannot call {}", "x" * 250 + " {}", "<html>" + " " * 290 + "{}</html>"])
def test_words_that_quote_our_address_are_kept_without_its_token(quoted: str) -> None:
    """In a message, in what is kept of an unknown outcome, in a page that is no JSON, also where they are cut."""
    secret, submission = "s" * 32, "018f3a5e-7c1d-7e6a-9b0f-2d4c6e8a0b1c"
    proof = token(submission, secret).partition(".")[2]
    said = quoted.format(callback_url("https://gate.example", submission, secret))
    answers = [envelope(200, body(code, said, {"param": json.dumps({"at": said})})) for code in (422, 500)]
    for answer in (*answers, envelope(502, said.encode())):
        found = refusal(answer)
        assert proof[:8] not in f"{answer.message} {found} {broken('500', said).message}"
    assert f"{submission}.***" in str(refusal(answers[1]))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@given(st.integers(100, 599), st.binary(max_size=200))
def test_no_bytes_upset_the_reading(status: int, raw: bytes) -> None:
    """Any body is an envelope or none, and any create call has an outcome."""
    assert refusal(envelope(status, raw)).message is not None


@given(st.integers(100, 599), st.fixed_dictionaries({"code": json_values, "msg": json_values, "data": json_values}))
def test_no_envelope_upsets_the_reading(status: int, sent: dict[str, Any]) -> None:
    """Fields of any type."""
    answer = envelope(status, json.dumps(sent).encode())
    assert answer.parsed
    assert isinstance(answer.message, str)
    refusal(answer)


def test_json_nested_without_end_is_no_envelope() -> None:
    """A hundred thousand brackets fit into an answer; they must not raise through the create call."""
    answer = envelope(200, b"[" * 100_000)
    assert not answer.parsed


def test_json_in_json_is_read_and_other_text_left_alone() -> None:
    """`param` and `resultJson` come as text, sometimes as text in text."""
    assert as_json(json.dumps(json.dumps({"a": 1}))) == {"a": 1}
    assert as_json("https://files.example/0.png") == "https://files.example/0.png"
    assert as_json({"a": 1}) == {"a": 1}
    assert as_json("") == ""


def test_json_text_nested_without_end_is_left_alone() -> None:
    """The same brackets inside `resultJson`."""
    deep = "[" * 100_000
    assert as_json(deep) == deep
