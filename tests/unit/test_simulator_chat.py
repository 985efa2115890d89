"""The simulated chat models: four dialects, whole and as streams, with errors before and within the answer."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from kiejobs.simulator import Simulator
from tests.simulated import KEY, Calls

TEXT = "Say hello"
MESSAGES = {"messages": [{"role": "user", "content": TEXT}]}
PARTS = {"messages": [{"role": "user", "content": [{"type": "text", "text": TEXT}]}]}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": TEXT}]}]}
INPUT = {"input": TEXT}
INPUT_LIST = {"input": [{"role": "user", "content": [{"type": "input_text", "text": TEXT}]}]}

PLACES: list[tuple[str, dict[str, Any], bool]] = [
    ("/gpt-5-2/v1/chat/completions", MESSAGES, False),
    ("/gemini-2.5-pro/v1/chat/completions", PARTS, True),
    ("/gemini/v1/models/gemini-3-flash-v1betamodels:streamGenerateContent", CONTENTS, True),
    ("/claude/v1/messages", MESSAGES | {"model": "claude-sonnet-4-5", "max_tokens": 10}, True),
    ("/codex/v1/responses", INPUT | {"model": "gpt-5-4"}, False),
    ("/api/v1/responses", INPUT_LIST | {"model": "gpt-5-codex"}, False),
    ("/grok/v1/responses", INPUT | {"model": "grok-4-3"}, True),
]
"""Where, what is asked, and whether a stream answers when the body does not say."""


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    """One simulator for all tests of this file."""
    with Simulator(create_limit=0) as simulator:
        yield simulator


@pytest.fixture
def kie(running: Simulator) -> Calls:
    """A customer of a simulator that has seen nothing."""
    return Calls(running)


def ask(kie: Calls, path: str, body: dict[str, Any]) -> requests.Response:
    """The raw answer."""
    return requests.post(kie.kie.base_url + path, json=body, headers=KEY, timeout=5)


def marked(body: dict[str, Any], marker: str) -> dict[str, Any]:
    """The same body with a marker in its text."""
    marked_body: dict[str, Any] = json.loads(json.dumps(body).replace(TEXT, f"{TEXT} {marker}"))
    return marked_body


def events_of(answer: requests.Response) -> list[Any]:
    """The data of each event, parsed where it is JSON."""
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) if line.startswith("{") else line for line in lines]


def whole_text(answer: dict[str, Any]) -> str:
    """The text of an answer in one piece, in any dialect."""
    if "choices" in answer:
        return str(answer["choices"][0]["message"]["content"])
    if "candidates" in answer:
        return "".join(part["text"] for part in answer["candidates"][0]["content"]["parts"])
    if "output" in answer:
        return str(answer["output"][0]["content"][0]["text"])
    return str(answer["content"][0]["text"])


def streamed_text(events: list[Any]) -> str:
    """The text of all pieces, in any dialect."""
    pieces = []
    for data in events:
        if isinstance(data, dict) and "choices" in data:
            pieces.append(data["choices"][0]["delta"].get("content", ""))
        elif isinstance(data, dict) and "candidates" in data:
            pieces.append(data["candidates"][0]["content"]["parts"][0]["text"])
        elif isinstance(data, dict) and data.get("type") == "content_block_delta":
            pieces.append(data["delta"]["text"])
        elif isinstance(data, dict) and data.get("type") == "response.output_text.delta":
            pieces.append(data["delta"])
    return "".join(pieces)


@pytest.mark.parametrize(("path", "body", "streams"), PLACES)
def test_an_answer_comes_whole_or_in_pieces_and_says_the_same(
    kie: Calls, path: str, body: dict[str, Any], streams: bool
) -> None:
    """What the body asks for counts; without a word the place decides. Each answer is charged and written down."""
    whole = ask(kie, path, body | {"stream": False})
    assert whole.headers["Content-Type"] == "application/json"
    assert whole_text(whole.json()) == "A simulated answer to: Say hello"
    assert whole.json()["credits_consumed"] == 0.02
    assert streamed_text(events_of(ask(kie, path, body | {"stream": True}))) == whole_text(whole.json())
    assert ask(kie, path, body).headers["Content-Type"].startswith("text/event-stream") is streams
    entries = kie.entries("creates")
    assert kie.balance() == pytest.approx(10000 - 3 * 0.02)
    assert {(entry["family"], entry["path"], entry["prompt"], entry["taskId"]) for entry in entries} == {
        ("chat", path, TEXT, None)
    }
    assert entries[0]["model"] == body.get("model", path.split("/")[1] if "models" not in path else path[18:-22])


@pytest.mark.parametrize(("path", "body", "streams"), PLACES)
def test_a_refusal_is_an_envelope_with_http_200(kie: Calls, path: str, body: dict[str, Any], streams: bool) -> None:
    """Nothing is charged: no key, a body without messages, a scripted refusal, a failure that is refunded."""
    no_key = requests.post(kie.kie.base_url + path, json=body, timeout=5)
    assert (no_key.status_code, no_key.json()["code"]) == (200, 401)
    empty = ask(kie, path, {"model": "m"})
    assert (empty.status_code, empty.json()["code"]) == (200, 422)
    assert ask(kie, path, marked(body, "[[refuse=429]]")).json()["code"] == 429
    assert ask(kie, path, marked(body, "[[fail=moderation]]")).json()["code"] == 400
    assert ask(kie, path, marked(body, "[[http=502]]")).status_code == 502
    assert kie.balance() == 10000


@pytest.mark.parametrize(("path", "body", "streams"), PLACES)
def test_an_error_in_the_middle_of_a_stream_is_an_envelope_after_some_text(
    kie: Calls, path: str, body: dict[str, Any], streams: bool
) -> None:
    """The stream ends with it, without the events that end a good one."""
    events = events_of(ask(kie, path, marked(body, "[[stream-error=500]]") | {"stream": True}))
    assert (events[-1]["code"], events[-1]["data"]) == (500, None)
    assert len(events) > 2
    assert "[DONE]" not in events
    assert ask(kie, path, marked(body, "[[stream-error=500]]") | {"stream": False}).json()["code"] == 500


@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_answer_is_charged_and_never_whole(kie: Calls, stream: bool) -> None:
    """The client sees the connection end; the ledger says that the answer never arrived."""
    path, body, _ = PLACES[3]
    with pytest.raises(requests.exceptions.RequestException):
        ask(kie, path, marked(body, "[[cut-body]]") | {"stream": stream})
    assert kie.entries("creates")[0]["code"] is None
    assert kie.balance() == pytest.approx(10000 - 0.02)


def test_each_dialect_ends_its_stream_as_its_vendor_does(kie: Calls) -> None:
    """`[DONE]`, a finishReason, `message_stop`, `response.completed` with the whole text."""
    ends = [events_of(ask(kie, path, body | {"stream": True}))[-1] for path, body, _ in PLACES]
    assert ends[0] == ends[1] == "[DONE]"
    assert ends[2]["candidates"][0]["finishReason"] == "STOP"
    assert ends[2]["usageMetadata"]["totalTokenCount"] > 0
    assert ends[3] == {"type": "message_stop"}
    assert whole_text(ends[4]["response"]) == "A simulated answer to: Say hello"
    assert ends[4]["response"]["status"] == "completed"


def test_an_empty_answer_is_possible(kie: Calls) -> None:
    """A success without a text."""
    path, body, _ = PLACES[0]
    assert whole_text(ask(kie, path, marked(body, "[[empty-result]]")).json()) == ""


def test_a_message_that_points_to_a_lost_upload_is_451(kie: Calls) -> None:
    """Media in messages are links, too."""
    part = {"type": "image_url", "image_url": {"url": f"{kie.kie.files_url}/kieai/1/gone.png"}}
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": TEXT}, part]}]}
    assert ask(kie, PLACES[0][0], body).json()["code"] == 451
