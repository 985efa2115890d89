"""Many seeds, in at most two processes: `python -m tests.simulation.many FIRST COUNT` for longer runs than CI's."""

import multiprocessing
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation.run import simulate

PROCESSES = min(2, os.cpu_count() or 1)
PIECE = 50

SOMETIMES = {
    "event lost": "a create call's outcome was unknown",
    "lapses": "a sender never reported, and the sweep parked its job",
    "adoptions": "a task was adopted by its record",
    "late facts merged": "a sender woke up after its job was parked, and its fact was merged",
    "event resend_approved": "a parked job was sent again, by a person's or a policy's consent",
    "event bought_again": "a person bought a job again",
    "event alarm": "something contradicted what was known, and an alarm said so",
    "candidates refused": "a named task was not the job's, and was refused",
    "forged callbacks": "a forged callback came",
    "stale nudges": "a nudge came for a version that was gone",
    "stale writes fenced off": "a step that was overtaken wrote nothing",
    "leases lost": "a copy learned that somebody else had taken it over",
    "late results": "a result came after the timeout, and was stored",
    "redeliveries": "a message of a dead worker came back",
    "crashes": "a process was killed",
    "creates given back": "an intent was given back, because too much time had passed before its call",
    "pauses between the guard and the first byte": "a process stood still in the one hole that cannot be closed",
    "pauses": "a process stood still, and woke up",
    "replies lost": "an effect happened, and its reply was lost",
    "nudges doubled": "a message came twice",
    "nudges lost": "a message was lost",
    "broker flushes": "the broker lost everything",
    "links renewed": "a link had expired, and a fresh one was asked for",
    "files cut": "a file came short",
    "puts cut": "the bucket kept half of what it was given",
    "storage outages met": "the bucket was down",
    "messages taken": "a producer was told",
    "event alert": "an account's creates were paused",
    "Kie made two of one call": "Kie made two tasks of one create call",
    "conflicting enqueues refused": "a key was used for another request, and refused",
    "ends as success": "a job ended well",
    "ends as fail": "a job failed, for a reason that is true",
    "ends as canceled": "a job was canceled",
    "ends as unconfirmed": "a job was left parked, visibly",
}
"""What a run of many seeds must have met at least once, or it proves nothing."""


@dataclass
class Sum:
    """What many runs came to."""

    seeds: int = 0
    effects: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[int, str]] = field(default_factory=list)
    complaints: dict[str, tuple[int, str]] = field(default_factory=dict)
    took_s: float = 0.0

    def add(self, other: "Sum") -> None:
        """Take another sum in."""
        self.seeds += other.seeds
        self.effects += other.effects
        self.counts += other.counts
        self.broken += other.broken
        self.complaints = other.complaints | self.complaints

    def missing(self) -> list[str]:
        """List what never happened."""
        return [words for name, words in SOMETIMES.items() if not self.counts[name]]


def run(first: int, count: int) -> Sum:
    """Run some seeds here."""
    done = Sum()
    for seed in range(first, first + count):
        report = simulate(seed)
        done.seeds += 1
        done.effects += report.effects
        done.counts += report.counts
        for name, words in report.complaints.items():
            done.complaints.setdefault(name, (seed, words))
        if report.broken:
            done.broken.append((seed, report.broken))
    return done


def run_many(first: int, count: int, *, processes: int = PROCESSES) -> Sum:
    """Run many seeds, in pieces, each process taking the next piece."""
    began = time.perf_counter()
    total = Sum()
    starts = range(first, first + count, PIECE)
    sizes = [min(PIECE, first + count - start) for start in starts]
    # Spawned, not forked: a test run has threads.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for piece in pool.map(run, starts, sizes):
            total.add(piece)
    total.took_s = time.perf_counter() - began
    return total


def main() -> int:
    """Run as many seeds as asked for and tell what they met."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    total = run_many(first, count)
    for name, met in sorted(total.counts.items()):
        print(f"{met:8} {name}")
    print(f"{total.seeds} seeds, {total.effects} effects and notes, {total.seeds / total.took_s:.1f} seeds a second")
    for name, (seed, words) in total.complaints.items():
        print(f"known: {name} (seed {seed}): {words}")
    for seed, words in total.broken:
        print(f"BROKEN seed {seed}: {words}")
    return 1 if total.broken else 0


if __name__ == "__main__":
    sys.exit(main())
