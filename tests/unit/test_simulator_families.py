"""Every family of the simulated API: what is created, what its record and its callback look like, how it fails."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from kiejobs.simulator import Simulator
from kiejobs.simulator.families import FAMILIES
from tests.receiver import Receiver, wait_until
from tests.simulated import KEY, Calls, download

FILE = "https://example.com/in.png"
MUSIC = {"model": "V5", "customMode": False, "instrumental": True, "prompt": "a tune"}
UPLOAD = {"uploadUrl": "https://example.com/in.mp3"}
STYLED = {"style": "jazz", "title": "Tune"}

BODIES: dict[str, dict[str, Any]] = {
    "/api/v1/jobs/createTask": {"model": "z-image", "input": {"prompt": "a cat"}},
    "/api/v1/gpt4o-image/generate": {"prompt": "a cat", "size": "1:1"},
    "/api/v1/flux/kontext/generate": {"prompt": "a cat", "inputImage": FILE},
    "/api/v1/veo/generate": {"prompt": "a cat", "model": "veo3_fast"},
    "/api/v1/runway/generate": {"prompt": "a cat", "duration": 5, "quality": "720p", "aspectRatio": "16:9"},
    "/api/v1/aleph/generate": {"prompt": "at night", "videoUrl": FILE},
    "/api/v1/modify/generate": {"prompt": "at night", "videoUrl": FILE},
    "/api/v1/mj/generate": {"taskType": "mj_txt2img", "prompt": "a cat"},
    "/api/v1/generate": MUSIC,
    "/api/v1/generate/upload-cover": MUSIC | UPLOAD,
    "/api/v1/generate/upload-extend": {"model": "V5", "defaultParamFlag": False, "continueAt": 3} | UPLOAD,
    "/api/v1/generate/add-instrumental": {"title": "T", "negativeTags": "no", "tags": "jazz"} | UPLOAD,
    "/api/v1/generate/add-vocals": {"prompt": "la", "negativeTags": "no"} | STYLED | UPLOAD,
    "/api/v1/generate/mashup": {"uploadUrlList": ["a", "b"], "customMode": False, "model": "V5"} | STYLED,
    "/api/v1/generate/sounds": {"prompt": "rain", "model": "V5"},
    "/api/v1/lyrics": {"prompt": "about coffee"},
}
"""A body that is good enough, for every call that needs no parent."""

FOLLOW_UPS: dict[str, tuple[str, dict[str, Any]]] = {
    "/api/v1/veo/extend": ("/api/v1/veo/generate", {"prompt": "on"}),
    "/api/v1/runway/extend": ("/api/v1/runway/generate", {"prompt": "on", "quality": "720p"}),
    "/api/v1/mj/generateUpscale": ("/api/v1/mj/generate", {"imageIndex": 2}),
    "/api/v1/mj/generateVary": ("/api/v1/mj/generate", {"imageIndex": 1}),
    "/api/v1/wav/generate": ("/api/v1/generate", {"audioId": "x"}),
    "/api/v1/mp4/generate": ("/api/v1/generate", {"audioId": "x"}),
    "/api/v1/vocal-removal/generate": ("/api/v1/generate", {"audioId": "x"}),
    "/api/v1/suno/cover/generate": ("/api/v1/generate", {}),
    "/api/v1/midi/generate": ("/api/v1/vocal-removal/generate", {}),
}
"""Which call makes the parent, and what stands beside `taskId`."""

HOOK = {"callBackUrl": "http://127.0.0.1:9/nobody"}
QUERIES = {operation.path: family.record_path for family in FAMILIES for operation in family.operations}
FAMILY = {operation.path: family.name for family in FAMILIES for operation in family.operations}


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    """One simulator for all tests of this file; generations last until they are finished."""
    with Simulator(duration_s=60, create_limit=0, hmac_key="s3cret") as simulator:
        yield simulator


@pytest.fixture
def kie(running: Simulator) -> Calls:
    """A customer of a simulator that has seen nothing."""
    return Calls(running)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of callbacks."""
    listening = Receiver()
    yield listening
    listening.close()


