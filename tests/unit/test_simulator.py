"""The simulated API: what a client of Kie reads in the bodies of its answers, and what the ledger keeps of it."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from kiejobs.simulator import Simulator
from kiejobs.simulator.models import Kind, kind_of
from tests.receiver import Receiver, pause, wait_until

KEY = {"Authorization": "Bearer key-1"}


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    """One simulator for all tests of this file; generations take 50 ms."""
    with Simulator(duration_s=0.05) as simulator:
        yield simulator


@pytest.fixture
def kie(running: Simulator) -> Simulator:
    """A simulator that has seen nothing yet."""
    requests.post(f"{running.base_url}/simulator/reset", timeout=5)
    return running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of callbacks that answers 200."""
    running = Receiver()
    yield running
    running.close()


def post_create(kie: Simulator, prompt: str = "a cat", model: str = "z-image", **more: Any) -> requests.Response:
    """The raw answer to one createTask."""
    body = {"model": model, "input": {"prompt": prompt}} | more
    return requests.post(f"{kie.base_url}/api/v1/jobs/createTask", json=body, headers=KEY, timeout=5)


def create(kie: Simulator, prompt: str = "a cat", model: str = "z-image", **more: Any) -> str:
    """The id of a new task."""
    answer = post_create(kie, prompt, model, **more).json()
    assert answer["code"] == 200, answer
    return str(answer["data"]["taskId"])


def query(kie: Simulator, task_id: str, key: dict[str, str] = KEY) -> dict[str, Any]:
    """The envelope of one recordInfo."""
    url = f"{kie.base_url}/api/v1/jobs/recordInfo"
    return dict(requests.get(url, params={"taskId": task_id}, headers=key, timeout=5).json())


def finish(kie: Simulator, task_id: str) -> dict[str, Any]:
    """End the task now; its record."""
    return dict(requests.post(f"{kie.base_url}/simulator/tasks/{task_id}/finish", timeout=5).json())


def states(kie: Simulator, task_id: str, looks: int) -> list[str]:
    """The states of so many queries in a row."""
    return [query(kie, task_id)["data"]["state"] for _ in range(looks)]


def balance(kie: Simulator) -> float:
    """What is left on the account."""
    answer = requests.get(f"{kie.base_url}/api/v1/chat/credit", headers=KEY, timeout=5).json()
    assert answer["code"] == 200
    return float(answer["data"])


def entries(kie: Simulator, name: str) -> list[dict[str, Any]]:
    """One list of the ledger."""
    found = kie.ledger()[name]
    assert isinstance(found, list)
    return found


def test_a_create_is_answered_with_two_equal_ids_of_32_hex_digits(kie: Simulator) -> None:
    """As on the wire: HTTP 200, code 200, taskId and recordId the same."""
    answer = post_create(kie)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json;charset=UTF-8"
    assert list(answer.json()) == ["code", "msg", "data"]
    data = answer.json()["data"]
    assert data["taskId"] == data["recordId"]
    assert len(bytes.fromhex(data["taskId"])) == 16
    assert data["taskId"] == data["taskId"].lower()


def test_a_task_goes_from_waiting_over_generating_to_success(kie: Simulator) -> None:
    """Each state is seen, in this order, when one looks often enough."""
    task_id, seen = create(kie, "[[duration=0.25]]"), list[str]()
    while "success" not in seen:
        seen += states(kie, task_id, 1)
    assert list(dict.fromkeys(seen)) == ["waiting", "generating", "success"]


def test_a_running_record_has_no_result_and_no_times(kie: Simulator) -> None:
    """resultJson is an empty text, all that is unknown is null, the price is there already."""
    before_ms = time.time() * 1000 - 1
    record = query(kie, create(kie, "[[duration=60]]"))["data"]
    assert record["state"] == "waiting"
    assert record["resultJson"] == ""
    assert [record[name] for name in ("failCode", "failMsg", "costTime", "completeTime")] == [None] * 4
    assert before_ms <= record["createTime"] <= time.time() * 1000 + 1
    assert record["creditsConsumed"] == 4.0


