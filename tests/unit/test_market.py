"""The jobs API: what a record says, in all shapes that were seen or documented, and in shapes that nobody ever saw."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiejobs.answers import Accepted, Broken, Finished, NotVisible, Pending, Result
from kiejobs.errors import Reason
from kiejobs.kie.envelope import Envelope
from kiejobs.kie.families.market import Market

A, B, C, D = (f"https://files.example/{name}" for name in "abcd")
market = Market()


def answer(data: Any, *, code: int | None = 200, message: str = "success") -> Envelope:
    return Envelope(200, code, message, data, parsed=True)


def record(state: str = "success", **more: Any) -> dict[str, Any]:
    """A record as it is on the wire: JSON in JSON, nulls, and an empty `resultJson` until success."""
    param = json.dumps({"input": json.dumps({"prompt": "a cat", "nsfw_checker": False}), "model": "z-image"})
    base: dict[str, Any] = {"taskId": "330a9433fd309e9e18df1c567ae38471", "model": "z-image", "state": state}
    base |= {"param": param, "resultJson": "", "failCode": None, "failMsg": None, "costTime": None}
    return base | {"completeTime": None, "createTime": 1776862567160} | more


def finished(result: Any, **more: Any) -> tuple[Result, ...]:
    """The results of a record whose `resultJson` is this value."""
    found = market.snapshot(answer(record(resultJson=json.dumps(result), **more)))
    assert isinstance(found, Finished)
    return found.results


def urls(*pairs: tuple[str, str]) -> tuple[Result, ...]:
    return tuple(Result(role, url=url) for role, url in pairs)


# ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_create_has_model_and_input_and_a_callback_with_a_capital_b() -> None:
    """Exactly what was asked for: the input unchanged, nothing of ours added."""
    given_input = {"prompt": "a cat", "duration": "5"}
    call = market.create("kling-2.6/text-to-video", {"input": given_input, "metadata": {"order": 42}}, None)
    assert (call.method, call.path) == ("POST", "/api/v1/jobs/createTask")
    assert call.body == {"model": "kling-2.6/text-to-video", "input": given_input}
    told = market.create("z-image", {"input": {}}, "https://we.example/cb")
    assert told.body == {"model": "z-image", "input": {}, "callBackUrl": "https://we.example/cb"}


def test_a_record_is_read_by_its_task_id() -> None:
    """As a query parameter, not in the path."""
    call = market.read("t/1 ?")
    assert (call.method, call.path, call.query, call.body) == (
        "GET",
        "/api/v1/jobs/recordInfo",
        {"taskId": "t/1 ?"},
        None,
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"taskId": "a", "recordId": "b"}, "a"),
        ({"recordId": "b"}, "b"),
        ({"taskId": "", "recordId": "b"}, "b"),
        ({"taskId": "   "}, None),
        ({"taskId": 17}, "17"),
        ({"task_id": "a"}, "a"),
        ({"taskId": True}, None),
        ({"taskId": None}, None),
        ({}, None),
        (None, None),
        ("a", None),
        ([], None),
    ],
)
def test_a_task_id_is_a_text_that_says_something(data: Any, expected: str | None) -> None:
    """Anything else is no task id, and the create unknown."""
    outcome = market.created(answer(data), {})
    assert (outcome.task_id if isinstance(outcome, Accepted) else None) == expected


# ── states ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("word", ["waiting", "queuing", "generating"])
def test_the_working_words_are_pending(word: str) -> None:
    """As documented; `queuing` was never seen."""
    assert market.snapshot(answer(record(word))) == Pending(word, None, known=True)


@pytest.mark.parametrize("word", ["Success", "SUCCESS", "failed", "error", "done", "canceled", "上传中", "fail ", "0"])
def test_an_unknown_word_is_pending_and_said_to_be_unknown(word: str) -> None:
    """Also one that looks like an end: a guess could throw away a paid result."""
    assert market.snapshot(answer(record(word))) == Pending(word, None, known=False)


@pytest.mark.parametrize("state", [None, "", 0, [], {}])
def test_a_record_without_a_state_is_pending(state: Any) -> None:
    """Waited on under the words `no state`."""
    assert market.snapshot(answer(record(state))) == Pending("no state", None, known=False)


def test_a_failure_carries_kies_code_message_and_credits() -> None:
    """The envelope's code is 200 all the same."""
    found = market.snapshot(answer(record("fail", failCode="501", failMsg="Generation failed.", creditsConsumed=0.0)))
    assert found == Broken("501", "Generation failed.", Reason.GENERATION, Decimal("0.0"))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Your request was flagged by the content policy.", Reason.CONTENT),
        ("NSFW content detected", Reason.CONTENT),
        ("Blocked by SAFETY system", Reason.CONTENT),
        ("Internal error, please try again later.", Reason.GENERATION),
        ("", Reason.GENERATION),
        (None, Reason.GENERATION),
    ],
)
def test_moderation_is_told_from_other_failures_by_its_words(message: str | None, reason: Reason) -> None:
    """Kie has no code of its own for it."""
    found = market.snapshot(answer(record("fail", failCode=None, failMsg=message)))
    assert isinstance(found, Broken)
    assert found.reason is reason
    assert found.message


