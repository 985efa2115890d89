"""Going on with a download that broke off: which part to ask for, and whether an answer really is that part.

Pure. A part is believed only where the server says that it is the rest of the same file (a validator in `If-Range`, the
same ones and the same total in its answer): a 200, another file or another range never continue what was hashed so far.
`If-Range` alone proves nothing, for there are servers that do not know it. RFC 9110, sections 13.1.5, 14 and 15.3.7.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


@dataclass(frozen=True, slots=True)
class Resumable:
    """A file of which a server says how long it is and how to recognise it again."""

    size_bytes: int
    etag: str
    last_modified: str
    """Both as the first answer had them, empty where it did not."""

    @classmethod
    def told_by(cls, headers: Mapping[str, str], size_bytes: int | None) -> "Resumable | None":
        """Read it from a first, whole answer; None where the server gives too little to go on."""
        file = cls(size_bytes or 0, *_validators(headers))
        if not file.size_bytes or not file._validator or headers.get("Accept-Ranges", "").strip().lower() == "none":
            return None
        return file

    @property
    def _has_strong_etag(self) -> bool:
        return self.etag.startswith('"')

    @property
    def _validator(self) -> str:
        return self.etag if self._has_strong_etag else self.last_modified

    def asking_from(self, first: int) -> dict[str, str]:
        """Return the header fields that ask for the rest, and for nothing if the file has changed."""
        return {"Range": f"bytes={first}-", "If-Range": self._validator}

    def continues(self, status: int, headers: Mapping[str, str], first: int) -> bool:
        """Say whether an answer is the rest of this file, from byte `first` to its end."""
        found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if status != 206 or found is None or headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            return False
        expected = (first, self.size_bytes - 1, self.size_bytes)
        return self._is_told_again(headers) and tuple(map(int, found.groups())) == expected

    def _is_told_again(self, headers: Mapping[str, str]) -> bool:
        """Say whether an answer has the same validators; beside a strong ETag, a part may leave the date out."""
        etag, last_modified = _validators(headers)
        left_out = self._has_strong_etag and not last_modified
        return etag == self.etag and (left_out or last_modified == self.last_modified)


def _validators(headers: Mapping[str, str]) -> tuple[str, str]:
    return headers.get("ETag", "").strip(), headers.get("Last-Modified", "").strip()
