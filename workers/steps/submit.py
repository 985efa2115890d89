"""Submit: buy one generation, at most once.

Look, claim with intent and budget in one transaction, one POST, write what became of it. A crash anywhere leaves either
a job in line or an intent that the sweep parks; nothing here ever sends a second time.
"""

import logging
import threading
from functools import partial

from kiejobs import counted, logs
from kiejobs.answers import Accepted, Answered, Busy, NotSent, Outcome, Refused, Unknown
from kiejobs.db import ledger
from kiejobs.db.deliveries import TELLS
from kiejobs.decisions import MAX_RESULTS
from kiejobs.errors import DependencyError, KieUnavailable
from kiejobs.jobs import JobState
from kiejobs.kie.client import KieClient
from kiejobs.kie.families import family
from kiejobs.nudge import create_nudge, store_nudge
from workers.runtime import Runtime
from workers.steps.prepare import prepare

log = logging.getLogger(__name__)

START_WITHIN_S = 2.0
"""The POST starts this soon after the intent was committed, or not at all."""

_OUTCOMES: dict[type[object], str] = {
    Accepted: "accepted",
    Answered: "answered",
    Refused: "refused",
    Busy: "busy",
    NotSent: "not_sent",
    Unknown: "unknown",
}
"""The words by which outcomes are counted."""

FULL, FULL_LOOK_S = "as many long calls are under way as this worker makes at once", 5.0
"""Why and for how long a job of a family that answers at once, or whose inputs are to be uploaded, leaves the line."""

WRITE_FOR_S = 900.0
"""How long an outcome is tried to be written while the database is away."""


def submit(rt: Runtime, job_id: str) -> Outcome | None:
    """Send a job whose turn has come; None, without any outside call, where it has not.

    A call that may take minutes is made aside: then None, too, with the intent committed.
    """
    ready = _ready(rt, job_id)
    if ready is None:
        return None
    client, account, slow_s = ready
    aside = rt.aside if slow_s else None
    if aside and not aside.take():
        with rt.database.write() as tx:
            ledger.hold(tx, job_id, FULL, FULL_LOOK_S, rt.who)
        return None
    handed_over = False
    try:
        intent = _begin(rt, job_id, account, START_WITHIN_S + (slow_s or rt.settings.http_timeout_s))
        if isinstance(intent, ledger.Unprepared):
            return _make_ready(rt, job_id, intent.version)
        if isinstance(intent, ledger.Declined):
            return None
        send = partial(_send, rt, client, intent, rt.monotonic())
        handed_over = aside is not None and aside.run(send, job_id)
        return None if handed_over else send()
    finally:
        if aside and not handed_over:
            aside.give_back()


def _ready(rt: Runtime, job_id: str) -> tuple[KieClient, str, float | None] | None:
    """Look without a lock whether a job's turn has come: the client, the account, a deadline where it is a long one."""
    with rt.database.read() as tx:
        seen = ledger.look(tx, job_id)
        if seen is None:
            rt.counts.add(counted.STALE, "submit")
        if seen is None or rt.settings.submit == "off":
            return None
        client = rt.client(seen.account)
        if client is None:
            log.warning("job %s stays in line: this worker has no key for account %s", job_id, seen.account)
            return None
        try:
            slow_s = family(seen.family).create_deadline_s
        except KieUnavailable as error:
            log.warning("job %s stays in line: %s", job_id, error)
            return None
        rt.callback_url(job_id)  # whatever it needs is there, before an intent is written
        may = ledger.may_be_sent(tx, seen, rt.budget(seen.account), seen)
        return (client, seen.account, slow_s) if may else None


def _send(rt: Runtime, client: KieClient, intent: ledger.Intent, committed_at: float) -> Outcome:
    """Make the one create call of a committed intent, and write down what became of it."""
    job_id = intent.job_id
    logs.note(submission=intent.submission_id)
    outcome = client.create(
        family(intent.family),
        intent.model,
        intent.request | {"submission": intent.submission_id},
        rt.callback_url(intent.submission_id),
        may_start=lambda: rt.monotonic() - committed_at < START_WITHIN_S,
    )
    logs.note(kie_task=outcome.task_id if isinstance(outcome, Accepted) else None)
    log.info("job %s: create call of submission %s: %s", job_id, intent.submission_id, type(outcome).__name__)
    record(rt, intent, outcome)
    rt.counts.add(counted.CREATES, _OUTCOMES[type(outcome)])
    return outcome


def _begin(rt: Runtime, job_id: str, account: str, deadline_s: float) -> ledger.Intent | ledger.Declined:
    """Commit the intent to create, or say why not now."""
    caps, budget = rt.settings.spend_caps, rt.budget(account)
    with rt.database.write() as tx:
        return ledger.begin(tx, job_id, account, budget, deadline_s=deadline_s, who=rt.who, caps=caps)


def _make_ready(rt: Runtime, job_id: str, version: int) -> Outcome | None:
    """Make a job's inputs ready, which may take minutes, and go on with it from the place in line that it keeps."""
    if rt.aside is None:
        return submit(rt, job_id) if prepare(rt, job_id, version) else None

    def ready() -> None:
        if prepare(rt, job_id, version):
            rt.publish([create_nudge(job_id)])

    if not rt.aside.take():
        with rt.database.write() as tx:
            ledger.hold(tx, job_id, FULL, FULL_LOOK_S, rt.who)
    elif not rt.aside.run(ready, job_id):
        rt.aside.give_back()
        ready()
    return None


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
    if standing and standing.state is JobState.STORING and isinstance(outcome, Answered):
        rt.publish([store_nudge(intent.job_id, index) for index in range(min(len(outcome.results), MAX_RESULTS))])


def _settle(rt: Runtime, intent: ledger.Intent, outcome: Outcome) -> ledger.Standing | None:
    pace, window_s = rt.pace(intent.account, intent.model), rt.settings.create_window_s
    with rt.database.write() as tx:
        return ledger.settle(tx, intent.submission_id, outcome, pace=pace, busy_s=window_s, who=rt.who)


def _cry(intent: ledger.Intent, outcome: Outcome) -> None:
    """The last resort for what cannot be written down: the log, in words that can be searched. Not for what was said."""
    if isinstance(outcome, Accepted):
        log.critical(
            "UNWRITTEN TASK: job %s, submission %s, Kie's task id %s",
            intent.job_id,
            intent.submission_id,
            outcome.task_id,
        )
    if isinstance(outcome, Answered):
        log.critical("UNWRITTEN ANSWER: job %s, submission %s", intent.job_id, intent.submission_id)
