"""The producers' server of the soak: it answers as its address says, and sees what is wrong with a message."""

import base64
import json
import re
import time
from collections.abc import Iterator

import pytest
import requests

from kiejobs.notify import signed
from tests.chaos.inbox import Inbox

NEW, OLD = (f"whsec_{base64.b64encode(word * 4).decode()}" for word in (b"new-soak", b"old-soak"))
BODY = {
    "type": "generation.failed",
    "data": {
        "generationId": "job-a",
        "sequence": 1,
        "phase": "fail",
        "metadata": {"label": "a", "tenant": "t"},
        "outputs": [{"index": 0, "key": "t/job-a/0.png", "sha256": "aa"}],
        "resultUrls": ["/media/t/job-a/0.png"],
    },
}


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    """A server that wants both secrets' signatures."""
    running = Inbox(signed_with=(NEW, OLD), untold=re.compile("key-of-kie"))
    yield running
    running.close()


def post(inbox: Inbox, address: str, *, secrets: tuple[str, ...] = (NEW, OLD), also: str = "") -> int | None:
    payload = json.dumps(BODY | {"also": also})
    headers = signed(payload, delivery_id="mess-a", secrets=list(secrets), at_s=time.time())
    try:
        return requests.post(inbox.url_of(address), data=payload, headers=headers, timeout=5).status_code
    except requests.ConnectionError:
        return None


@pytest.mark.parametrize(
    ("mood", "answers"),
    [
        ("well", [200, 200]),
        ("slow", [200]),
        ("errs", [500, 200]),
        ("errs-twice", [500, 500, 200]),
        ("hangs-up", [None, 200]),
        ("gone", [410, 410]),
    ],
)
def test_it_answers_as_its_address_says_and_keeps_every_try(inbox, mood, answers):
    """Each try of one message, with what was answered."""
    assert [post(inbox, f"/{mood}/a") for _ in answers] == answers
    assert [arrival.status for arrival in inbox.take_no_more()] == answers


def test_it_reads_what_the_judge_wants_to_know(inbox):
    """The message's id, the words, the files; and nothing that comes after the facts were asked for."""
    post(inbox, "/well/a")
    (arrival,) = inbox.take_no_more()
    assert (arrival.id, arrival.address, arrival.signed, arrival.tells_secret) == ("mess-a", "/well/a", True, False)
    assert (arrival.job_id, arrival.sequence, arrival.kind, arrival.phase) == ("job-a", 1, "generation.failed", "fail")
    assert (arrival.label, arrival.tenant) == ("a", "t")
    assert (arrival.files, arrival.links) == (((0, "t/job-a/0.png", "aa"),), ("/media/t/job-a/0.png",))
    assert post(inbox, "/well/a") == 503
    assert len(inbox.take_no_more()) == 1


def test_it_sees_a_missing_signature_a_told_secret_and_other_words(inbox):
    """One of two signatures is not enough; a changed body has another digest."""
    post(inbox, "/well/a")
    post(inbox, "/well/a", secrets=(NEW,))
    post(inbox, "/well/a", also="key-of-kie")
    first, half, telling = inbox.take_no_more()
    assert (first.signed, half.signed, telling.signed) == (True, False, True)
    assert (first.tells_secret, half.tells_secret, telling.tells_secret) == (False, False, True)
    assert first.digest == half.digest != telling.digest
