"""KieJobs: what a service uses to buy generations and to read what became of them.

`enqueue` commits the job's row and only then publishes a nudge; a broker that is down costs at most a few seconds and
never the job, because the pump publishes what was not. Everything is read from the database. Needs no Kie key.
"""

import builtins
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kiejobs import nudge
from kiejobs.addresses import Addresses
from kiejobs.db import deliveries, intake, migrate, orders, reads, spend
from kiejobs.db.accounts import Account, Budget
from kiejobs.db.accounts import listed as listed_accounts
from kiejobs.db.accounts import resume as resume_account
from kiejobs.db.deliveries import Delivery
from kiejobs.db.session import Database
from kiejobs.db.spend import Spend, UnknownSpend
from kiejobs.errors import InvalidInput, JobNotFound, WaitTimeout
from kiejobs.jobs import (
    DEFAULT_TENANT,
    DeliveryState,
    Event,
    Job,
    JobState,
    Output,
    OutputState,
    Priority,
    PublicState,
)
from kiejobs.kie import catalogue
from kiejobs.nudge import Publish
from kiejobs.pacing import MAX_WAIT_S
from kiejobs.references import files_kept
from kiejobs.request import new_job
from kiejobs.settings import Settings, checked_tenant, load

if TYPE_CHECKING:
    from kiejobs.storage.store import Store


_FILES = ("input", "options", "fallbackModels")
"""The parts of a request that may have files in them."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request's job, and whether the request made it or found it."""

    job: Job
    created: bool


