"""Pump: nudge the jobs whose turn in line has come, as many as each account's create budget allows."""

from kiejobs.db import ledger, rescue
from kiejobs.db.accounts import free_creates
from kiejobs.nudge import create_nudge
from workers.runtime import Runtime

QUIET_S = 3.0
"""How long a job that was nudged is left alone."""


def pump(rt: Runtime) -> int:
    """Nudge the first in line of every account that this process has a key for; return how many."""
    nudged = sum(_pump(rt, account) for account in rt.settings.keys) if rt.settings.submit == "on" else 0
    rescue.beat(rt.database, "pump")
    return nudged


def _pump(rt: Runtime, account: str) -> int:
    with rt.database.read() as tx:
        free = free_creates(tx, account, rt.budget(account))
        first = ledger.first_in_line(tx, account, free) if free else []
    if not first:
        return 0
    with rt.database.write() as tx:
        taken = rescue.take_from_line(tx, first, quiet_s=QUIET_S)
    rt.publish([create_nudge(job_id) for job_id in taken])
    return len(taken)
