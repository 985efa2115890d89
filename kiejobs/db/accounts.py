"""Kie accounts: how many creates each may make now, and why some may make none.

A refusal that concerns the whole account (key, credits, cap, maintenance) pauses its creates, doubling each time; after
the pause one create passes on probation, and its acceptance ends the pause. A switched-off model is paused alike, by
itself. Polls and copies never stop. All of it is decided under the account's lock, by the database's clock.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, func, or_, select, update

from kiejobs.answers import Accepted, Answered, Busy, NotSent, Outcome, Refused, Scope
from kiejobs.db.clock import clock
from kiejobs.db.inserts import insert_into
from kiejobs.db.session import Database
from kiejobs.db.tables import accounts, in_state, jobs, submissions
from kiejobs.jobs import JobState, SubmissionState

PAUSE_FIRST_S = 60.0
PAUSE_MAX_S = 1800.0
BUSY_MAX_S = 300.0
UNREACHABLE_FIRST_S = 5.0
LONGEST_CALL_S = 3600.0
STRANGERS = 20
"""How many accounts are listed that nothing but jobs names: a producer may write any name."""
PROBATION_LOOK_S = 5.0
"""How long a job of a model on probation stays out of the line while another one tries."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One account's create limit: `limit` creates per `window_s`, by the database's clock.

    A create counts from the moment at which it can have reached Kie last: when its outcome was known, or `margin_s` after
    it was sent, whichever is first.
    """

    limit: int
    window_s: float
    margin_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Account:
    """One account as a person sees it. Times are aware UTC; `credits` is None until Kie was asked."""

    name: str
    paused_until: datetime | None = None
    pause_code: str | None = None
    pause_note: str | None = None
    models_paused: tuple[tuple[str, str], ...] = ()
    """(model, why) of each model that is switched off."""
    credits: float | None = None
    checked_at: datetime | None = None
    drift_credits: float | None = None
    """Credits that left the balance and that no known submission explains; None until there are two readings."""
    free_creates: int | None = None
    """Creates that may be made now; None where this process has no key, and so no limit, for the account."""
    unfinished: int = 0
    """Its jobs that have not ended."""


_ACCOUNT = accounts.c.name == bindparam("account")
_LOCK = select(accounts, clock().label("now")).where(_ACCOUNT).with_for_update()


def lock_account(tx: Connection, account: str) -> Any:
    """Take the account's row for this transaction, making it first where it does not exist; return it, with `now`.

    On PostgreSQL `now` may be from before a wait for the lock: what is counted since a moment before it is then too much,
    never too little.
    """
    row = tx.execute(_LOCK, {"account": account}).first()
    if row is None:
        made = insert_into(tx, accounts)
        tx.execute(made.values(name=account).on_conflict_do_nothing())
        row = tx.execute(_LOCK, {"account": account}).one()
    return row


_OF_SUBMISSION = select(submissions.c.account).where(submissions.c.id == bindparam("submission"))
_LOCK_OF = (
    select(accounts, clock().label("now")).where(accounts.c.name == _OF_SUBMISSION.scalar_subquery()).with_for_update()
)


def lock_account_of(tx: Connection, submission_id: str) -> Any | None:
    """Take the row of the account that a submission was written for; None where there is no such submission."""
    row = tx.execute(_LOCK_OF, {"submission": submission_id}).first()
    if row is None:
        account = tx.scalar(_OF_SUBMISSION, {"submission": submission_id})
        return None if account is None else lock_account(tx, account)
    return row


def standing_of(account: Any) -> tuple[Any, ...]:
    """Return columns for the time, `now`, and an account's pause; NULLs where nobody knows the account yet."""
    mine = accounts.c.name == account
    paused_until = select(accounts.c.paused_until).where(mine).scalar_subquery().label("paused_until")
    return (
        clock().label("now"),
        paused_until,
        select(accounts.c.pause_code).where(mine).scalar_subquery().label("pause_code"),
    )


_STANDING = select(*standing_of(bindparam("account")))