def test_a_finished_record_carries_its_result_as_json_text(kie: Simulator) -> None:
    """costTime in seconds, completeTime in milliseconds, resultJson with one link to the files host."""
    task_id = create(kie)
    finish(kie, task_id)
    record = query(kie, task_id)["data"]
    assert record["state"] == "success"
    assert json.loads(record["resultJson"]) == {"resultUrls": [f"{kie.files_url}/f/{task_id}/0.png"]}
    assert record["costTime"] == 0
    assert 0 <= record["completeTime"] - record["createTime"] < 2000
    assert kie.files_url == f"http://{kie.files_host_port}"


def test_param_is_json_whose_input_is_json_again(kie: Simulator) -> None:
    """The request comes back in `param`, with the callback URL and a field Kie adds."""
    record = query(kie, create(kie, "Grüße 🎉", callBackUrl="http://127.0.0.1:9/hook/secret [[no-callback]]"))["data"]
    param = json.loads(record["param"])
    assert param["model"] == "z-image"
    assert param["callBackUrl"].startswith("http://127.0.0.1:9/hook/secret")
    assert json.loads(param["input"]) == {"prompt": "Grüße 🎉", "nsfw_checker": False}


def test_half_a_surrogate_pair_in_a_prompt_breaks_nothing(kie: Simulator) -> None:
    """JSON can spell it, UTF-8 cannot: the task, its record and the ledger stay readable."""
    task_id = create(kie, "cut \ud83c")
    assert json.loads(json.loads(query(kie, task_id)["data"]["param"])["input"])["prompt"] == "cut ?"
    assert requests.get(f"{kie.base_url}/simulator/ledger", timeout=5).json()["creates"][0]["prompt"] == "cut ?"


def test_an_unknown_task_is_422_with_null_data(kie: Simulator) -> None:
    """HTTP 200, and Kie's own words."""
    assert query(kie, "f" * 32) == {"code": 422, "msg": "recordInfo is null", "data": None}


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer "}, {"Authorization": "Basic a2V5"}])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/jobs/createTask"),
        ("GET", "/api/v1/jobs/recordInfo?taskId=x"),
        ("GET", "/api/v1/chat/credit"),
        ("POST", "/api/v1/common/download-url"),
    ],
)
def test_a_call_without_a_good_key_is_401_in_the_body(
    kie: Simulator, method: str, path: str, header: dict[str, str]
) -> None:
    """Every call of the API asks for a bearer key."""
    answer = requests.request(method, kie.base_url + path, headers=header, json={}, timeout=5)
    assert answer.status_code == 200
    assert answer.json() == {"code": 401, "msg": "You do not have access permissions", "data": None}


def test_keys_of_one_account_share_its_credits_and_limit() -> None:
    """Kie limits accounts, not keys."""
    with Simulator(keys={"key-1": "acme", "key-2": "acme", "key-3": "other"}, create_limit=1) as kie:
        create(kie)
        url = f"{kie.base_url}/api/v1/jobs/createTask"
        body = {"model": "z-image", "input": {"prompt": "b"}}
        codes = [
            requests.post(url, json=body, headers={"Authorization": f"Bearer key-{n}"}, timeout=5).json()["code"]
            for n in (2, 3, 4)
        ]
        assert codes == [429, 200, 401]
        assert [entry["account"] for entry in entries(kie, "creates")] == ["acme", "acme", "other", None]


def test_the_limit_refuses_the_create_after_the_last_allowed_and_forgets_with_time() -> None:
    """Nothing is made and nothing charged by a 429, no Retry-After is sent, and the window slides."""
    with Simulator(create_limit=2, create_window_s=0.3) as kie:
        create(kie)
        create(kie)
        refused = post_create(kie)
        assert refused.status_code == 200
        msg = "Your call frequency is too high. Please try again later."
        assert refused.json() == {"code": 429, "msg": msg, "data": None}
        assert "Retry-After" not in refused.headers
        assert balance(kie) == 10000 - 2 * 4
        assert kie.ledger()["violations"] == 1
        pause(0.3)
        create(kie)


def test_the_query_limit_counts_per_second_and_is_off_by_default(kie: Simulator) -> None:
    """Off: thirty looks are fine. On: the fourth of three is not."""
    task_id = create(kie)
    assert {query(kie, task_id)["code"] for _ in range(30)} == {200}
    with Simulator(query_limit_per_s=3) as limited:
        task_id = create(limited)
        assert [query(limited, task_id)["code"] for _ in range(4)] == [200, 200, 200, 429]
        assert limited.ledger()["query_violations"] == 1


