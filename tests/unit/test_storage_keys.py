"""Where an output lives, and what can never become part of that place."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from kiejobs.storage.keys import checked_key, object_key

JOB = "018f3a5e-7c1d-7e6a-9b0f-2d4c6e8a0b1c"
NOON = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)


def key(**changes: object) -> str:
    """Build a key from good parts, with the changes a test is about."""
    parts: dict[str, object] = {"tenant": "default", "created_at": NOON, "job_id": JOB, "index": 0, "extension": "mp4"}
    return object_key(**{**parts, **changes})  # type: ignore[arg-type]


def test_a_key_names_tenant_day_job_and_index() -> None:
    """The form is a promise: links and lifecycle rules are built on it."""
    assert key(tenant="acme", index=3, extension="png") == f"acme/2026/03/09/{JOB}/3.png"


def test_a_prefix_comes_first_whatever_its_slashes() -> None:
    """A prefix may be written with or without slashes around it."""
    assert key(prefix="/results/eu/") == f"results/eu/default/2026/03/09/{JOB}/0.mp4"


def test_the_day_is_the_one_in_utc() -> None:
    """Half past midnight in Tokyo is still yesterday in the key."""
    tokyo = datetime(2026, 3, 10, 0, 30, tzinfo=timezone(timedelta(hours=9)))
    assert "/2026/03/09/" in key(created_at=tokyo)


def test_a_job_id_is_written_in_lower_case() -> None:
    """The same job has one key, however its id is spelt."""
    assert key(job_id=JOB.upper()) == key()


@pytest.mark.parametrize("tenant", ["", "..", ".", "a/b", "A", "-a", "a" * 64, "a\n", "a b", "ä", "a/../b", "a\x00"])
def test_a_tenant_that_is_no_plain_name_is_refused(tenant: str) -> None:
    """Nothing in a tenant's name may lead into another tenant's folder."""
    with pytest.raises(ValueError, match="tenant"):
        key(tenant=tenant)


@pytest.mark.parametrize("extension", ["", ".mp4", "mp4/../x", "MP4", "verylongone", "mp4\n"])
def test_an_extension_that_is_no_plain_word_is_refused(extension: str) -> None:
    """Extensions come from the sniffed type; anything else is a bug."""
    with pytest.raises(ValueError, match="extension"):
        key(extension=extension)


@pytest.mark.parametrize(
    "job_id", ["", "../../x", JOB.replace("-", ""), "{" + JOB + "}", "urn:uuid:" + JOB, JOB + "/x"]
)
def test_a_job_id_that_is_no_canonical_uuid_is_refused(job_id: str) -> None:
    """Also the spellings that Python's UUID class would read."""
    with pytest.raises(ValueError):  # uuid's own text or ours
        key(job_id=job_id)


def test_a_negative_index_a_naive_time_and_a_climbing_prefix_are_refused() -> None:
    """The remaining parts are checked too."""
    for changes in ({"index": -1}, {"created_at": datetime(2026, 3, 9)}, {"prefix": "../other"}, {"prefix": "a//b"}):  # noqa: DTZ001
        with pytest.raises(ValueError):
            key(**changes)


@pytest.mark.parametrize(
    "bad", ["", "/a", "a/", "a//b", "a/../b", "..", "./a", "a\\b", "a b", "a?b", "a%2e", "é", "a" * 901]
)
def test_a_key_that_could_leave_its_folder_is_refused(bad: str) -> None:
    """The store checks every key once more with this."""
    with pytest.raises(ValueError, match="no object key"):
        checked_key(bad)
