"""The simulated Suno: stages, songs in two spellings, what is made of a song, and what is answered at once."""

from collections.abc import Iterator
from typing import Any

import pytest

from kiejobs.simulator import Simulator
from tests.receiver import Receiver, wait_until
from tests.simulated import Calls, download

HOOK = {"callBackUrl": "http://127.0.0.1:9/nobody"}
MUSIC = {"model": "V5", "customMode": False, "instrumental": True} | HOOK


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    """One simulator for all tests of this file; generations last until they are finished."""
    with Simulator(duration_s=60, create_limit=0) as simulator:
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


def song(kie: Calls, prompt: str = "a tune") -> dict[str, Any]:
    """The ids of a finished song, as the follow-ups want them."""
    task_id = kie.create("/api/v1/generate", MUSIC | {"prompt": prompt})
    audio_id = kie.finish(task_id)["response"]["sunoData"][1]["id"]
    return {"taskId": task_id, "audioId": audio_id}


def test_a_song_goes_through_its_stages_in_record_and_callbacks(kie: Calls, receiver: Receiver) -> None:
    """PENDING, TEXT_SUCCESS, FIRST_SUCCESS, SUCCESS; text, first, complete; audio appears one take after the other."""
    body = MUSIC | {"prompt": "a tune [[duration=0.9]]", "callBackUrl": receiver.url}
    task_id, seen = kie.create("/api/v1/generate", body), list[str]()
    audio: dict[str, list[bool]] = {}
    streams: list[int] = []
    while "SUCCESS" not in seen:
        record = kie.get("/api/v1/generate/record-info", taskId=task_id)["data"]
        seen.append(record["status"])
        songs = (record["response"] or {"sunoData": []})["sunoData"]
        audio[record["status"]] = [bool(each["audioUrl"]) for each in songs]
        streams += [download(each["streamAudioUrl"]).status_code for each in songs]
    assert list(dict.fromkeys(seen)) == ["PENDING", "TEXT_SUCCESS", "FIRST_SUCCESS", "SUCCESS"]
    assert audio == {
        "PENDING": [],
        "TEXT_SUCCESS": [False, False],
        "FIRST_SUCCESS": [True, False],
        "SUCCESS": [True, True],
    }
    assert set(streams) == {200}
    wait_until(lambda: len(receiver.seen) == 3)
    data = [each["data"] for each in receiver.bodies]
    assert [each["callbackType"] for each in data] == ["text", "first", "complete"]
    assert {each["task_id"] for each in data} == {task_id}
    assert [[bool(take["audio_url"]) for take in each["data"]] for each in data] == list(audio.values())[1:]


def test_a_song_is_camel_case_in_the_record_and_snake_case_in_the_callback(kie: Calls, receiver: Receiver) -> None:
    """The same song, key by key; the files are there."""
    task_id = kie.create("/api/v1/generate", MUSIC | {"prompt": "a tune", "callBackUrl": receiver.url})
    record = kie.finish(task_id)
    assert (record["status"], record["type"], record["errorCode"]) == ("SUCCESS", "GENERATE", None)
    camel = record["response"]["sunoData"]
    wait_until(lambda: receiver.seen)
    snake = receiver.bodies[0]["data"]["data"]
    for name, other in (("audioUrl", "audio_url"), ("streamAudioUrl", "stream_audio_url"), ("modelName", "model_name")):
        assert [each[name] for each in camel] == [each[other] for each in snake]
    assert {download(url).status_code for each in camel for url in (each["audioUrl"], each["imageUrl"])} == {200}


def test_a_failed_song_calls_back_once_with_error(kie: Calls, receiver: Receiver) -> None:
    """No stages on the way, `data` null, a code of its own."""
    body = MUSIC | {"prompt": "[[fail=413]] [[duration=0.05]]", "callBackUrl": receiver.url}
    task_id = kie.create("/api/v1/generate", body)
    wait_until(lambda: receiver.seen)
    assert receiver.bodies[0]["code"] == 413
    assert receiver.bodies[0]["data"] == {"callbackType": "error", "task_id": task_id, "data": None}
    record = kie.get("/api/v1/generate/record-info", taskId=task_id)["data"]
    assert (record["status"], record["errorCode"], record["response"]) == ("GENERATE_AUDIO_FAILED", 413, None)
    assert len(receiver.seen) == 1


def test_finishing_early_skips_the_stages(kie: Calls, receiver: Receiver) -> None:
    """Nothing is said of a part after the whole."""
    body = MUSIC | {"prompt": "[[duration=0.3]]", "callBackUrl": receiver.url}
    kie.finish(kie.create("/api/v1/generate", body))
    other = kie.create("/api/v1/generate", body)
    wait_until(lambda: [each["data"]["callbackType"] for each in receiver.bodies].count("complete") == 2)
    assert [each["data"]["callbackType"] for each in receiver.bodies if each["data"]["task_id"] != other] == [
        "complete"
    ]