def test_two_equal_creates_are_two_paid_tasks(kie: Simulator) -> None:
    """Kie has no idempotency, so neither has this."""
    assert create(kie, "same") != create(kie, "same")
    assert balance(kie) == 10000 - 8
    first, second = entries(kie, "creates")
    assert first["body_sha256"] == second["body_sha256"]


def test_an_account_without_credits_gets_402() -> None:
    """Nothing is made for nothing."""
    with Simulator(credits=5) as kie:
        create(kie)
        assert post_create(kie).json()["code"] == 402
        assert balance(kie) == 1


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"input":{}}', b'{"model":"m"}', b'{"model":"m","input":"x"}', b'{"model":7,"input":{}}', b"\xff"],
)
def test_a_create_that_is_no_proper_request_is_422(kie: Simulator, body: bytes) -> None:
    """Missing model, input that is no object, no JSON at all: refused, never a crash."""
    answer = requests.post(f"{kie.base_url}/api/v1/jobs/createTask", data=body, headers=KEY, timeout=5)
    assert (answer.status_code, answer.json()["code"], answer.json()["data"]) == (200, 422, None)
    assert entries(kie, "creates")[0]["accepted"] is False


def test_a_failed_task_tells_why_and_is_refunded(kie: Simulator) -> None:
    """State fail with code and text, an empty resultJson, envelope 200, and the credits are back."""
    task_id = create(kie, "[[fail=501]]", model="kling-3.0/video")
    assert balance(kie) == 10000 - 60
    finish(kie, task_id)
    answer = query(kie, task_id)
    record = answer["data"]
    assert (answer["code"], record["state"], record["failCode"], record["resultJson"]) == (200, "fail", "501", "")
    assert record["failMsg"]
    assert balance(kie) == 10000


def test_moderation_fails_with_400_and_names_the_policy(kie: Simulator) -> None:
    """The text is what tells it from a generic 400."""
    task_id = create(kie, "[[fail=moderation]]")
    record = finish(kie, task_id)
    assert record["failCode"] == "400"
    assert "content policy" in record["failMsg"]


@pytest.mark.parametrize("code", [400, 401, 402, 404, 422, 429, 433, 451, 455, 500, 501, 505])
def test_a_scripted_refusal_makes_and_charges_nothing(kie: Simulator, code: int) -> None:
    """The body code is the one asked for, over HTTP 200."""
    answer = post_create(kie, f"[[refuse={code}]]")
    assert (answer.status_code, answer.json()["code"], answer.json()["data"]) == (200, code, None)
    assert balance(kie) == 10000
    assert entries(kie, "creates")[0]["taskId"] is None
    assert kie.ledger()["violations"] == 0


def test_http_makes_no_task_and_http_after_makes_one(kie: Simulator) -> None:
    """The client sees the same HTML page either way: that is the point."""
    before, after = post_create(kie, "[[http=502]]"), post_create(kie, "[[http-after=502]]")
    assert before.status_code == after.status_code == 502
    assert before.content == after.content
    assert before.headers["Content-Type"].startswith("text/html")
    assert [entry["accepted"] for entry in entries(kie, "creates")] == [False, True]
    assert balance(kie) == 10000 - 4


def test_no_task_id_is_a_200_that_names_no_task(kie: Simulator) -> None:
    """Charged, but the id is only in the ledger."""
    answer = post_create(kie, "[[no-task-id]]").json()
    assert answer == {"code": 200, "msg": "success", "data": {}}
    assert query(kie, entries(kie, "creates")[0]["taskId"])["code"] == 200
    assert balance(kie) == 10000 - 4


def test_null_record_hides_a_fresh_task_for_a_while(kie: Simulator) -> None:
    """First 422, as for an unknown task, then the record."""
    task_id = create(kie, "[[null-record=0.2]]")
    assert query(kie, task_id)["msg"] == "recordInfo is null"
    wait_until(lambda: query(kie, task_id)["code"] == 200)


