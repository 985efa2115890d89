"""Going on with a download that broke off: which part to ask for, and whether an answer really is that part.

Pure. A part is believed only where the server says that it is the rest of the same file (a validator in `If-Range`, the
same total in `Content-Range`): a 200, another file or another range never continue what was hashed so far. RFC 9110,
sections 13.1.5 and 14.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


@dataclass(frozen=True, slots=True)
class Resumable:
    """A file of which a server says how long it is and how to recognise it again."""

    size_bytes: int
    validator: str
    etag: str | None

    @classmethod
    def told_by(cls, headers: Mapping[str, str], size_bytes: int | None) -> "Resumable | None":
        """Read it from a first, whole answer; None where the server gives too little to go on."""
        etag = headers.get("ETag", "").strip()
        strong = etag if etag.startswith('"') else None
        validator = strong or headers.get("Last-Modified", "").strip()
        if not size_bytes or not validator or headers.get("Accept-Ranges", "").strip().lower() == "none":
            return None
        return cls(size_bytes, validator, strong)

    def asking_from(self, first: int) -> dict[str, str]:
        """Return the header fields that ask for the rest, and for nothing if the file has changed."""
        return {"Range": f"bytes={first}-", "If-Range": self.validator}

    def continues(self, status: int, headers: Mapping[str, str], first: int) -> bool:
        """Say whether an answer is the rest of this file, from byte `first` to its end."""
        found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if status != 206 or found is None or headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            return False
        expected = (first, self.size_bytes - 1, self.size_bytes)
        same = self.etag is None or headers.get("ETag", self.etag).strip() == self.etag
        return same and tuple(map(int, found.groups())) == expected
