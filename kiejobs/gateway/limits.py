"""How much one request, and one tenant, may ask for. Pure: the time is an argument."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """The gateway's bounds; given to `make_app` to change them."""

    body_bytes: int = 2 * 1024 * 1024
    """Of a JSON body. An input alone may have 1 MiB."""
    depth: int = 64
    """Of lists and objects inside each other."""
    values: int = 100_000
    """In a JSON body: each takes time to look at, whatever its size."""
    batch: int = 100
    """Requests in one `POST /api/generations:batch`."""
    body_within_s: float = 30.0
    """A body that comes slower is hung up on."""
    file_bytes: int = 512 * 1024 * 1024
    """Of an uploaded file."""
    file_within_s: float = 600.0
    files_bytes: int = 2 * 1024**3
    """Of all files that are being received, in this process: they lie in its temporary folder, which may be memory."""
    requests_per_s: float = 300.0
    """Of one tenant, in this process; more than that for a moment, see `burst`."""
    burst: int = 600
    threads: int = 24
    """Requests that are worked on at once; each may hold one connection to the database."""


class Bucket:
    """A token bucket: `rate_per_s` on average, `burst` at once. Not thread-safe: the event loop alone asks."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate_per_s, self._burst = rate_per_s, float(burst)
        self._tokens, self._at_s = self._burst, 0.0

    def wait_s(self, now_s: float) -> float:
        """Take a token and return 0, or say in how many seconds there is one."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now_s - self._at_s) * self._rate_per_s)
        self._at_s = now_s
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate_per_s


class Room:
    """Bytes that are held at once, all together. Not thread-safe: the event loop alone asks."""

    def __init__(self, most_bytes: int) -> None:
        self._left_bytes = most_bytes

    def take(self, size_bytes: int) -> bool:
        """Hold so many more; False, and nothing is held, where there is no room for them."""
        fits = size_bytes <= self._left_bytes
        self._left_bytes -= size_bytes if fits else 0
        return fits

    def give_back(self, size_bytes: int) -> None:
        """Hold so many less."""
        self._left_bytes += size_bytes


def deeper_than(value: Any, depth: int) -> bool:
    """Whether lists and objects lie deeper inside each other than this."""
    level = [value]
    for _ in range(depth):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