def test_an_extension_of_an_unknown_song_is_accepted_and_fails(kie: Calls) -> None:
    """As seen at Kie: the create says nothing of the audio id."""
    body = {"defaultParamFlag": False, "model": "V5"} | HOOK
    bogus = kie.create("/api/v1/generate/extend", body | {"audioId": "no-such-audio-id"})
    assert kie.finish(bogus)["status"] == "GENERATE_AUDIO_FAILED"
    known = song(kie)["audioId"]
    record = kie.finish(kie.create("/api/v1/generate/extend", body | {"audioId": known}))
    assert (record["status"], record["parentMusicId"]) == ("SUCCESS", known)


def test_a_section_is_replaced_without_a_callback_address(kie: Calls) -> None:
    """It needs ten seconds, and a song or an upload."""
    path = "/api/v1/generate/replace-section"
    body = {"prompt": "x", "tags": "x", "title": "x", "fullLyrics": "x", "infillStartS": 0, "infillEndS": 9}
    assert "taskId and audioId" in kie.post(path, body)["msg"]
    assert "10 seconds" in kie.post(path, body | song(kie))["msg"]
    assert kie.finish(kie.create(path, body | song(kie) | {"infillEndS": 10}))["status"] == "SUCCESS"


def test_covers_of_uploads_carry_their_source(kie: Calls, receiver: Receiver) -> None:
    """`source_*` beside the song's own links."""
    body = MUSIC | {"prompt": "x", "uploadUrl": "https://example.com/in.mp3", "callBackUrl": receiver.url}
    kie.make("/api/v1/generate/upload-cover", body)
    wait_until(lambda: receiver.seen)
    assert receiver.bodies[0]["data"]["data"][0]["source_audio_url"] == "https://example.com/in.mp3"


def test_wav_has_its_status_as_text_and_its_times_too(kie: Calls, receiver: Receiver) -> None:
    """PENDING, then SUCCESS in `successFlag`; the callback has `task_id` and `audioWavUrl`."""
    ids = song(kie)
    task_id = kie.create("/api/v1/wav/generate", ids | {"callBackUrl": receiver.url})
    pending = kie.get("/api/v1/wav/record-info", taskId=task_id)["data"]
    assert (pending["successFlag"], pending["response"], pending["completeTime"]) == ("PENDING", None, None)
    done = kie.finish(task_id)
    assert (done["successFlag"], done["musicId"], done["musicIndex"]) == ("SUCCESS", ids["audioId"], 1)
    assert len(done["completeTime"]) == len("2026-01-01 00:00:00")
    url = done["response"]["audioWavUrl"]
    assert download(url).content[:4] == b"RIFF"
    wait_until(lambda: receiver.seen)
    assert receiver.bodies[0]["data"] == {"task_id": task_id, "audioWavUrl": url}


@pytest.mark.parametrize(("path", "named"), [("/api/v1/wav/generate", False), ("/api/v1/suno/cover/generate", True)])
def test_the_same_work_a_second_time_is_409(kie: Calls, path: str, named: bool) -> None:
    """Nothing is charged; another song is another piece of work, and so is the same one after a failure."""
    ids = song(kie)
    first = kie.create(path, ids | HOOK)
    balance = kie.balance()
    again = kie.post(path, ids | HOOK)
    assert again["code"] == 409
    assert again["data"] == ({"taskId": first} if named else None)
    assert kie.balance() == balance
    failed = song(kie)
    kie.create(path, failed | HOOK | {"note": "[[fail=500]]"})
    assert kie.post(path, failed | HOOK)["code"] == 200


def test_a_music_video_has_one_link(kie: Calls, receiver: Receiver) -> None:
    """`videoUrl` in the record, `video_url` in the callback."""
    body = song(kie) | {"author": "me", "callBackUrl": receiver.url}
    done = kie.finish(kie.create("/api/v1/mp4/generate", body))
    assert done["successFlag"] == "SUCCESS"
    wait_until(lambda: receiver.seen)
    assert receiver.bodies[0]["data"]["video_url"] == done["response"]["videoUrl"]
    assert kie.post("/api/v1/mp4/generate", body | {"author": "x" * 51})["code"] == 422


