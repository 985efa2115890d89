"""Whether a named task is the one that was bought: what its record echoes decides, and nothing else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kiejobs.kie.adoption import Echo, Sent, mismatch
from kiejobs.kie.reading import moment

AT = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
OURS = "https://we.example/callbacks/kie/0b9c.5d"
SENT = Sent("veo3_fast", {"prompt": "a cat", "duration": 8}, OURS, AT)
TOLD = Echo("veo3_fast", {"prompt": "a cat", "duration": 8, "more": 1}, OURS, AT + timedelta(seconds=3))


def test_a_record_that_agrees_in_everything_is_the_one() -> None:
    """Model, input, address and time; what Kie adds to the input is no contradiction."""
    assert mismatch(TOLD, SENT) is None


def test_a_record_that_echoes_our_address_needs_no_readable_time() -> None:
    """The address is the submission's own; times as text without a zone prove nothing and are not needed then."""
    assert mismatch(replace(TOLD, created_at=None), SENT) is None


@pytest.mark.parametrize("address", [None, ""])
def test_a_record_without_address_and_time_is_refused(address: str | None) -> None:
    """The same prompt was perhaps sent twice: nothing says which of the two this is."""
    alone = replace(TOLD, callback_url=address, created_at=None)
    without = replace(SENT, callback_url=None)
    assert mismatch(alone, without) == "the task's record has no creation time that can be read"


@pytest.mark.parametrize("address", ["", "https://we.example/callbacks/kie/other.5d", OURS + "/"])
@pytest.mark.parametrize("created_at", [None, AT])
def test_another_address_is_refused_with_and_without_a_time(address: str, created_at: datetime | None) -> None:
    """Only exactly the submission's address is ours."""
    assert mismatch(replace(TOLD, callback_url=address, created_at=created_at), SENT) is not None


def test_our_address_excuses_nothing_but_the_time() -> None:
    """Another input is still another task, and a time that can be read must still agree."""
    assert mismatch(replace(TOLD, input={"prompt": "a dog", "duration": 8}), SENT) is not None
    assert mismatch(replace(TOLD, created_at=AT + timedelta(hours=1)), SENT) is not None


def test_a_family_whose_records_name_no_model_is_judged_by_the_rest() -> None:
    """None is "not said"; another model is a contradiction."""
    assert mismatch(replace(TOLD, model=None), SENT) is None
    assert mismatch(replace(TOLD, model="veo3"), SENT) is not None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1763712000000, datetime(2025, 11, 21, 8, 0, tzinfo=UTC)),
        ("1763712000000", datetime(2025, 11, 21, 8, 0, tzinfo=UTC)),
        ("2025-11-21T08:00:00Z", datetime(2025, 11, 21, 8, 0, tzinfo=UTC)),
        ("2025-11-21T09:00:00+01:00", datetime(2025, 11, 21, 8, 0, tzinfo=UTC)),
        ("2025-11-21 08:00:00", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("soon", None),
        ("", None),
        (True, None),
        ({}, None),
    ],
)
def test_a_time_is_milliseconds_or_text_with_its_zone(value: object, expected: datetime | None) -> None:
    """Text without a zone could be Beijing's or UTC."""
    assert moment(value) == expected
