"""Store: copy one result file into storage, completely or not at all.

A copy that does not work is put off and tried again for as long as Kie keeps the file; only bytes that are no result
end it. A refused link is renewed first: from the record, then from Kie's download-url call.
"""

import logging
from functools import partial

from kiejobs.answers import Finished
from kiejobs.db import copies
from kiejobs.errors import Disposition, KieJobsError, Reason, SourceExpired, Stopped, TransferError
from kiejobs.jobs import OutputClaim
from kiejobs.kie import catalogue
from kiejobs.kie.families import family
from kiejobs.nudge import store_nudge
from kiejobs.pacing import MAX_WAIT_S, retry_copy_s
from kiejobs.storage.documents import keep
from kiejobs.storage.keys import object_key
from kiejobs.storage.media import MediaType
from kiejobs.storage.transfer import Stored, copy
from workers.leases import Lease
from workers.runtime import Runtime

log = logging.getLogger(__name__)

KIE_KEEPS_S = 14 * 86400.0
"""How long Kie keeps generated files. Source: https://docs.kie.ai, getting started."""

TRIES_FOR_BYTES = 3
"""How often bytes that are no result are fetched before that is taken for final."""


def store(rt: Runtime, job_id: str, index: int) -> bool:
    """Copy one output; False where somebody else does, or it has to be tried again."""
    claim = copies.claim(rt.database, job_id, index, lease_s=rt.settings.lease_s)
    if claim is None:
        return False
    if copies.is_poison(claim):
        error = "five copies in a row ended without a word, most likely by killing their worker"
        return copies.close_failed(rt.database, claim, reason=Reason.QUARANTINED, error=error, who=rt.who)
    try:
        with rt.leases.keep(claim) as lease:
            stored = _stored(rt, claim, lease)
    except KieJobsError as error:
        _put_off(rt, claim, error)
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
    rt.tell(job_id)
    return closed


def _stored(rt: Runtime, claim: OutputClaim, lease: Lease) -> Stored:
    if claim.document is not None:
        return keep(claim.document, rt.store, partial(_key, claim))
    return copy(
        _link(rt, claim),
        rt.store,
        partial(_key, claim),
        session=rt.downloads,
        max_bytes=rt.settings.max_output_bytes,
        deadline_s=rt.settings.download_timeout_s,
        keep_going=lambda: not (lease.lost or rt.stopping.is_set()),
        progress=lease.progress,
        monotonic=rt.monotonic,
        allowed_kinds=_allowed_kinds(claim),
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
    """Return the URL to copy from: the known one, or a fresh one where that was refused."""
    known = claim.url or ""
    if not claim.link_expired:
        return known
    client = rt.client(claim.account)
    if client is None:
        raise SourceExpired(f"the link is refused and this worker has no key for account {claim.account}")
    snapshot, _ = client.record(family(claim.family), claim.task_id or "")
    if isinstance(snapshot, Finished) and claim.index < len(snapshot.results):
        current = snapshot.results[claim.index].url
        if current and current != known:
            return current
    fresh = client.fresh_link(known)
    if fresh is None:
        raise SourceExpired("the link is refused and Kie gives no fresh one")
    return fresh


def _put_off(rt: Runtime, claim: OutputClaim, error: KieJobsError) -> None:
    log.warning("job %s output %s: %s", claim.job_id, claim.index, error)
    if _is_final(claim, error):
        reason = error.reason or Reason.STORAGE
        copies.close_failed(rt.database, claim, reason=reason, error=str(error), who=rt.who)
        rt.tell(claim.job_id)
        return
    first_refusal = isinstance(error, SourceExpired) and not claim.link_expired
    wait_s = 0.0 if first_refusal or isinstance(error, Stopped) else retry_copy_s(claim.attempts)
    refused = _is_refused(error)
    renew = claim.link_expired or isinstance(error, SourceExpired) or refused
    put_off = copies.postpone(
        rt.database, claim, wait_s=wait_s, error=str(error), link_expired=renew, refused=refused, who=rt.who
    )
    if put_off and wait_s <= MAX_WAIT_S and not rt.stopping.is_set():
        rt.publish([store_nudge(claim.job_id, claim.index, countdown_s=wait_s)])


def _is_refused(error: KieJobsError) -> bool:
    """Say whether the bytes or their address are at fault; a wrong setting of ours never is."""
    return isinstance(error, TransferError) and error.disposition is Disposition.FAIL


def _allowed_kinds(claim: OutputClaim) -> frozenset[str] | None:
    """Of a model that makes media, no text: an error page in JSON with status 200 is not a picture."""
    model = catalogue.find(claim.model)
    if claim.role not in ("result", "watermark") or model is None or model.kind == "text":
        return None
    return frozenset({"image", "video", "audio"})


def _is_final(claim: OutputClaim, error: KieJobsError) -> bool:
    if _is_refused(error) and claim.refusals + 1 >= TRIES_FOR_BYTES:
        return True
    return claim.age_s > KIE_KEEPS_S
