"""One suite for every family: what the golden files say, and what no odd answer of Kie's may do to a job.

The files are `tests/golden/<family>/…`, described in the README there. Nothing here knows a single family.
"""

import copy
import dataclasses
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kiejobs.answers import (
    Accepted,
    Answered,
    Broken,
    Busy,
    Finished,
    NotVisible,
    Pending,
    Refused,
    Result,
    Snapshot,
    Unknown,
)
from kiejobs.kie import catalogue
from kiejobs.kie.callbacks import task_id_of
from kiejobs.kie.envelope import as_int
from kiejobs.kie.families import FAMILIES, chosen, family, family_for
from kiejobs.kie.family import Family
from tests.contract.golden import BY_NAME, TOP, answer, cases, family_of, load, words_of

WITH_RECORDS = [each for each in FAMILIES if (TOP / each.name / "words.json").exists()]
WITH_WORDS = [each for each in WITH_RECORDS if words_of(each)["fields"]]
MODELS = [(each.name, model) for each in FAMILIES for model in sorted(each.models)]
every_family = pytest.mark.parametrize("each", FAMILIES, ids=lambda each: each.name)
every_record = pytest.mark.parametrize("case", cases("records"))
by_name = lambda each: each.name  # noqa: E731 - a name for parametrize


# ── the folders ──────────────────────────────────────────────────────────────────────────────────────────────────────


@every_family
def test_every_family_has_its_golden_files(each: Family) -> None:
    """Requests and answers at least; records, with odd ones, where it has tasks."""
    kinds = {path.name: len(list(path.glob("*.json"))) for path in (TOP / each.name).iterdir() if path.is_dir()}
    assert kinds["requests"] >= 1
    assert kinds["answers"] >= 3
    assert kinds.get("records", 10 if each not in WITH_RECORDS else 0) >= 9


@pytest.mark.parametrize(
    "case", [path for kind in ("requests", "answers", "records", "callbacks") for path in cases(kind)]
)
def test_every_golden_file_says_where_its_shape_is_from(case: str) -> None:
    """A page of Kie's, and whether it was seen; and its folder is a family's."""
    found = load(case)
    assert case.partition("/")[0] in BY_NAME
    assert found["doc"].startswith("https://docs.kie.ai/")
    assert found["seen"] in ("wire", "documented")


# ── which family ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_names_and_models_are_each_one_familys() -> None:
    """A job's row names the family, a request the model: neither may be ambiguous."""
    assert len(BY_NAME) == len(FAMILIES)
    assert all(family(name) is each for name, each in BY_NAME.items())
    assert len({model for _, model in MODELS}) == len(MODELS)


@pytest.mark.parametrize(("name", "model"), MODELS)
def test_a_model_reaches_its_family_and_any_other_one_by_prefix(name: str, model: str) -> None:
    """`jobs:runway` is the jobs API's, `runway` the older one's; the catalogue knows what each takes."""
    assert family_for(model).name == name
    assert chosen(model) == (BY_NAME[name], model)
    assert chosen(f"jobs:{model}") == (BY_NAME["jobs"], model)
    assert chosen(f"{name}:{model}") == (BY_NAME[name], model)
    assert catalogue.find(model) is not None


def test_what_nobody_claims_goes_to_the_jobs_api() -> None:
    """Kie adds models monthly."""
    for model in ("veo-3-1", "4o-image-api", "runway/gen4-aleph", "somebody/new-model", "veo3/8k"):
        assert family_for(model).name == "jobs"


@every_family
def test_every_model_of_a_family_has_a_golden_request(each: Family) -> None:
    """An id that nobody ever drew a request for may be sent anywhere."""
    drawn = {load(case)["model"] for case in cases("requests") if family_of(case) is each}
    assert each.models <= drawn


# ── creating ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("case", cases("requests"))
def test_a_create_call_is_as_documented(case: str) -> None:
    """Method, path, query and body, each parameter once and nothing of ours in it; the caller's request is left alone."""
    found, each = load(case), family_of(case)
    request = {"input": found["input"], "metadata": {"order": 42}, "submission": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}
    before = copy.deepcopy(request)
    call = each.create(found["model"], request, found["callbackUrl"])
    assert {"method": call.method, "path": call.path, "query": call.query} == found["expect"]
    assert call.body == found["body"]
    assert request == before


@pytest.mark.parametrize("case", cases("requests"))
def test_an_incomplete_request_is_still_a_call(case: str) -> None:
    """What is missing is for the catalogue or Kie to say; a create that raises would park a job for nothing."""
    found, each = load(case), family_of(case)
    for request in ({}, {"input": None}, {"input": {}}, *({"input": {name: None}} for name in found["input"])):
        call = each.create(found["model"], request, None)
        assert (call.method, call.path) == (found["expect"]["method"], found["expect"]["path"])
        json.dumps(call.body)


