"""The heartbeat of copies: leases are renewed, never beyond a copy's longest time, and a lost one is noticed."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from kiejobs.db import copies
from kiejobs.db.session import Database
from kiejobs.jobs import JobState, OutputClaim
from tests.factories import Ticker, age, make_job, now, outputs_of
from workers.leases import GRACE_S, Leases
from workers.runtime import Runtime


@pytest.fixture
def rt(sqlite: Database, runtime: Callable[..., Runtime]) -> Runtime:
    """A runtime on SQLite whose clock stands still."""
    return runtime(sqlite, lease_s=60.0)


def claimed(rt: Runtime) -> OutputClaim:
    job = make_job(rt.database, JobState.STORING)
    claim = copies.claim(rt.database, job.id, 0, lease_s=60.0)
    assert claim is not None
    return claim


def test_a_beat_renews_the_lease_and_writes_how_far_the_copy_is(rt: Runtime) -> None:
    """The row's `due_at` is the end of the lease."""
    claim = claimed(rt)
    age(rt.database, claim.job_id, 50)
    leases = Leases(rt)
    with leases.keep(claim) as lease:
        lease.progress(12345)
        lease.expects(99999)
        leases.beat()
    (row,) = outputs_of(rt.database, claim.job_id)
    assert (row.received_bytes, row.expected_bytes) == (12345, 99999)
    assert row.version == claim.version, "a heartbeat is not counted by the fence"
    assert timedelta(seconds=58) < row.due_at - now(rt.database) < timedelta(seconds=62)
    assert not lease.lost


def test_a_lease_that_was_taken_over_is_lost(rt: Runtime) -> None:
    """The old copy learns it with the next beat, and does not take it back."""
    claim = claimed(rt)
    leases = Leases(rt)
    with leases.keep(claim) as lease:
        age(rt.database, claim.job_id, 100)
        again = copies.claim(rt.database, claim.job_id, 0, lease_s=60.0)
        assert again is not None
        (before,) = outputs_of(rt.database, claim.job_id)
        leases.beat()
        assert lease.lost
    assert outputs_of(rt.database, claim.job_id) == [before]


def test_a_lease_is_never_kept_beyond_a_copys_longest_time(rt: Runtime, ticker: Ticker) -> None:
    """A hung copy is started again elsewhere."""
    claim = claimed(rt)
    leases = Leases(rt)
    with leases.keep(claim) as lease:
        ticker.advance(rt.settings.download_timeout_s + GRACE_S)
        leases.beat()
        assert not lease.lost
        (before,) = outputs_of(rt.database, claim.job_id)
        ticker.advance(0.001)
        leases.beat()
        assert lease.lost
    assert outputs_of(rt.database, claim.job_id) == [before]


def test_a_copy_of_a_large_file_keeps_its_lease_as_long_as_it_may_take(rt: Runtime, ticker: Ticker) -> None:
    """By the same rule as the copy itself: else another worker would begin it again before it ends."""
    claim = claimed(rt)
    leases = Leases(rt)
    with leases.keep(claim) as lease:
        lease.expects(2 * 1024**3)
        ticker.advance(2048 + GRACE_S)
        leases.beat()
        assert not lease.lost
        ticker.advance(0.001)
        leases.beat()
        assert lease.lost


def test_a_database_that_is_away_loses_no_lease(
    rt: Runtime, tmp_path_factory: pytest.TempPathFactory, runtime: Callable[..., Runtime]
) -> None:
    """The copy goes on; the next beat tries again."""
    claim = claimed(rt)
    bare = Database(f"sqlite:///{tmp_path_factory.mktemp('bare')}/bare.db")
    leases = Leases(runtime(bare))
    with leases.keep(claim) as lease:
        leases.beat()
        assert not lease.lost
    bare.close()


def test_no_error_whatever_stops_the_heart(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread beats for all copies of a process: the others are renewed, and this one with the next beat."""
    first, second = claimed(rt), claimed(rt)
    renewed: list[str] = []

    def renew(_: Database, claim: OutputClaim, **__: object) -> bool:
        renewed.append(claim.job_id)
        if len(renewed) == 1:
            raise RuntimeError("nobody foresaw this")
        return True

    monkeypatch.setattr(copies, "renew", renew)
    leases = Leases(rt)
    with leases.keep(first) as one, leases.keep(second) as other:
        leases.beat()
        leases.beat()
    assert sorted(renewed) == sorted([first.job_id, second.job_id] * 2)
    assert not (one.lost or other.lost)


def test_one_lease_that_cannot_be_renewed_does_not_stop_the_others(rt: Runtime) -> None:
    """All running copies are beaten for."""
    first, second = claimed(rt), claimed(rt)
    age(rt.database, second.job_id, 50)
    leases = Leases(rt)
    with leases.keep(first) as gone, leases.keep(second) as kept:
        copies.close_stored(
            rt.database,
            first,
            key="default/2026/01/02/a/0.png",
            media_type="image/png",
            size_bytes=1,
            sha256="",
            who="",
        )
        leases.beat()
        assert (gone.lost, kept.lost) == (True, False)
    (row,) = outputs_of(rt.database, second.job_id)
    assert row.due_at - now(rt.database) > timedelta(seconds=55)


def test_a_copy_that_ended_is_not_beaten_for(rt: Runtime) -> None:
    """Whether it ended well or raised."""
    claim = claimed(rt)
    leases = Leases(rt)
    with pytest.raises(RuntimeError), leases.keep(claim):
        raise RuntimeError("as the test wants it")
    age(rt.database, claim.job_id, 50)
    (before,) = outputs_of(rt.database, claim.job_id)
    leases.beat()
    assert outputs_of(rt.database, claim.job_id) == [before]
