"""Pump: nudge the jobs whose turn in line has come, or comes before the next pump.

As many as each account's create budget allows, each for the very moment at which it does: with a backlog, that is what
uses the budget up.
"""

from kiejobs.db import ledger, rescue
from kiejobs.db.accounts import turns
from kiejobs.nudge import create_nudge
from workers.runtime import Runtime

QUIET_S = 3.0
"""How long a job that was nudged is left alone."""


AHEAD_S = 1.2
"""How far ahead turns are given out: a little more than the pump's period."""

LATER_S = 0.02
"""Added to a turn, so that the clock of no step sees it come early."""


def pump(rt: Runtime) -> int:
    """Nudge the first in line of every account that this process has a key for; return how many."""
    nudged = sum(_pump(rt, account) for account in rt.settings.keys) if rt.settings.submit == "on" else 0
    rescue.beat(rt.database, "pump")
    return nudged


def _pump(rt: Runtime, account: str) -> int:
    with rt.database.read() as tx:
        waits = turns(tx, account, rt.budget(account), ahead_s=AHEAD_S)
        first = ledger.first_in_line(tx, account, len(waits)) if waits else []
    if not first:
        return 0
    with rt.database.write() as tx:
        taken = set(rescue.take_from_line(tx, first, quiet_s=QUIET_S))
    due = [(job_id, wait_s) for job_id, wait_s in zip(first, waits, strict=False) if job_id in taken]
    rt.publish([create_nudge(job_id, countdown_s=wait_s + LATER_S if wait_s else 0.0) for job_id, wait_s in due])
    return len(due)