@pytest.mark.parametrize("case", cases("answers"))
def test_an_answer_to_a_create_call_means_what_its_page_says(case: str) -> None:
    """Accepted, refused, busy or unknown: it decides whether money may have been spent."""
    found, each = load(case), family_of(case)
    request = {"input": found.get("input", {}), "submission": found.get("submission")}
    outcome = each.created(answer(found["body"], found.get("text")), request)
    match outcome:
        case Accepted(task_id):
            told = {"outcome": "accepted", "task_id": task_id}
        case Refused(code, _, scope, reason):
            told = {"outcome": "refused", "code": code, "scope": scope, "reason": reason}
        case Busy(code, _) | Unknown(_, code):
            told = {"outcome": type(outcome).__name__.lower(), "code": code}
        case Answered(results, _, credits):
            listed = [_result(result) for result in results]
            told = {"outcome": "answered", "results": listed, "credits": _text(credits)}
        case _:
            told = {"outcome": type(outcome).__name__.lower()}
    assert told | found["expect"] == told
    assert set(told) >= set(found["expect"])


@pytest.mark.parametrize("each", WITH_RECORDS, ids=by_name)
@settings(deadline=None)
@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["code", "msg", "data", "taskId"]), inner, max_size=4)
        ),
        max_leaves=8,
    )
)
def test_no_answer_to_a_create_call_upsets_the_reading(each: Family, body: Any) -> None:
    """Whatever came back, something is written down about it."""
    each.created(answer(body), {"input": {"taskId": "parent"}, "submission": "s"})


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def told(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as golden files write it."""
    match snapshot:
        case Pending(word, progress, known):
            return {"snapshot": "pending", "word": word, "known": known, "progress": progress}
        case Finished(results, credits):
            listed = [_result(result) for result in results]
            return {"snapshot": "finished", "results": listed, "credits": _text(credits)}
        case Broken(code, message, reason, credits):
            said = {"code": code, "message": message, "reason": reason, "credits": _text(credits)}
            return {"snapshot": "broken", **said}
        case NotVisible(message):
            return {"snapshot": "not_visible", "message": message}


def _result(result: Result) -> dict[str, Any]:
    plain = {entry.name: entry.default for entry in dataclasses.fields(Result) if entry.name != "role"}
    return {name: value for name, value in dataclasses.asdict(result).items() if value != plain.get(name)}


def _text(credits: Decimal | None) -> str | None:
    return None if credits is None else str(credits)


@every_record
def test_a_record_means_what_its_page_says(case: str) -> None:
    """Every state, in every shape that was documented or seen, and in odd ones."""
    found, each = load(case), family_of(case)
    heard = answer(found["body"])
    assert told(each.snapshot(heard)) == found["expect"]
    assert heard.ok or heard.code in each.readable, "the client would not hand this record on"


@pytest.mark.parametrize("each", WITH_RECORDS, ids=by_name)
def test_a_record_call_names_the_task(each: Family) -> None:
    """In its query or its body, as it is."""
    call = each.read("t/1 ?")
    assert "t/1 ?" in (*call.query.values(), *(call.body or {}).values())
    assert call.path.startswith("/api/v1/")


@pytest.mark.parametrize("each", WITH_RECORDS, ids=by_name)
def test_a_fresh_link_is_asked_for_by_the_url(each: Family) -> None:
    """One of Kie's two download-url calls."""
    call = each.fresh_link("task-1", "https://files.example/a.png")
    assert (call.method, call.path.rsplit("/", 1)[1]) == ("POST", "download-url")
    assert (call.body or {})["url"] == "https://files.example/a.png"


@pytest.mark.parametrize("each", WITH_WORDS, ids=by_name)
def test_every_documented_word_is_read_as_number_and_as_text(each: Family) -> None:
    """A record of nothing but its status word; Kie writes some numbers as text."""
    words = words_of(each)
    kinds = {"working": Pending, "made": Finished, "failed": Broken}
    for kind, expected in kinds.items():
        assert words[kind]
        for word in words[kind]:
            for written in {word, int(word) if word.isdigit() else word}:
                for field in words["fields"] if not word.isdigit() else words["fields"][:1]:
                    found = each.snapshot(answer({"code": 200, "data": {field: written}}))
                    assert isinstance(found, expected), (field, written)
                    assert not isinstance(found, Pending) or found.known


@pytest.mark.parametrize("each", WITH_RECORDS, ids=by_name)
@settings(deadline=None)
@given(code=st.integers(0, 999), data=st.none() | st.text(max_size=9) | st.integers() | st.just([]))
def test_an_answer_without_a_record_ends_a_task_only_by_its_code(each: Family, code: int, data: Any) -> None:
    """408, 501 and 531 say that it failed, where the family reads them; everything else is looked at again."""
    found = each.snapshot(answer({"code": code, "msg": "words", "data": data}))
    assert isinstance(found, Broken) == (code in {408, 501, 531} & each.readable)
    assert not isinstance(found, Finished)


# ── records that nobody ever saw ─────────────────────────────────────────────────────────────────────────────────────

URL = "https://files.example/a.png"
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**13),
    st.floats(allow_nan=False),
    st.text(max_size=12),
    st.sampled_from(["", "0", "7", "ok", "SUCCESS_", "failed", "{}", "[]", '{"a": 1}', "[[[", URL]),
    st.just({}),
    st.just([]),
    st.lists(st.none() | st.integers() | st.just(URL), max_size=3),
    st.dictionaries(st.text(max_size=6), st.none() | st.integers() | st.text(max_size=6), max_size=3),
)


