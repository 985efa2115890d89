"""What a soak proves of the messages to producers (I14): pure judgements over the rows and over what arrived.

Written out here once more: what a producer is told of, and when a message that did not arrive is due again. A producer's
server may be told anything twice and late; it must be told the end, in words that are true, or a row must stand for it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from tests.chaos.facts import Arrival, Facts, Job, Message, Output

TELLS: Mapping[str, str] = {
    "success": "generation.succeeded",
    "fail": "generation.failed",
    "timeout": "generation.timed_out",
    "canceled": "generation.canceled",
    "unconfirmed": "generation.unconfirmed",
}
"""States that are news to a producer, and the word of their message."""

WAITS_S = (5.0, 30.0, 120.0, 600.0, 3600.0, 10800.0, 21600.0, 43200.0)
"""After each try that failed; then a message is given up."""
CLAIM_S = 45.0
"""A try that nobody reported back from is repeated after this."""
BUSY_S = 15.0
"""The longest wait for a receiver that has others on their way to it."""
SLACK_S = 20.0
"""How overdue a message may be: a message that falls due while the facts are collected is with nobody yet."""
GONE = 410


def producers_know_the_end(facts: Facts) -> list[str]:
    """I14: each told state of a job has one message, in the timeline's order, and it arrived or stands in a row for it."""
    arrived = defaultdict(list)
    for arrival in facts.arrivals:
        arrived[arrival.id].append(arrival)
    of_job = defaultdict(list)
    for message in facts.messages:
        of_job[message.job_id].append(message)
    gone = {arrival.address for arrival in facts.arrivals if arrival.status == GONE}
    found = []
    for job in facts.jobs:
        mine = of_job.pop(job.id, [])
        faults = _not_as_it_went(mine, facts.addresses.get(job.label), _told_states(facts, job))
        for message in mine:
            faults += _fate(message, arrived[message.id], gone=message.address in gone)
        found += [f"{job.label}: {fault}" for fault in faults]
    return found + [f"a message tells of job {job_id}, which is not there" for job_id in of_job]


def _told_states(facts: Facts, job: Job) -> list[str]:
    """List what of a job's timeline is news, in its order."""
    mine = [move for move in facts.moves if move.job_id == job.id and move.before != move.after]
    return [TELLS[move.after] for move in mine if move.after in TELLS]


def _not_as_it_went(mine: list[Message], address: str | None, told: list[str]) -> list[str]:
    if address is None:
        return [f"{len(mine)} messages, and nobody asked for them"] if mine else []
    found = [f"message {message.sequence} goes to {message.address}" for message in mine if message.address != address]
    if [message.sequence for message in mine] != list(range(1, len(mine) + 1)):
        found.append(f"its messages are numbered {[message.sequence for message in mine]}")
    if [message.kind for message in mine] != told:
        found.append(f"its messages say {[message.kind for message in mine]}, its timeline {told}")
    return found


def _fate(message: Message, came: list[Arrival], *, gone: bool) -> Iterable[str]:
    """Say what is wrong with where one message stands."""
    name = f"message {message.sequence}"
    if len(came) > message.attempts:
        yield f"{name} came {len(came)} times, {message.attempts} tries were claimed"
    taken = any(arrival.status == 200 for arrival in came)
    match message.state:
        case "delivered":
            if not taken:
                yield f"{name} is called delivered, and nobody took it"
        case "gave_up":
            if not gone and message.attempts <= len(WAITS_S):
                yield f"{name} was given up after {message.attempts} tries"
        case "pending":
            yield from _not_due(name, message)
        case _:
            yield f"{name} is {message.state}"


def _not_due(name: str, message: Message) -> Iterable[str]:
    tries = min(message.attempts, len(WAITS_S))
    longest_s = max(CLAIM_S, WAITS_S[tries - 1] * 1.1) if tries else BUSY_S
    if message.due_in_s is None:
        yield f"{name} is pending and never due"
    elif message.due_in_s < -SLACK_S:
        yield f"{name} is overdue by {-message.due_in_s:.0f} s"
    elif message.due_in_s > longest_s:
        yield f"{name} waits for {message.due_in_s:.0f} s after {message.attempts} tries"


def messages_are_true(facts: Facts) -> list[str]:
    """I14: what arrived is signed, is the message of a row, never another on a repeat, and is about its own job alone."""
    rows = {message.id: message for message in facts.messages}
    jobs = {job.id: job for job in facts.jobs}
    outputs = defaultdict(list)
    for output in facts.outputs:
        outputs[output.job_id].append(output)
    found: Counter[str] = Counter()
    first: dict[str, str] = {}
    for arrival in facts.arrivals:
        name = f"{arrival.address}: message {arrival.sequence}"
        faults = list(_untrue(arrival, rows.get(arrival.id), jobs.get(arrival.job_id), outputs[arrival.job_id]))
        job = jobs.get(arrival.job_id)
        if job is not None and arrival.address != facts.addresses.get(job.label):
            faults.append(f"is about {job.label}, which named another address")
        if first.setdefault(arrival.id, arrival.digest) != arrival.digest:
            faults.append("has changed since it was first told")
        found.update(f"{name} {fault}" for fault in faults)
    return list(found)


def _untrue(arrival: Arrival, row: Message | None, job: Job | None, outputs: list[Output]) -> Iterable[str]:
    if not arrival.signed:
        yield "is not signed by us"
    if row is None or job is None:
        yield "stands in no row"
        return
    if (arrival.job_id, arrival.sequence, arrival.kind) != (row.job_id, row.sequence, row.kind):
        yield f"tells of {arrival.job_id}, {arrival.kind}; its row says {row.job_id}, {row.sequence}, {row.kind}"
    if TELLS.get(arrival.phase) != arrival.kind:
        yield f"is called {arrival.kind} and tells of {arrival.phase}"
    if (arrival.label, arrival.tenant) != (job.label, job.tenant):
        yield f"carries what {arrival.label} of {arrival.tenant} gave, it is about {job.label} of {job.tenant}"
    ours = {(output.index, output.key, output.recorded_sha256) for output in outputs}
    if arrival.phase == "success" and set(arrival.files) != ours:
        yield f"names {len(arrival.files)} files, and not those that were stored"
    known = {key for _, key, _ in ours}
    if any(key is not None and key not in known for _, key, _ in arrival.files):
        yield "names a file that is not its job's"
    if len(arrival.links) != sum(key is not None for _, key, _ in arrival.files) or any(
        f"/{job.id}/" not in link for link in arrival.links
    ):
        yield "links to what is not its job's"


def retold(arrivals: Iterable[Arrival]) -> int:
    """Count the messages that were taken after a try that failed."""
    failed, taken = set(), set()
    for arrival in arrivals:
        if arrival.status == 200 and arrival.id in failed:
            taken.add(arrival.id)
        elif arrival.status != 200:
            failed.add(arrival.id)
    return len(taken)
