"""Whose job a command is about: who has the command line has the database, and so may know of every tenant's jobs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kiejobs.producer import KieJobs


def jobs_with(job_id: str, *, who: str = "cli") -> "KieJobs":
    """Return the interface of the tenant that has this job; the default one's where there is no such job."""
    from uuid import UUID

    from kiejobs.db import reads
    from kiejobs.producer import KieJobs

    jobs = KieJobs(who=who)
    try:
        tenant = reads.tenant_of(jobs.database, str(UUID(job_id)))
    except ValueError:
        tenant = None
    if tenant is None or tenant == jobs.tenant:
        return jobs
    return KieJobs(jobs.settings, tenant=tenant, database=jobs.database, who=who)
