"""What a soak proves: pure judgements over collected facts. Each returns the sentences that speak against the run.

The judge shares no code with what it judges: the lifecycle is written out here once more, what was bought comes from the
simulator's own ledger, and bytes are compared with what the simulator serves. No clock, no I/O.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from tests.chaos.facts import Create, Facts, Job, Output, Submission
from tests.chaos.messages import messages_are_true, producers_know_the_end

ENDED = frozenset({"success", "fail", "canceled"})
PARKED = "unconfirmed"
MAY_HAVE_COST = frozenset({"accepted", "unknown", "written_off", "sending"})
LIMIT, WINDOW_S = 20, 10.0

LEADS_TO: Mapping[str, frozenset[str]] = {
    "queued": frozenset({"submitting", "canceled", "fail", "waiting"}),
    "submitting": frozenset({"waiting", "queued", "fail", "unconfirmed", "storing", "canceled"}),
    "unconfirmed": frozenset({"waiting", "storing", "queued", "fail", "canceled"}),
    "waiting": frozenset({"storing", "fail", "timeout", "canceled"}),
    "timeout": frozenset({"storing", "fail", "canceled", "queued"}),
    "storing": frozenset({"success", "fail"}),
    "success": frozenset(),
    "fail": frozenset({"queued", "storing", "waiting"}),
    "canceled": frozenset(),
}


def judge(facts: Facts) -> dict[str, list[str]]:
    """Return what speaks against the run, by judgement; every list is empty where it stands."""
    return {
        "bought at most once": bought_once(facts),
        "nothing lost": nothing_lost(facts),
        "stored whole": stored_whole(facts),
        "books agree": books_agree(facts),
        "producers know the end": producers_know_the_end(facts),
        "messages are true": messages_are_true(facts),
        "along the lifecycle": along_the_lifecycle(facts),
        "within Kie's limits": within_the_limits(facts),
        "Kie is believed": kie_is_believed(facts),
        "no secret told": no_secret_told(facts),
        "something was proven": something_was_proven(facts),
    }


def bought_once(facts: Facts) -> list[str]:
    """I1: Kie accepted at most one create call per job, but for those that somebody opted into."""
    approved = Counter(submission.job_id for submission in facts.submissions if submission.approved)
    jobs = {job.label: job for job in facts.jobs}
    bought = Counter(create.label for create in facts.creates if create.accepted)
    found = [f"{label} was bought, and no job has it" for label in bought if label not in jobs]
    return found + [
        f"{label} was bought {count} times, {approved[jobs[label].id]} opted into"
        for label, count in bought.items()
        if label in jobs and count > 1 + approved[jobs[label].id]
    ]


def nothing_lost(facts: Facts) -> list[str]:
    """I2, I7: every job that a producer was told of exists once and has ended, or is parked where a person sees it."""
    found = []
    by_label = Counter(job.label for job in facts.jobs)
    ids = {job.id for job in facts.jobs}
    found += [f"{label} became {count} jobs" for label, count in by_label.items() if count > 1]
    found += [f"{label}: job {job_id} is gone" for label, job_id in facts.acknowledged.items() if job_id not in ids]
    bought = {create.label for create in facts.creates if create.accepted}
    listed = {submission.job_id for submission in facts.submissions if submission.id in facts.unknown_spend}
    for job in facts.jobs:
        if job.phase == PARKED and job.label in bought:
            found.append(f"{job.label} is still parked, although its task was named")
        elif job.phase == PARKED and job.id not in listed:
            found.append(f"{job.label} is parked where nobody sees it")
        elif job.phase not in ENDED | {PARKED}:
            found.append(f"{job.label} stands at {job.phase}")
    return found


def stored_whole(facts: Facts) -> list[str]:
    """I6: what a job called `success` stored is what it recorded, and what Kie serves: all of it, byte for byte."""
    outputs = defaultdict(list)
    for output in facts.outputs:
        outputs[output.job_id].append(output)
    task_of = {s.job_id: s.task_id for s in facts.submissions if s.state == "accepted"}
    found = []
    for job in facts.jobs:
        if job.phase == "success":
            served = facts.served.get(task_of.get(job.id) or "", ())
            found += [f"{job.label}: {fault}" for fault in _faults(job, outputs[job.id], served)]
    return found


def _faults(job: Job, outputs: Iterable[Output], served: tuple[str, ...]) -> list[str]:
    by_index = {output.index: output for output in outputs}
    found = [f"output {index} is missing" for index in range(len(served)) if index not in by_index]
    if not by_index:
        found.append("success without an output")
    for index, output in sorted(by_index.items()):
        if output.state != "stored":
            found.append(f"output {index} is {output.state}")
        elif output.stored_sha256 is None:
            found.append(f"output {index} is recorded and its file is missing")
        elif output.stored_sha256 != output.recorded_sha256:
            found.append(f"output {index} has other bytes than were recorded")
        elif index >= len(served) or output.stored_sha256 != served[index]:
            found.append(f"output {index} has other bytes than Kie serves")
        elif not (output.key or "").startswith(f"{job.tenant}/") or f"/{job.id}/" not in (output.key or ""):
            found.append(f"output {index} lies under another job's prefix")
    return found


def books_agree(facts: Facts) -> list[str]:
    """I3, I15: each task of Kie's is one of ours or on a list, with the same credits, and the sums are the same."""
    found = []
    label_of = {job.id: job.label for job in facts.jobs}
    by_task = {create.task_id: create for create in facts.creates if create.accepted}
    ours = [submission for submission in facts.submissions if submission.state == "accepted"]
    bound = Counter(submission.task_id for submission in ours)
    found += [f"task {task_id} is bound {count} times" for task_id, count in bound.items() if count > 1]
    for submission in ours:
        create = by_task.get(submission.task_id)
        if create is None or create.label != label_of[submission.job_id]:
            found.append(f"{label_of[submission.job_id]} follows task {submission.task_id}, which is not its own")
        elif submission.credits is None and submission.id not in facts.unknown_spend:
            found.append(f"{create.label} has no credits and is on no list")
        elif submission.credits is not None and submission.credits != create.charged:
            found.append(f"{create.label}: we say {submission.credits:g} credits, Kie says {create.charged:g}")
    doubtful = Counter(label_of[s.job_id] for s in facts.submissions if s.state in MAY_HAVE_COST)
    unbound = Counter(create.label for create in facts.creates if create.accepted and create.task_id not in bound)
    of_ours = Counter(label_of[s.job_id] for s in ours)
    for label, count in unbound.items():
        if count > doubtful[label] - of_ours[label]:
            found.append(f"{label}: Kie charged for a task that no submission of ours stands for")
    charged = sum(create.charged for create in facts.creates if create.accepted)
    known = sum(submission.credits or 0.0 for submission in ours)
    open_sum = sum(c.charged for c in by_task.values() if _cost_is_unknown(c, ours))
    if abs(facts.spent - charged) > 0.001:
        found.append(f"{facts.spent:g} credits left the balance, the tasks cost {charged:g}")
    if abs(known + open_sum - charged) > 0.001:
        found.append(f"we know of {known:g} credits and list {open_sum:g}, the tasks cost {charged:g}")
    return found