def body_for(kie: Calls, path: str, markers: str = "", **more: Any) -> dict[str, Any]:
    """A good body with markers; the parents it needs are made on the way."""
    if path in FOLLOW_UPS:
        parent_path, own = FOLLOW_UPS[path]
        parent = kie.make(parent_path, body_for(kie, parent_path))
        return {"taskId": parent, "note": markers} | own | HOOK | more
    body = BODIES[path]
    if "input" in body:
        return body | {"input": body["input"] | {"note": markers}} | HOOK | more
    return body | {"note": markers} | HOOK | more


def record_of(kie: Calls, path: str, task_id: str) -> dict[str, Any]:
    """The `data` of the family's own query."""
    answer = kie.get(QUERIES[path], taskId=task_id)
    assert answer["code"] == 200, answer
    return dict(answer["data"])


def test_every_call_of_the_tables_is_tried_here() -> None:
    """A new operation without a body fails this test, not silently none."""
    asynchronous = {op.path for family in FAMILIES for op in family.operations if op.answer is None}
    others = {"/api/v1/generate/extend", "/api/v1/generate/replace-section"}  # they name a song, see the Suno tests
    assert asynchronous == {*BODIES, *FOLLOW_UPS, *others}


@pytest.mark.parametrize("path", [*BODIES, *FOLLOW_UPS])
def test_a_create_is_charged_written_down_and_can_be_asked_for(kie: Calls, path: str) -> None:
    """An envelope with the id; the ledger has family, path and model; the files of a finished task are there."""
    body = body_for(kie, path)
    before = kie.balance()
    answer = kie.post(path, body)
    assert answer["code"] == 200, answer
    task_id = answer["data"]["taskId"]
    assert set(answer["data"]) == ({"taskId", "recordId"} if path.endswith("createTask") else {"taskId"})
    entry = kie.entries("creates")[-1]
    assert (entry["path"], entry["taskId"], entry["accepted"]) == (path, task_id, True)
    assert entry["family"] == FAMILY[path]
    assert entry["model"]
    assert kie.balance() == pytest.approx(before - entry["credits"])
    assert record_of(kie, path, task_id)["taskId"] == task_id
    record = kie.finish(task_id)
    for link in links_in(record):
        assert download(link).status_code == 200
    assert json.loads(json.dumps(record_of(kie, path, task_id))) == record


def links_in(value: object) -> list[str]:
    """Every link to the files host in a record; JSON texts are looked into, `param` is left out."""
    if isinstance(value, str) and value.startswith("{"):
        return links_in(json.loads(value))
    if isinstance(value, str):
        return [value] if "/f/" in value else []
    if isinstance(value, dict):
        return [link for name, child in value.items() if "aram" not in name for link in links_in(child)]
    return [link for child in value for link in links_in(child)] if isinstance(value, list) else []


@pytest.mark.parametrize("path", [*BODIES, *FOLLOW_UPS])
def test_a_failed_task_is_refunded_and_says_so_in_the_callback(kie: Calls, receiver: Receiver, path: str) -> None:
    """No links in record or callback, a code that is not 200, the credits are back, and the id is signed."""
    body = body_for(kie, path, "[[fail=500]]", callBackUrl=receiver.url)
    before = kie.balance()
    task_id = kie.create(path, body)
    record = kie.finish(task_id)
    assert links_in(record) == []
    assert kie.balance() == pytest.approx(before)
    wait_until(lambda: receiver.seen)
    [(headers, callback)] = receiver.seen
    assert callback["code"] in (500, 501)
    assert links_in(callback) == []
    assert task_id in json.dumps(callback)
    assert headers["X-Webhook-Signature"]
    assert headers["X-Webhook-Timestamp"].isdigit()


