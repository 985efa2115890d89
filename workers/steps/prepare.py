"""Prepare: replace what an input refers to by URLs that Kie can fetch, before its create call.

An output of another job is named by Kie's own URL while that lives. Our own copy of it, or an input file, is brought to
Kie: fetched by Kie itself where the storage is public, else sent. The URLs are kept with the time until which they all
live, so that a job that stands in line for days gets new ones. Nothing here costs anything; done twice it does no harm,
but it may take long, so one worker does it at a time, and the job is out of the line meanwhile.
"""

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kiejobs.db import parents, preparing
from kiejobs.db.preparing import Preparing
from kiejobs.decisions import unusable
from kiejobs.errors import DependencyError, KieJobsError, Reason, Stopped
from kiejobs.jobs import BY_PRODUCTS
from kiejobs.kie import uploads
from kiejobs.kie.client import Stream
from kiejobs.references import KeptFile, OutputOf, Reference, replaced
from kiejobs.storage.addresses import for_strangers
from workers.runtime import Runtime

log = logging.getLogger(__name__)

KIE_URL_LIVES = timedelta(days=1)
"""How long after we copied an output from it Kie's own URL is sure to live.

Kie's pages promise 14 days in one place and "typically 24 hours" in another, https://docs.kie.ai/market/common/get-task-detail
"""

KIE_URL_LEFT_S = 6 * 3600.0
"""Kie's own URL of an output is used while it lives for at least this long."""

LINK_S = 24 * 3600.0
"""How long a signed link to our own copy lives."""

LEASE_MARGIN_S = 60.0
"""What a lease is longer than one upload may take."""

NEVER = datetime.max.replace(tzinfo=UTC)

AGAIN_S = 30.0
"""When a job whose inputs could not be made ready is tried again."""


@dataclass(frozen=True, slots=True)
class Address:
    """A URL that Kie can fetch, and until when."""

    url: str
    until: datetime


def prepare(rt: Runtime, job_id: str, version: int | None = None) -> bool:
    """Make a job's inputs ready; False where that did not work: the job is out of the line until the next try, or ended."""
    claim = preparing.claim(rt.database, job_id, lease_s=_lease_s(rt), version=version)
    if claim is None:
        return False
    making = _Making(rt, claim)
    try:
        given = replaced(claim.input, making.urls)
    except Stopped:
        with rt.database.write() as tx:
            preparing.give_back(tx, claim)
        return False
    except DependencyError as error:
        log.warning("job %s: inputs not ready: %s", job_id, error)
        with rt.database.write() as tx:
            preparing.put_off(tx, claim, f"its inputs are not ready: {error}", AGAIN_S, rt.who)
        return False
    except KieJobsError as error:
        _end(rt, claim, error)
        return False
    ready = {"input": given, "until": making.until.isoformat()}
    note = f"{len(making.made)} input(s) have URLs that Kie can fetch"
    with rt.database.write() as tx:
        return preparing.finish(tx, claim, ready, note, rt.who)


def _lease_s(rt: Runtime) -> float:
    """How long one upload may take, and some more."""
    return rt.settings.download_timeout_s + LEASE_MARGIN_S


def _end(rt: Runtime, claim: Preparing, error: KieJobsError) -> None:
    ended = unusable(str(error), error.reason or Reason.INVALID_INPUT)
    with rt.database.write() as tx:
        over = preparing.end(tx, claim, ended, who=rt.who)
    if over:
        rt.tell(claim.job_id)


class _Making:
    """The addresses of one input's references; each is made once."""

    def __init__(self, rt: Runtime, claim: Preparing) -> None:
        self.rt = rt
        self.claim = claim
        self.made: dict[Reference, list[Address]] = {}

    @property
    def until(self) -> datetime:
        """The first moment at which one of them dies; an input without references never does."""
        ends: list[datetime] = [address.until for found in self.made.values() for address in found]
        return min(ends, default=NEVER)

    def urls(self, reference: Reference) -> str | list[str]:
        """Return the URL, or all URLs, that a reference stands for."""
        if reference not in self.made:
            self.made[reference] = self._addresses(reference)
        urls = [address.url for address in self.made[reference]]
        return urls if isinstance(reference, OutputOf) and reference.output is None else urls[0]

    def _addresses(self, reference: Reference) -> list[Address]:
        if isinstance(reference, KeptFile):
            return [self._ours(reference.key)]
        with self.rt.database.read() as tx:
            rows = parents.stored_outputs(tx, reference.job)
        wanted = _results(rows) if reference.output is None else [r for r in rows if r.position == reference.output]
        if not wanted:
            which = "that is a file" if reference.output is None else f"{reference.output} in storage"
            raise NoSuchOutput(f"job {reference.job} has no output {which}")
        return [self._output(row) for row in wanted]

    def _output(self, row: Any) -> Address:
        if row.url and row.expires_at and row.stored_at and not row.link_expired:
            until: datetime = min(row.expires_at, row.stored_at + KIE_URL_LIVES)
            if (until - self.claim.now).total_seconds() > KIE_URL_LEFT_S:
                return Address(row.url, until)
        return self._ours(row.key)

    def _ours(self, key: str) -> Address:
        """Bring an object of our storage to Kie: by its public link where it has one, else by sending its bytes."""
        if self.rt.stopping.is_set() or not preparing.keep(self.rt.database, self.claim, lease_s=_lease_s(self.rt)):
            raise Stopped("the process ends, or the job is not to be made ready any more")
        client, timeout_s = self.rt.uploader(self.claim.account), self.rt.settings.download_timeout_s
        if client is None:
            raise NoKey(f"this worker has no key for account {self.claim.account}")
        extension = key.rsplit(".", 1)[-1]
        with self.rt.store.read(key) as content:
            link = for_strangers(self.rt.store.link(key, LINK_S))
            if link and len(content) > uploads.FETCH_BYTES:
                return Address(link, self.claim.now + timedelta(seconds=LINK_S))
            url = uploads.fetch(client, link, extension=extension, timeout_s=timeout_s) if link else None
            if url is None:
                media_type = content.media_type or "application/octet-stream"
                body = _WhileRunning(content, self.rt.stopping)
                url = uploads.upload(client, body, extension=extension, media_type=media_type, timeout_s=timeout_s)
        return Address(url, self.claim.now + timedelta(seconds=uploads.LIVES_S))


class _WhileRunning:
    """A body that is sent for as long as the process is not to end."""

    def __init__(self, content: Stream, stopping: threading.Event) -> None:
        self._content, self._stopping = content, stopping

    def __len__(self) -> int:
        return len(self._content)

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._content:
            if self._stopping.is_set():
                raise Stopped("the process ends")
            yield piece


class NoSuchOutput(KieJobsError):
    """The job named has no such output."""

    reason = Reason.PARENT
    remedy = "Name one of its outputs: `kiejobs show` lists them."


class NoKey(DependencyError):
    """This process cannot upload for the account."""


def _results(rows: list[Any]) -> list[Any]:
    """Choose all results of a job: where it made named parts, such as stems, those; never what lies beside them."""
    files = [row for row in rows if row.role not in BY_PRODUCTS | {"document"}]
    return [row for row in files if row.role == "result"] or files
