"""Submit: buy one generation, at most once.

Look, claim with intent and budget in one transaction, one POST, write what became of it. A crash anywhere leaves either
a job in line or an intent that the sweep parks; nothing here ever sends a second time.
"""

import logging
import threading

from kiejobs.answers import Accepted, Outcome
from kiejobs.db import ledger
from kiejobs.db.deliveries import TELLS
from kiejobs.errors import DependencyError, KieUnavailable
from kiejobs.jobs import JobState
from kiejobs.kie.families import family
from workers.runtime import Runtime

log = logging.getLogger(__name__)

START_WITHIN_S = 2.0
"""The POST starts this soon after the intent was committed, or not at all."""

WRITE_FOR_S = 900.0
"""How long an outcome is tried to be written while the database is away."""


def submit(rt: Runtime, job_id: str) -> Outcome | None:
    """Send a job whose turn has come; None, without any outside call, where it has not."""
    with rt.database.read() as tx:
        seen = ledger.look(tx, job_id)
        if seen is None or rt.settings.submit == "off":
            return None
        client = rt.client(seen.account)
        if client is None:
            log.warning("job %s stays in line: this worker has no key for account %s", job_id, seen.account)
            return None
        try:
            deadline_s = _deadline_s(rt, seen.family)
        except KieUnavailable as error:
            log.warning("job %s stays in line: %s", job_id, error)
            return None
        rt.callback_url(job_id)  # whatever it needs is there, before an intent is written
        budget = rt.budget(seen.account)
        if not ledger.may_be_sent(tx, job_id, seen.account, seen.line_at, budget):
            return None
    with rt.database.write() as tx:
        caps = rt.settings.spend_caps
        intent = ledger.begin(tx, job_id, seen.account, budget, deadline_s=deadline_s, who=rt.who, caps=caps)
    committed_at = rt.monotonic()
    if isinstance(intent, ledger.Declined):
        return None
    outcome = client.create(
        family(intent.family),
        intent.model,
        intent.request,
        rt.callback_url(intent.submission_id),
        may_start=lambda: rt.monotonic() - committed_at < START_WITHIN_S,
    )
    log.info("job %s: create call of submission %s: %s", job_id, intent.submission_id, type(outcome).__name__)
    record(rt, intent, outcome)
    return outcome


def _deadline_s(rt: Runtime, name: str) -> float:
    return START_WITHIN_S + (family(name).create_deadline_s or rt.settings.http_timeout_s)


def record(rt: Runtime, intent: ledger.Intent, outcome: Outcome) -> None:
    """Write an outcome down and nudge what follows. A database that is away is waited for: a task id is money."""
    until = rt.monotonic() + WRITE_FOR_S
    pause = threading.Event()
    while True:
        try:
            standing = _settle(rt, intent, outcome)
            break
        except DependencyError as error:
            if rt.monotonic() > until:
                _cry(intent, outcome)
                raise
            log.warning("job %s: outcome not written yet: %s", intent.job_id, error)
            pause.wait(1.0)
        except Exception:
            _cry(intent, outcome)
            raise
    if standing and standing.state in TELLS:
        rt.tell(intent.job_id)
    if standing and standing.state is JobState.WAITING:
        rt.look_again(intent.job_id, standing.version, standing.due_in_s)


def _settle(rt: Runtime, intent: ledger.Intent, outcome: Outcome) -> ledger.Standing | None:
    pace, window_s = rt.pace(intent.account), rt.settings.create_window_s
    with rt.database.write() as tx:
        return ledger.settle(tx, intent.submission_id, outcome, pace=pace, busy_s=window_s, who=rt.who)


def _cry(intent: ledger.Intent, outcome: Outcome) -> None:
    """The last resort for a task id that cannot be written down: the log, in words that can be searched."""
    if isinstance(outcome, Accepted):
        log.critical(
            "UNWRITTEN TASK: job %s, submission %s, Kie's task id %s",
            intent.job_id,
            intent.submission_id,
            outcome.task_id,
        )
