"""`KieJobs` over HTTP: the same verbs, the same `Job`, the same errors as in `kiejobs.producer`.

What is safe to send twice is sent again after a connection that broke or a gateway that was away: looks, and posts,
because each has an idempotency key, made here where the caller gives none. What is not safe is sent again only where
nobody can have received it.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util import Retry

from kiejobs.errors import GatewayUnavailable, Incomplete, TooManyRequests, WaitTimeout
from kiejobs.http.wire import error_of, event_of, job_of
from kiejobs.jobs import Event, Job, JobState, Priority, PublicState

_AGAIN = (429, 502, 503, 504)
_LOOK_FIRST_S, _LOOK_LAST_S = 0.5, 5.0
_LEAST_S = 1.0
"""For the last look of a wait, however little time is left."""
_PIECE_BYTES = 1024 * 1024
_DOCUMENT_BYTES = 64 * 1024 * 1024
_REDIRECTED = "Give the gateway's own address, with https:// where it speaks TLS."


class KieJobsHttp:
    """Enqueue generations and follow them through a gateway, for the tenant whose key it is."""

    def __init__(self, base_url: str, key: str | None = None, *, timeout_s: float = 30.0) -> None:
        self.base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._repeatable = _session(key, Retry(4, read=3, status=3, other=3, **_PATIENT))
        self._once = _session(key, Retry(4, connect=4, read=0, status=0, other=0, **_PATIENT))

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
    ) -> Job:
        """Accept a generation and return its job, like `KieJobs.enqueue`: its row is committed when this returns.

        A file goes into the input as the answer of `upload`. Without an `idempotency_key` one is made for this call, so
        that sending it again, after an answer that was lost, buys nothing twice.
        """
        body: dict[str, Any] = {"model": model, "input": dict(input), "account": account, "priority": str(priority)}
        body |= {"idempotencyKey": idempotency_key, "validate": validate, "promptParts": prompt_parts}
        body |= {"metadata": dict(metadata or {}), "fallbackModels": list(fallback_models)}
        body |= {"callbackUrl": callback_url, "reuseWithinS": reuse_within_s}
        given = {name: value for name, value in body.items() if value not in (None, [], {})}
        return self.enqueue_request(given | {"input": dict(input)})

    def enqueue_request(self, request: Mapping[str, Any]) -> Job:
        """Accept one generation given as a mapping with the fields of `POST /api/generations`."""
        return job_of(self._document(self._repeatable, "POST", "/api/generations", json=_repeatable(request)))

    def enqueue_many(self, requests: Iterable[Mapping[str, Any]]) -> list[Job]:
        """Accept up to 100 generations: all of them, or none. Each is a mapping like that of `enqueue_request`."""
        given = [_repeatable(request) for request in requests]
        if not given:
            return []
        told = self._document(self._repeatable, "POST", "/api/generations:batch", json={"requests": given})
        return [job_of(one) for one in _items(told, "generations")]

    def get(self, job_id: str) -> Job:
        """Read one job. JobNotFound where this tenant has no such job."""
        return job_of(self._document(self._repeatable, "GET", _path(job_id)))

    def list(
        self,
        *,
        state: PublicState | str | None = None,
        phase: JobState | str | None = None,
        model: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
    ) -> Iterator[Job]:
        """Give jobs, newest first, page after page, at most `limit` in all."""
        query: dict[str, Any] = {"state": state, "phase": phase, "model": model}
        query |= {name: at.isoformat() for name, at in (("since", since), ("until", until)) if at}
        left, cursor = limit, None
        while left > 0:
            page = {"limit": min(left, 200), "cursor": cursor}
            told = self._document(self._repeatable, "GET", "/api/generations", params=query | page)
            found = _items(told, "generations")
            yield from map(job_of, found)
            left, cursor = left - len(found), told.get("nextCursor")
            if cursor is None or not found:
                return

    def wait(
        self, job_id: str, *, timeout_s: float = 900.0, on_change: Callable[[Job], None] = lambda job: None
    ) -> Job:
        """Wait until a job has ended and return it; WaitTimeout after `timeout_s` seconds. The job goes on regardless.

        A gateway that is away meanwhile, or asks to come back later, is waited for too.
        """
        until, pause_s = time.monotonic() + timeout_s, _LOOK_FIRST_S
        seen: Job | None = None
        while True:
            job = self.get(job_id) if seen is None else self._looked(seen, until)
            if job != seen:
                on_change(job)
            seen = job
            if job.ended:
                return job
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise WaitTimeout(f"job {job_id} is {job.phase} after {timeout_s:g} s")
            time.sleep(min(pause_s, left_s))  # noqa: TID251 - a caller that asked to wait waits here
            pause_s = min(pause_s * 1.5, _LOOK_LAST_S)

    def _looked(self, seen: Job, until: float) -> Job:
        """Read a job again, within the time that is left; as it was seen where the gateway is away, unless it is over."""
        within_s = min(self._timeout_s, max(until - time.monotonic(), _LEAST_S))
        try:
            return job_of(self._document(self._once, "GET", _path(seen.id), timeout=(min(5.0, within_s), within_s)))
        except (GatewayUnavailable, TooManyRequests):
            if time.monotonic() >= until:
                raise
            return seen

    def cancel(self, job_id: str) -> Job:
        """Give a job up; the returned job's `message` says whether it is billed. NotPossible while it is stored."""
        return job_of(self._document(self._once, "POST", f"{_path(job_id)}/cancel"))

    def retry(self, job_id: str, *, pay: bool = False, why: str = "retry") -> Job:
        """Store the result again for free while Kie has it, else buy a new generation, which needs `pay`."""
        return job_of(self._document(self._once, "POST", f"{_path(job_id)}/retry", json={"pay": pay, "why": why}))

    def adopt(self, job_id: str, task_id: str) -> Job:
        """Name Kie's task of an unconfirmed job; a worker adopts it if it is the job's."""
        return job_of(self._document(self._once, "POST", f"{_path(job_id)}/adopt", json={"taskId": task_id}))

    def refresh(self, job_id: str) -> Job:
        """Let the workers look now instead of at the next due time."""
        return job_of(self._document(self._repeatable, "POST", f"{_path(job_id)}/refresh"))

    def timeline(self, job_id: str) -> tuple[Event, ...]:
        """Read what happened to a job, oldest first."""
        told = self._document(self._repeatable, "GET", f"{_path(job_id)}/timeline")
        return tuple(event_of(one) for one in _items(told, "timeline"))

    def models(self) -> tuple[dict[str, Any], ...]:
        """List the models whose parameters are known, as the documents of GET /api/models."""
        return tuple(_items(self._document(self._repeatable, "GET", "/api/models"), "models"))

    def model(self, model_id: str) -> dict[str, Any]:
        """Describe one model; `input` is the JSON Schema of its parameters."""
        return self._document(self._repeatable, "GET", f"/api/models/{model_id}")

    def upload(self, content: Path | bytes | BinaryIO) -> dict[str, Any]:
        """Upload an input file; put what this returns where an input wants a URL."""
        if isinstance(content, Path):
            with content.open("rb") as file:
                return self.upload(file)
        return self._document(self._once, "POST", "/api/files", data=content)

    def read_output(self, job_id: str, index: int = 0) -> bytes:
        """Return the bytes of a stored result."""
        return self._answer(self._repeatable, "GET", f"{_path(job_id)}/outputs/{index}", allow_redirects=True).content

    def download(self, job_id: str, index: int, to: Path) -> Path:
        """Write a stored result to a file, in pieces, checked against its SHA-256; at once visible as a whole."""
        wanted = next((one for one in self.get(job_id).outputs if one.index == index), None)
        part, digest = to.with_name(f"{to.name}.{uuid.uuid4().hex[:8]}.part"), hashlib.sha256()
        try:
            path = f"{_path(job_id)}/outputs/{index}"
            answer = self._answer(self._repeatable, "GET", path, stream=True, allow_redirects=True)
            with answer, part.open("wb") as file:
                for piece in answer.iter_content(_PIECE_BYTES):
                    digest.update(piece)
                    file.write(piece)
                    if wanted is not None and wanted.size_bytes is not None and file.tell() > wanted.size_bytes:
                        raise Incomplete(f"output {index} of job {job_id} came with more bytes than were stored")
            if wanted is not None and wanted.sha256 not in (None, digest.hexdigest()):
                raise Incomplete(f"output {index} of job {job_id} came with other bytes than were stored")
            return part.replace(to)
        except requests.RequestException as error:
            raise GatewayUnavailable(f"output {index} of job {job_id} was cut off: {type(error).__name__}") from None
        finally:
            part.unlink(missing_ok=True)

    def _document(self, session: requests.Session, method: str, path: str, **options: Any) -> dict[str, Any]:
        with self._answer(session, method, path, stream=True, **options) as answer:
            body = self._body(answer, path)
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            raise GatewayUnavailable(f"{self.base_url} answered {path} with what is no JSON object")
        return told

    def _body(self, answer: requests.Response, path: str) -> bytes:
        """Read a document, within bounds of size and time: the address may be that of something else."""
        body, until = bytearray(), time.monotonic() + self._timeout_s
        try:
            for piece in answer.iter_content(64 * 1024):
                body += piece
                if len(body) > _DOCUMENT_BYTES or time.monotonic() > until:
                    raise GatewayUnavailable(f"{self.base_url} answered {path} with too much, or too slowly")
        except requests.RequestException as error:
            raise GatewayUnavailable(f"{self.base_url} cut its answer off: {type(error).__name__}") from None
        return bytes(body)

    def _answer(self, session: requests.Session, method: str, path: str, **options: Any) -> requests.Response:
        options.setdefault("allow_redirects", False)
        options.setdefault("timeout", (5.0, self._timeout_s))
        try:
            answer = session.request(method, self.base_url + path, **options)
        except requests.RequestException as error:
            raise GatewayUnavailable(f"{self.base_url} cannot be reached: {type(error).__name__}") from None
        if answer.is_redirect:
            # A POST would arrive as a GET, and what it holds at somebody else's.
            raise GatewayUnavailable(f"{self.base_url} answered {path} with a redirect", remedy=_REDIRECTED)
        if not answer.ok:
            with answer:
                raise error_of(answer, self._body(answer, path))
        return answer


_PATIENT: dict[str, Any] = {
    "allowed_methods": None,  # which session is used says what may be sent again
    "status_forcelist": _AGAIN,
    "backoff_factor": 0.2,
    "raise_on_status": False,
    "retry_after_max": 10,  # whoever answers does not decide how long a caller sleeps
}


class _Bearer(AuthBase):
    """Sends the key; as an auth object, because a header would lose against a `.netrc`."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _session(key: str | None, retry: Retry) -> requests.Session:
    session = requests.Session()
    session.auth = _Bearer(key)
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _items(told: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = told.get(name)
    if not isinstance(found, list):
        raise GatewayUnavailable(f"the gateway answered without {name}")
    return found


def _repeatable(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request that may be sent twice: one without an idempotency key gets one."""
    own = {"idempotencyKey": f"auto-{uuid.uuid4()}"} if request.get("idempotencyKey") is None else {}
    return {**request, **own}


def _path(job_id: str) -> str:
    return f"/api/generations/{quote(str(job_id), safe='')}"
