"""Poll: look once at Kie's record of a task, decide, write, and say when to look again."""

import logging
from typing import Any

from kiejobs.db import looks, orders
from kiejobs.decisions import Change, after_poll, after_trouble
from kiejobs.errors import KieJobsError, KieThrottled
from kiejobs.jobs import Claim, JobState
from kiejobs.kie.families import family
from kiejobs.nudge import store_nudge
from workers.runtime import Runtime
from workers.steps.adopt import adopt

log = logging.getLogger(__name__)

CLAIM_MARGIN_S = 15.0


def poll(rt: Runtime, job_id: str, version: int) -> Change | None:
    """Look once, if `version` is still the row's; None, without any outside call, where it is not."""
    claim_s, accounts = rt.settings.http_timeout_s + CLAIM_MARGIN_S, list(rt.settings.keys)
    claim = looks.claim(rt.database, job_id, version, claim_s=claim_s, accounts=accounts)
    if claim is None:
        return None
    if looks.is_poison(claim) and claim.state in looks.UNSURE:
        with rt.database.write() as tx:
            orders.give_up_candidates(tx, claim.id, version=claim.version, who=rt.who)
        return None
    if looks.is_poison(claim):
        looks.quarantine(rt.database, claim, who=rt.who)
        rt.tell(claim.id)
        return None
    if claim.state in looks.UNSURE:
        adopt(rt, claim)
        return None
    change, record = _look(rt, claim)
    if not looks.write(rt.database, claim, change, record=record, who=rt.who):
        return None
    _go_on(rt, claim, change)
    return change


def _look(rt: Runtime, claim: Claim) -> tuple[Change, Any]:
    client = rt.client(claim.account)
    if client is None:
        return after_trouble(claim, f"this worker has no key for account {claim.account}", rt.pace(claim.account)), None
    try:
        snapshot, record = client.record(family(claim.family), claim.task_id or "")
    except KieJobsError as error:
        if isinstance(error, KieThrottled):
            rt.crowd(claim.account).throttled()
        return after_trouble(claim, str(error), rt.pace(claim.account)), None
    return after_poll(claim, snapshot, rt.pace(claim.account)), record


def _go_on(rt: Runtime, claim: Claim, change: Change) -> None:
    if change.state is JobState.STORING:
        rt.publish([store_nudge(claim.id, index) for index in range(len(change.results))])
    elif change.state is JobState.WAITING:
        rt.look_again(claim.id, claim.version, change.due_in_s, polls=claim.polls)
    elif change.state is not claim.state:
        rt.tell(claim.id)
