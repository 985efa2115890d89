"""Stale: find every row whose time has passed without anybody acting on it, and act.

Whatever was lost (a message, a worker, the whole broker), this brings the row back to life. Looks and copies are nudged;
what needs no outside call is done here.
"""

import logging
from collections import Counter

from kiejobs.db import deliveries, ledger, orders, rescue
from kiejobs.db.rescue import Overdue
from kiejobs.jobs import JobState
from kiejobs.nudge import notify_nudge, poll_nudge, store_nudge
from workers.runtime import Runtime

log = logging.getLogger(__name__)


def sweep(rt: Runtime) -> dict[str, int]:
    """Rescue what is overdue; return how much of each kind."""
    done = {
        "lapsed": _lapse(rt),
        "polls": _nudge_polls(rt),
        "settled": _settle(rt),
        "copies": _nudge_copies(rt),
        "unconfirmed": _unconfirmed(rt),
        "messages": _nudge_messages(rt),
        "back_in_line": _back_in_line(rt),
        "given_up": _given_up(rt),
    }
    rescue.beat(rt.database, "sweep")
    if any(done.values()):
        log.info("sweep: %s", ", ".join(f"{count} {what}" for what, count in done.items() if count))
    return done


def _lapse(rt: Runtime) -> int:
    """Park submits whose create call never reported."""
    lapsed, named = 0, []
    for row in rescue.overdue_jobs(rt.database, JobState.SUBMITTING, grace_s=0.0):
        pace = rt.pace(row.account)
        with rt.database.write() as tx:
            over = ledger.lapse(tx, row.job_id, pace=pace, who="sweep")
        lapsed += over
        if not over:
            named.append(row)  # due for a candidate, not for its deadline: the look decides
    _nudge_looks(rt, named)
    return lapsed


def _nudge_looks(rt: Runtime, rows: list[Overdue]) -> None:
    if rows:
        rows = rescue.mark_nudged(rt.database, rows)
        rt.publish([poll_nudge(row.job_id, row.version, rescue=row.nudges + 1) for row in rows])


def _nudge_polls(rt: Runtime) -> int:
    """Nudge looks that nobody took, no more than the accounts' query budgets carry until the next sweep."""
    grace_s = rt.settings.sweep_grace_s
    rows = rescue.overdue_jobs(rt.database, JobState.WAITING, grace_s=grace_s)
    rows += rescue.overdue_jobs(rt.database, JobState.TIMEOUT, grace_s=grace_s)
    chosen = _within_budget(rt, rows)
    _nudge_looks(rt, chosen)
    return len(chosen)


def _within_budget(rt: Runtime, rows: list[Overdue]) -> list[Overdue]:
    chosen: list[Overdue] = []
    left: dict[str, float] = {}
    for row in rows:
        if row.account not in left:
            left[row.account] = max(rt.crowd(row.account).rate_per_s() * rt.settings.sweep_interval_s, 1.0)
        if left[row.account] >= 1:
            left[row.account] -= 1
            chosen.append(row)
    return chosen


def _settle(rt: Runtime) -> int:
    """Close `storing` jobs from their outputs, whatever became of the message that should have."""
    rows = rescue.overdue_jobs(rt.database, JobState.STORING, grace_s=0.0)
    return sum(rescue.settle_storing(rt.database, row.job_id, who="sweep") for row in rows)


def _unconfirmed(rt: Runtime) -> int:
    """Let time decide about parked jobs that are due; look at those for which somebody named a task."""
    rows = rescue.overdue_jobs(rt.database, JobState.UNCONFIRMED, grace_s=0.0)
    decided = [
        (row, orders.settle_unconfirmed(rt.database, row.job_id, rt.pace(row.account), who="sweep")) for row in rows
    ]
    _nudge_looks(rt, [row for row, what in decided if what == "candidate"])
    return len(rows)


def _given_up(rt: Runtime) -> int:
    """Look at the task that was named for a job after it had been given up: only then does an ended job come due."""
    rows = rescue.overdue_jobs(rt.database, JobState.FAIL, grace_s=0.0)
    _nudge_looks(rt, rows)
    return len(rows)


def _nudge_copies(rt: Runtime) -> int:
    rows = rescue.overdue_outputs(rt.database, grace_s=rt.settings.sweep_grace_s)
    if rows:
        rows = rescue.mark_outputs_nudged(rt.database, rows)
        rt.publish([store_nudge(row.job_id, row.index) for row in rows])
    return len(rows)


def _nudge_messages(rt: Runtime) -> int:
    late = deliveries.take_overdue(rt.database, grace_s=rt.settings.sweep_grace_s)
    rt.publish([notify_nudge(job_id, delivery_id) for job_id, delivery_id in late])
    return len(late)


def _back_in_line(rt: Runtime) -> int:
    """Give jobs that were held out of the line another try; first look at the tasks that were named for them."""
    back: Counter[str] = Counter()
    named = []
    for row in rescue.overdue_jobs(rt.database, JobState.QUEUED, grace_s=0.0):
        if back[row.account] >= rt.settings.create_limit_of(row.account):
            continue  # no more than can be sent until the next sweep
        if rescue.back_in_line(rt.database, row.job_id):
            back[row.account] += 1
        else:
            named.append(row)
    _nudge_looks(rt, named)
    return back.total()
