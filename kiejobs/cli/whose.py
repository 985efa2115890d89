"""Whose job or message a command is about: who has the command line has the database, and so may know of every tenant's."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kiejobs.db.session import Database
    from kiejobs.producer import KieJobs


def jobs_with(job_id: str, *, who: str = "cli") -> "KieJobs":
    """Return the interface of the tenant that has this job; JobNotFound where nobody has it."""
    from kiejobs.db import reads

    return _whose(job_id, reads.tenant_of, f"there is no job {job_id}", "list --all-tenants", who)


def jobs_with_delivery(delivery_id: str, *, who: str = "cli") -> "KieJobs":
    """Return the interface of the tenant whose message this is; JobNotFound where it is nobody's."""
    from kiejobs.db import deliveries

    missing = f"there is no delivery {delivery_id}"
    return _whose(delivery_id, deliveries.tenant_of, missing, "deliveries --all-tenants", who)


def _whose(
    given: str, tenant_of: "Callable[[Database, str], str | None]", missing: str, listing: str, who: str
) -> "KieJobs":
    from uuid import UUID

    from kiejobs.errors import JobNotFound
    from kiejobs.producer import KieJobs

    jobs = KieJobs(who=who)
    try:
        tenant = tenant_of(jobs.database, str(UUID(given)))
    except ValueError:
        tenant = None
    if tenant is None:
        raise JobNotFound(missing, remedy=f"Check the id with `kiejobs {listing}`.")
    if tenant == jobs.tenant:
        return jobs
    return KieJobs(jobs.settings, tenant=tenant, database=jobs.database, who=who)