@pytest.mark.parametrize("path", [*BODIES, *FOLLOW_UPS])
def test_the_markers_of_the_jobs_api_work_everywhere(kie: Calls, receiver: Receiver, path: str) -> None:
    """Refusal, trouble at the query, duplicates of the callback, dead links."""
    refused = kie.post(path, body_for(kie, path, "[[refuse=455]]"))
    assert (refused["code"], refused["data"]) == (455, None)
    markers = "[[poll-429=1]] [[dup-callback=2]] [[dead-link]]"
    task_id = kie.create(path, body_for(kie, path, markers, callBackUrl=receiver.url))
    assert kie.get(QUERIES[path], taskId=task_id)["code"] == 429
    assert all(download(link).status_code == 404 for link in links_in(kie.finish(task_id)))
    wait_until(lambda: len(receiver.seen) == 2)
    assert receiver.bodies[0] == receiver.bodies[1]


@pytest.mark.parametrize("path", [*BODIES, *FOLLOW_UPS])
def test_a_fresh_task_is_as_unknown_as_any_other(kie: Calls, path: str) -> None:
    """`null-record` hides it behind the family's own answer for unknown ids."""
    task_id = kie.create(path, body_for(kie, path, "[[null-record=60]]"))
    unknown = kie.get(QUERIES[path], taskId="f" * 32)
    assert kie.get(QUERIES[path], taskId=task_id) == unknown
    if FAMILY[path].startswith("suno"):
        assert unknown == {"code": 200, "msg": "success", "data": None}
    else:
        assert unknown == {"code": 422, "msg": "recordInfo is null", "data": None}


@pytest.mark.parametrize("path", [path for path in FOLLOW_UPS if path != "/api/v1/midi/generate"])
def test_a_follow_up_without_markers_takes_those_its_parent_left_for_it(kie: Calls, path: str) -> None:
    """`next:` in the parent's prompt; the parent itself is not touched by it."""
    parent_path, own = FOLLOW_UPS[path]
    parent = kie.create(parent_path, body_for(kie, parent_path, "[[next:fail=500]]"))
    assert links_in(kie.finish(parent))
    assert links_in(kie.finish(kie.create(path, {"taskId": parent} | own | HOOK))) == []


@pytest.mark.parametrize("path", FOLLOW_UPS)
def test_a_follow_up_needs_a_finished_parent_of_its_own_account(kie: Calls, path: str) -> None:
    """Unknown, of another customer, still at work: refused each time, and nothing is charged."""
    parent_path, own = FOLLOW_UPS[path]
    waiting = kie.create(parent_path, body_for(kie, parent_path))
    balance = kie.balance()
    answers = [kie.post(path, {"taskId": task_id} | own | HOOK) for task_id in ("f" * 32, waiting)]
    assert [answer["code"] for answer in answers] == [422, 422]
    assert answers[0]["msg"] == "Record does not exist"
    kie.finish(waiting)
    foreign = kie.post(path, {"taskId": waiting} | own | HOOK, Authorization="Bearer another")
    assert foreign["msg"] == "Record does not exist"
    assert kie.balance() == balance


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        ("/api/v1/gpt4o-image/generate", {"size": "16:9"}, "size must be one of 1:1, 3:2, 2:3"),
        ("/api/v1/gpt4o-image/generate", {"prompt": None}, "prompt or filesUrl is required"),
        ("/api/v1/gpt4o-image/generate", {"filesUrl": ["u"] * 6}, "filesUrl is too long, at most 5"),
        ("/api/v1/flux/kontext/generate", {"aspectRatio": "16:21"}, "aspectRatio must be one of"),
        ("/api/v1/flux/kontext/generate", {"safetyTolerance": 7}, "safetyTolerance must be from 0 to 6"),
        ("/api/v1/flux/kontext/generate", {"enableTranslation": "yes"}, "enableTranslation must be a flag"),
        ("/api/v1/veo/generate", {"prompt": ""}, "prompt is required"),
        ("/api/v1/veo/generate", {"duration": 5}, "duration must be one of"),
        ("/api/v1/runway/generate", {"quality": "1080p", "duration": 10}, "only available with duration 5"),
        ("/api/v1/runway/generate", {"aspectRatio": None}, "aspectRatio is required"),
        ("/api/v1/mj/generate", {"taskType": "mj_img2img"}, "fileUrls is required"),
        ("/api/v1/mj/generate", {"taskType": "mj_video", "fileUrls": [FILE]}, "motion is required"),
        ("/api/v1/generate", {"callBackUrl": None}, "Please enter callBackUrl."),
        ("/api/v1/generate", {"customMode": True}, "style is required"),
        ("/api/v1/generate", {"styleWeight": 2}, "styleWeight must be from 0 to 1"),
        ("/api/v1/generate/mashup", {"uploadUrlList": ["a"]}, "exactly 2"),
        ("/api/v1/lyrics", {"callBackUrl": ""}, "Please enter callBackUrl."),
        ("/api/v1/jobs/createTask", {"model": "V6"}, "not supported"),
    ],
)
def test_a_body_against_the_page_is_422(kie: Calls, path: str, change: dict[str, Any], said: str) -> None:
    """HTTP 200, code 422, the field by name; nothing is made."""
    answer = kie.post(path, BODIES[path] | HOOK | change)
    assert (answer["code"], answer["data"]) == (422, None)
    assert said in answer["msg"]
    assert kie.entries("creates")[0]["accepted"] is False


