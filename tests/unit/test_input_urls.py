"""URLs in an input that Kie cannot fetch are refused by name; what only mentions one passes."""

import time

import pytest

from kiejobs.errors import InvalidInput
from kiejobs.request import new_job
from kiejobs.storage.input_urls import unreachable

ALLOW = frozenset({("127.0.0.1", 8789)})


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"image_url": "http://127.0.0.1:9000/cat.png"}, "image_url"),
        ({"image_url": "http://localhost/cat.png"}, "image_url"),
        ({"image_urls": ["https://example.com/a.png", "http://10.0.0.7/b.png"]}, "image_urls[1]"),
        ({"elements": [{"frontal_image_url": "http://[::1]/x"}]}, "elements[0].frontal_image_url"),
        ({"image": "file:///etc/passwd"}, "image"),
        ({"image": "ftp://example.com/cat.png"}, "image"),
        ({"image_url": "data:image/png;base64,AAAA"}, "image_url"),
        ({"filesUrl": ["/home/me/cat.png"]}, "filesUrl[0]"),
        ({"video_url": "./clip.mp4"}, "video_url"),
        ({"image_url": " http://169.254.169.254/latest "}, "image_url"),
    ],
)
def test_what_kie_cannot_fetch_is_named(given, field):
    found = unreachable(given, ALLOW)
    assert found is not None
    assert found[0] == field


@pytest.mark.parametrize(
    "given",
    [
        {"image_url": "https://example.com/cat.png?x=1"},
        {"image_url": "http://127.0.0.1:8789/files/cat.png"},
        {"first_frame_url": "asset://asset-20260101"},
        {"prompt": "a browser that shows http://localhost/ in its address bar"},
        {"image_url": {"$from": {"job": "0f3c", "output": 0}}},
        {"image_urls": [], "n": 3, "x": None},
        {"image_url": "an-id-of-kie"},
    ],
)
def test_the_rest_passes(given):
    assert unreachable(given, ALLOW) is None


def test_a_request_is_refused_whatever_the_catalogue_says():
    """Checking the parameters may be off; what cannot be fetched stays so. The remedy names the upload."""
    request = {"model": "z-image", "input": {"image_url": "http://192.168.0.9/cat.png"}, "validate": "off"}
    with pytest.raises(InvalidInput) as refused:
        new_job(request, tenant="default", who="test", allow=frozenset())
    assert refused.value.field == "input.image_url"
    assert "--input f=@file" in refused.value.remedy


def test_a_misspelt_field_of_a_request_is_named_with_the_one_that_was_meant():
    with pytest.raises(InvalidInput, match="did you mean 'idempotencyKey'"):
        new_job({"model": "z-image", "idempotencykey": "x"}, tenant="default", who="test", allow=frozenset())


@pytest.mark.parametrize("value", [0, -1, True, "60", 10**9])
def test_reuse_within_is_a_number_of_seconds(value):
    with pytest.raises(InvalidInput) as refused:
        new_job({"model": "new/model", "reuseWithinS": value}, tenant="default", who="test", allow=frozenset())
    assert refused.value.field == "reuseWithinS"


@pytest.mark.parametrize(
    "given",
    [
        {"[1]" * 60_000 + "x": "y"},
        {"n" * 60_000: ["y"] * 20_000},
        {"n" * 60_000: [[1]] * 20_000},
        {"a": [[[]] * 10] * 4_000},
    ],
    ids=["a name like an index", "a long name over many texts", "over many lists", "many lists"],
)
def test_the_work_grows_with_the_size_alone(given):
    """Whoever may buy may send a mebibyte of anything: the shape of it must not hold the gateway for minutes."""
    began_s = time.process_time()
    new_job({"model": "acme/unknown", "input": given}, tenant="default", who="test", allow=frozenset())
    assert time.process_time() - began_s < 10


def test_a_place_deep_within_is_named_in_short():
    found = unreachable({"a" * 5000: [{"url": "file:///x"}]})
    assert found is not None
    assert found[0] == f"{'a' * 200}…"