@pytest.mark.parametrize("code", [408, 501, 531])
def test_an_envelope_can_end_a_task_without_a_record(code: int) -> None:
    """No result in time, or generation failed: no state, but the code says it."""
    found = market.snapshot(answer(None, code=code, message="Generation failed"))
    assert found == Broken(str(code), "Generation failed", Reason.GENERATION, None)


@pytest.mark.parametrize("code", [200, 404, 422])
def test_no_record_is_not_visible(code: int) -> None:
    """`recordInfo is null`, and code 200 with `data` null."""
    assert market.snapshot(answer(None, code=code, message="recordInfo is null")) == NotVisible("recordInfo is null")


# ── results ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_result_urls_keep_kies_order() -> None:
    """The order is the output's index."""
    assert finished({"resultUrls": [C, A, B]}) == urls(("result", C), ("result", A), ("result", B))


def test_result_json_may_be_encoded_twice() -> None:
    """Text inside text, and lists that are text again."""
    assert finished(json.dumps({"resultUrls": [A]})) == urls(("result", A))
    assert finished({"resultUrls": json.dumps([A, B])}) == urls(("result", A), ("result", B))


def test_result_json_may_be_no_text_at_all() -> None:
    """An object where the documents have text."""
    found = market.snapshot(answer(record(resultJson={"resultUrls": [A]})))
    assert found == Finished(urls(("result", A)))


def test_a_single_url_may_come_without_its_list() -> None:
    """A text where a list is documented."""
    assert finished({"resultUrls": A}) == urls(("result", A))


@pytest.mark.parametrize("key", ["resultImageUrl", "resultVideoUrl", "video_url"])
def test_the_keys_of_the_migrated_families_are_results(key: str) -> None:
    """Fall-backs that clients keep since the move of September 2026."""
    assert finished({key: A}) == urls(("result", A))


def test_water_marked_copies_come_after_the_clean_ones() -> None:
    """With a role of their own."""
    shape = {"resultWaterMarkUrls": [C, D], "resultUrls": [A, B]}
    assert finished(shape) == urls(("result", A), ("result", B), ("watermark", C), ("watermark", D))


def test_first_and_last_frame_come_after_the_video() -> None:
    """Seedance with `return_last_frame`."""
    shape = {"firstFrameUrl": B, "lastFrameUrl": C, "resultUrls": [A]}
    assert finished(shape) == urls(("result", A), ("first_frame", B), ("last_frame", C))


def test_songs_give_audio_and_cover() -> None:
    """The streaming copy only where the audio is missing; each part says whose song it is."""
    songs = [
        {"id": "1", "audio_url": A, "stream_audio_url": D, "image_url": B},
        {"id": "2", "audio_url": "", "stream_audio_url": C, "image_url": None},
        "no song",
    ]
    assert finished({"data": songs}) == (
        Result("result", url=A, ref="1"),
        Result("cover", url=B, ref="1"),
        Result("result", url=C, ref="2"),
    )