JUNK: tuple[object, ...] = (0, -1, 1e300, True, "x", "[[", {"a": 1}, ["u", 3], [[]])


@pytest.mark.parametrize("path", BODIES)
def test_no_value_of_any_field_breaks_a_create(kie: Calls, path: str) -> None:
    """Accepted or refused by an envelope, and what was accepted can be asked for; never a crash."""
    names = [field.name for family in FAMILIES for op in family.operations if op.path == path for field in op.fields]
    for name in (*names, "callBackUrl", "taskId", "title"):
        for value in JUNK:
            answer = kie.post(path, BODIES[path] | HOOK | {name: value})
            assert answer["code"] in (200, 422), (name, value, answer)
            if answer["code"] == 200:
                kie.finish(answer["data"]["taskId"])


@pytest.mark.parametrize("path", ["/api/v1/veo/generate", "/api/v1/generate", "/api/v1/mj/generate"])
def test_answers_of_other_families_are_spoiled_alike(kie: Calls, path: str) -> None:
    """Made and charged each time, although the client never learns the id."""
    url = kie.kie.base_url + path
    for marker in ("[[reset]]", "[[cut-header]]", "[[cut-body]]", "[[hang]]"):
        with pytest.raises(requests.exceptions.RequestException):  # a cut header leaves a 200 without a body
            requests.post(url, json=body_for(kie, path, marker), headers=KEY, timeout=0.5).json()
    page = requests.post(url, json=body_for(kie, path, "[[http-after=502]]"), headers=KEY, timeout=5)
    assert page.status_code == 502
    assert kie.post(path, body_for(kie, path, "[[no-task-id]]"))["data"] == {}
    entries = kie.entries("creates")
    assert [entry["code"] for entry in entries] == [None] * 4 + [502, 200]
    assert all(entry["accepted"] and entry["taskId"] for entry in entries)


def test_a_record_belongs_to_its_own_family(kie: Calls) -> None:
    """An id of another API is unknown."""
    task_id = kie.make("/api/v1/veo/generate", BODIES["/api/v1/veo/generate"])
    assert kie.get("/api/v1/jobs/recordInfo", taskId=task_id)["code"] == 422
    assert kie.get("/api/v1/generate/record-info", taskId=task_id)["data"] is None


