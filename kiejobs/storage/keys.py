"""Where an output lives: the key is built from our own words alone, so that no URL, title or prompt can steer it.

Pure. Everything that could climb out of a tenant's folder is refused with `ValueError`, never repaired, because a
repaired name may be the name of something else. The same job and index always give the same key, so that a second
copy replaces the first.
"""

import re
from datetime import UTC, datetime
from uuid import UUID

_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_EXTENSION = re.compile(r"[a-z0-9]{1,8}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_MAX_LENGTH = 900  # S3 allows 1,024 bytes; the rest is for the prefix of the store


def object_key(*, prefix: str = "", tenant: str, created_at: datetime, job_id: str, index: int, extension: str) -> str:
    """Return `{tenant}/{yyyy}/{mm}/{dd}/{job_id}/{index}.{ext}`, the date in UTC; ValueError for an unsafe part."""
    _check_tenant(tenant)
    _check_extension(extension)
    if index < 0:
        raise ValueError(f"index {index} is negative")
    if created_at.tzinfo is None:
        raise ValueError("created_at has no time zone")
    day = created_at.astimezone(UTC)
    key = f"{tenant}/{day:%Y/%m/%d}/{_canonical(job_id)}/{index}.{extension}"
    return checked_key(f"{prefix.strip('/')}/{key}" if prefix.strip("/") else key)


def input_key(*, tenant: str, sha256: str, extension: str) -> str:
    """Return `{tenant}/inputs/{sha256}.{ext}`, a file under its content's name; ValueError for an unsafe part."""
    _check_tenant(tenant)
    _check_extension(extension)
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"{sha256!r} is no SHA-256 in lower-case hexadecimal")
    return checked_key(f"{tenant}/inputs/{sha256}.{extension}")


def disposition(key: str) -> str:
    """Return the Content-Disposition of an object: shown by a browser, and saved under a name that tells it apart."""
    return f'inline; filename="{"-".join(key.split("/")[-2:])}"'


def checked_key(key: str) -> str:
    """Return the key unchanged if it cannot leave the folder it is used in; ValueError otherwise."""
    if len(key) > _MAX_LENGTH or not all(_SEGMENT.fullmatch(segment) for segment in key.split("/")):
        raise ValueError(f"{key[:100]!r} is no object key: names of letters, digits, . _ - between single slashes")
    return key


def _check_tenant(tenant: str) -> None:
    if not _TENANT.fullmatch(tenant):
        raise ValueError(f"tenant {tenant!r} is not of the form [a-z0-9][a-z0-9_-]{{0,62}}")


def _check_extension(extension: str) -> None:
    if not _EXTENSION.fullmatch(extension):
        raise ValueError(f"extension {extension!r} is not of the form [a-z0-9]{{1,8}}")


def _canonical(job_id: str) -> str:
    """Only the 36-character form: `UUID` itself also reads braces, `urn:uuid:` and bare hex."""
    canonical = str(UUID(job_id))
    if canonical != job_id.lower():
        raise ValueError(f"job id {job_id!r} is not a UUID in its canonical form")
    return canonical