def test_poll_429_and_poll_http_spoil_the_first_queries_only(kie: Simulator) -> None:
    """So many and no more; without a number poll-http means three."""
    task_id = create(kie, "[[poll-429=2]]")
    assert [query(kie, task_id)["code"] for _ in range(4)] == [429, 429, 200, 200]
    for marker, times in (("[[poll-http=503*2]]", 2), ("[[poll-http=503]]", 3)):
        task_id = create(kie, marker)
        url = f"{kie.base_url}/api/v1/jobs/recordInfo?taskId={task_id}"
        seen = [requests.get(url, headers=KEY, timeout=5).status_code for _ in range(times + 1)]
        assert seen == [503] * times + [200]


def test_an_odd_state_is_seen_before_success_even_by_a_late_look(kie: Simulator) -> None:
    """The unknown word cannot be missed, and is not the end."""
    task_id = create(kie, "[[odd-state=reviewing]]")
    finish(kie, task_id)
    assert states(kie, task_id, 3) == ["reviewing", "success", "success"]


def test_regress_takes_success_back_once(kie: Simulator) -> None:
    """Success, waiting, success."""
    task_id = create(kie, "[[regress]]")
    finish(kie, task_id)
    assert states(kie, task_id, 4) == ["success", "waiting", "success", "success"]


def test_an_empty_result_fills_at_the_third_look(kie: Simulator) -> None:
    """Success with nothing in it twice, then with the links."""
    task_id = create(kie, "[[empty-result]]")
    finish(kie, task_id)
    results = [query(kie, task_id)["data"]["resultJson"] for _ in range(3)]
    assert results[:2] == ["", ""]
    assert "resultUrls" in json.loads(results[2])


def result_of(kie: Simulator, prompt: str, model: str) -> dict[str, Any]:
    """The parsed resultJson of a finished task."""
    return dict(json.loads(finish(kie, create(kie, prompt, model))["resultJson"]))


def test_results_come_in_each_of_kies_shapes(kie: Simulator) -> None:
    """Links, an object, songs, and links with frames."""
    assert len(result_of(kie, "[[outputs=3]]", "z-image")["resultUrls"]) == 3
    assert "resultObject" in result_of(kie, "[[result-object]]", "elevenlabs/speech-to-text")
    songs = result_of(kie, "[[result-songs]]", "ai-music-api/generate")["data"]
    assert [song["audio_url"].rpartition(".")[2] for song in songs] == ["mp3", "mp3"]
    assert [song["image_url"].rpartition(".")[2] for song in songs] == ["png", "png"]
    framed = result_of(kie, "[[first-last-frame]]", "bytedance/seedance-2")
    assert framed["resultUrls"][0].endswith("0.mp4")
    assert framed["firstFrameUrl"].endswith("1.png")
    assert framed["lastFrameUrl"].endswith("2.png")


def test_groks_text_to_image_makes_six_pictures(kie: Simulator) -> None:
    """As seen on the wire, unless the prompt asks for another number."""
    assert len(result_of(kie, "a panda", "grok-imagine/text-to-image")["resultUrls"]) == 6
    assert len(result_of(kie, "[[outputs=2]]", "grok-imagine/text-to-image")["resultUrls"]) == 2


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("kling-3.0/video", Kind.VIDEO),
        ("veo-3-1", Kind.VIDEO),
        ("wan/2-2-a14b-speech-to-video-turbo", Kind.VIDEO),
        ("hailuo/02-image-to-video-pro", Kind.VIDEO),
        ("runway/gen4-aleph", Kind.VIDEO),
        ("wan/2-7-image", Kind.IMAGE),
        ("wan/2-7-image-pro", Kind.IMAGE),
        ("nano-banana-pro", Kind.IMAGE),
        ("qwen3/text-to-image", Kind.IMAGE),
        ("elevenlabs/text-to-speech-turbo-2-5", Kind.AUDIO),
        ("ai-music-api/generate", Kind.AUDIO),
        ("google/gemini-3-8-flash-tts", Kind.AUDIO),
    ],
)
def test_the_words_of_a_model_id_tell_what_it_makes(model: str, kind: Kind) -> None:
    """Ids nobody listed here work, too."""
    assert kind_of(model) is kind


