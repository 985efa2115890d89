"""What follows a copy that failed: whose fault it was, when the next try comes, over which link, and when it is the end.

Pure: the claim, the error and the jitter are arguments. The storage's faults, and all others of our own, are waited out
and cost the source nothing; a refused link is renewed at once, then again and again, one whose server fails now and then.
Only bytes that are no result, or the end of the time that Kie keeps files, give a result up. A copy that was merely
stopped is nobody's fault.
"""

from dataclasses import dataclass
from enum import StrEnum

from kiejobs.errors import (
    Damaged,
    Disposition,
    KieJobsError,
    KieThrottled,
    KieUnavailable,
    NameRefused,
    Reason,
    SourceExpired,
    Stopped,
    TransferError,
)
from kiejobs.jobs import BY_PRODUCTS, OutputClaim
from kiejobs.pacing import JITTER, retry_copy_s

KIE_KEEPS_S = 14 * 86400.0
"""How long Kie keeps generated files. Source: https://docs.kie.ai, getting started."""

TRIES_FOR_BYTES = 3
"""How often bytes that are no result are fetched before that is taken for final, within two minutes."""

TRIES_FOR_WHOLE = 12
"""How often a file is fetched that is not whole at its source, for most of an hour: it may just be on its way there."""

_STEPS_FOR_BYTES = 3
"""By so many steps the waits for such bytes are longer than others: 40 s and 80 s."""

RENEW_AT, RENEW_EVERY = 3, 12
"""Where the source merely fails, its third failure and every twelfth after it (two hours) ask Kie for another link: often
enough to leave a dead host. As long as Kie then names another one, each try asks for that."""

BY_PRODUCT_S = 86400.0
BY_PRODUCT_TRIES = 12
"""A by-product that cannot be fetched is tried for a day, and so often at least: it must not hold up a paid result.

A day is what Kie's task page promises of any link: https://docs.kie.ai/market/common/get-task-detail
"""


class Fault(StrEnum):
    """Whose fault a failed copy was."""

    NOBODY = "nobody"
    """The worker stops, or another one has the copy."""
    STORAGE = "storage"
    """The storage, the database or a setting: ours, whatever the source would give."""
    LINK = "link"
    """The source refuses the link."""
    NETWORK = "network"
    """The source's name leads here to an address that is not dialled: by this network's DNS or a setting, as a rule."""
    BYTES = "bytes"
    """What came is no result, or its address is none that is dialled."""
    SOURCE = "source"
    """The source, or Kie, does not answer as it should just now."""


@dataclass(frozen=True, slots=True)
class Setback:
    """What a failed copy means for its output."""

    wait_s: float
    """Until the next try."""
    fault: Fault = Fault.SOURCE
    final: Reason | None = None
    """Why there is no next try."""
    renew: bool = False
    """Whether the next try asks Kie for the link first."""
    refused_url: str | None = None
    """The link that the next try passes over."""
    told: bool = True
    """Whether the timeline tells of it: the first of each kind, then ever fewer of two weeks' tries."""
    costs: int = 0
    """How many of `TRIES_FOR_WHOLE` this one took: bytes that are no file at all take several."""
    alert: str | None = None
    """What somebody has to be told of, once."""


def fault_of(error: KieJobsError) -> Fault:
    """Say whose fault an error of a copy is. What is not known to be the source's is ours."""
    match error:
        case Stopped():
            return Fault.NOBODY
        case SourceExpired():
            return Fault.LINK
        case NameRefused():
            return Fault.NETWORK
        case Damaged():
            return Fault.BYTES
        case TransferError() if error.disposition is Disposition.FAIL:
            return Fault.BYTES
        case TransferError() | KieUnavailable() | KieThrottled():
            return Fault.SOURCE
        case _:
            return Fault.STORAGE


def after_copy(claim: OutputClaim, error: KieJobsError, *, tried: str | None, jitter: float = 0.0) -> Setback:
    """Say what follows a copy that ended in `error`.

    `tried` is the link that was fetched, None where it did not come to that; `jitter` in -1 … 1 moves a wait by 10 %.
    """
    fault = fault_of(error)
    asks = _asks_kie(claim, fault)
    # Where the source fails and no link is passed over, the known one is as good as any, and asking costs a query.
    known_again = fault in _SOURCES and claim.refused_url is None
    return Setback(
        wait_s=_wait_s(claim, fault, error) * (1 + JITTER * jitter),
        fault=fault,
        final=_final(claim, fault, error),
        renew=asks or (claim.link_expired and not known_again),
        refused_url=_passed_over(claim, fault, tried, asks=asks),
        told=_is_news(claim, fault),
        costs=_costs(fault, error),
        alert=_NETWORK_ALERT if fault is Fault.NETWORK and claim.role not in BY_PRODUCTS else None,
    )


