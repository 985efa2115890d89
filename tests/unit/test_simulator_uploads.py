"""The simulated upload calls: what they answer, what they serve, and what becomes of a create without its file."""

import base64
import os
from collections.abc import Iterator

import pytest
import requests

from kiejobs.simulator import Simulator
from tests.simulated import KEY, Calls, download

BYTES = os.urandom(70_000) + b"\r\n--x\r\n\n\r" + bytes(range(256))
"""Everything that could trip a parser of forms."""


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    """One simulator for all tests of this file."""
    with Simulator(duration_s=60, create_limit=0) as simulator:
        yield simulator


@pytest.fixture
def kie(running: Simulator) -> Calls:
    """A customer of a simulator that has seen nothing."""
    return Calls(running)


def put(kie: Calls, content: bytes = BYTES, name: str = "cat.png") -> str:
    """The address of a new upload."""
    body = {"base64Data": base64.b64encode(content).decode(), "uploadPath": "images", "fileName": name}
    return str(kie.post("/api/file-base64-upload", body)["data"]["downloadUrl"])


def create_with(kie: Calls, url: str) -> int:
    """The code of a create whose input names that file, deep inside."""
    given = {"prompt": "x", "kling_elements": [{"element_input_urls": [url]}]}
    return int(kie.post("/api/v1/jobs/createTask", {"model": "kling-3.0/video", "input": given})["code"])


def test_base64_is_answered_as_on_the_wire(kie: Calls) -> None:
    """`success` beside `code`, and every field of `data`."""
    body = {"base64Data": "SGVsbG8gV29ybGQ=", "uploadPath": "documents/test-uploads", "fileName": "test.txt"}
    answer = kie.post("/api/file-base64-upload", body)
    assert {name: answer[name] for name in ("success", "code", "msg")} == {
        "success": True,
        "code": 200,
        "msg": "File uploaded successfully",
    }
    data = answer["data"]
    at = data.pop("uploadedAt")
    assert (at[10], at[19], at[-1], len(at)) == ("T", ".", "Z", 24)
    assert data == {
        "success": True,
        "fileName": "test.txt",
        "filePath": "kieai/100001/documents/test-uploads/test.txt",
        "downloadUrl": f"{kie.kie.files_url}/kieai/100001/documents/test-uploads/test.txt",
        "fileSize": 11,
        "mimeType": "text/plain",
    }
    served = download(data["downloadUrl"])
    assert (served.content, served.headers["Content-Type"].partition(";")[0]) == (b"Hello World", "text/plain")


def test_a_data_url_says_what_it_is(kie: Calls) -> None:
    """Type from the data URL, a name made up where none is given."""
    content = base64.b64encode(BYTES).decode()
    body = {"base64Data": f"data:image/png;base64,{content}", "uploadPath": "images"}
    data = kie.post("/api/file-base64-upload", body)["data"]
    assert data["mimeType"] == "image/png"
    assert data["fileName"].endswith(".png")
    assert download(data["downloadUrl"]).content == BYTES


@pytest.mark.parametrize("name", [None, "mine.jpg"])
def test_a_form_keeps_every_byte(kie: Calls, name: str | None) -> None:
    """Multipart as a client's library writes it; with a name of the caller's, or one made up."""
    fields = {"uploadPath": "images/in"} | ({"fileName": name} if name else {})
    url = f"{kie.kie.base_url}/api/file-stream-upload"
    files = {"file": ("cat.jpg", BYTES, "image/jpeg")}
    answer = requests.post(url, files=files, data=fields, headers=KEY, timeout=5).json()
    data = answer["data"]
    assert (data["fileSize"], data["mimeType"]) == (len(BYTES), "image/jpeg")
    assert data["fileName"] == (name or data["fileName"])
    assert data["fileName"].endswith(".jpg")
    assert download(data["downloadUrl"]).content == BYTES