@st.composite
def changed(draw: st.DrawFn, record: Any) -> Any:
    """A record after one to three changes anywhere in it: a field dropped, retyped, renamed, added, or its JSON text cut."""
    record = copy.deepcopy(record)
    for _ in range(draw(st.integers(1, 3))):
        place = record
        while isinstance(place, dict) and draw(st.booleans()):
            inner = [value for value in place.values() if isinstance(value, dict) and value]
            if not inner:
                break
            place = draw(st.sampled_from(inner))
        if not isinstance(place, dict):
            return draw(values)
        name = draw(st.sampled_from(sorted(place) or ["new"]))
        match draw(st.sampled_from(["drop", "retype", "swap", "rename", "add"])):
            case "drop":
                place.pop(name, None)
            case "retype":
                place[name] = draw(values)
            case "swap":
                place[name] = _swapped(place.get(name))
            case "rename":
                place[draw(st.text(min_size=1, max_size=8))] = place.pop(name, None)
            case "add":
                place[draw(st.text(min_size=1, max_size=8))] = draw(values)
    return record


def _swapped(value: Any) -> Any:
    """A number as text, text as a number where it is one, an object as JSON text."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return int(value) if value.isdigit() and value.isascii() else [value]
    return json.dumps(value)


def assert_ends_only_by_a_documented_word(each: Family, record: Any, found: Snapshot) -> None:
    """Finished and broken need a word of the family's table in the record, or what the table names beside it."""
    words, fields = words_of(each), record if isinstance(record, dict) else {}
    said = {
        str(as_int(value)) if as_int(value) is not None else value
        for name in words["fields"]
        if isinstance(value := fields.get(name), str | int | float)
    }
    if isinstance(found, Finished) and words["fields"]:
        assert said & set(words["made"]) or (said & set(words.get("perhaps", [])) and found.results)
    if isinstance(found, Broken):
        with_error = bool(said & set(words["working"])) and bool(fields.get(words.get("error", "")))
        gone = any(str(as_int(fields.get(name))) == value for name, value in words.get("gone", {}).items())
        assert said & set(words["failed"]) or with_error or (said & set(words["made"]) and gone)


@pytest.mark.parametrize("each", WITH_RECORDS, ids=by_name)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_changed_record_never_raises_and_never_ends_a_task_wrongly(each: Family, data: st.DataObject) -> None:
    """A missing field, another type, a number as text, a new field, a new word: waited on, never guessed."""
    body = load(data.draw(st.sampled_from(cases("records", each.name))))["body"]
    assume(body["data"])
    body["data"] = data.draw(changed(body["data"]))
    found = each.snapshot(answer(body))
    assert_ends_only_by_a_documented_word(each, body["data"], found)
    if isinstance(found, Finished):
        assert all(result.url or result.document for result in found.results)
        assert len({result.url or result.document for result in found.results}) == len(found.results)
    each.echo(body["data"])


@every_record
def test_a_word_that_no_page_names_is_waited_on_and_said_to_be_unknown(case: str) -> None:
    """Whatever else the record has: results, error codes, a time of its end."""
    body, each = load(case)["body"], family_of(case)
    fields = words_of(each)["fields"]
    if not fields or not isinstance(body["data"], dict):
        return
    for unknown in ("ARCHIVED", "Success", "done", "-1", 99, "成功"):
        body["data"] |= dict.fromkeys(fields, unknown)
        found = each.snapshot(answer(body))
        assert isinstance(found, Pending), unknown
        assert (found.word, found.known) == (str(unknown), False)


@every_record
def test_fields_that_nobody_knows_change_nothing(case: str) -> None:
    """Kie adds fields monthly."""
    found, each = load(case), family_of(case)
    if isinstance(found["body"]["data"], dict):
        found["body"]["data"] |= {"newField": "fail", "newObject": {"state": "fail", "successFlag": 3}, "ünï": None}
    assert told(each.snapshot(answer(found["body"]))) == found["expect"]


# ── callbacks and adoption ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("case", cases("callbacks"))
def test_a_callback_names_its_task(case: str) -> None:
    """In all of Kie's spellings; nothing else in it is believed."""
    found = load(case)
    assert task_id_of(found["body"]) == found["expect"]["task_id"]


@pytest.mark.parametrize("case", [case for case in cases("requests") if family_of(case) in WITH_RECORDS])
def test_what_is_compared_for_an_adoption_was_sent(case: str) -> None:
    """In the record's words, with the values of the request, and never the callback address, which has its own check."""
    found, each = load(case), family_of(case)
    asked = each.asked(
        found["model"],
        {"input": {**found["input"], "callBackUrl": "https://theirs.example"}}
        if each.name != "jobs"
        else {"input": found["input"]},
    )
    sent = (found["body"] or {}).get("input") if each.name == "jobs" else (found["body"] or found["expect"]["query"])
    assert asked
    assert asked.items() <= sent.items()