def test_a_result_object_is_a_document_and_the_files_it_points_at() -> None:
    """Text and structured results: speech-to-text, segment maps, lyrics."""
    shape = {"resultObject": {"text": "Grüße", "mask_urls": [A, {"deep": B}], "note": "see https://not a link"}}
    found = finished(shape)
    assert [result.role for result in found] == ["document", "linked", "linked"]
    assert found[0].url is None
    assert json.loads(found[0].document or "") == shape["resultObject"]
    assert [result.url for result in found[1:]] == [A, B]


def test_songs_in_the_older_apis_spelling_are_songs() -> None:
    """As one client of the newest versions found them."""
    songs = [{"id": "1", "audioUrl": A, "streamAudioUrl": D, "imageUrl": B}]
    assert finished({"sunoData": songs}) == (Result("result", url=A, ref="1"), Result("cover", url=B, ref="1"))


@pytest.mark.parametrize(
    ("shape", "links"),
    [
        ({"vocalUrl": A, "drumsUrl": B, "pianoUrl": None}, [A, B]),
        ({"images": [A, B]}, [A, B]),
        ({"personaId": "p-1", "name": "Singer"}, []),
        ({"state": "complete", "instruments": [{"name": "Drums", "notes": []}]}, []),
        ({"data": {"personaId": "p-1"}}, []),
    ],
)
def test_a_success_in_no_documented_shape_is_kept_whole(shape: Any, links: list[str]) -> None:
    """Stems, covers, personas, notes: nobody documents them here, and they were paid for."""
    document, *files = finished(shape)
    assert document.role == "document"
    assert json.loads(document.document or "") == {name: value for name, value in shape.items() if value}
    assert [(result.role, result.url) for result in files] == [("file", link) for link in links]


@pytest.mark.parametrize(
    "shape",
    [
        {"resultUrls": [{"url": A, "seed": 1}]},
        {"resultUrls": [], "audioWavUrl": A},
        {"data": [{"imageUrls": [A]}]},
        {"data": [A]},
        {"resultObject": {}, "output": {"url": A}},
    ],
)
def test_files_in_a_known_place_of_an_unknown_shape_are_not_lost(shape: Any) -> None:
    """The place is documented, what is in it is not: it was paid for, and is no empty success."""
    document, file = finished(shape)
    assert (document.role, file) == ("document", Result("file", url=A))


@pytest.mark.parametrize("shape", [[A, B], json.dumps([A, B]), json.dumps(json.dumps([A, B]))])
def test_a_bare_list_of_urls_is_a_list_of_results(shape: Any) -> None:
    """Without the key that the documents have."""
    assert finished(shape) == urls(("result", A), ("result", B))
    assert finished(A) == urls(("result", A))


@pytest.mark.parametrize("shape", [{"seed": 5}, {"nsfw": False}, {"resultUrls": [], "seed": "5"}, {"data": []}])
def test_a_success_that_says_nothing_yet_has_no_results(shape: Any) -> None:
    """A number beside a list that is still empty is no result: it is asked again."""
    assert finished(shape) == ()


@pytest.mark.parametrize("empty", [{}, [], "", None])
def test_an_empty_result_object_is_no_result(empty: Any) -> None:
    """An empty document would be stored as if it were something."""
    assert finished({"resultObject": empty}) == ()


def test_the_response_twin_is_read_where_result_json_is_empty() -> None:
    """Undocumented, seen since autumn 2026."""
    found = market.snapshot(answer(record(resultJson="", response={"resultUrls": [A]})))
    assert found == Finished(urls(("result", A)))


@pytest.mark.parametrize("shape", ["", "{}", "null", "[]", '"words"', "17", "{", None, 17, [17], "https:", "http"])
def test_a_success_without_anything_has_no_results(shape: Any) -> None:
    """Which is asked again, and never taken for a failure here."""
    assert market.snapshot(answer(record(resultJson=shape))) == Finished(())


def test_a_url_that_is_named_twice_is_one_output() -> None:
    """In one list, or in a list and a single key of the same meaning."""
    assert finished({"resultUrls": [A, B, A], "resultImageUrl": B}) == urls(("result", A), ("result", B))


