"""When to look at Kie again.

Pure: seconds in, seconds out; the caller brings the jitter. The ladder is 2 s until 30 s, 5 s until 120 s, then 15 s,
counted from the moment the task id became known. After the 10-minute notice a slow tail goes on for a day. Trouble
stretches a wait, the query budget of the account stretches all of them; neither ever fails a job.
"""

LADDER: tuple[tuple[float, float], ...] = ((30.0, 2.0), (120.0, 5.0), (float("inf"), 15.0))
"""(until elapsed_s, wait_s): the waits while a job is `waiting`."""

TAIL: tuple[tuple[float, float], ...] = ((7200.0, 60.0), (float("inf"), 600.0))
"""(until elapsed_s, wait_s): the waits after the timeout, nudged by the sweep alone."""

MAX_WAIT_S = 60.0
"""The longest wait a message may carry as its countdown; longer ones live in the row and are the sweep's."""

JITTER = 0.1

RETRY_COPY_FIRST_S = 5.0
RETRY_COPY_MAX_S = 600.0


def rung_s(elapsed_s: float, *, callbacks: bool = False) -> float:
    """Return the ladder's wait at this age in seconds. With callbacks on, waits after 30 s are doubled."""
    wait_s = next(wait for until, wait in LADDER if elapsed_s < until)
    return wait_s * 2 if callbacks and elapsed_s >= LADDER[0][0] else wait_s


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
) -> float:
    """Return how long a `waiting` job waits for its next look, in seconds.

    `troubles` looks in a row without an answer double the rung each, up to 60 s. `crowd_s` is the least wait that keeps
    the account within its query budget (jobs in flight / queries per second). `jitter` in -1 … 1 moves the wait by up to
    10 %. The look that finds the timeout is never later than the timeout itself.
    """
    wait_s = rung_s(elapsed_s, callbacks=callbacks) * 2.0 ** min(troubles, 6)
    wait_s = max(min(wait_s, MAX_WAIT_S), crowd_s) * (1 + JITTER * jitter)
    return max(min(wait_s, timeout_s - elapsed_s), 0.0)


def retry_copy_s(attempts: int) -> float:
    """Return the wait before copy number `attempts + 1`: from 5 s, doubling to 10 min."""
    return min(RETRY_COPY_FIRST_S * 2.0 ** min(max(attempts - 1, 0), 16), RETRY_COPY_MAX_S)


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
