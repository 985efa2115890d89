"""The health page: what waits and how late it is, what is used up, what is unsafe, and what did not arrive."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from fastapi import APIRouter, Response

from kiejobs.db import deliveries, spend
from kiejobs.db.accounts import Account
from kiejobs.db.health import Allowance, Health, Work, health
from kiejobs.gateway.health import SWEEP_WITHIN_S
from kiejobs.gateway.pages import words
from kiejobs.gateway.pages.view import PageRoute, go, page
from kiejobs.gateway.pages.visitor import Look, WriteOrder
from kiejobs.jobs import DeliveryState
from kiejobs.settings import Settings

router = APIRouter(route_class=PageRoute)

DYING_S = 3600.0
LATE_S = 60.0
UNREAD_S = 600.0
"""A balance that no worker read for so long, while they read others, is that of an account without a key."""
_GAVE_UP_SHOWN = 20
_DOUBTFUL_COUNTED = 500
_SWEEP = "Start beat and a worker of the queue `sweep`; without them nothing is rescued."
_DYING = "See that workers of the queue `store` run and that `kiejobs doctor` finds the storage well."
_PARKED = "They are never sent again by themselves. Open them from the gallery (state “unconfirmed”) and decide."
_LATE = "Start more workers of the queue that lags, or see in their logs what holds them up."
_LINE = "Start a worker of the queue `create`, and beat; see that `KIEJOBS_SUBMIT` is not `off`."
_KEYLESS = (
    "Its jobs wait until one has: `KIEJOBS_ACCOUNTS` of every worker. A job whose account is a slip of the pen is canceled "
    "for free. Where there is a key, the worker’s log says why Kie does not tell the balance."
)
_GAVE_UP = "They are listed below; they can be sent again when their receiver answers."
_PAUSED = "Its reason is below. It tries again by itself; `kiejobs accounts --resume NAME` ends the pause now."


WORKS: dict[Work, str] = {
    Work.CREATE: "Its create call, in line",
    Work.HELD: "A place in line",
    Work.LOOK: "A look at Kie’s record",
    Work.STORE: "A copy into the storage",
    Work.NOTIFY: "A message to its producer",
}
FINDERS = {
    "callback": "Kie’s callback",
    "poll": "A look, on time",
    "sweep": "The sweep’s look",
    "answer": "The create’s answer",
}


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that a person should look at, and what to do about it."""

    weight: str
    """`fail` where results or money are at stake, else `warn`."""
    what: str
    remedy: str


@router.get("/health")
def health_page(look: Look) -> Response:
    """Show the figures: an admin those of the installation, others those of their tenant."""
    jobs, settings = look.jobs(), look.services.settings
    accounts = jobs.accounts() if look.visitor.sees_all else ()
    names = {*settings.keys, *(account.name for account in accounts)} if look.visitor.sees_all else set()
    found = health(jobs.database, tenant=look.tenant, allowances=allowances(settings, names))
    doubtful = len(spend.unknown(jobs.database, tenant=look.tenant, limit=_DOUBTFUL_COUNTED))
    return page(
        "health.html",
        look.services,
        look.visitor,
        health=found,
        concerns=concerns(found, accounts),
        accounts=accounts,
        keyless=keyless(accounts, found),
        works=WORKS,
        finders=FINDERS,
        unknown_spend=f"{doubtful}+" if doubtful == _DOUBTFUL_COUNTED else str(doubtful),
        gave_up=deliveries.listed(jobs.database, tenant=look.tenant, state=DeliveryState.GAVE_UP, limit=_GAVE_UP_SHOWN),
        live=True,
    )


def concerns(found: Health, accounts: Iterable[Account]) -> list[Concern]:
    """Say what needs a person, the worst first."""
    accounts = list(accounts)
    without_key = keyless(accounts, found)
    lag_s = max(queue.lag_s for work, queue in found.queues.items() if work is not Work.CREATE)
    line_s = found.queues[Work.CREATE].lag_s
    unused = bool(found.usage) and all(2 * use.creates < use.allowance.creates for use in found.usage)
    explained = bool(without_key) or any(one.pause_code for one in accounts)
    sweep_s, dies_in_s = found.last_sweep_s, found.unsaved_dies_in_s
    told = [
        (sweep_s is None or sweep_s > SWEEP_WITHIN_S, "fail", "The sweep does not run.", _SWEEP),
        (
            dies_in_s is not None and dies_in_s < DYING_S,
            "fail",
            "A result may expire at Kie before it is stored.",
            _DYING,
        ),
        (
            found.unconfirmed > 0,
            "warn",
            f"{_count(found.unconfirmed, 'create call')} with an unknown outcome.",
            _PARKED,
        ),
        (lag_s > LATE_S, "warn", f"Work is late: {words.duration(lag_s)}.", _LATE),
        (
            line_s > LATE_S and unused and not explained,
            "warn",
            f"The line stands still for {words.duration(line_s)}, though creates are free.",
            _LINE,
        ),
        (found.gave_up > 0, "warn", f"{_count(found.gave_up, 'message')} to producers never arrived.", _GAVE_UP),
    ]
    told += [(True, "warn", f"Account {one.name} makes no creates.", _PAUSED) for one in accounts if one.pause_code]
    told += [
        (True, "fail", f"No worker seems to have a key for the account {name}.", _KEYLESS)
        for name in sorted(without_key)
    ]
    held = [Concern(weight, what, remedy) for holds, weight, what, remedy in told if holds]
    return sorted(held, key=lambda one: one.weight != "fail")


def keyless(accounts: Iterable[Account], found: Health) -> set[str]:
    """Name the accounts with unfinished jobs whose balance no worker reads, though workers read balances."""
    accounts = list(accounts)
    if found.last_watch_s is None or found.last_watch_s > UNREAD_S:
        return set()
    since = found.at - timedelta(seconds=UNREAD_S)
    read = {one.name for one in accounts if one.checked_at is not None and one.checked_at > since}
    return {
        one.name
        for one in accounts
        if one.unfinished and one.name not in read and (one.checked_at is None or read)  # else Kie does not answer
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def allowances(settings: Settings, names: Iterable[str]) -> dict[str, Allowance]:
    """Say what each of these accounts may ask of Kie, as far as the settings here tell."""
    window_s = settings.create_window_s + settings.create_margin_s
    return {name: Allowance(settings.create_limit_of(name), window_s, settings.query_limit_of(name)) for name in names}


@router.post("/deliveries/{delivery_id}/resend")
def resend(delivery_id: str, order: WriteOrder) -> Response:
    """Send a message once more."""
    order.jobs_with(order.form.get("job", "")).send_again(delivery_id)
    return go("/health")