def test_an_upload_by_address_is_fetched(kie: Calls) -> None:
    """From wherever it is; here from an upload of our own."""
    body = {"fileUrl": put(kie), "uploadPath": "copies", "fileName": "copy.png"}
    data = kie.post("/api/file-url-upload", body)["data"]
    assert download(data["downloadUrl"]).content == BYTES
    assert [entry["code"] for entry in kie.entries("uploads")] == [200, 200]
    assert kie.balance() == 10000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/file-base64-upload", {"uploadPath": "x"}),
        ("/api/file-base64-upload", {"base64Data": "no base64!", "uploadPath": "x"}),
        ("/api/file-url-upload", {"fileUrl": "http://127.0.0.1:1/x", "uploadPath": "x"}),
        ("/api/file-url-upload", {"fileUrl": "ftp://example.com/x", "uploadPath": "x"}),
        ("/api/file-stream-upload", {"uploadPath": "x"}),
    ],
)
def test_a_bad_upload_is_400_and_leaves_nothing(kie: Calls, path: str, body: dict[str, str]) -> None:
    """In the body, over HTTP 200, with `success` false."""
    answer = kie.post(path, body)
    assert (answer["success"], answer["code"]) == (False, 400)
    assert "data" not in answer


def test_an_upload_without_a_key_is_401(kie: Calls) -> None:
    """As everywhere."""
    url = f"{kie.kie.base_url}/api/file-base64-upload"
    assert requests.post(url, json={}, timeout=5).json()["code"] == 401


def test_a_path_cannot_leave_its_account(kie: Calls) -> None:
    """Dots in the path are dropped."""
    body = {"base64Data": "AA==", "uploadPath": "../../x/./", "fileName": "../y.bin"}
    assert kie.post("/api/file-base64-upload", body)["data"]["filePath"] == "kieai/100001/x/y.bin"


def test_a_create_reads_its_file_while_it_is_there(kie: Calls) -> None:
    """451 once it is deleted, or was never uploaded; a file elsewhere is not our affair."""
    url = put(kie)
    assert create_with(kie, url) == 200
    expired = requests.post(f"{kie.kie.base_url}/simulator/uploads/expire", params={"url": url}, timeout=5)
    assert expired.json() == {"expired": 1}
    assert create_with(kie, url) == 451
    assert create_with(kie, f"{kie.kie.files_url}/kieai/100001/never.png") == 451
    assert create_with(kie, "https://example.com/cat.png") == 200
    assert [entry["accepted"] for entry in kie.entries("creates")] == [True, False, False, True]


def test_all_uploads_can_be_expired_at_once(kie: Calls) -> None:
    """As when three days have passed."""
    urls = [put(kie, name=f"{n}.png") for n in range(2)]
    requests.post(f"{kie.kie.base_url}/simulator/uploads/expire", timeout=5)
    assert [download(url).status_code for url in urls] == [404, 404]


def test_an_upload_lives_for_three_days(kie: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is gone by itself."""
    url = put(kie)
    assert download(url).status_code == 200
    monkeypatch.setattr("kiejobs.simulator.uploads.LIFE_S", 0.0)
    assert download(url).status_code == 404


def test_a_result_can_be_the_input_of_the_next_task_while_it_lives(kie: Calls) -> None:
    """Its link is read like an upload: 451 once it has expired."""
    task_id = kie.make("/api/v1/gpt4o-image/generate", {"prompt": "a cat", "size": "1:1"})
    [url] = kie.get("/api/v1/gpt4o-image/record-info", taskId=task_id)["data"]["response"]["resultUrls"]
    body = {"prompt": "at night", "videoUrl": url}
    assert kie.post("/api/v1/aleph/generate", body)["code"] == 200
    kie.age(task_id, 86400)
    assert kie.post("/api/v1/aleph/generate", body)["code"] == 451
    fresh = kie.post("/api/v1/common/download-url", {"url": url})["data"]
    assert kie.post("/api/v1/aleph/generate", body | {"videoUrl": fresh})["code"] == 200


def test_old_uploads_make_room(kie: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded."""
    monkeypatch.setattr("kiejobs.simulator.uploads.KEPT_BYTES", 2 * len(BYTES))
    urls = [put(kie, name=f"{n}.png") for n in range(3)]
    assert [download(url).status_code for url in urls] == [404, 200, 200]