def _cost_is_unknown(create: Create, ours: list[Submission]) -> bool:
    mine = [submission for submission in ours if submission.task_id == create.task_id]
    return not mine or mine[0].credits is None


def along_the_lifecycle(facts: Facts) -> list[str]:
    """I4: each timeline is one chain of allowed changes that ends where the row stands."""
    last: dict[str, str] = {}
    label_of = {job.id: job.label for job in facts.jobs}
    found = []
    for move in facts.moves:
        label, before = label_of.get(move.job_id, move.job_id), last.get(move.job_id)
        if move.before != before:
            found.append(f"{label}: {move.before} → {move.after} was told after {before}")
        elif before is not None and move.after != before and move.after not in LEADS_TO[before]:
            found.append(f"{label}: {before} → {move.after} is not allowed")
        last[move.job_id] = move.after
    found += [
        f"{job.label} stands at {job.phase}, its timeline ends at {last.get(job.id)}"
        for job in facts.jobs
        if last.get(job.id) != job.phase
    ]
    return found


def within_the_limits(facts: Facts) -> list[str]:
    """I9, I10, I11: no more than 20 creates within any 10 s; no look at Kie that was not claimed; no key at the files."""
    found = []
    times = defaultdict(list)
    for create in facts.creates:
        times[create.account].append(create.at)
    for account, calls in times.items():
        calls.sort()
        fullest = max(
            sum(first <= at < first + WINDOW_S for at in calls[n : n + 2 * LIMIT]) for n, first in enumerate(calls)
        )
        if fullest > LIMIT:
            found.append(f"account {account}: {fullest} creates within {WINDOW_S:g} s")
    if facts.violations:
        found.append(f"Kie refused {facts.violations} calls as too fast")
    claimed = sum(job.polls for job in facts.jobs) + sum(output.attempts for output in facts.outputs)
    if facts.queries > claimed:
        found.append(f"Kie was asked {facts.queries} times, {claimed} looks were claimed")
    return found


def kie_is_believed(facts: Facts) -> list[str]:
    """I8: what Kie signed, and for an address that we gave it, is taken."""
    return [f"{facts.callbacks_refused} callbacks of Kie's were refused"] if facts.callbacks_refused else []


def no_secret_told(facts: Facts) -> list[str]:
    """I11: the key was shown to Kie's API and to nobody else, and what signs callbacks and messages to nobody at all."""
    found = [f"{facts.leaks} requests for files carried the key"] if facts.leaks else []
    found += [f"a secret is in {facts.secrets_in_logs} log files"] if facts.secrets_in_logs else []
    telling = sum(arrival.tells_secret for arrival in facts.arrivals)
    return found + ([f"a secret is in {telling} messages"] if telling else [])


def something_was_proven(facts: Facts) -> list[str]:
    """A run in which nothing went wrong proves nothing."""
    return [f"it never happened: {what}" for what, count in facts.sometimes.items() if count <= 0]


def report(facts: Facts, found: Mapping[str, list[str]]) -> str:
    """Say it all on one screen."""
    phases = Counter(f"{job.phase} ({job.reason})" if job.reason else job.phase for job in facts.jobs)
    lines = [f"jobs      {len(facts.jobs)}: " + ", ".join(f"{count} {phase}" for phase, count in phases.most_common())]
    accepted = sum(create.accepted for create in facts.creates)
    lines.append(
        f"at Kie    {len(facts.creates)} creates, {accepted} accepted, {facts.queries} queries, {facts.spent:g} credits"
    )
    lines.append("happened  " + ", ".join(f"{count} {what}" for what, count in facts.sometimes.items()))
    for name, faults in found.items():
        lines.append(f"{'no ' if faults else 'yes'}       {name}" + "".join(f"\n            {f}" for f in faults[:12]))
        if len(faults) > 12:
            lines.append(f"            … and {len(faults) - 12} more")
    return "\n".join(lines)
