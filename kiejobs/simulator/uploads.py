"""Uploads: input files that were given to Kie, by the path they are served under. They live for three days.

Kept in memory, the oldest go first when there are too many; the same path again overwrites. Knows nothing of HTTP.
Source: docs.kie.ai/file-upload-api/quickstart.
"""

import secrets
import time
from dataclasses import dataclass, field

LIFE_S = 3 * 86400.0
KEPT_BYTES = 256 * 1024 * 1024
_FIRST_ACCOUNT = 100_001


@dataclass(frozen=True, slots=True)
class Upload:
    """One file."""

    path: str
    content: bytes
    mime: str
    at_s: float = field(default_factory=time.monotonic)
    at_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


class Uploads:
    """All uploads that are still there."""

    def __init__(self) -> None:
        """Begin with none."""
        self._uploads: dict[str, Upload] = {}
        self._accounts: dict[str, int] = {}
        self._bytes = 0

    def add(self, account: str, folder: str, name: str, content: bytes, mime: str) -> Upload:
        """Keep a file; its path has the account's number in it, as at Kie."""
        number = self._accounts.setdefault(account, _FIRST_ACCOUNT + len(self._accounts))
        parts = [part for part in f"{folder}/{name}".split("/") if part not in ("", ".", "..")]
        upload = Upload("/".join((f"/kieai/{number}", *parts)), content, mime)
        self._drop(upload.path)
        self._uploads[upload.path] = upload
        self._bytes += len(content)
        while self._bytes > KEPT_BYTES and len(self._uploads) > 1:
            self._drop(next(iter(self._uploads)))
        return upload

    def get(self, path: str) -> Upload | None:
        """The file at that path, unless its time is over."""
        upload = self._uploads.get(path)
        return upload if upload is not None and time.monotonic() - upload.at_s < LIFE_S else None

    def expire(self, path: str = "") -> int:
        """Delete one, or all; how many there were."""
        paths = [path] if path else list(self._uploads)
        return sum(self._drop(each) for each in paths)

    def clear(self) -> None:
        """Forget them all."""
        self.expire()

    def _drop(self, path: str) -> bool:
        upload = self._uploads.pop(path, None)
        self._bytes -= len(upload.content) if upload else 0
        return upload is not None


def name_of_its_own(extension: str) -> str:
    """A name as Kie makes one up: milliseconds and a word of eleven letters."""
    return f"{time.time_ns() // 1_000_000}-{secrets.token_hex(6)[:11]}{extension}"
