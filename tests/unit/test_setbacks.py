"""What follows a copy that failed, told from the claim and the error alone."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from kiejobs.errors import (
    Damaged,
    DatabaseUnavailable,
    EgressRefused,
    Incomplete,
    KieJobsError,
    KieThrottled,
    KieUnavailable,
    NameRefused,
    Reason,
    SettingsError,
    SourceExpired,
    SourceRefused,
    SourceUnavailable,
    Stopped,
    StorageUnavailable,
)
from kiejobs.jobs import OutputClaim
from kiejobs.setbacks import (
    BY_PRODUCT_S,
    BY_PRODUCT_TRIES,
    KIE_KEEPS_S,
    RENEW_AT,
    RENEW_EVERY,
    TRIES_FOR_WHOLE,
    Fault,
    Setback,
    after_copy,
    fault_of,
)

LINK = "https://files.example/0.png"
CLAIM = OutputClaim(
    job_id="018f3a5e-7c1d-7e6a-9b0f-2d4c6e8a0b1c",
    index=0,
    role="result",
    version=1,
    url=LINK,
    document=None,
    link_expired=False,
    attempts=1,
    refusals=0,
    tenant="default",
    account="default",
    model="z-image",
    family="jobs",
    task_id="task",
    created_at=datetime(2026, 3, 9, tzinfo=UTC),
    age_s=60.0,
    executions=1,
)
DIED = SourceExpired("answers 404")
DOWN = StorageUnavailable("s3://media: the bucket does not exist")
BUSY = SourceUnavailable("answers 503")
LATE_S = KIE_KEEPS_S + 1


def after(error: KieJobsError, *, tried: str | None = LINK, jitter: float = 0.0, **changes: Any) -> Setback:
    """What follows, for a claim that is usual but for what the test is about."""
    return after_copy(replace(CLAIM, **changes), error, tried=tried, jitter=jitter)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (Stopped("x"), Fault.NOBODY),
        (DOWN, Fault.STORAGE),
        (DatabaseUnavailable("x"), Fault.STORAGE),
        (SettingsError("x"), Fault.STORAGE),
        (DIED, Fault.LINK),
        (SourceRefused("x"), Fault.BYTES),
        (EgressRefused("x"), Fault.BYTES),
        (NameRefused("x"), Fault.NETWORK),
        (Damaged("x"), Fault.BYTES),
        (Incomplete("x"), Fault.SOURCE),
        (BUSY, Fault.SOURCE),
        (KieUnavailable("x"), Fault.SOURCE),
        (KieThrottled("x"), Fault.SOURCE),
    ],
)
def test_each_error_is_somebodys_fault(error: KieJobsError, fault: Fault) -> None:
    """And ours, where it is not known to be the source's."""
    assert fault_of(error) is fault


@pytest.mark.parametrize("error", [DOWN, BUSY])
def test_waits_grow_from_5_seconds_to_10_minutes_and_are_moved_by_a_tenth(error: KieJobsError) -> None:
    """So that copies which failed together do not come back together."""
    waits = [after(error, attempts=n, storage_troubles=n - 1 if error is DOWN else 0).wait_s for n in range(1, 10)]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 600, 600]
    assert [after(error, jitter=jitter).wait_s for jitter in (-1, 1)] == [4.5, 5.5]


def test_a_link_that_soon_dies_is_tried_again_soon() -> None:
    """Whoever was at fault; at most a tenth of its life is waited."""
    assert after(DOWN, attempts=9, storage_troubles=9, dies_in_s=1200).wait_s == 120
    assert after(BUSY, attempts=9, dies_in_s=1200).wait_s == 120


def test_the_storages_troubles_cost_the_source_nothing() -> None:
    """A hundred failed puts, then the source stumbles for the first time: 5 s, not 10 minutes; and the other way round."""
    assert after(BUSY, attempts=101, storage_troubles=100).wait_s == 5
    assert after(DOWN, attempts=101).wait_s == 5
    outage = after(DOWN, attempts=101, refusals=2, link_expired=True, refused_url=LINK)
    assert (outage.final, outage.renew, outage.refused_url, outage.fault) == (None, True, LINK, Fault.STORAGE)