def test_4o_shows_flag_word_and_progress_and_spells_its_callback_differently(kie: Calls, receiver: Receiver) -> None:
    """Numbers for the flag, text for progress, camel case in the record and snake case in the callback."""
    path = "/api/v1/gpt4o-image/generate"
    task_id = kie.create(path, body_for(kie, path, "[[outputs=2]]", callBackUrl=receiver.url))
    record = record_of(kie, path, task_id)
    assert (record["successFlag"], record["status"], record["progress"]) == (0, "GENERATING", "0.00")
    assert (record["response"], record["completeTime"]) == (None, None)
    done = kie.finish(task_id)
    assert (done["successFlag"], done["status"], done["progress"]) == (1, "SUCCESS", "1.00")
    assert len(done["response"]["resultUrls"]) == 2
    assert done["completeTime"] >= done["createTime"]
    assert json.loads(done["paramJson"])["size"] == "1:1"
    wait_until(lambda: receiver.seen)
    data = receiver.bodies[0]["data"]
    assert data == {"taskId": task_id, "info": {"result_urls": done["response"]["resultUrls"]}}


def test_4o_has_a_download_url_of_its_own(kie: Calls) -> None:
    """It wants the task and one of its links; the link is good although the old one has died."""
    path = "/api/v1/gpt4o-image/generate"
    task_id, other = (kie.make(path, body_for(kie, path, "[[expired-link]]")) for _ in range(2))
    [url] = record_of(kie, path, task_id)["response"]["resultUrls"]
    assert download(url).status_code == 403
    fresh = kie.post("/api/v1/gpt4o-image/download-url", {"taskId": task_id, "url": url})
    assert download(fresh["data"]).status_code == 200
    wrong = kie.post("/api/v1/gpt4o-image/download-url", {"taskId": other, "url": url})
    assert (wrong["code"], wrong["msg"]) == (422, "url is wrong")


def test_the_origin_of_a_flux_picture_is_gone_after_ten_minutes(kie: Calls, receiver: Receiver) -> None:
    """The result stays, and no fresh link brings the origin back."""
    path = "/api/v1/flux/kontext/generate"
    task_id = kie.make(path, body_for(kie, path, callBackUrl=receiver.url))
    pair = record_of(kie, path, task_id)["response"]
    assert {name: download(url).status_code for name, url in pair.items()} == {
        "originImageUrl": 200,
        "resultImageUrl": 200,
    }
    kie.age(task_id, 600)
    assert download(pair["originImageUrl"]).status_code == 403
    assert download(pair["resultImageUrl"]).status_code == 200
    fresh = kie.post("/api/v1/common/download-url", {"url": pair["originImageUrl"]})["data"]
    assert download(fresh).status_code == 403
    wait_until(lambda: receiver.seen)
    assert receiver.bodies[0]["data"] == {"taskId": task_id, "info": pair}


def test_veo_gives_originals_for_an_upright_frame_only(kie: Calls, receiver: Receiver) -> None:
    """And the callback has `info` with the resolution and `fallbackFlag`."""
    path = "/api/v1/veo/generate"
    wide = kie.finish(kie.create(path, body_for(kie, path)))
    assert wide["response"]["originUrls"] is None
    assert (wide["successFlag"], wide["fallbackFlag"], wide["errorCode"]) == (1, False, None)
    task_id = kie.create(path, body_for(kie, path, callBackUrl=receiver.url, aspect_ratio="9:16", resolution="1080p"))
    response = kie.finish(task_id)["response"]
    assert len(response["resultUrls"]) == len(response["originUrls"]) == 1
    assert (response["taskId"], response["resolution"]) == (task_id, "1080p")
    wait_until(lambda: receiver.seen)
    data = receiver.bodies[0]["data"]
    assert data["info"] == {name: response[name] for name in ("resultUrls", "originUrls", "resolution")}
    assert data["fallbackFlag"] is False


def test_a_veo_extension_also_has_the_whole_film(kie: Calls) -> None:
    """`fullResultUrls` beside the new seconds."""
    path = "/api/v1/veo/extend"
    response = kie.finish(kie.create(path, body_for(kie, path)))["response"]
    assert len(response["fullResultUrls"]) == 1
    assert response["fullResultUrls"] != response["resultUrls"]


