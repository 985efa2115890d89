"""Adopt: decide by Kie's record whether a task that somebody named is the one a job bought.

Only what the record echoes counts; whoever named the task (a person, a callback) proved nothing. The task id is merged
as the fact it is, through the ledger, so a sender that wakes up later with the same id changes nothing.
"""

import logging
from datetime import timedelta
from typing import Any

from kiejobs.answers import Accepted, NotVisible
from kiejobs.db import candidates, ledger, looks
from kiejobs.db.candidates import Named
from kiejobs.db.clock import clock
from kiejobs.decisions import VISIBLE_AFTER_S
from kiejobs.errors import KieJobsError, KieThrottled, KieUnreadable
from kiejobs.jobs import Claim, JobState
from kiejobs.kie.adoption import Sent, mismatch
from kiejobs.kie.families import family
from kiejobs.kie.family import Family
from workers.runtime import Runtime

log = logging.getLogger(__name__)

AGAIN_S = 5.0
AGAIN_MAX_S = 600.0
"""When a candidate that could not be decided is looked at again: soon at first, then less and less often."""

UNREADABLE_FOR_S = 3 * 86400.0
"""How long a candidate is asked for whose record Kie answers without a word of it. No answer at all never counts: Kie
may be down, or nobody was there to ask."""


def adopt(rt: Runtime, claim: Claim) -> bool:
    """Read the named task's record and adopt or refuse it; False where it stays open or is refused."""
    named = candidates.next_open(rt.database, claim.id, turn=claim.polls)
    client = rt.client(claim.account)
    if named is None or client is None:
        return _later(rt, claim, named, _again_s(named) if named else None)
    kind = family(named.family)
    try:
        snapshot, record = client.record(kind, named.task_id)
    except KieJobsError as error:
        if isinstance(error, KieThrottled):
            rt.crowd(claim.account).throttled()
        if isinstance(error, KieUnreadable) and named.age_s >= UNREADABLE_FOR_S:
            return _refuse(rt, claim, named, f"three days after it was named its record could not be read: {error}")
        log.info("job %s: candidate not decided yet: %s", claim.id, error)
        return _later(rt, claim, named, _again_s(named))
    if isinstance(snapshot, NotVisible) and named.age_s < VISIBLE_AFTER_S:
        return _later(rt, claim, named, _again_s(named))
    refused = _refused(rt, named, kind, record, shown=not isinstance(snapshot, NotVisible))
    return _adopted(rt, claim, named) if refused is None else _refuse(rt, claim, named, refused)


def _again_s(named: Named) -> float:
    return min(max(AGAIN_S, named.newest_s / 10), AGAIN_MAX_S)


def _refuse(rt: Runtime, claim: Claim, named: Named, why: str) -> bool:
    with rt.database.write() as tx:
        candidates.refuse(tx, named, claim.id, why=why, who=rt.who)
    return _later(rt, claim, named, None)


def _refused(rt: Runtime, named: Named, kind: Family, record: Any, *, shown: bool) -> str | None:
    if not shown:
        return "Kie shows no such task"
    if named.bound_elsewhere:
        return "the task belongs to another create call"
    asked = kind.asked(named.model, {"input": named.input})
    sent = Sent(named.model, asked, rt.callback_url(named.submission_id), named.sending_at)
    return mismatch(kind.echo(record), sent)


def _adopted(rt: Runtime, claim: Claim, named: Named) -> bool:
    pace, window_s = rt.pace(claim.account, claim.model), rt.settings.create_window_s
    task = Accepted(named.task_id)
    with rt.database.write() as tx:
        standing = ledger.settle(tx, named.submission_id, task, pace=pace, busy_s=window_s, who=rt.who)
    if standing is None:
        return _refuse(rt, claim, named, "its create call was settled meanwhile")
    if standing.state is JobState.WAITING:
        called = named.source == candidates.CALLBACK  # then the task has ended
        in_s, by = (0.0, "callback") if called else (standing.due_in_s, "poll")
        rt.look_again(claim.id, standing.version, in_s, by=by)
    return True


def _later(rt: Runtime, claim: Claim, named: Named | None, again_s: float | None) -> bool:
    """Say when the job is due again: soon for an open candidate, else when it would have been without one."""
    due: Any = clock(again_s or 0.0)
    if again_s is None and claim.state is JobState.SUBMITTING and named is not None:
        due = named.deadline_at + timedelta(seconds=ledger.LAPSE_AFTER_S)
    with rt.database.write() as tx:
        mine = candidates.look_later(tx, claim.id, version=claim.version, due=due)
    if not mine:
        looks.survived(rt.database, claim)
    rt.look_again(claim.id, claim.version, again_s)
    return False