def test_a_refused_link_is_renewed_at_once_and_then_with_growing_waits() -> None:
    """The first refusal waits for nothing; another link may be there already."""
    first = after(DIED)
    assert (first.wait_s, first.renew, first.refused_url, first.final) == (0, True, LINK, None)
    again = [after(DIED, link_expired=True, attempts=n).wait_s for n in (2, 3, 4)]
    assert again == [10, 20, 40]


def test_the_link_that_was_refused_is_passed_over_once() -> None:
    """Not fetched again at once; but after a wait it is, for a file may come late to its place."""
    assert after(DIED, tried=LINK).refused_url == LINK
    assert after(DIED, tried=None, link_expired=True, refused_url=LINK).refused_url is None
    assert after(BUSY, link_expired=True, refused_url=LINK).refused_url == LINK
    assert after(SourceRefused("a web page")).refused_url == LINK


def test_bytes_that_are_no_result_are_final_at_the_third_time_over_another_link() -> None:
    """A page of a CDN in trouble must not cost a paid result."""
    finals, waits, refusals = [], [], 0
    for tries in (1, 2, 3):
        setback = after(SourceRefused("a page"), attempts=tries, refusals=refusals)
        finals, waits, refusals = [*finals, setback.final], [*waits, setback.wait_s], refusals + setback.costs
    assert finals == [None, None, Reason.RESULT_INVALID]
    assert waits[:2] == [40, 80], "not all within a server's bad quarter of a minute"
    assert after(SourceRefused("a page")).renew
    damaged = 2 * after(Damaged("x")).costs
    assert after(SourceRefused("a page"), attempts=3, refusals=damaged).final is None, "it is the first page"
    assert after(DOWN).costs == after(BUSY).costs == 0


def test_a_name_that_leads_to_a_private_address_is_waited_for_and_told_of_once() -> None:
    """A DNS or a setting here may be to blame; that must not cost a paid result, but it may cost what lies beside one."""
    refused = NameRefused("cdn.example:443 is at 10.0.0.1, which is never dialled")
    assert [after(refused, attempts=n).final for n in (1, 3, 12, 500)] == [None] * 4
    assert [after(refused, attempts=n).wait_s for n in (1, 2, 9)] == [5, 10, 600]
    assert "KIEJOBS_EGRESS_ALLOW" in str(after(refused).alert)
    assert after(refused).alert == after(NameRefused("another name"), attempts=7).alert, (
        "else each try would be told of"
    )
    assert after(BUSY).alert is None
    beside = {"role": "cover", "age_s": BY_PRODUCT_S + 1}
    assert after(refused, **beside, attempts=BY_PRODUCT_TRIES).final
    assert after(refused, role="cover").alert is None
    assert after(refused, link_expired=True, age_s=LATE_S).final is Reason.STORAGE


def test_a_server_that_goes_on_failing_makes_kie_be_asked_for_another_link_now_and_then() -> None:
    """A host that is gone is left; a thousand copies that wait for one that is merely down leave Kie its query limit."""
    asked = [n for n in range(1, 2017) if after(BUSY, attempts=n).renew]
    assert asked[:3] == [RENEW_AT, RENEW_AT + RENEW_EVERY, RENEW_AT + 2 * RENEW_EVERY]
    assert len(asked) == 2016 // RENEW_EVERY
    assert after(BUSY, attempts=RENEW_AT).refused_url == LINK, "so that download-url is asked, too"
    assert after(NameRefused("x"), attempts=RENEW_AT).renew
    assert after(BUSY, attempts=103, storage_troubles=100).renew
    assert not after(BUSY, attempts=4, link_expired=True).renew, "Kie gave no other: back to the known one"
    assert after(BUSY, attempts=4, link_expired=True, refused_url=LINK).renew, "Kie gave another: it is asked for again"


def test_a_dead_link_is_renewed_whatever_its_server_answers() -> None:
    """A 503, for instance, at each failure; the storage's own troubles ask nobody."""
    assert after(BUSY, attempts=1, dies_in_s=-1.0).renew
    assert after(BUSY, attempts=1, dies_in_s=-1.0).refused_url == LINK
    assert not after(BUSY, attempts=1, dies_in_s=1.0).renew
    assert not after(DOWN, attempts=RENEW_AT, dies_in_s=-1.0).renew


