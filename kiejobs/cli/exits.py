"""The exit codes, and which error or job ends in which."""

from enum import IntEnum

from kiejobs.errors import DependencyError, KieJobsError, WaitTimeout
from kiejobs.jobs import Job, JobState


class Exit(IntEnum):
    """What a shell script may rely on."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    UNFINISHED = 4


def exit_code_of(error: KieJobsError) -> Exit:
    """Say how a command ends that ended in this error."""
    if isinstance(error, WaitTimeout):
        return Exit.UNFINISHED
    return Exit.UNREACHABLE if isinstance(error, DependencyError) else Exit.USAGE


def exit_code_of_job(job: Job) -> Exit:
    """Say how a command ends that waited for this job."""
    if not job.ended:
        return Exit.UNFINISHED
    return Exit.DONE if job.phase is JobState.SUCCESS else Exit.FAILED
