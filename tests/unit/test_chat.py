"""Chat answers: what is an answer, what a refusal, and what may have cost money without being either.

The shapes are the golden files'; here they are cut, broken and changed at every place. A stream that lost its end must
never pass for an answer.
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiejobs.answers import Answered, Busy, Refused, Scope, Unknown
from kiejobs.kie.envelope import envelope
from kiejobs.kie.families import family
from kiejobs.kie.families.chat.events import stream
from kiejobs.storage.documents import media_of
from tests.contract.golden import cases, load

chat = family("chat")
GOLDEN = [case for case in cases("answers") if case.startswith("chat/")]
STREAMS = [case for case in GOLDEN if "text" in load(case) and load(case)["expect"]["outcome"] == "answered"]
WHOLE = [case for case in GOLDEN if "text" not in load(case) and load(case)["expect"]["outcome"] == "answered"]
ERROR = 'data: {"code":500,"msg":"Server error","data":null}\n\n'


def outcome(body: bytes | str, status: int = 200) -> Any:
    return chat.created(envelope(status, body.encode() if isinstance(body, str) else body), {})


def words(answer: Answered) -> list[str | None]:
    return [result.document for result in answer.results if result.role == "result"]


# ── streams that lost something ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_that_is_cut_anywhere_is_whole_or_no_answer(case: str) -> None:
    """At every single byte: either all words had come and the end was marked, or the outcome is unknown."""
    text = load(case)["text"].encode()
    whole = outcome(text)
    assert isinstance(whole, Answered)
    for length in range(len(text)):
        found = outcome(text[:length])
        assert isinstance(found, Unknown) or words(found) == words(whole), text[:length]


@pytest.mark.parametrize("case", STREAMS)
def test_an_error_anywhere_in_a_stream_is_no_answer(case: str) -> None:
    """Before all content a refusal or unknown, afterwards unknown with what had come."""
    events = [event + "\n\n" for event in load(case)["text"].replace("\r\n", "\n").split("\n\n") if event.strip()]
    for place in range(len(events) + 1):
        found = outcome("".join([*events[:place], ERROR, *events[place:]]))
        assert isinstance(found, Unknown), place
        assert found.code == "500"


@pytest.mark.parametrize("case", STREAMS)
def test_a_refusal_before_all_content_is_definite(case: str) -> None:
    """Nothing was said, and the code is one after which nothing was made."""
    found = outcome('data: {"code":422,"msg":"bad","data":null}\n\n' + load(case)["text"])
    assert isinstance(found, Refused)
    assert found.code == "422"


@pytest.mark.parametrize("case", WHOLE)
def test_a_whole_answer_that_is_cut_is_unknown(case: str) -> None:
    """Cut JSON is no JSON."""
    text = json.dumps(load(case)["body"]).encode()
    for length in range(len(text)):
        assert isinstance(outcome(text[:length]), Unknown)


@pytest.mark.parametrize("case", STREAMS + WHOLE)
def test_what_came_with_an_http_error_is_no_answer(case: str) -> None:
    """Whatever the body says."""
    found = load(case)
    body = found.get("text") or json.dumps(found["body"])
    assert not isinstance(outcome(body, 502), Answered)
    assert isinstance(outcome(body, 502), Unknown)


ERRORS: list[dict[str, Any]] = [
    {"error": {"code": 429, "message": "too many"}},
    {"error": {"type": "rate_limit_error", "message": "too many"}},
    {"error": {"code": 402, "message": "no credits"}},
    {"error": {"type": "invalid_request_error", "message": "bad"}},
    {"code": 455, "msg": "maintenance"},
]


@pytest.mark.parametrize("error", ERRORS, ids=str)
@pytest.mark.parametrize("status", [200, 429])
@pytest.mark.parametrize("case", [case for case in WHOLE if isinstance(load(case)["body"], dict)])
def test_an_answer_with_content_and_an_error_is_never_sent_again(case: str, status: int, error: dict[str, Any]) -> None:
    """It may have been charged for, so it is no refusal, whatever the code; what came is kept."""
    body = load(case)["body"]
    found = outcome(json.dumps({**body, **error}), status)
    assert isinstance(found, Unknown)
    assert "text" in found.evidence


@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_with_content_is_no_refusal_for_its_status(case: str) -> None:
    """A gateway may only know the status in the end."""
    assert isinstance(outcome(load(case)["text"] + 'data: {"error":{"code":429}}\n\n', 429), Unknown)


def test_what_had_come_of_a_broken_answer_is_kept() -> None:
    """It was paid for."""
    found = outcome('data: {"choices":[{"index":0,"delta":{"content":"Once upon"}}]}\n\n' + ERROR)
    assert isinstance(found, Unknown)
    assert found.evidence == {"text": "Once upon"}


# ── anything ─────────────────────────────────────────────────────────────────────────────────────────────────────────

KEYS = ["choices", "message", "delta", "content", "candidates", "parts", "text", "output", "type", "response", "error"]
MORE = [
    "code",
    "msg",
    "data",
    "index",
    "finish_reason",
    "finishReason",
    "usage",
    "credits_consumed",
    "item",
    "stop_reason",
]
leaves = st.none() | st.booleans() | st.integers(-2, 600) | st.text(max_size=8)
leaves |= st.sampled_from(["message_stop", "content_block_delta", "response.completed", "response.output_item.done"])
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS + MORE), inner, max_size=4),
    max_leaves=14,
)


@given(values)
def test_no_json_upsets_the_reading(body: Any) -> None:
    """An answer must have something to keep, whatever it was."""
    found = outcome(json.dumps(body))
    if isinstance(found, Answered):
        assert found.results
        assert all(result.document or result.url for result in found.results)


@given(st.lists(values, max_size=6), st.booleans())
def test_no_stream_upsets_the_reading(events: list[Any], ended: bool) -> None:
    """Nor does a stream of anything."""
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + ("data: [DONE]\n\n" if ended else "")
    found = outcome(text)
    assert isinstance(found, Answered | Refused | Busy | Unknown)


@given(st.binary(max_size=200))
def test_no_bytes_upset_the_reading(body: bytes) -> None:
    """A gateway's page, half a character, nothing at all."""
    assert not isinstance(outcome(body), Answered)