@pytest.mark.parametrize(
    "shape",
    [
        {"resultUrls": [A], "resultWaterMarkUrls": [A]},
        {"resultUrls": [A], "lastFrameUrl": A},
        {"resultUrls": [A], "resultObject": {"url": A}},
    ],
)
def test_a_url_that_is_named_under_two_roles_is_one_output(shape: Any) -> None:
    """Every URL once, under the role that comes first; else the same file is copied and paid for twice."""
    assert [result for result in finished(shape) if result.url] == [*urls(("result", A))]


def test_blank_and_odd_urls_are_left_out() -> None:
    """Nulls, numbers and blanks among the URLs."""
    assert finished({"resultUrls": [None, "", "  ", 17, f" {A} ", {}]}) == urls(("result", A))


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (4, Decimal(4)),
        (4.5, Decimal("4.5")),
        ("4.5", Decimal("4.5")),
        (0, Decimal(0)),
        (None, None),
        (True, None),
        ("many", None),
        ([], None),
        ({}, None),
        (float("nan"), None),
        (float("inf"), None),
        ("sNaN", None),
    ],
)
def test_credits_are_known_or_none(value: Any, expected: Decimal | None) -> None:
    """None is unknown, which is not zero."""
    found = market.snapshot(answer(record("success", creditsConsumed=value)))
    assert isinstance(found, Finished)
    assert found.credits == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0.0), (50, 0.5), ("75", 0.75), (100, 1.0), (250, 1.0), (-3, 0.0), (None, None), ("half", None), ([], None)],
)
def test_progress_is_between_0_and_1_or_none(value: Any, expected: float | None) -> None:
    """From Kie's 0 … 100."""
    assert market.snapshot(answer(record("generating", progress=value))) == Pending("generating", expected)


@pytest.mark.parametrize("value", [float("nan"), 10**400, float("inf")], ids=["nan", "1e400", "inf"])
def test_odd_progress_is_a_number_between_0_and_1_or_none(value: Any) -> None:
    """JSON has numbers that are none for us; a look must survive them."""
    found = market.snapshot(answer(record("generating", progress=value)))
    assert isinstance(found, Pending)
    assert found.progress is None or 0 <= found.progress <= 1


# ── anything ─────────────────────────────────────────────────────────────────────────────────────────────────────────

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([A, B, "fail"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
KEYS = ["state", "resultJson", "response", "failCode", "failMsg", "creditsConsumed", "progress", "taskId", "param"]
INNER = ["resultUrls", "resultObject", "data", "resultWaterMarkUrls", "firstFrameUrl", "lastFrameUrl", "video_url"]
inner_shapes = st.dictionaries(st.sampled_from(INNER), json_values)
records = st.dictionaries(
    st.sampled_from(KEYS), json_values | inner_shapes | inner_shapes.map(json.dumps) | st.just("success")
)


@given(json_values | records, st.none() | st.integers(0, 600))
def test_no_record_upsets_the_reading_and_only_fail_is_broken(data: Any, code: int | None) -> None:
    """Any JSON under any code; a failure needs the word, or a failing code where there is no word."""
    found = market.snapshot(answer(data, code=code))
    if isinstance(found, Broken):
        word = str(data.get("state") or "") if isinstance(data, dict) else ""
        assert word == "fail" or (not word and code in (408, 501, 531))
    if isinstance(found, Finished):
        assert all(result.url or result.document for result in found.results)
        assert len(set(found.results)) == len(found.results)


@given(records)
def test_with_code_200_only_the_word_fail_is_broken(data: Any) -> None:
    """I4's other half: no odd field ends a job."""
    assert isinstance(market.snapshot(answer(data)), Broken) == (str(data.get("state") or "") == "fail")


def test_a_result_nested_without_end_is_no_crash() -> None:
    """Five hundred levels, as JSON text that the parser still takes."""
    deep = '{"resultObject":' + '{"a":' * 500 + f'"{A}"' + "}" * 501
    found = market.snapshot(answer(record(resultJson=deep)))
    assert isinstance(found, Finished)


def test_a_result_nested_beyond_the_parser_is_no_crash() -> None:
    """A look that raises is counted as an execution that killed its worker: five of them end a paid job."""
    found = market.snapshot(answer(record(resultJson="[" * 100_000)))
    assert isinstance(found, Finished | Pending)