def test_1080p_says_not_yet_first_and_costs_nothing(kie: Calls) -> None:
    """Asking is what starts it; each index has a copy of its own; it is a query, not a create."""
    path, generate = "/api/v1/veo/get-1080p-video", "/api/v1/veo/generate"
    parent = kie.create(generate, body_for(kie, generate, "[[next:duration=0.05]]"))
    assert kie.get(path, taskId=parent, index=0)["msg"] == "record status is not success"
    kie.finish(parent)
    balance = kie.balance()
    early = kie.get(path, taskId=parent, index=0)
    assert early["code"] == 400
    assert "processing" in early["msg"]
    wait_until(lambda: kie.get(path, taskId=parent, index=0)["code"] == 200)
    url = kie.get(path, taskId=parent, index=0)["data"]["resultUrl"]
    assert download(url).headers["Content-Type"] == "video/mp4"
    assert kie.get(path, taskId=parent, index=1)["code"] == 400
    assert kie.get(path, taskId="f" * 32)["msg"] == "Record does not exist"
    assert (kie.balance(), len(kie.entries("creates"))) == (balance, 1)
    assert {entry["path"] for entry in kie.entries("queries")} == {path}


def test_4k_is_a_paid_task_that_says_422_until_it_has_its_links(kie: Calls, receiver: Receiver) -> None:
    """Made once; processing; then the links with 200; then, as the page says of repeats, with 422."""
    path, generate = "/api/v1/veo/get-4k-video", "/api/v1/veo/generate"
    parent = kie.make(generate, body_for(kie, generate))
    balance = kie.balance()
    made = kie.post(path, {"taskId": parent, "index": 0, "callBackUrl": receiver.url})
    task_id = made["data"]["taskId"]
    assert made == {"code": 200, "msg": "success", "data": {"taskId": task_id, "resultUrls": None, "imageUrls": None}}
    assert balance - kie.balance() == 120
    early = kie.post(path, {"taskId": parent})
    assert (early["code"], early["data"]) == (422, made["data"])
    assert "processing" in early["msg"]
    kie.finish(task_id)
    ready, again, by_its_own_id = (kie.post(path, {"taskId": each}) for each in (parent, parent, task_id))
    assert (ready["code"], again["code"], by_its_own_id["code"]) == (200, 422, 422)
    assert again["msg"] == "The video has been generated successfully"
    assert ready["data"] == again["data"] == by_its_own_id["data"]
    assert [download(url).status_code for url in links_in(ready["data"])] == [200, 200]
    assert kie.get("/api/v1/veo/record-info", taskId=task_id)["data"]["successFlag"] == 1
    assert "fallbackFlag" not in kie.get("/api/v1/veo/record-info", taskId=task_id)["data"]
    wait_until(lambda: receiver.seen)
    info = {name: ready["data"][name] for name in ("resultUrls", "imageUrls")}
    assert receiver.bodies[0]["data"] == {"taskId": task_id, "creditsConsumed": 120.0, "info": info}
    assert len(kie.entries("creates")) == 2


def test_runway_has_states_of_its_own_and_says_when_files_are_gone(kie: Calls, receiver: Receiver) -> None:
    """`wait`, then `success`; text for the time, numbers for code and flag; `task_id` in the callback."""
    path = "/api/v1/runway/generate"
    task_id = kie.create(path, body_for(kie, path, callBackUrl=receiver.url))
    record = record_of(kie, path, task_id)
    assert (record["state"], record["videoInfo"], record["failCode"], record["expireFlag"]) == ("wait", None, 0, 0)
    assert record["generateTime"][4:5] + record["generateTime"][10:11] == "- "
    done = kie.finish(task_id)
    assert (done["state"], done["generateParam"]["prompt"]) == ("success", "a cat")
    wait_until(lambda: receiver.seen)
    video = done["videoInfo"]
    assert receiver.bodies[0]["data"] == {
        "task_id": task_id,
        "video_id": video["videoId"],
        "video_url": video["videoUrl"],
        "image_url": video["imageUrl"],
    }
    kie.age(task_id, 86400)
    assert record_of(kie, path, task_id)["expireFlag"] == 1
    assert download(video["videoUrl"]).status_code == 403