_COUNTED = (
    (submissions.c.account == bindparam("account"))
    & (submissions.c.sending_at > bindparam("sent_since"))
    & or_(submissions.c.settled_at.is_(None), submissions.c.settled_at > bindparam("since"))
)
"""The creates that still count against the limit.

The bounds are values, not `clock()`: PostgreSQL uses no index for what may change from row to row.
"""
_USED = select(func.count()).where(_COUNTED)


def free_creates(tx: Connection, account: str, budget: Budget, standing: Any = None) -> int:
    """Count how many creates the account may make now: 0 while paused, 1 on probation after a pause.

    `standing` is a row with the columns of `standing_of`, where the caller has one; `lock_account` returns such a row.
    """
    row = standing or tx.execute(_STANDING, {"account": account}).one()
    if row.paused_until and row.paused_until > row.now:
        return 0
    free = max(budget.limit - (tx.scalar(_USED, _bounds(account, budget, row.now)) or 0), 0)
    if row.pause_code:
        return 0 if _sending(tx, account) else min(free, 1)
    return free


def _bounds(account: str, budget: Budget, now: datetime) -> dict[str, Any]:
    since = now - timedelta(seconds=budget.window_s)
    return {"account": account, "since": since, "sent_since": since - timedelta(seconds=budget.margin_s)}


_FREES = select(submissions.c.sending_at, submissions.c.settled_at).where(_COUNTED)


def turns(tx: Connection, account: str, budget: Budget, *, ahead_s: float) -> list[float]:
    """List in how many seconds the account may make each of its next creates, as far as `ahead_s` seconds ahead."""
    free = free_creates(tx, account, budget)
    row = tx.execute(_STANDING, {"account": account}).one()
    if row.pause_code or free >= budget.limit:
        return [0.0] * free
    window, margin = timedelta(seconds=budget.window_s), timedelta(seconds=budget.margin_s)
    counted = tx.execute(_FREES, _bounds(account, budget, row.now)).all()
    frees = [min(sent + margin, settled or sent + margin) + window - row.now for sent, settled in counted]
    soon = sorted(max(wait.total_seconds(), 0.0) for wait in frees)
    return [0.0] * free + [wait_s for wait_s in soon if wait_s <= ahead_s]


def _sending(tx: Connection, account: str, model: str | None = None) -> bool:
    """Say whether a create call of the account (and model) is in flight."""
    mine = (submissions.c.account == account) & (submissions.c.state == SubmissionState.SENDING)
    now: datetime = tx.scalar(select(clock()))  # type: ignore[assignment]
    mine &= submissions.c.sending_at > now - timedelta(seconds=LONGEST_CALL_S)  # none is in flight for longer
    if model is not None:
        mine &= submissions.c.model == model
    return tx.scalar(select(submissions.c.id).where(mine).limit(1)) is not None


def model_hold_s(tx: Connection, account: Any, model: str) -> tuple[float, str] | None:
    """Say for how long a job of this model must stay out of the line, and why; None where it may be sent.

    `account` is the row that `lock_account` returned.
    """
    paused = (account.models_paused or {}).get(model)
    if paused is None:
        return None
    left_s = (datetime.fromisoformat(paused["until"]) - account.now).total_seconds()
    why = f"model {model} is switched off at Kie ({paused['code']}): {paused['note']}"
    if left_s > 0:
        return left_s, why
    return (PROBATION_LOOK_S, why) if _sending(tx, account.name, model) else None


def learn(tx: Connection, row: Any, model: str, outcome: Outcome, *, sent_at: datetime, busy_s: float) -> str | None:
    """Pause or resume by what a create call brought; `row` is the account's, from `lock_account`.

    A create that was sent before a pause began says nothing about that pause: a burst of refusals is one pause, and a
    late acceptance does not end it. Returns the words of an alert where something was paused that was not before.
    """
    if row.paused_at is not None and sent_at < row.paused_at and _about_the_account(outcome):
        return None
    match outcome:
        case Accepted() | Answered():
            _resume(tx, row, None if _is_older(row, model, sent_at) else model)
        case Busy():
            _pause(tx, row, outcome.code, outcome.message, first_s=busy_s, longest_s=BUSY_MAX_S)
        case NotSent(unreachable=True):
            _pause(tx, row, "unreachable", outcome.message, first_s=UNREACHABLE_FIRST_S, longest_s=BUSY_MAX_S)
        case Refused(scope=Scope.ACCOUNT):
            _pause(tx, row, outcome.code, outcome.message, first_s=PAUSE_FIRST_S, longest_s=PAUSE_MAX_S)
            if row.pause_code != outcome.code:
                return f"creates of account {row.name} are paused ({outcome.code}): {outcome.message}"
        case Refused(scope=Scope.MODEL):
            if not _is_older(row, model, sent_at) and _pause_model(tx, row, model, outcome):
                return f"creates of model {model} in account {row.name} are paused ({outcome.code}): {outcome.message}"
    return None


