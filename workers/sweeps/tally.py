"""Tally: add up what the timelines tell, so that it can be read as figures, and as traces where these are wanted."""

from kiejobs.db import reads
from kiejobs.db.tally import BATCH
from kiejobs.db.tally import tally as tally_lines
from kiejobs.kie import catalogue
from workers.runtime import Runtime

BATCHES = 20
"""Per run: what is left is the next run's."""


def tally(rt: Runtime) -> int:
    """Count the lines of the timelines that are not counted yet; return how many."""
    counted = 0
    for _ in range(BATCHES):
        lines = tally_lines(rt.database, catalogue.counted_as, over=lambda ids: _trace(rt, ids))
        counted += lines
        if lines < BATCH:
            break
    return counted


def _trace(rt: Runtime, ids: list[str]) -> None:
    """Tell of the jobs that ended, where traces are wanted."""
    if rt.traces is not None:
        for job in reads.jobs_of(rt.database, ids):
            rt.traces.tell(job, reads.timeline(rt.database, job.id))