@pytest.mark.parametrize("case", WHOLE)
@given(data=st.data())
def test_an_answer_without_one_of_its_parts_never_raises(case: str, data: st.DataObject) -> None:
    """A missing field, or one of another type."""
    body = load(case)["body"]
    place = body[-1] if isinstance(body, list) else body
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(values)
    outcome(json.dumps(body))


# ── errors and their meaning ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (400, {"type": "invalid_request_error", "message": "bad"}, Refused),
        (401, {"type": "authentication_error", "message": "key"}, Refused),
        (429, {"message": "slow down"}, Busy),
        (500, {"type": "api_error", "message": "oops"}, Unknown),
        (529, {"type": "overloaded_error", "message": "oops"}, Unknown),
    ],
)
def test_an_http_error_in_the_vendors_shape_is_judged_by_its_status(status: int, error: Any, expected: type) -> None:
    """Names that are known say more than the status."""
    assert isinstance(outcome(json.dumps({"error": error}), status), expected)


def test_a_key_that_kie_refuses_pauses_the_account() -> None:
    """A vendor's refusal of Kie's own key, with HTTP 200 and no number, does not."""
    ours = outcome('{"code":401,"msg":"You do not have access permissions","data":null}')
    assert isinstance(ours, Refused)
    assert ours.scope is Scope.ACCOUNT
    assert isinstance(outcome('{"error":{"type":"authentication_error","message":"upstream"}}'), Unknown)


# ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('data: {"a":1}\n\n', [{"a": 1}]),
        ('data:{"a":1}\n\n', [{"a": 1}]),
        ('data: {"a":\ndata: 1}\n\n', [{"a": 1}]),
        ('event: x\nid: 7\nretry: 10\ndata: {"a":1}\n\n', [{"a": 1}]),
        (': comment\n\ndata: {"a":1}\r\n\r\n', [{"a": 1}]),
        ('\ufeffdata: {"a":1}\n\n', [{"a": 1}]),
        ('{"a":1}\n{"a":2}\n', [{"a": 1}, {"a": 2}]),
        ("data: 17\n\ndata\n\ndata:\n\n", []),
        ("no stream at all", []),
    ],
)
def test_events_are_read_as_the_standard_says(text: str, expected: list[Any]) -> None:
    """Data over several lines, comments, all line ends; a line of bare JSON is an event, too."""
    assert list(stream(text).payloads) == expected


def test_separators_inside_the_words_do_not_cut_an_event() -> None:
    """Only line ends end a line, not what Unicode also calls a separator."""
    text = 'data: {"choices":[{"delta":{"content":"a\u2028b\u0085c\x0c"},"finish_reason":"stop"}]}\n\n'.replace(
        "\x0c", "\\f"
    )
    found = outcome(text)
    assert isinstance(found, Answered)
    assert words(found) == ["a\u2028b\u0085c\x0c"]


# ── how it is kept ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("document", "extension"),
    [
        ('{"a": 1}', "json"),
        ("[1, 2]", "json"),
        ("[Verse]\nSteam and light", "txt"),
        ("{half", "txt"),
        ("42", "txt"),
        ('"quoted"', "txt"),
        ("null", "txt"),
        ("", "txt"),
        ("[" * 100_000, "txt"),
    ],
)
def test_a_document_is_json_or_plain_text(document: str, extension: str) -> None:
    """Only an object or a list is JSON; a single number is what somebody said."""
    assert media_of(document).extension == extension
