"""What a person can do about a job that did not end well, by its reason, in one sentence each."""

from kiejobs.errors import Reason
from kiejobs.jobs import Job, JobState

_BY_REASON = {
    Reason.REFUSED: "Kie refused the request itself: change what its message names and submit again.",
    Reason.INVALID_INPUT: "Correct the field that the message names; `kiejobs models MODEL` lists what it takes.",
    Reason.CONTENT: "Kie's moderation refused it: change the prompt or the picture and submit again.",
    Reason.GENERATION: "Kie could not make it; `kiejobs retry JOB --pay` buys it again, which often works.",
    Reason.CREDITS: "Add credits to the account at https://kie.ai, then `kiejobs retry JOB --pay`.",
    Reason.UNAUTHORIZED: "Check the key at https://kie.ai/api-key, then `kiejobs doctor`.",
    Reason.SUBMISSION_LOST: "Nobody knows whether Kie made it: look at the logs in Kie's dashboard before submitting again.",
    Reason.NO_RESULT: "Kie brought nothing within a day: ask Kie with the task id, or submit again.",
    Reason.RESULT_EXPIRED: "Kie has deleted the result; submit again, which buys it again.",
    Reason.RESULT_INVALID: "What Kie gave is no result: `kiejobs retry JOB` fetches it again, `--pay` buys it again.",
    Reason.STORAGE: "`kiejobs doctor` says what is wrong with the storage; `kiejobs retry JOB` stores it again, free.",
    Reason.PARENT: "The job that this one takes its input from did not succeed: see that one first.",
    Reason.QUARANTINED: "Workers crashed on it again and again: read their logs before submitting it again.",
    Reason.UNKNOWN_TASK: "Kie does not know the task: check that the key belongs to the account that made it.",
}
_BY_STATE = {
    JobState.TIMEOUT: "Kie is late, kiejobs still looks; a late result is stored: `kiejobs show` tells.",
    JobState.UNCONFIRMED: (
        "It is never sent again by itself. If https://kie.ai/logs shows the task: `kiejobs adopt JOB TASK_ID`. If it does "
        "not: `kiejobs retry JOB --pay`, which may pay twice."
    ),
}


def advice(job: Job) -> str:
    """Say what to do about a job; empty where there is nothing to do."""
    return advice_on(job.phase, job.reason, job.id)


def advice_on(phase: JobState, reason: Reason | None, job_id: str) -> str:
    """Say what to do about a job that stands like this; empty where there is nothing to do."""
    if phase in _BY_STATE:
        return _BY_STATE[phase].replace("JOB", job_id)
    return _BY_REASON.get(reason, "").replace("JOB", job_id) if reason else ""