def test_a_runway_extension_names_its_parent(kie: Calls) -> None:
    """`parentTaskId` is the id of the task it continues."""
    path = "/api/v1/runway/extend"
    body = body_for(kie, path)
    assert kie.finish(kie.create(path, body))["parentTaskId"] == body["taskId"]


def test_alephs_callback_has_its_id_at_the_top(kie: Calls, receiver: Receiver) -> None:
    """Not in `data`, which has the two links, or is null."""
    path = "/api/v1/aleph/generate"
    task_id = kie.create(path, body_for(kie, path, callBackUrl=receiver.url))
    response = kie.finish(task_id)["response"]
    failed = kie.create(path, body_for(kie, path, "[[fail=500]]", callBackUrl=receiver.url))
    kie.finish(failed)
    wait_until(lambda: len(receiver.seen) == 2)
    by_id = {body["taskId"]: body for body in receiver.bodies}
    assert by_id[task_id]["data"] == {
        "result_video_url": response["resultVideoUrl"],
        "result_image_url": response["resultImageUrl"],
    }
    assert (by_id[failed]["data"], by_id[failed]["code"]) == (None, 500)


@pytest.mark.parametrize(
    ("path", "markers", "field", "ends"),
    [
        ("/api/v1/aleph/generate", "[[fail=500]] [[ends=0]]", "successFlag", (0, 500, False)),
        ("/api/v1/modify/generate", "[[ends=4]]", "successFlag", (4, None, True)),
        ("/api/v1/gpt4o-image/generate", "[[fail=400]] [[ends=2]]", "successFlag", (2, 400, False)),
        ("/api/v1/veo/generate", "[[fail=501]]", "successFlag", (3, 501, False)),
        ("/api/v1/generate", "[[ends=CALLBACK_EXCEPTION]]", "status", ("CALLBACK_EXCEPTION", None, True)),
        (
            "/api/v1/generate",
            "[[fail=400]] [[ends=SENSITIVE_WORD_ERROR]]",
            "status",
            ("SENSITIVE_WORD_ERROR", 400, False),
        ),
        ("/api/v1/lyrics", "[[fail=500]]", "status", ("GENERATE_LYRICS_FAILED", 500, False)),
        ("/api/v1/wav/generate", "[[fail=500]]", "successFlag", ("GENERATE_WAV_FAILED", 500, False)),
        ("/api/v1/wav/generate", "[[ends=CALLBACK_EXCEPTION]]", "successFlag", ("CALLBACK_EXCEPTION", None, True)),
        ("/api/v1/midi/generate", "[[fail=500]]", "successFlag", (3, "500", False)),
    ],
)
def test_a_task_can_end_with_any_word_its_family_has(
    kie: Calls, path: str, markers: str, field: str, ends: tuple[object, object, bool]
) -> None:
    """`ends` chooses the word or flag; `fail` chooses whether there is a result."""
    record = kie.finish(kie.create(path, body_for(kie, path, markers)))
    assert (record[field], record["errorCode"], bool(links_in(record))) == ends


def test_an_odd_flag_is_a_number_where_flags_are(kie: Calls) -> None:
    """Seen once although the task has ended."""
    path = "/api/v1/veo/generate"
    task_id = kie.make(path, body_for(kie, path, "[[odd-state=7]]"))
    assert [record_of(kie, path, task_id)["successFlag"] for _ in range(2)] == [7, 1]


def test_midjourney_has_objects_in_the_record_and_flat_links_in_the_callback(kie: Calls, receiver: Receiver) -> None:
    """Four pictures; times as ISO text."""
    path = "/api/v1/mj/generate"
    task_id = kie.create(path, body_for(kie, path, callBackUrl=receiver.url))
    assert record_of(kie, path, task_id)["resultInfoJson"] is None
    done = kie.finish(task_id)
    flat = [entry["resultUrl"] for entry in done["resultInfoJson"]["resultUrls"]]
    assert len(flat) == 4
    assert (done["successFlag"], done["taskType"], done["createTime"][-1]) == (1, "mj_txt2img", "Z")
    wait_until(lambda: receiver.seen)
    assert receiver.bodies[0]["data"]["resultUrls"] == flat
    assert json.loads(receiver.bodies[0]["data"]["promptJson"])["prompt"] == "a cat"


