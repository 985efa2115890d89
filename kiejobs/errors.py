"""Every error of kiejobs: whose fault it is, what happens to the job, what to do next.

Each class declares its `disposition`, so a step asks the error what to do instead of testing for types. Exceptions of
other libraries (requests, obstore, SQLAlchemy, redis) are translated where they enter and never travel further.
"""

from enum import StrEnum
from typing import ClassVar


class Disposition(StrEnum):
    """What an error means for the job it happened to."""

    FAIL = "fail"
    """Trying again cannot help: the job ends."""
    DEFER = "defer"
    """Nothing is wrong with the job: look again later, no attempt is counted."""
    RETRY = "retry"
    """Worth another attempt: attempts are counted and spaced out."""


class Reason(StrEnum):
    """Why a job ended as `fail`. The state says that it ended, the reason says why."""

    REFUSED = "refused"
    INVALID_INPUT = "invalid_input"
    CONTENT = "content"
    GENERATION = "generation"
    CREDITS = "credits"
    UNAUTHORIZED = "unauthorized"
    SUBMISSION_LOST = "submission_lost"
    NO_RESULT = "no_result"
    RESULT_EXPIRED = "result_expired"
    RESULT_INVALID = "result_invalid"
    STORAGE = "storage"
    PARENT = "parent"
    QUARANTINED = "quarantined"
    UNKNOWN_TASK = "unknown_task"


class KieJobsError(Exception):
    """The root. `str(error)` says what happened; `remedy` says what to do about it."""

    disposition: ClassVar[Disposition] = Disposition.FAIL
    reason: ClassVar[Reason | None] = None
    remedy: str = ""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        if remedy:
            self.remedy = remedy


# The user's side: what was asked, how the installation is set up.


class SettingsError(KieJobsError):
    """The environment or `.env` holds a value that cannot be used; the process must not start."""


