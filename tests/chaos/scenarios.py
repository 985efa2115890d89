"""What the soak asks of Kie: prompts whose markers make the simulator misbehave, in a seeded mixture.

A file that is always cut short is not among them: it is tried again for as long as Kie keeps it, 14 days.
"""

import random
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any

from kiejobs.jobs import DEFAULT_TENANT

MODEL = "grok-imagine/text-to-image"
POOR = "poor"
"""An account of its own for refusals that pause an account, so that they do not starve the others."""

# (weight, markers, model). Duration, number of files and callbacks are added where the markers do not say.
MIXTURE: tuple[tuple[int, str, str], ...] = (
    (16, "", MODEL),
    (6, "[[outputs=3]]", MODEL),
    (4, "[[duration=1]]", "kling-2.6/text-to-video"),
    (2, "[[result-songs]] [[outputs=1]]", "suno/music"),
    (2, "[[slow=4]] [[duration=6]]", MODEL),
    (2, "[[slow=4]] [[duration=5]] [[dup-callback=2]]", MODEL),
    (3, "[[drip=600]]", MODEL),
    (2, "[[big=9]] [[drip=3000000]]", MODEL),
    (3, "[[expired-link]]", MODEL),
    (1, "[[html-result]]", MODEL),
    (2, "[[fail=500]]", MODEL),
    (2, "[[fail=moderation]]", MODEL),
    (2, "[[refuse=422]]", MODEL),
    (2, "[[http-after=502]]", MODEL),
    (2, "[[hang]]", MODEL),
    (2, "[[reset]] [[duration=2]] [[dup-callback=2]]", MODEL),
    (1, "[[cut-header]] [[no-callback]]", MODEL),
    (2, "[[cut-body]] [[late-callback=5]]", MODEL),
    (2, "[[no-task-id]] [[duration=1]] [[dup-callback=3]]", MODEL),
    (2, "[[null-record=3]]", MODEL),
    (2, "[[poll-429=2]]", MODEL),
    (2, "[[poll-http=502*3]]", MODEL),
    (2, "[[odd-state=polishing]]", MODEL),
    (2, "[[regress]]", MODEL),
    (2, "[[empty-result]]", MODEL),
    (4, "[[duration={late}]]", MODEL),
    (2, "[[duration={late}]] [[no-callback]]", MODEL),
)
SLOW = (0, "[[slow=3]] [[no-callback]]", MODEL)
"""Evenly spread, so that there is one to be killed in: nobody but its row knows of such a call, until it lapses."""
CALLBACKS = ((12, ""), (3, " [[no-callback]]"), (2, " [[dup-callback=3]]"), (2, " [[late-callback=4]]"))
"""(weight, marker) of how Kie calls back where the mixture does not say."""
MOODS = ("well", "errs", "well", None, "hangs-up", "slow", "well", "errs", None, "well", "errs-twice", "gone", "well")
"""How the server behaves to which an order has its messages sent, in turn: see `inbox`. None: it wants none."""
TENANTS = (DEFAULT_TENANT, "other")
POOR_MIXTURE = ("[[refuse=402]]", "", "[[refuse=429]]", "", "[[refuse=505]]", "", "[[refuse=455]]", "")
"""The poor account's jobs, in turn."""
HOPELESS = ("[[refuse=402]]", "[[refuse=429]]", "[[refuse=505]]", "[[refuse=455]]")
"""Refused for as long as they exist; somebody gives them up at the end."""


@dataclass(frozen=True)
class Order:
    """One job to enqueue. Its label is in its prompt, and is its idempotency key."""

    label: str
    model: str
    prompt: str
    account: str = "default"
    priority: str = "interactive"
    fallback_models: list[Any] = field(default_factory=list)
    tenant: str = DEFAULT_TENANT
    address: str | None = None
    """Where its messages go: a path at the producers' server."""
    spared: bool = False
    """Whether no customer cancels it: the run has to prove something with it."""


def label_of(prompt: str) -> str:
    """Return the label that a prompt begins with."""
    return prompt.split(" ", 1)[0]


def orders(count: int, rng: random.Random, *, late_s: float) -> list[Order]:
    """Make the run's jobs: every kind of the mixture where there are enough of them, in random order."""
    poor, slow = range(3, count, max(count // 16, 5)), range(5, count, 10)
    rich = count - len({*poor, *slow})
    weights = [weight for weight, _, _ in MIXTURE]
    kinds = [*MIXTURE[:rich], *rng.choices(MIXTURE, weights, k=max(rich - len(MIXTURE), 0))]
    rng.shuffle(kinds)
    markers, turns, moods = iter(kinds), cycle(POOR_MIXTURE), cycle(MOODS)
    made = []
    for number in range(count):
        if number in poor:
            order = _poor_order(number, next(turns))
        else:
            order = _order(number, *(SLOW if number in slow else next(markers))[1:], rng, late_s)
        made.append(replace(order, tenant=rng.choices(TENANTS, (3, 1))[0], address=_address(order.label, next(moods))))
    return made


def _address(label: str, mood: str | None) -> str | None:
    """Make an address that tells the server how to behave, and whose it is; the one that is gone is everybody's."""
    return f"/{mood}/{label if mood != 'gone' else 'all'}" if mood else None


def _order(number: int, markers: str, model: str, rng: random.Random, late_s: float) -> Order:
    spared = "{late}" in markers or "[[no-callback]]" in markers
    markers = markers.format(late=late_s)
    if "duration" not in markers:
        markers += f" [[duration={rng.uniform(0.5, 6):.1f}]]"
    if "outputs" not in markers:
        markers += " [[outputs=1]]"
    if "-callback" not in markers:
        markers += rng.choices([marker for _, marker in CALLBACKS], [weight for weight, _ in CALLBACKS])[0]
    label = f"soak-{number:04d}"
    priority = rng.choices(("interactive", "batch"), (9, 1))[0]
    return Order(label, model, f"{label} {markers}", priority=priority, spared=spared)


def _poor_order(number: int, markers: str) -> Order:
    label = f"soak-{number:04d}"
    prompt = f"{label} {markers} [[duration=1]] [[outputs=1]]"
    if markers == "[[refuse=505]]":  # switched off: the next model is tried before anything pauses
        other = {"model": MODEL, "input": {"prompt": f"{label} [[duration=1]] [[outputs=1]]"}}
        return Order(label, "switched-off/text-to-image", prompt, POOR, fallback_models=[other])
    return Order(label, MODEL, prompt, POOR)
