"""What is counted: the name, the labels and the meaning of every figure that only rises, and how one is added up.

Pure. A figure's labels have few values: outcomes, steps, codes, models of the catalogue; never a tenant, a job or a text
of a stranger. `Counts` is what a process or a sweep has counted and not yet written down; `db.counters` keeps the sums.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from kiejobs.errors import Reason

Key = tuple[str, str]
"""A figure's name, and its labels' values in one text."""

_BETWEEN = "|"
_SUM = "sum"
_LABEL_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Counted:
    """One figure. With `buckets` it is a histogram of values, else a plain count."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()
    """Labels' values that are told from the beginning, as 0: a rise from nothing is none that an alert could see."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A histogram as it stands: how many values were at most each bound, the last of which is infinity, and their sum."""

    at_most: tuple[tuple[float, float], ...]
    sum: float


CREATES = Counted(
    "creates",
    "Create calls, by what came of them.",
    ("outcome",),
    known=(("accepted",), ("answered",), ("refused",), ("busy",), ("not_sent",), ("unknown",)),
)
KIE_CALLS = Counted(
    "kie_calls",
    "Calls to Kie, by kind and by the code of the answer; `none`: no answer came.",
    ("kind", "code"),
    known=tuple((kind, code) for kind in ("create", "read") for code in ("200", "429", "none")),
)
KIE_CALL_S = Counted(
    "kie_call_seconds", "How long calls to Kie took.", ("kind",), (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
)
STALE = Counted(
    "stale",
    "Messages whose row had moved on: the claim found nothing, and nothing was done.",
    ("step",),
    known=(("submit",), ("poll",), ("store",), ("notify",)),
)
UNKNOWN_WORDS = Counted(
    "unknown_words", "Looks that found a status word which no documentation names, by API family.", ("family",)
)
STORED_FILES = Counted("stored_files", "Result files that were copied into the storage.")
STORED_BYTES = Counted("stored_bytes", "Bytes of those files.")
COPY_TROUBLES = Counted("copy_troubles", "Copies that did not work, by the kind of error.", ("error",))
MESSAGES = Counted(
    "messages",
    "Tries to send a message to a producer, by what came of it; `gave_up`: the last one; `gone`: the address wants no more.",
    ("outcome",),
    known=(("delivered",), ("failed",), ("gave_up",), ("gone",)),
)

REQUESTS_DROPPED = Counted(
    "requests_dropped",
    "Requests as bare Celery messages that became no job: their id or key belongs to another request.",
)

EVENTS = Counted(
    "events",
    "Lines of the jobs' timelines, by kind.",
    ("kind",),
    known=(("alarm",), ("alert",), ("lost",), ("quarantined",), ("timed_out",)),
)
JOBS_ENDED = Counted("jobs_ended", "Jobs that ended, by state and model.", ("state", "model"))
JOBS_FAILED = Counted(
    "jobs_failed", "Jobs that failed, by reason.", ("reason",), known=tuple((str(reason),) for reason in Reason)
)
FINISHED_BY = Counted(
    "jobs_finished_by",
    "Jobs that ended, by what brought their end to light.",
    ("by",),
    known=(("answer",), ("callback",), ("poll",), ("sweep",)),
)
CREDITS = Counted(
    "credits_spent", "Credits of the create calls of jobs that ended, as Kie reported them, each once.", ("account",)
)
POLLS = Counted("polls_per_job", "Looks at Kie's record that a job took.", (), (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144))
FOUND_TO_STORED_S = Counted(
    "found_to_stored_seconds",
    "From the look that found a result to the last of its files in the storage.",
    (),
    (0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400),
)
COMPLETED_TO_STORED_S = Counted(
    "completed_to_stored_seconds",
    "From the end of a generation by Kie's clock, where Kie tells it, to the last of its files in the storage.",
    (),
    (1, 2.5, 5, 10, 15, 30, 60, 300, 1800, 7200, 86400),
)
JOB_S = Counted(
    "job_seconds",
    "From enqueue to the end of the jobs that succeeded.",
    (),
    (5, 10, 30, 60, 120, 300, 600, 1800, 7200, 86400),
)

BY_WORKERS = (
    CREATES,
    KIE_CALLS,
    KIE_CALL_S,
    STALE,
    UNKNOWN_WORDS,
    STORED_FILES,
    STORED_BYTES,
    COPY_TROUBLES,
    MESSAGES,
    REQUESTS_DROPPED,
)
"""Counted in a worker's memory and written down every few seconds: what no row tells."""

FROM_ROWS = (
    EVENTS,
    JOBS_ENDED,
    JOBS_FAILED,
    FINISHED_BY,
    CREDITS,
    POLLS,
    FOUND_TO_STORED_S,
    COMPLETED_TO_STORED_S,
    JOB_S,
)
"""Added up by the sweep from the timelines, each line once."""

ALL = BY_WORKERS + FROM_ROWS


class Counts:
    """What was counted and not yet written down."""

    def __init__(self) -> None:
        self.sums: defaultdict[Key, float] = defaultdict(float)

    def add(self, what: Counted, *labels: str, by: float = 1) -> None:
        """Count one, or `by`."""
        self.sums[what.name, _joined(labels)] += by

    def observe(self, what: Counted, value: float, *labels: str) -> None:
        """Count a value into its bucket, and add it to the sum."""
        bound = next((bound for bound in what.buckets if value <= bound), inf)
        self.add(what, *labels, f"{bound:g}")
        self.add(what, *labels, _SUM, by=value)


def counts_of(what: Counted, sums: Mapping[Key, float]) -> dict[tuple[str, ...], float]:
    """Return a plain figure's sums by its labels' values."""
    known = what.known or (() if what.labels else ((),))
    counts = {_split(what, label): value for (name, label), value in sums.items() if name == what.name}
    return dict.fromkeys(known, 0.0) | counts


def spreads_of(what: Counted, sums: Mapping[Key, float]) -> dict[tuple[str, ...], Spread]:
    """Return a histogram's standing by its labels' values."""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for (name, label), value in sums.items():
        if name == what.name:
            *labels, bound = label.split(_BETWEEN)
            found.setdefault(tuple(labels), {})[bound] = value
    if not what.labels:
        found.setdefault((), {})
    return {labels: _spread(what, values) for labels, values in found.items()}


def _spread(what: Counted, values: Mapping[str, float]) -> Spread:
    at_most, so_far = [], 0.0
    for bound in (*what.buckets, inf):
        so_far += values.get(f"{bound:g}", 0.0)
        at_most.append((bound, so_far))
    return Spread(tuple(at_most), values.get(_SUM, 0.0))


def _joined(labels: tuple[str, ...]) -> str:
    return _BETWEEN.join(label.replace(_BETWEEN, "/")[:_LABEL_CHARACTERS] for label in labels)


def _split(what: Counted, label: str) -> tuple[str, ...]:
    return tuple(label.split(_BETWEEN)) if what.labels else ()
