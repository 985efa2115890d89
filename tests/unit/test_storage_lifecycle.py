"""What `doctor` learns of unfinished uploads: the request is signed as AWS signs, and rules are read for what they say."""

import http.server
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.auth
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from kiejobs.cli.doctor import Level, _address, _unfinished_uploads
from kiejobs.storage.lifecycle import Cleaning, read, signed
from kiejobs.storage.store import Store
from tests.factories import make_settings

ACCESS = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "secret/secret"}
AT = "20261121T050000Z"


@pytest.mark.parametrize("path", ["/media", "/", "/a.b-c/"])
@pytest.mark.parametrize("token", ["", "session+token/="])
def test_the_request_is_signed_as_awss_own_library_signs_it(
    monkeypatch: pytest.MonkeyPatch, path: str, token: str
) -> None:
    """Byte for byte the same signature."""
    moment = datetime(2026, 11, 21, 5, tzinfo=UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: moment)
    request = AWSRequest("GET", f"https://s3.example.com:9000{path}?lifecycle=")
    request.headers["x-amz-content-sha256"] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    SigV4Auth(Credentials(*ACCESS.values(), token or None), "s3", "eu-west-3").add_auth(request)
    ours = signed("s3.example.com:9000", path, "eu-west-3", {**ACCESS, "session_token": token}, AT)
    assert request.headers["X-Amz-Date"] == AT
    assert ours["Authorization"] == request.headers["Authorization"]


def rules(*texts: str) -> str:
    """A lifecycle configuration as S3 writes it."""
    inside = "".join(f"<Rule>{text}</Rule>" for text in texts)
    return f'<?xml version="1.0"?><LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc">{inside}</LifecycleConfiguration>'


ABORT = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
ON = "<Status>Enabled</Status>"


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (200, rules(f"<Filter><Prefix></Prefix></Filter>{ON}{ABORT}"), Cleaning(7)),
        (200, rules(f"<Prefix/>{ON}{ABORT}"), Cleaning(7)),
        (200, rules(f"{ON}{ABORT}".replace(">7<", ">30<"), f"{ON}{ABORT}"), Cleaning(7)),
        (200, rules(f"<Filter><Prefix>results/</Prefix></Filter>{ON}{ABORT}"), Cleaning(7)),
        (200, rules(f"<Filter><Prefix>other/</Prefix></Filter>{ON}{ABORT}"), Cleaning(None)),
        (200, rules(f"<Filter><Tag><Key>a</Key></Tag></Filter>{ON}{ABORT}"), Cleaning(None)),
        (200, rules(f"<Status>Disabled</Status>{ABORT}"), Cleaning(None)),
        (200, rules(f"{ON}<Expiration><Days>7</Days></Expiration>"), Cleaning(None)),
        (404, "<Error><Code>NoSuchLifecycleConfiguration</Code></Error>", Cleaning(None)),
    ],
)
def test_only_a_rule_in_force_over_our_prefix_counts(status: int, text: str, expected: Cleaning) -> None:
    """A rule for other objects cleans nothing of ours."""
    assert read(status, text, "results/media/") == expected


@pytest.mark.parametrize(
    ("status", "text"), [(403, "AccessDenied"), (501, "NotImplemented"), (200, "<ListBucketResult/>")]
)
def test_a_server_that_does_not_tell_is_unknown_not_clean(status: int, text: str) -> None:
    """Many compatible servers list the bucket instead."""
    found = read(status, text, "")
    assert found.days is None
    assert found.unknown


class Bucket(http.server.BaseHTTPRequestHandler):
    """A server that answers the question and remembers how it was asked."""

    answer = (200, rules(f"{ON}{ABORT}"))
    asked: list[tuple[str, dict[str, str]]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append((self.path, dict(self.headers)))
        body = self.answer[1].encode()
        self.send_response(self.answer[0])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[str]:
    """Where it listens."""
    Bucket.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as made:
        threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


def asked(tmp_path: Path, endpoint: str, **given: Any) -> Any:
    """What doctor finds."""
    known = {"storage_url": "s3://media/results", "storage_endpoint_url": endpoint, "storage_region": "eu-west-3"}
    keys = {"storage_key_id": "AKIDEXAMPLE", "storage_secret": "secretsecret"}
    settings = make_settings(tmp_path, **{**known, **keys, **given})
    return _unfinished_uploads(settings, Store.of(settings))


def test_doctor_asks_the_bucket_itself(tmp_path: Path, server: str) -> None:
    """The bucket, not the prefix in it; signed for its region; and the secret is not sent."""
    found = asked(tmp_path, server)
    assert (found.level, found.said) == (Level.OK, "the bucket removes unfinished uploads after 7 days")
    ((path, headers),) = Bucket.asked
    assert (urlsplit(path).path.rstrip("/"), urlsplit(path).query) == ("/media", "lifecycle=")
    assert "/eu-west-3/s3/aws4_request" in headers["Authorization"]
    assert "secretsecret" not in str(headers)


@pytest.mark.parametrize("answer", [(404, "<Code>NoSuchLifecycleConfiguration</Code>"), (501, ""), (403, "")])
def test_doctor_says_what_to_do_where_nothing_cleans_up_or_nobody_tells(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str]
) -> None:
    """A note, for results are safe all the same."""
    monkeypatch.setattr(Bucket, "answer", answer)
    found = asked(tmp_path, server)
    assert found.level is Level.NOTE
    assert "docs/storage.md" in found.remedy


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("https://storage.example.com", "an object is at https://storage.example.com/media/results/…"),
        ("https://media.example.com", "an object is at https://media.example.com/results/…"),
    ],
)
def test_doctor_says_where_objects_are_dialled(tmp_path: Path, endpoint: str, said: str) -> None:
    """Path style or host style is a guess by the address's beginning; here it can be seen, without the signature."""
    settings = make_settings(
        tmp_path,
        storage_url="s3://media/results",
        storage_endpoint_url=endpoint,
        storage_key_id="AKIDEXAMPLE",
        storage_secret="secretsecret",
    )
    (found,) = _address(settings, Store.of(settings))
    assert (found.level, found.said) == (Level.OK, said)


def test_doctor_asks_nobody_without_a_key_in_the_settings(tmp_path: Path, server: str) -> None:
    """A machine's role has its key elsewhere; then a note says that it was not looked at."""
    found = asked(tmp_path, server, storage_key_id=None, storage_secret=None)
    assert found.level is Level.NOTE
    assert Bucket.asked == []
