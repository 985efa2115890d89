"""When to look at Kie again.

Pure: seconds in, seconds out; the caller brings the jitter. The ladder is 2 s until 30 s, 5 s until 120 s, then 15 s,
counted from the moment the task id became known. After the 10-minute notice a slow tail goes on for a day. Trouble
stretches a wait, the query budget of the account stretches all of them; neither ever fails a job. A schedule that was
learned from a model's durations (`kiejobs.learned`) may stand in for the ladder.
"""

from bisect import bisect_right
from dataclasses import dataclass

LADDER: tuple[tuple[float, float], ...] = ((30.0, 2.0), (120.0, 5.0), (float("inf"), 15.0))
"""(until elapsed_s, wait_s): the waits while a job is `waiting`."""

TAIL: tuple[tuple[float, float], ...] = ((7200.0, 60.0), (float("inf"), 600.0))
"""(until elapsed_s, wait_s): the waits after the timeout, nudged by the sweep alone."""

LOOK_S = 10.0
"""How long a look may take in all; one that follows a look without an answer may take as long as any call to Kie."""

MAX_WAIT_S = 60.0
"""The longest wait a message may carry as its countdown; longer ones live in the row and are the sweep's."""

JITTER = 0.1

LEAST_GAP_S = 1.0
"""No two looks of a schedule are nearer to one another."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When one model's jobs are looked at. Behind the last look the ladder's waits go on, doubled."""

    looks_s: tuple[float, ...]
    """Ages in seconds, rising."""
    late_s: float
    """The age from which a job of this model is called late."""

    def wait_s(self, elapsed_s: float) -> float | None:
        """Return the wait for the next look in seconds; None behind the last one."""
        following = bisect_right(self.looks_s, elapsed_s + LEAST_GAP_S / 2)
        return self.looks_s[following] - elapsed_s if following < len(self.looks_s) else None


RETRY_COPY_FIRST_S = 5.0
RETRY_COPY_MAX_S = 600.0


def rung_s(elapsed_s: float, *, callbacks: bool = False) -> float:
    """Return the ladder's wait at this age in seconds. With callbacks on, waits after 30 s are doubled."""
    wait_s = next(wait for until, wait in LADDER if elapsed_s < until)
    return wait_s * 2 if callbacks and elapsed_s >= LADDER[0][0] else wait_s


def look_timeout_s(troubles: int, *, http_timeout_s: float) -> float:
    """Return how long a look may take in all, after so many in a row without an answer.

    A short one is found again soon where its worker dies with it; a slow Kie is given its time from the second look on.
    """
    return http_timeout_s if troubles else min(LOOK_S, http_timeout_s)


def tail_s(elapsed_s: float) -> float:
    """Return the slow tail's wait at this age in seconds."""
    return next(wait for until, wait in TAIL if elapsed_s < until)


def next_look_s(
    elapsed_s: float,
    *,
    timeout_s: float,
    troubles: int = 0,
    crowd_s: float = 0.0,
    jitter: float = 0.0,
    callbacks: bool = False,
    schedule: Schedule | None = None,
) -> float:
    """Return how long a `waiting` job waits for its next look, in seconds.

    `troubles` looks in a row without an answer double the rung each, up to 60 s. `crowd_s` is the least wait that keeps
    the account within its query budget (jobs in flight / queries per second). `jitter` in -1 … 1 moves the wait by up to
    10 %. A `schedule` knows when to look better than the ladder, and is not jittered. The look that finds the timeout is
    never later than the timeout itself.
    """
    learned_s = schedule.wait_s(elapsed_s) if schedule else None
    wait_s = learned_s or rung_s(elapsed_s, callbacks=callbacks) * (2.0 if schedule else 1.0)
    wait_s = max(min(wait_s * 2.0 ** min(troubles, 6), MAX_WAIT_S), crowd_s)
    if learned_s is None:
        wait_s *= 1 + JITTER * jitter
    return max(min(wait_s, timeout_s - elapsed_s), 0.0)


def retry_copy_s(attempts: int, *, dies_in_s: float | None = None) -> float:
    """Return the wait before copy number `attempts + 1`: from 5 s, doubling to 10 min.

    While the source link is expected to live for `dies_in_s` more seconds, at most a tenth of that is waited.
    """
    wait_s = min(RETRY_COPY_FIRST_S * 2.0 ** min(max(attempts - 1, 0), 16), RETRY_COPY_MAX_S)
    if dies_in_s is None or dies_in_s <= 0:
        return wait_s
    return min(wait_s, max(dies_in_s / 10, RETRY_COPY_FIRST_S))


REDELIVER_S: tuple[float, ...] = (5.0, 30.0, 120.0, 600.0, 3600.0, 10800.0, 21600.0, 43200.0)
"""The waits between the tries to deliver a message to a producer; after the last one it is given up."""


def redeliver_s(attempts: int, *, jitter: float = 0.0) -> float | None:
    """Return the wait after try number `attempts`, moved by up to 10 %; None when the message is given up."""
    if attempts > len(REDELIVER_S):
        return None
    return REDELIVER_S[attempts - 1] * (1 + JITTER * jitter)


def renudge_s(nudges: int) -> float:
    """Return the least gap before a row is nudged again that did not answer `nudges` nudges: 10 s, doubling to 300 s."""
    return float(min(10.0 * 2.0 ** min(nudges, 8), 300.0))