class InvalidInput(KieJobsError):
    """A request cannot be accepted. `field` names the input at fault, `given` and `allowed` say what is wrong with it."""

    reason = Reason.INVALID_INPUT

    def __init__(self, message: str, *, field: str, given: object = None, allowed: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.field = field
        self.given = given
        self.allowed = allowed


class IdempotencyConflict(KieJobsError):
    """The idempotency key was used before, with another request."""

    remedy = "Use a new idempotency key for a new request, or send exactly the earlier request to get its job."


class JobNotFound(KieJobsError):
    """No such job for this tenant."""

    remedy = "Check the id with `kiejobs list`; a job of another tenant is not shown."


class NotPossible(KieJobsError):
    """The job's state does not allow what was asked."""


class WaitTimeout(KieJobsError):
    """The job did not end in the time the caller gave it. The job itself goes on."""

    remedy = "The job goes on. Ask again later with `kiejobs show` or `kiejobs wait`."


# A request to the gateway, before it is one for a job.


class Unreadable(KieJobsError):
    """The request's body is no JSON object, or is nested too deep."""

    remedy = "Send one JSON object, with the header Content-Type: application/json."


class Unauthorized(KieJobsError):
    """No key was given, or one that the gateway does not know."""

    remedy = "Send the header `Authorization: Bearer KEY`; `kiejobs keys new` makes a key."


class Forbidden(KieJobsError):
    """The key, or the place that the request comes from, does not allow this."""


class TooLarge(KieJobsError):
    """The request's body is larger than the gateway takes."""

    remedy = "Send less at once; upload files with POST /api/files."


class WrongMediaType(KieJobsError):
    """The request's body is of another media type than the route takes."""

    remedy = "Send the header Content-Type: application/json."


class TooManyRequests(KieJobsError):
    """The tenant asks more often than the gateway allows. `retry_after_s` says when to come back."""

    disposition = Disposition.DEFER
    remedy = "Wait as long as the header Retry-After says."

    def __init__(self, message: str, *, retry_after_s: float, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


# What kiejobs stands on.


class DependencyError(KieJobsError):
    """Something that kiejobs needs cannot be reached."""

    disposition = Disposition.DEFER


class DatabaseUnavailable(DependencyError):
    """The database does not answer."""

    remedy = "Check KIEJOBS_DATABASE_URL and that the server runs, then `kiejobs doctor`."


class DatabaseNotMigrated(DependencyError):
    """The database has no kiejobs schema, or an older one."""

    remedy = "Run `kiejobs migrate`."


class BrokerUnavailable(DependencyError):
    """The Celery broker does not answer. Jobs are safe: the sweep publishes their messages when it is back."""

    remedy = "Check KIEJOBS_BROKER_URL and that the broker runs, then `kiejobs doctor`."


class StorageUnavailable(DependencyError):
    """The bucket or folder cannot be written or read just now (down, full, denied, missing)."""

    disposition = Disposition.RETRY
    remedy = "Check KIEJOBS_STORAGE_URL and its credentials, then `kiejobs doctor`. Results are kept and stored later."


class ObjectMissing(KieJobsError):
    """An object that should be in the storage is not there: it was deleted, or another storage is configured."""

    reason = Reason.STORAGE
    remedy = "Check KIEJOBS_STORAGE_URL. `kiejobs retry` stores the result again while Kie still has it."


class GatewayUnavailable(DependencyError):
    """The gateway cannot be reached, or answered what is no answer of it."""

    remedy = "Check the gateway's address and that it runs: GET /readyz says what it misses."


# Kie's side.


class KieUnavailable(DependencyError):
    """Kie could not be reached, did not answer in time, or answered what is no answer (an HTML page, cut JSON)."""

    remedy = "Nothing to do: kiejobs asks again."


class KieUnreadable(KieUnavailable):
    """Kie refused to show a task, with a code that is about this question, such as 400."""


class KieRefused(KieJobsError):
    """Kie definitely refused a file or a link that a generation needs."""

    reason = Reason.INVALID_INPUT
    remedy = "Check the file: its type, and that it is whole and not too large for the model."


class KieThrottled(DependencyError):
    """Kie says that it is asked too often."""

    remedy = "Nothing to do: kiejobs asks less often. Lower KIEJOBS_QUERY_LIMIT_PER_S if this goes on."


# A result on its way from Kie's URL to storage.


class TransferError(KieJobsError):
    """A copy of a result did not work."""

    disposition = Disposition.RETRY


class SourceExpired(TransferError):
    """The result's URL is refused (400, 401, 403, 404, 410): a fresh one is needed."""

    reason = Reason.RESULT_EXPIRED


class SourceUnavailable(TransferError):
    """The result's server cannot be reached, answers an error, is too slow, or hangs up early."""


class Incomplete(TransferError):
    """Fewer or other bytes came than were promised; nothing was stored."""


class Damaged(Incomplete):
    """As many bytes came as were promised, and they are no whole file: it is kept at its source like that."""

    reason = Reason.RESULT_INVALID


class SourceRefused(TransferError):
    """The bytes are not a result: empty, too large, a web page, or not the kind of media the model makes."""

    disposition = Disposition.FAIL
    reason = Reason.RESULT_INVALID


class EgressRefused(TransferError):
    """The URL leads to an address that kiejobs never dials (loopback, private, link-local, other schemes)."""

    disposition = Disposition.FAIL
    reason = Reason.RESULT_INVALID
    remedy = "If this address is meant, add exactly host:port to KIEJOBS_EGRESS_ALLOW."


class NameRefused(EgressRefused):
    """The URL's name leads to such an address here: by this network's DNS, or an exception is missing."""

    disposition = Disposition.RETRY
    reason = Reason.STORAGE


class Stopped(TransferError):
    """The copy was given up because its worker is shutting down or lost its lease; another one starts it again."""

    disposition = Disposition.DEFER