UNIFIED = {
    "4o-image-api": ["png"],
    "flux1-kontext": ["png"],
    "veo-3-1": ["mp4"],
    "runway": ["mp4"],
    "runway/gen4-aleph": ["mp4"],
    "ai-music-api/create-music-video": ["mp4"],
    "ai-music-api/convert-to-wav-format": ["wav"],
    "ai-music-api/cover-generate": ["png", "png"],
}


def unified(kie: Calls, model: str, /, **given: object) -> dict[str, Any]:
    """The parsed `resultJson` of a finished task of that model."""
    record = kie.finish(kie.create("/api/v1/jobs/createTask", {"model": model, "input": given}))
    assert (record["state"], record["model"]) == ("success", model)
    return dict(json.loads(record["resultJson"]))


@pytest.mark.parametrize("model", UNIFIED)
def test_a_migrated_model_gives_result_urls(kie: Calls, model: str) -> None:
    """Of the kind the older API made."""
    result = unified(kie, model, prompt="a cat")
    assert list(result) == ["resultUrls"]
    assert [url.rpartition(".")[2] for url in result["resultUrls"]] == UNIFIED[model]
    assert {download(url).status_code for url in result["resultUrls"]} == {200}


@pytest.mark.parametrize("name", ["generate", "extend", "upload-and-cover-audio", "mashup", "sounds"])
def test_migrated_music_gives_songs_in_snake_case(kie: Calls, name: str) -> None:
    """Two takes under `data`, with the cover of each."""
    songs = unified(kie, f"ai-music-api/{name}", prompt="a tune", model="V6")["data"]
    assert len(songs) == 2
    for song in songs:
        assert {"id", "title", "duration", "audio_url", "stream_audio_url", "image_url", "model_name"} < set(song)
        assert download(song["audio_url"]).headers["Content-Type"] == "audio/mpeg"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("generate-lyrics", "lyricsData"),
        ("generate-midi-from-audio", "instruments"),
        ("timeStamped-lyrics", "alignedWords"),
        ("generate-persona", "personaId"),
        ("separate-vocals", "vocal_url"),
    ],
)
def test_migrated_texts_and_notes_are_objects(kie: Calls, name: str, key: str) -> None:
    """Under `resultObject`."""
    assert unified(kie, f"ai-music-api/{name}", prompt="a tune")["resultObject"][key]


def test_a_migrated_follow_up_needs_its_parent(kie: Calls) -> None:
    """By `task_id`, but 1080p by `taskId`, as their pages spell it."""
    parent = kie.make("/api/v1/jobs/createTask", {"model": "veo-3-1", "input": {"prompt": "a cat"}})
    assert unified(kie, "veo/extend", task_id=parent, prompt="on")["resultUrls"]
    assert unified(kie, "veo/get-1080p-video", taskId=parent)["resultUrls"]
    for model, name in (("veo/extend", "task_id"), ("veo/get-1080p-video", "taskId")):
        body = {"model": model, "input": {name: "f" * 32, "prompt": "on"}}
        assert kie.post("/api/v1/jobs/createTask", body)["msg"] == "Record does not exist"


def test_all_families_share_one_create_limit() -> None:
    """Twenty in ten seconds are twenty of any kind."""
    with Simulator(create_limit=3) as running:
        kie = Calls(running)
        paths = ("/api/v1/veo/generate", "/api/v1/gpt4o-image/generate", "/api/v1/lyrics", "/api/v1/aleph/generate")
        codes = [kie.post(path, BODIES[path] | HOOK)["code"] for path in paths]
        assert codes == [200, 200, 200, 429]
        assert running.ledger()["create_violations"] == 1
