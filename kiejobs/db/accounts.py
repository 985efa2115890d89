"""Kie accounts: how many creates each may make now, and why some may make none.

A refusal that concerns the whole account (key, credits, cap, maintenance) pauses its creates, doubling each time; after
the pause one create passes on probation, and its acceptance ends the pause. A switched-off model is paused alike, by
itself. Polls and copies never stop. All of it is decided under the account's lock, by the database's clock.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from kiejobs.answers import Accepted, Busy, NotSent, Outcome, Refused, Scope
from kiejobs.db.clock import clock
from kiejobs.db.session import Database
from kiejobs.db.tables import accounts, submissions
from kiejobs.jobs import SubmissionState

PAUSE_FIRST_S = 60.0
PAUSE_MAX_S = 1800.0
BUSY_MAX_S = 300.0
UNREACHABLE_FIRST_S = 5.0
LONGEST_CALL_S = 3600.0
PROBATION_LOOK_S = 5.0
"""How long a job of a model on probation stays out of the line while another one tries."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One account's create limit: `limit` creates per `window_s` (margin included), per the database's clock."""

    limit: int
    window_s: float


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


def lock_account(tx: Connection, account: str) -> None:
    """Take the account's row for this transaction, making it first where it does not exist."""
    made: Any = (sqlite if tx.dialect.name == "sqlite" else postgresql).insert(accounts)
    tx.execute(made.values(name=account).on_conflict_do_nothing())
    tx.execute(select(accounts.c.name).where(accounts.c.name == account).with_for_update())


def free_creates(tx: Connection, account: str, budget: Budget) -> int:
    """Count how many creates the account may make now: 0 while paused, 1 on probation after a pause."""
    now: datetime = tx.scalar(select(clock()))  # type: ignore[assignment]
    row = tx.execute(select(accounts.c.paused_until, accounts.c.pause_code).where(accounts.c.name == account)).first()
    if row and row.paused_until and row.paused_until > now:
        return 0
    # A value, not `clock()` in the comparison: PostgreSQL uses no index for what may change from row to row.
    recent = submissions.c.sending_at > now - timedelta(seconds=budget.window_s)
    used = tx.scalar(select(func.count()).where(submissions.c.account == account, recent)) or 0
    free = max(budget.limit - used, 0)
    if row and row.pause_code:
        return 0 if _sending(tx, account) else min(free, 1)
    return free


def _sending(tx: Connection, account: str, model: str | None = None) -> bool:
    """Say whether a create call of the account (and model) is in flight."""
    mine = (submissions.c.account == account) & (submissions.c.state == SubmissionState.SENDING)
    now: datetime = tx.scalar(select(clock()))  # type: ignore[assignment]
    mine &= submissions.c.sending_at > now - timedelta(seconds=LONGEST_CALL_S)  # none is in flight for longer
    if model is not None:
        mine &= submissions.c.model == model
    return tx.scalar(select(submissions.c.id).where(mine).limit(1)) is not None


def model_hold_s(tx: Connection, account: str, model: str) -> tuple[float, str] | None:
    """Say for how long a job of this model must stay out of the line, and why; None where it may be sent."""
    row = tx.execute(select(accounts.c.models_paused, clock().label("now")).where(accounts.c.name == account)).first()
    paused = (row.models_paused or {}).get(model) if row else None
    if paused is None:
        return None
    left_s = (datetime.fromisoformat(paused["until"]) - row.now).total_seconds() if row else 0.0
    why = f"model {model} is switched off at Kie ({paused['code']}): {paused['note']}"
    if left_s > 0:
        return left_s, why
    return (PROBATION_LOOK_S, why) if _sending(tx, account, model) else None


def learn(
    tx: Connection, account: str, model: str, outcome: Outcome, *, sent_at: datetime, busy_s: float
) -> str | None:
    """Pause or resume by what a create call brought; the caller holds the account's lock.

    A create that was sent before a pause began says nothing about that pause: a burst of refusals is one pause, and a
    late acceptance does not end it. Returns the words of an alert where something was paused that was not before.
    """
    row = tx.execute(select(accounts, clock().label("now")).where(accounts.c.name == account)).first()
    if row is None or (row.paused_at is not None and sent_at < row.paused_at and _about_the_account(outcome)):
        return None
    match outcome:
        case Accepted():
            _resume(tx, row, model)
        case Busy():
            _pause(tx, row, outcome.code, outcome.message, first_s=busy_s, longest_s=BUSY_MAX_S)
        case NotSent(unreachable=True):
            _pause(tx, row, "unreachable", outcome.message, first_s=UNREACHABLE_FIRST_S, longest_s=BUSY_MAX_S)
        case Refused(scope=Scope.ACCOUNT):
            _pause(tx, row, outcome.code, outcome.message, first_s=PAUSE_FIRST_S, longest_s=PAUSE_MAX_S)
            if row.pause_code != outcome.code:
                return f"creates of account {account} are paused ({outcome.code}): {outcome.message}"
        case Refused(scope=Scope.MODEL):
            if _pause_model(tx, row, model, outcome):
                return f"creates of model {model} in account {account} are paused ({outcome.code}): {outcome.message}"
    return None


def _about_the_account(outcome: Outcome) -> bool:
    return isinstance(outcome, Accepted | Busy | NotSent) or (
        isinstance(outcome, Refused) and outcome.scope is Scope.ACCOUNT
    )


def _resume(tx: Connection, row: Any, model: str) -> None:
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
    paused = {"until": until, "pause_s": pause_s, "code": outcome.code, "note": outcome.message}
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


def listed(database: Database, names: dict[str, Budget]) -> list[Account]:
    """List accounts by name, those that are only set up included."""
    with database.read() as connection:
        rows = {row.name: row for row in connection.execute(select(accounts))}
        free = {name: free_creates(connection, name, budget) for name, budget in names.items()}
        drifts = {name: _drift(connection, row) for name, row in rows.items()}
    return [_account(name, rows.get(name), free.get(name), drifts.get(name)) for name in sorted({*rows, *names})]


def _account(name: str, row: Any, free: int | None, drift: float | None) -> Account:
    if row is None:
        return Account(name, free_creates=free)
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
    )


def _drift(connection: Connection, row: Any) -> float | None:
    """Compare what left the balance since the first reading with what submissions are known to have cost."""
    if row.baseline_at is None or row.checked_at is None or row.checked_at == row.baseline_at:
        return None
    mine = (submissions.c.account == row.name) & (submissions.c.sending_at >= row.baseline_at)
    known = connection.scalar(select(func.sum(submissions.c.credits)).where(mine)) or 0
    return float(row.baseline_credits) - float(row.credits) - float(known)