def test_stems_are_null_unless_asked_for(kie: Calls, receiver: Receiver) -> None:
    """Two by default, twelve when split, one when named; the callback has them by stem or as a list."""
    path = "/api/v1/vocal-removal/generate"
    ids = song(kie) | {"callBackUrl": receiver.url}
    pair = kie.finish(kie.create(path, ids))
    links = {name for name, link in pair["response"].items() if link and name.endswith("Url")}
    assert links == {"vocalUrl", "instrumentalUrl"}
    assert isinstance(pair["createTime"], int)
    band = kie.finish(kie.create(path, ids | {"type": "split_stem"}))["response"]
    assert sum(1 for name, link in band.items() if link and name.endswith("Url")) == 12
    assert "stemName" in kie.post(path, ids | {"type": "split_stem_advanced"})["msg"]
    one = kie.finish(kie.create(path, ids | {"type": "split_stem_advanced", "stemName": "bass"}))["response"]
    assert (one["bassUrl"], one["vocalUrl"]) == (one["originData"][0]["audio_url"], None)
    wait_until(lambda: len(receiver.seen) == 3)
    infos = [each["data"] for each in receiver.bodies]
    separated = [info["vocal_separation_info"] for info in infos if "vocal_separation_info" in info]
    assert {"origin_url", "vocal_url", "instrumental_url"} in [set(info) for info in separated]
    assert [info["vocal_removal_info"]["origin_data"] for info in infos if "vocal_removal_info" in info] == [
        one["originData"]
    ]


def test_notes_have_a_numeric_flag_and_need_separated_stems(kie: Calls, receiver: Receiver) -> None:
    """A song is not enough; `midiData` has instruments with notes."""
    ids = song(kie)
    assert kie.post("/api/v1/midi/generate", {"taskId": ids["taskId"]} | HOOK)["msg"] == "Record does not exist"
    stems = kie.make("/api/v1/vocal-removal/generate", ids | HOOK)
    task_id = kie.create("/api/v1/midi/generate", {"taskId": stems, "callBackUrl": receiver.url})
    assert kie.get("/api/v1/midi/record-info", taskId=task_id)["data"]["successFlag"] == 0
    done = kie.finish(task_id)
    assert (done["successFlag"], done["midiData"]["state"]) == (1, "complete")
    assert done["midiData"]["instruments"][0]["notes"][0]["pitch"] == 73
    wait_until(lambda: receiver.seen)
    assert receiver.bodies[0]["data"] == {"taskId": task_id} | done["midiData"]


def test_a_cover_has_a_numeric_flag_and_code_200_although_nothing_is_wrong(kie: Calls) -> None:
    """0, then 1; or 2 in between, which a sister site's page calls being made. Times are ISO text."""
    path, parent = "/api/v1/suno/cover/record-info", song(kie)["taskId"]
    task_id = kie.create("/api/v1/suno/cover/generate", {"taskId": parent, "note": "[[odd-state=2]]"} | HOOK)
    early = kie.get(path, taskId=task_id)["data"]
    assert (early["successFlag"], early["errorCode"], early["completeTime"]) == (0, None, None)
    kie.finish(task_id)
    assert kie.get(path, taskId=task_id)["data"]["successFlag"] == 2
    record = kie.get(path, taskId=task_id)["data"]
    assert (record["successFlag"], record["errorCode"], record["errorMessage"]) == (1, 200, "")
    assert (len(record["response"]["images"]), record["parentTaskId"]) == (2, parent)
    assert (record["completeTime"][10], record["completeTime"][-5], record["completeTime"][-1]) == ("T", ".", "Z")


def test_lyrics_are_texts_and_no_files(kie: Calls, receiver: Receiver) -> None:
    """Camel case for the error in the record, snake case in the callback."""
    task_id = kie.create("/api/v1/lyrics", {"prompt": "coffee", "callBackUrl": receiver.url})
    done = kie.finish(task_id)
    assert (done["status"], done["type"]) == ("SUCCESS", "LYRICS")
    sheet = done["response"]["data"][0]
    assert sheet["text"]
    assert (sheet["status"], sheet["errorMessage"]) == ("complete", "")
    wait_until(lambda: receiver.seen)
    assert receiver.bodies[0]["data"]["callbackType"] == "complete"
    assert receiver.bodies[0]["data"]["data"][0]["error_message"] == ""


def test_style_persona_and_timestamps_are_answered_at_once(kie: Calls) -> None:
    """Charged, in the ledger, and without a task."""
    style = kie.post("/api/v1/style/generate", {"content": "Pop"})["data"]
    assert (style["successFlag"], style["creditsConsumed"], style["param"]) == ("成功", 0.4, "Pop")
    assert style["creditsRemaining"] == kie.balance()
    ids = song(kie)
    persona = kie.post("/api/v1/generate/generate-persona", ids | {"name": "Ann", "description": "soft"})["data"]
    assert persona["personaId"]
    assert persona["name"] == "Ann"
    words = kie.post("/api/v1/generate/get-timestamped-lyrics", ids)["data"]["alignedWords"]
    assert {"word", "success", "startS", "endS", "palign"} == set(words[0])
    unknown = kie.post("/api/v1/generate/get-timestamped-lyrics", ids | {"taskId": "f" * 32})
    assert unknown["msg"] == "Record does not exist"
    made = [entry for entry in kie.entries("creates") if entry["accepted"] and entry["taskId"] is None]
    assert [entry["model"] for entry in made] == ["suno/style", "suno/generate-persona", "suno/get-timestamped-lyrics"]
