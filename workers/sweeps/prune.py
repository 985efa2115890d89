"""Prune: forget what ended long ago. Stored media are never touched."""

from kiejobs.db import durations, rescue
from kiejobs.learned import AT_MOST
from workers.runtime import Runtime

CALLBACKS_KEPT_DAYS = 30.0
BATCHES = 20


def prune(rt: Runtime) -> int:
    """Delete raw callbacks after 30 days, and jobs with their rows after the retention; return how many jobs."""
    rescue.forget_callbacks(rt.database, older_s=CALLBACKS_KEPT_DAYS * 86400.0)
    durations.forget(rt.database, keep=AT_MOST)
    gone = 0
    for _ in range(BATCHES):  # small transactions; the next hour goes on
        deleted = rescue.forget_jobs(rt.database, older_s=rt.settings.retention_days * 86400.0)
        gone += deleted
        if deleted < rescue.BATCH:
            break
    return gone
