"""How the web pages say things."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from kiejobs.gateway.pages import words
from kiejobs.jobs import Job, JobState, Output, OutputState

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def job(phase: JobState, **given: object) -> Job:
    return Job("id", "default", "default", "z-image", phase, NOW, **given)  # type: ignore[arg-type]


def test_every_state_has_a_word_and_a_meaning():
    """A new state cannot be forgotten here."""
    assert set(words.STATES) == set(words.MEANINGS) == set(JobState)


@pytest.mark.parametrize(
    ("count", "said"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (16_447, "16.4 kB"), (2**31, "2.1 GB")],
)
def test_sizes_have_one_unit(count, said):
    assert words.size(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *[(None, "–"), (0, "0 s"), (0.04, "0 s"), (4.26, "4.3 s"), (61, "61 s"), (100, "2 min"), (5999, "100 min")],
        *[(7200, "2 h"), (172_800, "2 days"), (-30, "−30 s"), (-4000, "−67 min")],
    ],
)
def test_durations_have_the_unit_that_fits(seconds, said):
    assert words.duration(seconds) == said


def test_times_are_told_against_the_databases_now():
    """Nothing here asks a clock."""
    assert words.ago(NOW - timedelta(seconds=3), NOW) == "just now"
    assert words.ago(NOW - timedelta(hours=5), NOW) == "5 h ago"
    assert words.ago(None, NOW) == "never"
    assert words.moment(NOW) == "2026-01-02 03:04:05 UTC"


@pytest.mark.parametrize(
    ("amount", "said"),
    [(None, "not known yet"), (Decimal(0), "0"), (Decimal("12.5000"), "12.5"), (9892.0, "9,892"), (100.0, "100")],
)
def test_unknown_credits_are_never_told_as_zero(amount, said):
    assert words.credits(amount) == said


def test_code_in_advice_is_marked_and_everything_is_escaped():
    """Backticks are the only markup."""
    told = words.ticked("run `kiejobs <x>`, then <b>look</b> at `it")
    assert str(told) == "run <code>kiejobs &lt;x&gt;</code>, then &lt;b&gt;look&lt;/b&gt; at `it"


@pytest.mark.parametrize(
    ("media_type", "kind"),
    [
        *[("image/png", "image"), ("image/avif", "image"), ("video/mp4", "video"), ("audio/wav", "audio")],
        *[
            ("image/heic", "file"),
            ("audio/midi", "file"),
            ("image/svg+xml", "file"),
            ("text/html", "file"),
            (None, "file"),
        ],
    ],
)
def test_only_what_browsers_play_gets_a_player(media_type, kind):
    assert words.kind_of(Output(0, OutputState.STORED, "result", media_type=media_type)) == kind


def test_progress_is_shown_where_somebody_knows_it():
    """Kie's share while it makes, the share of files while they are stored; nothing is made up."""
    stored, pending = Output(0, OutputState.STORED, "result"), Output(1, OutputState.PENDING, "result")
    half = Output(0, OutputState.PENDING, "result", received_bytes=250, expected_bytes=1000)
    told = {
        "kie": words.progress(job(JobState.WAITING, progress=0.404)),
        "silent": words.progress(job(JobState.WAITING)),
        "storing": words.progress(job(JobState.STORING, outputs=(stored, pending))),
        "halfway": words.progress(job(JobState.STORING, outputs=(half, half))),
        "too much": words.progress(job(JobState.WAITING, progress=7.0)),
    }
    assert {name: one and one.percent for name, one in told.items()} == {
        "kie": 40,
        "silent": None,
        "storing": 50,
        "halfway": 25,
        "too much": 100,
    }
    assert words.progress(job(JobState.SUCCESS, progress=0.9)) is None
    assert words.progress(job(JobState.UNCONFIRMED)) is None


def test_a_song_and_its_cover_are_shown_as_one():
    """In turn where there are as many; else to the one before; a picture without a song stays alone, nothing is lost."""

    def stored(index: int, media_type: str, role: str = "result") -> Output:
        return Output(index, OutputState.STORED, role, media_type=media_type)

    def shown(*outputs: Output) -> list[tuple[int, int | None]]:
        return [(one.output.index, one.cover and one.cover.index) for one in words.pieces(outputs)]

    song, film = "audio/mpeg", "video/mp4"
    by_song = (stored(0, song), stored(1, "image/jpeg", "cover"), stored(2, song), stored(3, "image/jpeg", "cover"))
    by_kind = (stored(0, film), stored(1, film), stored(2, "image/jpeg", "cover"), stored(3, "image/png", "cover"))
    assert shown(*by_song) == [(0, 1), (2, 3)]
    assert shown(*by_kind) == [(0, 2), (1, 3)]
    assert shown(stored(0, song), stored(1, song), stored(2, "image/jpeg", "cover")) == [(0, None), (1, 2)]
    pictures = (stored(0, "image/png"), stored(1, "image/png", "cover"))
    assert shown(*pictures) == [(0, None), (1, None)]
    half = (stored(0, song), Output(1, OutputState.PENDING, "cover"))
    assert shown(*half) == [(0, None), (1, None)]


def test_a_drift_says_in_which_direction():
    """A top-up is no loss."""
    assert words.drift(12.5).startswith("12.5 credits left that no known create explains")
    assert words.drift(-152.4).startswith("152.4 credits more than the known creates have left")
