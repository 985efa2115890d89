"""A bucket in memory: down for a while, forgetful, sometimes keeping less than it was given."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from kiejobs.errors import StorageUnavailable
from kiejobs.storage.store import StoredObject
from tests.simulation.world import World


def _away() -> Exception:
    return StorageUnavailable("the bucket does not answer (simulated)")


@dataclass
class Bucket:
    """What the product's `Store` does, as far as copies need it."""

    world: World
    refuse_inside: Callable[[str], None]
    objects: dict[str, bytes] = field(default_factory=dict)
    writes: int = 0

    def __post_init__(self) -> None:
        rng, chaos_s = self.world.random, self.world.traits.chaos_s
        self._down = (0.0, 0.0)
        if rng.random() < 0.2:
            start = rng.uniform(0, chaos_s)
            self._down = (start, start + rng.uniform(5, 120))

    def put(self, key: str, chunks: Iterator[bytes], *, media_type: str, disposition: str | None = None) -> None:
        """Store all or nothing, except that a bad day keeps half and says nothing."""
        content = b"".join(chunks)
        self.refuse_inside("put")
        self.world.effect(f"put {key}", lambda: self._keep(key, content), fails=_away, lost=_away, takes_s=1.0)

    def _keep(self, key: str, content: bytes) -> None:
        self._answer()
        if self.world.chance(0.02):
            self.world.counts["puts cut"] += 1
            content = content[: len(content) // 2]
        if self.objects.get(key) != content:
            self.objects[key] = content
        self.writes += 1

    def head(self, key: str) -> StoredObject | None:
        """Say how large an object is."""
        return self.world.effect(f"head {key}", lambda: self._look(key), fails=_away, lost=_away)

    def _look(self, key: str) -> StoredObject | None:
        self._answer()
        content = self.objects.get(key)
        return None if content is None else StoredObject(key, len(content), None)

    def _answer(self) -> None:
        if not self.world.calm and self._down[0] <= self.world.now_s < self._down[1]:
            self.world.counts["storage outages met"] += 1
            raise _away()

    def location(self, key: str) -> str:
        """Say where an object is."""
        return f"bucket/{key}"