_NETWORK_ALERT = (
    "a result waits: here the name of its server leads to an address that is never dialled. Mend this network's DNS, or "
    "add exactly host:port to KIEJOBS_EGRESS_ALLOW"
)
"""Without the name: the timeline is to say it once, and answers of a DNS change."""


_SOURCES = (Fault.SOURCE, Fault.NETWORK)
"""The faults that another link, to another host, may mend."""


def _asks_kie(claim: OutputClaim, fault: Fault) -> bool:
    """Say whether this failure makes the next try ask Kie for another link."""
    if fault not in _SOURCES:
        return fault in (Fault.LINK, Fault.BYTES)
    died = claim.age_s > KIE_KEEPS_S or (claim.dies_in_s is not None and claim.dies_in_s <= 0)
    return died or (claim.attempts - claim.storage_troubles) % RENEW_EVERY == RENEW_AT


def _wait_s(claim: OutputClaim, fault: Fault, error: KieJobsError) -> float:
    """Return growing waits, the storage's apart from the source's; none where another link may help at once."""
    if fault is Fault.NOBODY or (fault is Fault.LINK and not claim.link_expired):
        return 0.0
    ours = claim.storage_troubles
    tries = ours + 1 if fault is Fault.STORAGE else claim.attempts - ours
    if fault is Fault.BYTES and not isinstance(error, Damaged):
        tries += _STEPS_FOR_BYTES
    return retry_copy_s(tries, dies_in_s=claim.dies_in_s)


def _final(claim: OutputClaim, fault: Fault, error: KieJobsError) -> Reason | None:
    if fault is Fault.BYTES and claim.refusals + _costs(fault, error) >= TRIES_FOR_WHOLE:
        return error.reason or Reason.RESULT_INVALID
    renewed_in_vain = fault is Fault.LINK and claim.link_expired
    ours = fault in (Fault.STORAGE, Fault.NOBODY)
    if claim.role in BY_PRODUCTS and not ours and _is_given_up(claim, renewed_in_vain=renewed_in_vain):
        return error.reason or Reason.RESULT_EXPIRED
    if claim.age_s <= KIE_KEEPS_S or claim.document is not None or fault is Fault.NOBODY:
        return None  # a document is in our own row, where it keeps for ever
    if fault in (Fault.LINK, *_SOURCES) and not claim.link_expired:
        return None  # Kie may have another one all the same
    return _AT_LAST.get(fault, Reason.RESULT_EXPIRED)


_AT_LAST = {
    Fault.STORAGE: Reason.STORAGE,
    Fault.NETWORK: Reason.STORAGE,
    Fault.BYTES: Reason.RESULT_INVALID,
}
"""Why a result is given up when Kie keeps it no longer."""


def _costs(fault: Fault, error: KieJobsError) -> int:
    """Count a file that is not whole once and other bytes fourfold, so that few of the one do not use up the other."""
    if fault is not Fault.BYTES:
        return 0
    return 1 if isinstance(error, Damaged) else TRIES_FOR_WHOLE // TRIES_FOR_BYTES


def _is_given_up(claim: OutputClaim, *, renewed_in_vain: bool) -> bool:
    """Say whether a by-product has been tried for long enough: until its link died as foretold, or a day."""
    if renewed_in_vain and claim.dies_in_s is not None and claim.dies_in_s <= 0:
        return True
    return claim.age_s > BY_PRODUCT_S and claim.attempts - claim.storage_troubles >= BY_PRODUCT_TRIES


def _passed_over(claim: OutputClaim, fault: Fault, tried: str | None, *, asks: bool) -> str | None:
    """Return the link that just failed; none once it was passed over, for a file may also come late to its place."""
    if fault is Fault.LINK or (asks and tried is not None):
        return tried
    return claim.refused_url


def _is_news(claim: OutputClaim, fault: Fault) -> bool:
    first = (fault is Fault.LINK and not claim.link_expired) or (fault is Fault.STORAGE and not claim.storage_troubles)
    return first or claim.attempts & (claim.attempts - 1) == 0