class KieJobs:
    """Enqueue generations and follow them, for one tenant."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        tenant: str = DEFAULT_TENANT,
        database: Database | None = None,
        publish: Publish | None = None,
        who: str = "producer",
    ) -> None:
        self.settings = settings or load()
        catalogue.use(self.settings.catalogue)
        self.tenant = checked_tenant(tenant)
        self.who = who
        self._database = database
        self._publish = publish

    @cached_property
    def database(self) -> Database:
        """The database, its schema checked once."""
        return self._database or migrate.ready(Database(self.settings.database))

    @cached_property
    def _publisher(self) -> Publish:
        if self._publish is not None:
            return self._publish
        broker = self.settings.broker
        if broker is None:
            return lambda nudges: None  # nothing to publish to: the pump of whatever workers there are finds the row
        return nudge.publisher(nudge.producer_app(broker))

    def enqueue(
        self,
        model: str,
        input: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        account: str | None = None,
        priority: Priority | str = Priority.INTERACTIVE,
        metadata: Mapping[str, Any] | None = None,
        validate: str = "on",
        fallback_models: Sequence[str | Mapping[str, Any]] = (),
        callback_url: str | None = None,
        reuse_within_s: float | None = None,
        prompt_parts: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> Job:
        """Accept a generation and return its job; the row is committed when this returns.

        `model` is Kie's exact id, `input` its parameters. The same `idempotency_key` with the same request returns the
        same job, with another request it raises IdempotencyConflict. TooManyRequests says that too many jobs of the
        tenant wait already (KIEJOBS_QUEUE_LIMIT). A file in the input, a `Path` or bytes, is kept in
        the storage and uploaded to Kie when its turn comes; `{"$from": {"job": id, "output": 0}}` is an output of another
        job, which is waited for. `account` pays, by default `default`, or the one of the job that is followed up.
        `validate` is `on` (known models are checked, an unknown one passes with a warning), `strict` (an unknown one is
        refused too) or `off`. InvalidInput names the field at fault. `fallback_models` are tried in turn when Kie refuses
        a create for credits, or for a model that is switched off or unknown: ids, or mappings `{"model": …, "input": …}`
        where the input differs. `id` (a UUID) makes the caller choose the job's id. `callback_url` is told, signed,
        when the job ends, is late, or is parked. Where the tenant asked for the same model and input at most
        `reuse_within_s` seconds ago, and that job has neither failed nor been canceled, it is given back, `reused`, and
        nothing is bought. `prompt_parts` (`subject`, `scene`, `camera`, `style`, `avoid`) make the prompt instead of
        `input`, and `avoid` goes where the model takes it.
        """
        request: dict[str, Any] = {
            "model": model,
            "input": input,
            "idempotencyKey": idempotency_key,
            "account": account,
        }
        request |= {"priority": str(priority), "metadata": dict(metadata or {}), "validate": validate}
        request |= {"fallbackModels": list(fallback_models), "callbackUrl": callback_url}
        request |= {"reuseWithinS": reuse_within_s, "promptParts": prompt_parts}
        return self.enqueue_request(request, id=id)

    def enqueue_many(self, requests: Iterable[Mapping[str, Any]]) -> list[Job]:
        """Accept many generations in one transaction: all of them, or none and InvalidInput or IdempotencyConflict.

        Each is a mapping with the fields of `POST /api/generations`: `model`, `input`, `idempotencyKey` …
        """
        return [one.job for one in self.accept(requests)]

    def enqueue_request(self, request: Mapping[str, Any], *, id: str | None = None) -> Job:
        """Accept one generation given as a mapping with the fields of `POST /api/generations`."""
        return self.accept_one(request, id=id).job

    def accept_one(self, request: Mapping[str, Any], *, id: str | None = None) -> Accepted:
        """Accept one generation like `enqueue_request`, and say whether it is new."""
        return self._accept([self._new(request, id)])[0]

    def accept(self, requests: Iterable[Mapping[str, Any]]) -> list[Accepted]:
        """Accept many generations like `enqueue_many`, and say of each whether it is new."""
        return self._accept([self._new_among(index, request) for index, request in enumerate(requests)])

    def _new_among(self, index: int, request: Mapping[str, Any]) -> intake.NewJob:
        try:
            return self._new(request, None)
        except InvalidInput as error:
            error.field = f"requests[{index}].{error.field}"
            raise

    def _accept(self, new: list[intake.NewJob]) -> list[Accepted]:
        if not new:
            return []
        entered = intake.enter(
            self.database,
            new,
            spacing_s=lambda account: self.settings.create_window_s / self.settings.create_limit_of(account),
            nudge_below=self.settings.create_limit,
            queue_limit=self.settings.queue_limit,
        )
        self._publisher([nudge.create_nudge(one.job_id) for one in entered if one.nudge])
        earlier = {one.job_id for one in entered if not one.created}
        found = {one.job_id: one.job for one in entered if one.job is not None}
        if earlier - set(found):
            found |= {job.id: self._located(job) for job in reads.jobs_of(self.database, list(earlier))}
        given = [replace(found[one.job_id], reused=True) if one.reused else found[one.job_id] for one in entered]
        return [Accepted(job, created=one.created) for job, one in zip(given, entered, strict=True)]

    def keep_file(self, content: Path | bytes) -> str:
        """Put an input file into the storage and return its key; the same file is kept once.

        InvalidInput for what cannot be read, is empty, cut short or no media; StorageUnavailable.
        """
        if isinstance(content, bytes):
            return self._store.put_input(self.tenant, content)
        try:
            with content.open("rb") as file:
                return self._store.put_input(self.tenant, file)
        except OSError as error:
            raise InvalidInput(f"{content} cannot be read: {error.strerror}", field="input", given=content) from None

    @cached_property
    def _store(self) -> "Store":
        from kiejobs.storage.store import Store  # only for those who hand in files: it brings the object store along

        return Store.of(self.settings)

    def _new(self, request: Mapping[str, Any], id: str | None) -> intake.NewJob:
        request = {**request, **{name: files_kept(request[name], self.keep_file) for name in _FILES if name in request}}
        return new_job(request, tenant=self.tenant, who=self.who, allow=self.settings.egress_allow, id=id)

    def get(self, job_id: str) -> Job:
        """Read one job. JobNotFound where this tenant has no such job."""
        found = reads.job(self.database, _known_id(job_id), tenant=self.tenant)
        if found is None:
            raise JobNotFound(f"there is no job {job_id}")
        return self._located(found)

    def get_whole(self, job_id: str) -> tuple[Job, list[Event]]:
        """Read one job and its timeline, at once. JobNotFound where this tenant has no such job."""
        found = reads.whole(self.database, _known_id(job_id), tenant=self.tenant)
        if found is None:
            raise JobNotFound(f"there is no job {job_id}")
        return self._located(found[0]), found[1]

    def wait(
        self, job_id: str, *, timeout_s: float = 900.0, on_change: Callable[[Job], None] = lambda job: None
    ) -> Job:
        """Wait until a job has ended and return it; WaitTimeout after `timeout_s` seconds. The job goes on regardless.

        A job at `timeout` or `unconfirmed` has not ended: it may still bring its result. `on_change` sees each change.
        """
        until = time.monotonic() + timeout_s
        seen: Job | None = None
        while True:
            job = self.get(job_id)
            if job != seen:
                on_change(job)
            seen = job
            if job.ended:
                return job
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise WaitTimeout(f"job {job_id} is {job.phase} after {timeout_s:g} s")
            time.sleep(min(0.25, left_s))  # noqa: TID251 - a caller that asked to wait waits here

    def cancel(self, job_id: str) -> Job:
        """Give a job up; the returned job's `message` says honestly whether it is billed.

        NotPossible while its results are being stored and after it ended. A cancel during the create call is applied when
        the call's outcome is known.
        """
        orders.cancel(self.database, _known_id(job_id), tenant=self.tenant, who=self.who)
        self._publisher([nudge.notify_nudge(job_id, due) for due in deliveries.due_of(self.database, job_id)])
        return self.get(job_id)

    def retry(self, job_id: str, *, pay: bool = False, why: str = "retry") -> Job:
        """Try again: store the result again for free while Kie has it, else buy a new generation, which needs `pay`.

        With `pay`, a result that was no result, or gone at Kie, is not stored again but bought. NotPossible says what
        stands against it. Retrying an unconfirmed job may pay twice; who did so, and `why`, is recorded.
        """
        state = orders.retry(self.database, _known_id(job_id), tenant=self.tenant, pay=pay, who=self.who, why=why)
        job = self.get(job_id)
        if state is JobState.QUEUED:
            self._publisher([nudge.create_nudge(job.id)])
        else:
            self._publisher([nudge.store_nudge(job.id, o.index) for o in job.outputs if o.state == OutputState.PENDING])
        return job

    def adopt(self, job_id: str, task_id: str) -> Job:
        """Name Kie's task of an unconfirmed job. A worker reads the task's record and adopts it if it is the job's.

        Returns at once; the timeline says what the record decided. NotPossible where the job is not unconfirmed.
        """
        if not task_id.strip() or len(task_id) > 100 or not task_id.isprintable():
            raise InvalidInput("a task id is a text of at most 100 characters", field="task_id", given=task_id)
        named = orders.adopt(self.database, _known_id(job_id), task_id.strip(), tenant=self.tenant, who=self.who)
        if named is not None:
            self._publisher([nudge.poll_nudge(*named)])
        return self.get(job_id)

    def refresh(self, job_id: str) -> Job:
        """Look now instead of at the next due time. Returns at once; the workers look.

        Looks that are asked for have a quarter of the account's query limit: of many the later ones wait for their turn,
        and one whose turn would be no sooner than its next look changes nothing.
        """
        job_id = _known_id(job_id)
        per_s = self.settings.query_limit_of
        hurried = orders.refresh(self.database, job_id, tenant=self.tenant, who=self.who, per_s=per_s)
        if hurried.version is not None and hurried.wait_s <= MAX_WAIT_S:
            self._publisher([nudge.poll_nudge(job_id, hurried.version, countdown_s=hurried.wait_s)])
        self._publisher([nudge.store_nudge(job_id, index) for index in hurried.copies])
        return self.get(job_id)

    def accounts(self) -> tuple[Account, ...]:
        """Read the Kie accounts: paused or not and why, balance, drift, creates that are free now."""
        window_s, margin_s = self.settings.create_window_s, self.settings.create_margin_s
        names = {name: Budget(self.settings.create_limit_of(name), window_s, margin_s) for name in self.settings.keys}
        return tuple(listed_accounts(self.database, names))

    def deliveries(
        self,
        *,
        state: DeliveryState | None = None,
        job_id: str | None = None,
        limit: int = 50,
        before: tuple[datetime, str] | None = None,
    ) -> tuple[Delivery, ...]:
        """List this tenant's messages to producers, newest first; `before` is the (created_at, id) of the last one seen."""
        return self._deliveries(self.tenant, state=state, job_id=job_id, limit=limit, before=before)

    @property
    def addresses(self) -> Addresses:
        """Where this tenant's messages go that no job has an address for, and which addresses want nothing more."""
        return Addresses(self.database, self.tenant, self.settings.egress_allow)

    def deliveries_of_all(self, **asked: Any) -> tuple[Delivery, ...]:
        """List every tenant's messages, like `deliveries`: for whoever runs the installation."""
        return self._deliveries(None, **asked)

    def _deliveries(self, tenant: str | None, *, job_id: str | None = None, **asked: Any) -> tuple[Delivery, ...]:
        job_id = None if job_id is None else _known_id(job_id)
        return tuple(deliveries.listed(self.database, tenant=tenant, job_id=job_id, **asked))

    def send_again(self, delivery_id: str) -> None:
        """Send a message once more, now, from the beginning of its schedule.

        JobNotFound where there is no such message, NotPossible where its address is disabled.
        """
        delivery_id = _known_id(delivery_id, "delivery")
        job_id = deliveries.send_again(self.database, delivery_id, tenant=self.tenant)
        if job_id is None:
            raise JobNotFound(f"there is no delivery {delivery_id}", remedy="List what there is: `kiejobs deliveries`.")
        self._publisher([nudge.notify_nudge(job_id, delivery_id)])

    def resume(self, account: str) -> None:
        """End an account's pause now; Kie's next refusal pauses it again."""
        resume_account(self.database, account)

    def spend(self, *, days: int = 30) -> tuple[Spend, ...]:
        """Sum up this tenant's credits per day and model; what nobody knows is counted, never taken for zero."""
        return tuple(spend.totals(self.database, tenant=self.tenant, days=days))

    def unknown_spend(self) -> tuple[UnknownSpend, ...]:
        """List this tenant's create calls that may have cost something, with nobody knowing what."""
        return tuple(spend.unknown(self.database, tenant=self.tenant))

    def timeline(self, job_id: str) -> list[Event]:
        """Read what happened to a job, oldest first. JobNotFound where this tenant has no such job."""
        return reads.timeline(self.database, self.get(job_id).id)

    def models(self) -> list[catalogue.Model]:
        """List the models whose parameters are known."""
        return catalogue.models()

    def _located(self, job: Job) -> Job:
        outputs = tuple(replace(output, url=self._location(output)) for output in job.outputs)
        return replace(job, outputs=outputs)

    def _location(self, output: Output) -> str | None:
        return f"{self.settings.storage.rstrip('/')}/{output.key}" if output.key else None

    def list(
        self,
        *,
        state: PublicState | str | None = None,
        phase: JobState | str | None = None,
        model: str | None = None,
        limit: int = 50,
        before: tuple[datetime, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        unsaved: bool = False,
    ) -> list[Job]:
        """List jobs, newest first; `before` is the (created_at, id) of the last one of the page before.

        `since` and `until` bound when they were created, the latter exclusively.

        With `unsaved`, only jobs with a result that is not in storage yet, soonest to die first: of a healthy system
        that is none, or the few that are being copied right now.
        """
        asked: dict[str, Any] = {"model": model, "limit": limit, "before": before, "since": since, "until": until}
        return self._listed(self.tenant, state=state, phase=phase, unsaved=unsaved, **asked)

    def list_all(self, **asked: Any) -> builtins.list[Job]:
        """List every tenant's jobs, like `list`: for whoever runs the installation."""
        return self._listed(None, **asked)

    def _listed(
        self,
        tenant: str | None,
        *,
        state: PublicState | str | None = None,
        phase: JobState | str | None = None,
        **asked: Any,
    ) -> builtins.list[Job]:
        fine = JobState(phase) if phase else None
        public = PublicState(state) if state else None
        found = reads.listed(self.database, tenant=tenant, state=public, phase=fine, **asked)
        return [self._located(job) for job in found]


def _known_id(value: str, what: str = "job") -> str:
    try:
        return str(uuid.UUID(value))
    except (ValueError, AttributeError, TypeError):
        raise JobNotFound(f"there is no {what} {value}") from None
