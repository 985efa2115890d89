"""Poll: look once at Kie's record of a task, decide, write, and say when to look again."""

import logging
from typing import Any

from kiejobs import counted, logs
from kiejobs.db import candidates, looks
from kiejobs.decisions import Change, after_poll, after_trouble
from kiejobs.errors import KieJobsError, KieThrottled
from kiejobs.jobs import Claim, JobState
from kiejobs.kie.families import family
from kiejobs.nudge import store_nudge
from workers.runtime import Runtime
from workers.steps.adopt import adopt

log = logging.getLogger(__name__)

CLAIM_MARGIN_S = 5.0
"""For what comes before and after a call's own time: resolving, connecting, writing. A short look has the sweep's grace."""


def poll(rt: Runtime, job_id: str, version: int, *, by: str = "poll") -> Change | None:
    """Look once, if `version` is still the row's; None, without any outside call, where it is not.

    `by` is what made the look happen now: the lane's own `poll`, a `callback`, a `sweep`.
    """
    full_s, first_s, accounts = rt.settings.http_timeout_s, rt.look_s(), list(rt.settings.keys)
    lasts = {"claim_s": full_s + CLAIM_MARGIN_S, "first_claim_s": first_s}
    claim = looks.claim(rt.database, job_id, version, accounts=accounts, **lasts)
    if claim is None:
        rt.counts.add(counted.STALE, "poll")
        return None
    logs.note(kie_task=claim.task_id)
    if looks.is_poison(claim) and claim.state in looks.UNSURE:
        with rt.database.write() as tx:
            candidates.give_up(tx, claim.id, version=claim.version, who=rt.who)
        return None
    if looks.is_poison(claim):
        looks.quarantine(rt.database, claim, who=rt.who)
        rt.tell(claim.id)
        return None
    if claim.state in looks.UNSURE:
        adopt(rt, claim)
        return None
    change, record = _look(rt, claim, full_s if claim.troubles else first_s)
    if not looks.write(rt.database, claim, change, record=record, who=rt.who, by=by):
        looks.survived(rt.database, claim)
        return None
    _go_on(rt, claim, change)
    return change


def _look(rt: Runtime, claim: Claim, timeout_s: float) -> tuple[Change, Any]:
    client, pace = rt.client(claim.account), rt.pace(claim.account, claim.model)
    if client is None:
        return after_trouble(claim, f"this worker has no key for account {claim.account}", pace), None
    try:
        snapshot, record = client.record(family(claim.family), claim.task_id or "", timeout_s=timeout_s)
    except KieJobsError as error:
        if isinstance(error, KieThrottled):
            rt.crowd(claim.account).throttled()
        return after_trouble(claim, str(error), pace), None
    change = after_poll(claim, snapshot, pace)
    if change.odd:
        rt.counts.add(counted.UNKNOWN_WORDS, claim.family)
        if change.word != claim.last_word:
            log.warning("job %s: nobody knows the word %r of family %s", claim.id, change.word, claim.family)
    return change, record


def _go_on(rt: Runtime, claim: Claim, change: Change) -> None:
    if change.state is JobState.STORING:
        rt.publish([store_nudge(claim.id, index) for index in range(len(change.results))])
    elif change.state is JobState.WAITING:
        rt.look_again(claim.id, claim.version, change.due_in_s, polls=claim.polls)
    elif change.state is not claim.state:
        rt.tell(claim.id)
