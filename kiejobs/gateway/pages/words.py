"""How pages say things: sizes, times, durations, money, states. Pure; times are told against a `now` that is given."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from markupsafe import Markup, escape

from kiejobs.jobs import Job, JobState, Output, OutputState

_TICKS = re.compile(r"`([^`]+)`")

STATES: dict[JobState, str] = {
    JobState.QUEUED: "Queued",
    JobState.SUBMITTING: "Being sent",
    JobState.UNCONFIRMED: "Unconfirmed",
    JobState.WAITING: "At Kie",
    JobState.TIMEOUT: "Late",
    JobState.STORING: "Storing",
    JobState.SUCCESS: "Done",
    JobState.FAIL: "Failed",
    JobState.CANCELED: "Canceled",
}
"""State → the word on its badge."""

MEANINGS: dict[JobState, str] = {
    JobState.QUEUED: "It waits for its turn to be sent to Kie.",
    JobState.SUBMITTING: "The create call is under way.",
    JobState.UNCONFIRMED: "The create call's outcome is unknown. Nothing is sent again by itself.",
    JobState.WAITING: "Kie has taken it and works on it.",
    JobState.TIMEOUT: "Kie takes longer than the time limit. kiejobs goes on looking, and stores a late result.",
    JobState.STORING: "Kie is done; the files are being copied into the storage.",
    JobState.SUCCESS: "Every file is in the storage and verified.",
    JobState.FAIL: "It ended without a result.",
    JobState.CANCELED: "It was given up.",
}


def size(count: int | None) -> str:
    """Say a number of bytes: `812 B`, `3.4 MB`."""
    if count is None:
        return "–"
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def duration(seconds: float | None) -> str:
    """Say a duration in its largest fitting unit: `0.8 s`, `42 s`, `12 min`, `3 h`, `5 days`."""
    if seconds is None:
        return "–"
    if abs(seconds) < 0.05:
        return "0 s"
    sign, left = ("−" if seconds < 0 else ""), abs(seconds)
    if left < 10:
        return f"{sign}{left:.1f} s"
    for most, unit_s, unit in ((100, 1, "s"), (6000, 60, "min"), (172800, 3600, "h")):
        if left < most:
            return f"{sign}{left / unit_s:.0f} {unit}"
    return f"{sign}{left / 86400:.0f} days"


def ago(at: datetime | None, now: datetime) -> str:
    """Say how long ago something was."""
    if at is None:
        return "never"
    seconds = (now - at).total_seconds()
    return "just now" if seconds < 10 else f"{duration(seconds)} ago"


def moment(at: datetime | None) -> str:
    """Say a time to the second, in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "–"


def credits(amount: Decimal | float | None) -> str:
    """Say an amount of Kie's credits; unknown is not zero."""
    return "not known yet" if amount is None else f"{float(amount):,.4f}".rstrip("0").rstrip(".")


def drift(amount: float) -> str:
    """Say what a balance lost, or gained, that no known create call explains."""
    if amount > 0:
        return (
            f"{credits(amount)} credits left that no known create explains: another program, or creates of unknown cost"
        )
    return f"{credits(-amount)} credits more than the known creates have left, as after a top-up or a refund"


def percent(share: float | None) -> int:
    """Say a share of one as a whole number from 0 to 100."""
    return round(min(max(share or 0.0, 0.0), 1.0) * 100)


def sentence(text: str) -> str:
    """Begin with a capital; the rest stays."""
    return text[:1].upper() + text[1:]


def ticked(text: str) -> Markup:
    """Escape a text, and show what stands between backticks as code."""
    return Markup(_TICKS.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def kind_of(output: Output) -> str:
    """Say how a browser can show a stored file: `image`, `video`, `audio`; else `file`."""
    kind = (output.media_type or "").partition("/")[0]
    unplayable = output.media_type in ("image/heic", "audio/midi", "video/x-matroska", "image/svg+xml")
    return kind if kind in ("image", "video", "audio") and not unplayable else "file"


@dataclass(frozen=True, slots=True)
class Piece:
    """What is shown as one: a file, and the cover that Kie gave beside a song or a film."""

    output: Output
    cover: Output | None = None


def pieces(outputs: Sequence[Output]) -> list[Piece]:
    """Put covers beside what they are of: in turn where there are as many, else to the file that stands before them."""
    covers = [one for one in outputs if one.role == "cover" and _shows(one, "image")]
    played = [one for one in outputs if _shows(one, "audio", "video")]
    of: dict[int, Output] = {}
    if len(covers) == len(played):
        of = {one.index: cover for one, cover in zip(played, covers, strict=True)}
    else:
        for cover in covers:
            before = [one for one in played if one.index < cover.index and one.index not in of]
            if before:
                of[before[-1].index] = cover
    beside = {cover.index for cover in of.values()}
    return [Piece(one, of.get(one.index)) for one in outputs if one.index not in beside]


def _shows(output: Output, *kinds: str) -> bool:
    return output.state is OutputState.STORED and kind_of(output) in kinds


def standing(job: Job) -> str:
    """Say in a few words what goes on with a job."""
    match job.phase:
        case JobState.QUEUED if job.message:
            return job.message
        case JobState.QUEUED if job.place_in_line:
            return f"place {job.place_in_line} in line"
        case JobState.WAITING | JobState.TIMEOUT:
            return f"looked {job.polls} time{'' if job.polls == 1 else 's'}"
        case JobState.STORING:
            stored = sum(output.state is OutputState.STORED for output in job.outputs)
            return f"{stored} of {len(job.outputs)} stored"
        case JobState.FAIL:
            return (job.reason or "unknown").replace("_", " ")
        case _:
            return ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is; `percent` is None where nobody knows."""

    label: str
    percent: int | None


def progress(job: Job) -> Progress | None:
    """Say how far an unfinished job is; None for one that has ended or is parked."""
    if job.phase is JobState.STORING and job.outputs:
        return Progress("files stored", percent(_copied(job.outputs)))
    if job.phase in (JobState.WAITING, JobState.TIMEOUT):
        return Progress("made", percent(job.progress) if job.progress is not None else None)
    return Progress("waiting", None) if job.phase in (JobState.QUEUED, JobState.SUBMITTING) else None


def _copied(outputs: tuple[Output, ...]) -> float:
    return sum(copied(output) for output in outputs) / len(outputs)


def copied(output: Output) -> float:
    """Say what share of a file is in the storage; 0 as long as nobody knows how large it is."""
    if output.state is OutputState.STORED:
        return 1.0
    return output.received_bytes / output.expected_bytes if output.expected_bytes else 0.0