def _about_the_account(outcome: Outcome) -> bool:
    return isinstance(outcome, Accepted | Answered | Busy | NotSent) or (
        isinstance(outcome, Refused) and outcome.scope is Scope.ACCOUNT
    )


def _is_older(row: Any, model: str, sent_at: datetime) -> bool:
    """Say whether a create was sent before its model was paused, and says nothing about that pause."""
    paused = (row.models_paused or {}).get(model) or {}
    return "at" in paused and sent_at < datetime.fromisoformat(paused["at"])


def _resume(tx: Connection, row: Any, model: str | None) -> None:
    left = {name: paused for name, paused in (row.models_paused or {}).items() if name != model}
    if row.pause_code or len(left) != len(row.models_paused or {}):
        cleared = {"paused_at": None, "paused_until": None, "pause_s": 0.0, "pause_code": None, "pause_note": None}
        tx.execute(update(accounts).where(accounts.c.name == row.name).values(models_paused=left, **cleared))


def _pause(tx: Connection, row: Any, code: str, note: str, *, first_s: float, longest_s: float) -> None:
    again = row.pause_code == code
    pause_s = min(row.pause_s * 2 if again else first_s, longest_s)
    values = {
        "paused_at": clock(),
        "paused_until": clock(pause_s),
        "pause_s": pause_s,
        "pause_code": code,
        "pause_note": note,
    }
    tx.execute(update(accounts).where(accounts.c.name == row.name).values(**values))


def _pause_model(tx: Connection, row: Any, model: str, outcome: Refused) -> bool:
    earlier = (row.models_paused or {}).get(model)
    pause_s = min(earlier["pause_s"] * 2 if earlier else PAUSE_FIRST_S, PAUSE_MAX_S)
    until = (row.now + timedelta(seconds=pause_s)).astimezone(UTC).isoformat()
    at = row.now.astimezone(UTC).isoformat()
    paused = {"at": at, "until": until, "pause_s": pause_s, "code": outcome.code, "note": outcome.message}
    models = dict(row.models_paused or {}) | {model: paused}
    tx.execute(update(accounts).where(accounts.c.name == row.name).values(models_paused=models))
    return earlier is None


def resume(database: Database, account: str) -> None:
    """End an account's pause by a person's word; the next refusal pauses it again."""
    cleared = {"paused_at": None, "paused_until": None, "pause_s": 0.0, "pause_code": None, "pause_note": None}
    cleared["models_paused"] = None
    with database.write() as tx:
        lock_account(tx, account)
        tx.execute(update(accounts).where(accounts.c.name == account).values(**cleared))


def checked(database: Database, account: str, credits: float) -> None:
    """Remember the balance that Kie reported; the first reading is what drift is counted from."""
    with database.write() as tx:
        lock_account(tx, account)
        mine = accounts.c.name == account
        tx.execute(update(accounts).where(mine).values(credits=credits, checked_at=clock()))
        first = {"baseline_credits": credits, "baseline_at": clock()}
        tx.execute(update(accounts).where(mine, accounts.c.baseline_at.is_(None)).values(**first))