@pytest.mark.parametrize("failing", [False, True])
def test_a_callback_brings_the_record_on_success_and_on_failure(
    kie: Simulator, receiver: Receiver, failing: bool
) -> None:
    """The same envelope and data as recordInfo, posted once, unsigned when no key is set."""
    task_id = create(kie, "[[fail=500]]" if failing else "ok", callBackUrl=receiver.url)
    wait_until(lambda: entries(kie, "callbacks"))
    [(headers, body)] = receiver.seen
    assert body["code"] == (501 if failing else 200)
    assert body["data"] == query(kie, task_id)["data"]
    assert "X-Webhook-Signature" not in headers


def test_a_signed_callback_verifies_over_task_id_and_time(receiver: Receiver) -> None:
    """base64(HMAC-SHA256(key, taskId + "." + timestamp)), with a fresh timestamp in seconds."""
    with Simulator(hmac_key="s3cret") as kie:
        task_id = create(kie, "[[duration=0]]", callBackUrl=receiver.url)
        wait_until(lambda: receiver.seen)
    headers, _ = receiver.seen[0]
    timestamp = headers["X-Webhook-Timestamp"]
    assert abs(int(timestamp) - time.time()) < 5
    expected = hmac.new(b"s3cret", f"{task_id}.{timestamp}".encode(), hashlib.sha256).digest()
    assert base64.b64decode(headers["X-Webhook-Signature"]) == expected