def test_a_file_that_is_damaged_at_its_source_is_given_up_after_an_hour_not_after_two_weeks() -> None:
    """It may be on its way to its place, but not for days; one that broke off on its way to us is another matter."""
    finals = [after(Damaged("no end mark"), refusals=n, attempts=n + 1).final for n in range(TRIES_FOR_WHOLE)]
    assert finals == [None] * (TRIES_FOR_WHOLE - 1) + [Reason.RESULT_INVALID]
    assert sum(after(Damaged("x"), attempts=n).wait_s for n in range(1, TRIES_FOR_WHOLE)) > 2400
    assert after(Incomplete("broke off"), refusals=2, attempts=500).final is None


def test_a_by_product_is_given_up_when_its_link_died_as_foretold() -> None:
    """Kie keeps it for minutes; before that time, and for the result itself, a refusal is no end."""
    assert after(DIED, role="origin", link_expired=True, dies_in_s=-1).final is Reason.RESULT_EXPIRED
    assert after(DIED, role="origin", dies_in_s=-1).final is None, "it has not been renewed yet"
    assert after(DIED, role="origin", link_expired=True, dies_in_s=60).final is None
    assert after(DIED, link_expired=True, dies_in_s=-1).final is None
    assert after(DOWN, role="origin", link_expired=True, dies_in_s=-1).final is None


def test_a_by_product_is_given_up_after_a_day_of_tries_at_the_source() -> None:
    """Those that the storage failed do not count, nor does a day without tries."""
    late = {"role": "cover", "age_s": BY_PRODUCT_S + 1}
    assert after(BUSY, **late, attempts=BY_PRODUCT_TRIES).final is Reason.RESULT_EXPIRED
    assert after(BUSY, **late, attempts=BY_PRODUCT_TRIES - 1).final is None
    assert after(BUSY, **late, attempts=BY_PRODUCT_TRIES + 5, storage_troubles=6).final is None
    assert after(DOWN, **late, attempts=BY_PRODUCT_TRIES).final is None
    assert after(BUSY, age_s=BY_PRODUCT_S + 1, attempts=BY_PRODUCT_TRIES).final is None


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (DIED, Reason.RESULT_EXPIRED),
        (BUSY, Reason.RESULT_EXPIRED),
        (KieUnavailable("x"), Reason.RESULT_EXPIRED),
        (DOWN, Reason.STORAGE),
        (SourceRefused("x"), Reason.RESULT_INVALID),
        (Stopped("x"), None),
    ],
)
def test_after_kies_two_weeks_a_result_is_lost_and_said_by_whom(error: KieJobsError, final: Reason | None) -> None:
    """But not because a worker happens to stop just then."""
    assert after(error, link_expired=True, age_s=LATE_S).final is final
    assert after(error, link_expired=True, age_s=KIE_KEEPS_S).final is None


def test_a_storage_that_comes_back_after_two_weeks_still_gets_one_renewed_link() -> None:
    """The known link died meanwhile; Kie is asked before the result is given up."""
    assert after(DIED, age_s=LATE_S).final is None
    assert after(DIED, age_s=LATE_S, link_expired=True).final is Reason.RESULT_EXPIRED
    assert (after(BUSY, age_s=LATE_S).final, after(BUSY, age_s=LATE_S).renew) == (None, True)


def test_a_document_is_never_given_up_for_the_storages_sake() -> None:
    """It lies in our own row and dies of nothing."""
    assert after(DOWN, document="{}", url=None, tried=None, age_s=10 * KIE_KEEPS_S).final is None


def test_two_weeks_of_tries_are_told_in_a_dozen_lines() -> None:
    """The first of each kind, then ever fewer; 2,016 lines would be a timeline that nobody reads."""
    told = [n for n in range(1, 2017) if after(DIED, attempts=n, link_expired=True).told]
    assert told == [2**n for n in range(11)]
    assert after(DIED, attempts=100).told
    assert after(DOWN, attempts=100).told
    assert not after(DOWN, attempts=100, storage_troubles=3).told