def forget_spend(tx: Connection, job_ids: list[str]) -> None:
    """Take what these jobs are known to have cost, before they are deleted, out of what balances are compared with."""
    theirs = submissions.c.job_id.in_(job_ids) & submissions.c.credits.is_not(None)
    for name in sorted(set(tx.scalars(select(submissions.c.account).where(theirs)))):
        row = lock_account(tx, name)
        if row.baseline_at is None:
            continue
        mine = (submissions.c.account == name) & (submissions.c.sending_at >= row.baseline_at)
        spent = tx.scalar(select(func.sum(submissions.c.credits)).where(theirs, mine)) or 0
        less = accounts.c.baseline_credits - spent
        tx.execute(update(accounts).where(accounts.c.name == name).values(baseline_credits=less))


def room_for_a_look(database: Database, account: str, *, gap_s: float, before: datetime) -> datetime | None:
    """Reserve the account's next look out of turn and return its time; None where that is not before `before`.

    Over all processes they are `gap_s` apart, so that asking for looks never spends the query limit of the lanes.
    """
    with database.write() as tx:
        row = lock_account(tx, account)
        at: datetime = row.now
        if row.asked_look_at is not None:
            at = max(at, row.asked_look_at + timedelta(seconds=gap_s))
        if at >= before:
            return None
        tx.execute(update(accounts).where(accounts.c.name == account).values(asked_look_at=at))
        return at


def unattended(database: Database, *, after_s: float) -> list[tuple[str, int]]:
    """List accounts, and how many jobs stand in line for each since `after_s`, whose balance no worker has ever read."""
    read = select(accounts.c.name).where(accounts.c.checked_at.is_not(None))
    waiting = in_state(JobState.QUEUED) & jobs.c.line_at.is_not(None) & (jobs.c.created_at < clock(-after_s))
    query = select(jobs.c.account, func.count()).where(waiting, jobs.c.account.not_in(read)).group_by(jobs.c.account)
    with database.read() as connection:
        return [(name, count) for name, count in connection.execute(query.order_by(jobs.c.account).limit(STRANGERS))]


def listed(database: Database, names: dict[str, Budget]) -> list[Account]:
    """List accounts by name; included are those that are only set up, and those that only jobs name."""
    with database.read() as connection:
        unfinished = _unfinished(connection)
        rows = {row.name: row for row in connection.execute(select(accounts))}
        free = {name: free_creates(connection, name, budget) for name, budget in names.items()}
        drifts = {name: _drift(connection, row) for name, row in rows.items()}
    strangers = sorted(set(unfinished) - {*rows, *names})[:STRANGERS]
    return [
        _account(name, rows.get(name), free.get(name), drifts.get(name), unfinished.get(name, 0))
        for name in sorted({*rows, *names, *strangers})
    ]


def _unfinished(connection: Connection) -> dict[str, int]:
    in_line = in_state(JobState.QUEUED) & jobs.c.line_at.is_not(None)
    found: Counter[str] = Counter()
    for which in (in_line, jobs.c.due_at.is_not(None)):
        query = select(jobs.c.account, func.count()).where(which).group_by(jobs.c.account)
        for name, count in connection.execute(query):
            found[name] += count
    return found


def _account(name: str, row: Any, free: int | None, drift: float | None, unfinished: int) -> Account:
    if row is None:
        return Account(name, free_creates=free, unfinished=unfinished)
    return Account(
        name=name,
        paused_until=row.paused_until,
        pause_code=row.pause_code,
        pause_note=row.pause_note,
        models_paused=tuple((model, paused["note"]) for model, paused in (row.models_paused or {}).items()),
        credits=None if row.credits is None else float(row.credits),
        checked_at=row.checked_at,
        drift_credits=drift,
        free_creates=free,
        unfinished=unfinished,
    )


def _drift(connection: Connection, row: Any) -> float | None:
    """Compare what left the balance between the first and the last reading with what submissions then are known to cost."""
    if row.baseline_at is None or row.checked_at is None or row.checked_at == row.baseline_at:
        return None
    mine = (submissions.c.account == row.name) & (submissions.c.sending_at >= row.baseline_at)
    mine &= submissions.c.sending_at < row.checked_at  # what was sent since is in no reading yet
    known = connection.scalar(select(func.sum(submissions.c.credits)).where(mine)) or 0
    return float(row.baseline_credits) - float(row.credits) - float(known)
