"""What the soak asks of Kie: prompts whose markers make the simulator misbehave, in a seeded mixture.

A file that is always cut short is not among them: it is tried again for as long as Kie keeps it, 14 days.
"""

import random
from dataclasses import dataclass, field
from typing import Any

MODEL = "grok-imagine/text-to-image"
POOR = "poor"
"""An account of its own for refusals that pause an account, so that they do not starve the others."""

# (weight, markers, model). Duration and the number of files are added where the markers do not say.
MIXTURE: tuple[tuple[int, str, str], ...] = (
    (16, "", MODEL),
    (6, "[[outputs=3]]", MODEL),
    (4, "[[duration=1]]", "kling-2.6/text-to-video"),
    (2, "[[result-songs]] [[outputs=1]]", "suno/music"),
    (4, "[[slow=3]]", MODEL),
    (3, "[[slow=4]] [[duration=6]]", MODEL),
    (3, "[[drip=600]]", MODEL),
    (2, "[[big=9]] [[drip=3000000]]", MODEL),
    (3, "[[expired-link]]", MODEL),
    (1, "[[html-result]]", MODEL),
    (2, "[[fail=500]]", MODEL),
    (2, "[[fail=moderation]]", MODEL),
    (2, "[[refuse=422]]", MODEL),
    (2, "[[http-after=502]]", MODEL),
    (2, "[[hang]]", MODEL),
    (2, "[[reset]]", MODEL),
    (1, "[[cut-header]]", MODEL),
    (2, "[[cut-body]]", MODEL),
    (2, "[[no-task-id]]", MODEL),
    (2, "[[null-record=3]]", MODEL),
    (2, "[[poll-429=2]]", MODEL),
    (2, "[[poll-http=502*3]]", MODEL),
    (2, "[[odd-state=polishing]]", MODEL),
    (2, "[[regress]]", MODEL),
    (2, "[[empty-result]]", MODEL),
    (4, "[[duration={late}]]", MODEL),
)
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


def label_of(prompt: str) -> str:
    """Return the label that a prompt begins with."""
    return prompt.split(" ", 1)[0]


def orders(count: int, rng: random.Random, *, late_s: float) -> list[Order]:
    """Make the run's jobs: every kind of the mixture where there are enough of them, in random order."""
    kinds = list(MIXTURE)[: max(count - 4, 1)]
    weights = [weight for weight, _, _ in MIXTURE]
    kinds += rng.choices(MIXTURE, weights, k=max(count - len(kinds), 0))
    rng.shuffle(kinds)
    made = [_order(n, markers, model, rng, late_s) for n, (_, markers, model) in enumerate(kinds)]
    poor = list(range(3, count, max(count // 16, 5)))
    for turn, n in enumerate(poor):
        made[n] = _poor_order(n, POOR_MIXTURE[turn % len(POOR_MIXTURE)])
    return made


def _order(number: int, markers: str, model: str, rng: random.Random, late_s: float) -> Order:
    markers = markers.format(late=late_s)
    if "duration" not in markers:
        markers += f" [[duration={rng.uniform(0.5, 6):.1f}]]"
    if "outputs" not in markers:
        markers += " [[outputs=1]]"
    label = f"soak-{number:04d}"
    return Order(label, model, f"{label} {markers}", priority=rng.choices(("interactive", "batch"), (9, 1))[0])


def _poor_order(number: int, markers: str) -> Order:
    label = f"soak-{number:04d}"
    prompt = f"{label} {markers} [[duration=1]] [[outputs=1]]"
    if markers == "[[refuse=505]]":  # switched off: the next model is tried before anything pauses
        other = {"model": MODEL, "input": {"prompt": f"{label} [[duration=1]] [[outputs=1]]"}}
        return Order(label, "switched-off/text-to-image", prompt, POOR, fallback_models=[other])
    return Order(label, MODEL, prompt, POOR)
