"""Accounts: read each account's balance, so that drift and an empty account are seen before a job meets them."""

import logging

from kiejobs.db import accounts, counters, rescue
from kiejobs.errors import KieJobsError
from workers.runtime import Runtime

log = logging.getLogger(__name__)


def watch(rt: Runtime) -> int:
    """Read the balance of every account that this process has a key for; return how many answered.

    A pause ends by itself: when its time is over one create passes, and Kie's answer to it decides.
    """
    answered = 0
    for name in rt.settings.keys:
        client = rt.client(name)
        try:
            balance = client.credit() if client else None
        except KieJobsError as error:
            log.info("account %s: no balance: %s", name, error)
            continue
        if balance is not None:
            accounts.checked(rt.database, name, balance)
            answered += 1
    _note_drift(rt)
    rescue.beat(rt.database, "watch")
    return answered


def _note_drift(rt: Runtime) -> None:
    """Keep what nobody can explain as a figure: adding up an account's creates is too much for every reader of it."""
    drifts = {one.name: one.drift_credits for one in accounts.listed(rt.database, {})}
    known = {(counters.DRIFT, name): drift for name, drift in drifts.items() if drift is not None}
    with rt.database.write() as tx:
        counters.put(tx, known)