def test_a_callback_that_is_not_answered_200_is_repeated_up_to_three_times(
    kie: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four attempts in all, then Kie gives up; the ledger has each with its status."""
    monkeypatch.setattr("kiejobs.simulator.callbacks.REPEAT_AFTER_S", (0.01, 0.01, 0.01))
    stubborn = Receiver(failures=99)
    create(kie, "[[duration=0]]", callBackUrl=stubborn.url)
    wait_until(lambda: len(entries(kie, "callbacks")) == 4)
    pause(0.1)
    stubborn.close()
    assert [(entry["attempt"], entry["status"]) for entry in entries(kie, "callbacks")] == [
        (attempt, 500) for attempt in (1, 2, 3, 4)
    ]


def test_a_receiver_that_comes_back_gets_the_repeat(kie: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """One failure, one repeat, done."""
    monkeypatch.setattr("kiejobs.simulator.callbacks.REPEAT_AFTER_S", (0.01, 0.01, 0.01))
    recovering = Receiver(failures=1)
    create(kie, "[[duration=0]]", callBackUrl=recovering.url)
    wait_until(lambda: len(recovering.seen) == 2)
    pause(0.1)
    recovering.close()
    assert [entry["status"] for entry in entries(kie, "callbacks")] == [500, 200]


def test_a_callback_to_nowhere_does_no_harm(kie: Simulator) -> None:
    """A closed port, a strange scheme, a broken URL: written down without a status."""
    for url in ("http://127.0.0.1:1/x", "ftp://example.com/x", "http://[broken", "http://127.0.0.1:99999/x"):
        create(kie, "[[duration=0]]", callBackUrl=url)
    wait_until(lambda: len({entry["url"] for entry in entries(kie, "callbacks")}) == 4)
    assert {entry["status"] for entry in entries(kie, "callbacks")} == {None}
    assert balance(kie) == 10000 - 16


def test_no_callback_is_silent_and_dup_callback_repeats(kie: Simulator, receiver: Receiver) -> None:
    """None, and three of the same."""
    create(kie, "[[duration=0]] [[no-callback]]", callBackUrl=receiver.url)
    twin = create(kie, "[[duration=0]] [[dup-callback=3]]", callBackUrl=receiver.url)
    wait_until(lambda: len(entries(kie, "callbacks")) == 3)
    assert [body["data"]["taskId"] for _, body in receiver.seen] == [twin] * 3


def test_a_late_callback_comes_so_long_after_the_end(kie: Simulator, receiver: Receiver) -> None:
    """The task has ended by then; by the ledger's clock nobody was called before the time was over."""
    task_id = create(kie, "[[duration=0]] [[late-callback=0.2]]", callBackUrl=receiver.url)
    wait_until(lambda: len(entries(kie, "callbacks")) == 1)
    assert entries(kie, "callbacks")[0]["at"] - entries(kie, "creates")[0]["at"] >= 0.2
    assert receiver.bodies[0]["data"]["taskId"] == task_id


def test_a_task_finishes_once(kie: Simulator, receiver: Receiver) -> None:
    """Finishing by hand before and after its time gives one callback and one refund."""
    task_id = create(kie, "[[fail=500]] [[duration=0.1]]", callBackUrl=receiver.url)
    assert finish(kie, task_id)["state"] == finish(kie, task_id)["state"] == "fail"
    pause(0.2)
    assert len(receiver.seen) == 1
    assert balance(kie) == 10000


def test_the_ledger_tells_what_was_asked_and_answered(kie: Simulator) -> None:
    """Every field a test may want to assert on, over HTTP and in the process alike."""
    task_id = create(kie, "for the ledger", callBackUrl="http://127.0.0.1:9/x")
    query(kie, task_id)
    ledger = requests.get(f"{kie.base_url}/simulator/ledger", timeout=5).json()
    assert kie.ledger() == ledger
    [entry] = ledger["creates"]
    assert 0 <= entry.pop("at") < 30
    assert len(entry.pop("body_sha256")) == 64
    assert entry == {
        "account": "key-1",
        "family": "jobs",
        "path": "/api/v1/jobs/createTask",
        "model": "z-image",
        "prompt": "for the ledger",
        "accepted": True,
        "taskId": task_id,
        "code": 200,
        "credits": 4.0,
        "callBackUrl": "http://127.0.0.1:9/x",
    }
    assert [(look["account"], look["taskId"]) for look in ledger["queries"]] == [("key-1", task_id)]
    assert ledger["violations"] == 0


def test_the_ledger_forgets_its_oldest_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of days stays in memory."""
    monkeypatch.setattr("kiejobs.simulator.ledger.CAP", 3)
    with Simulator() as kie:
        for number in range(5):
            query(kie, str(number))
        assert [entry["taskId"] for entry in entries(kie, "queries")] == ["2", "3", "4"]


def test_finished_tasks_make_room_and_running_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded, but a task somebody waits for is never dropped."""
    monkeypatch.setattr("kiejobs.simulator.tasks.TASKS_KEPT", 2)
    with Simulator() as kie:
        done, running = create(kie), create(kie, "[[duration=60]]")
        finish(kie, done)
        later = [create(kie) for _ in range(3)]
        assert query(kie, done)["code"] == 422
        assert {query(kie, task_id)["code"] for task_id in [running, *later]} == {200}


def test_reset_begins_anew(kie: Simulator) -> None:
    """No tasks, no ledger, full balances, an open barrier."""
    task_id = create(kie)
    requests.post(f"{kie.base_url}/simulator/hold", timeout=5)
    requests.post(f"{kie.base_url}/simulator/reset", timeout=5)
    assert entries(kie, "creates") == []
    assert query(kie, task_id)["code"] == 422
    assert balance(kie) == 10000
    assert requests.get(f"{kie.base_url}/simulator/held", timeout=5).json()["held"] is False


def test_finishing_an_unknown_task_is_an_honest_404(kie: Simulator) -> None:
    """The control side speaks plain HTTP."""
    answer = requests.post(f"{kie.base_url}/simulator/tasks/nobody/finish", timeout=5)
    assert answer.status_code == 404


def test_the_start_page_says_what_this_is_and_lists_the_scenarios(kie: Simulator) -> None:
    """A person who opens the address in a browser finds the way, and no keys."""
    create(kie)
    page = requests.get(kie.base_url, timeout=5)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "stand-in for the Kie.ai API" in page.text
    assert "[[null-record=SECONDS]]" in page.text
    assert "/api/v1/suno/cover/record-info" in page.text
    assert "/gemini/v1/models/{model}:streamGenerateContent" in page.text
    assert "key-1" not in page.text


def test_an_unknown_path_is_a_404_that_points_to_the_start_page(kie: Simulator) -> None:
    """A call the simulator does not know is not mistaken for one that failed."""
    answer = requests.post(f"{kie.base_url}/api/v1/veo/no-such-call", json={}, headers=KEY, timeout=5)
    assert answer.status_code == answer.json()["code"] == 404
    assert "GET /" in answer.json()["msg"]
