"""Store: copy one result file into storage, completely or not at all.

What follows a copy that does not work is decided in `kiejobs.setbacks`. A link that does not work is renewed: from the
record, then from Kie's download-url call.
"""

import logging
from functools import partial

from kiejobs import counted, logs
from kiejobs.answers import Finished, Snapshot
from kiejobs.db import copies
from kiejobs.errors import KieJobsError, KieUnavailable, Reason, SourceExpired
from kiejobs.jobs import OutputClaim
from kiejobs.kie.families import family
from kiejobs.kie.kinds import allowed_kinds
from kiejobs.nudge import store_nudge
from kiejobs.pacing import MAX_WAIT_S
from kiejobs.setbacks import after_copy
from kiejobs.storage.documents import keep
from kiejobs.storage.keys import object_key
from kiejobs.storage.media import MediaType
from kiejobs.storage.transfer import Stored, copy
from workers.leases import Lease
from workers.runtime import Runtime

log = logging.getLogger(__name__)

URGENT_S = 3600.0
"""A link that dies within this time is copied before all others."""


def store(rt: Runtime, job_id: str, index: int) -> bool:
    """Copy one output; False where somebody else does, or it has to be tried again.

    Where another output's link dies soon, that one is copied instead, and this one asked for again.
    """
    urgent = copies.most_urgent(rt.database, within_s=URGENT_S) or (job_id, index)
    if urgent != (job_id, index):
        rt.publish([store_nudge(job_id, index)])
    return _store(rt, *urgent)


def _store(rt: Runtime, job_id: str, index: int) -> bool:
    claim = copies.claim(rt.database, job_id, index, lease_s=rt.settings.lease_s)
    if claim is None:
        rt.counts.add(counted.STALE, "store")
        return False
    logs.note(job=claim.job_id, kie_task=claim.task_id)
    if copies.is_poison(claim):
        error = "five copies in a row ended without a word, most likely by killing their worker"
        return copies.close_failed(rt.database, claim, reason=Reason.QUARANTINED, error=error, who=rt.who)
    tried: str | None = None
    try:
        with rt.leases.keep(claim) as lease:
            if claim.document is not None:
                lease.confirm()
                stored = keep(claim.document, rt.store, partial(_key, claim))
            else:
                tried = _link(rt, claim)
                stored = _copied(rt, claim, lease, tried)
    except KieJobsError as error:
        _put_off(rt, claim, error, tried)
        return False
    closed = copies.close_stored(
        rt.database,
        claim,
        key=stored.key,
        media_type=stored.media_type.mime,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
        who=rt.who,
    )
    if closed:
        rt.counts.add(counted.STORED_FILES)
        rt.counts.add(counted.STORED_BYTES, by=stored.size_bytes)
    rt.tell(job_id)
    return closed


def _copied(rt: Runtime, claim: OutputClaim, lease: Lease, url: str) -> Stored:
    return copy(
        url,
        rt.store,
        partial(_key, claim),
        session=rt.downloads,
        max_bytes=rt.settings.max_output_bytes,
        deadline_s=rt.settings.download_timeout_s,
        keep_going=lambda: not (lease.lost or rt.stopping.is_set()),
        progress=lease.progress,
        expects=lease.expects,
        confirm=lease.confirm,
        monotonic=rt.monotonic,
        allowed_kinds=allowed_kinds(claim.model, claim.role, claim.index),
    )


def _key(claim: OutputClaim, media: MediaType) -> str:
    return object_key(
        tenant=claim.tenant,
        created_at=claim.created_at,
        job_id=claim.job_id,
        index=claim.index,
        extension=media.extension,
    )


def _link(rt: Runtime, claim: OutputClaim) -> str:
    """Return the URL to copy from: the known one; once it failed the record's, or else a fresh one of Kie's.

    SourceExpired where Kie gives only the link that just failed: that one is not fetched again at once. A record that
    cannot be read names the known one: the call for a fresh link may be answered all the same.
    """
    known = claim.url or ""
    if not claim.link_expired:
        return known
    client = rt.client(claim.account)
    if client is None:
        raise KieUnavailable(f"no fresh link can be asked for: this worker has no key for account {claim.account}")
    current = known
    try:
        snapshot, _ = client.record(family(claim.family), claim.task_id or "")
        current = _named_in(snapshot, claim) or known
    except KieUnavailable as error:
        log.warning("job %s output %s: its record cannot be read: %s", claim.job_id, claim.index, error)
    if current != claim.refused_url:
        return current
    fresh = client.fresh_link(family(claim.family), claim.task_id or "", current)
    if fresh is None or fresh == claim.refused_url:
        raise SourceExpired("the link does not work and Kie gives no other")
    return fresh


def _named_in(snapshot: Snapshot, claim: OutputClaim) -> str | None:
    """Return the record's link to this output, if it still lists the same things in the same places."""
    if not isinstance(snapshot, Finished) or claim.index >= len(snapshot.results):
        return None
    result = snapshot.results[claim.index]
    return result.url if result.role == claim.role else None


def _put_off(rt: Runtime, claim: OutputClaim, error: KieJobsError, tried: str | None) -> None:
    log.warning("job %s output %s: %s", claim.job_id, claim.index, error)
    rt.counts.add(counted.COPY_TROUBLES, type(error).__name__)
    setback = after_copy(claim, error, tried=tried, jitter=rt.jitter())
    if setback.final:
        copies.close_failed(rt.database, claim, reason=setback.final, error=str(error), who=rt.who)
        rt.tell(claim.job_id)
        return
    put_off = copies.postpone(rt.database, claim, setback, error=str(error), who=rt.who)
    if put_off and setback.wait_s <= MAX_WAIT_S and not rt.stopping.is_set():
        rt.publish([store_nudge(claim.job_id, claim.index, countdown_s=setback.wait_s)])
