"""Opens the object store that a storage URL, or a folder's name, stands for, with timeouts fit for work and for checks.

No request is made here. What names no storage is `SettingsError`; a folder that cannot be made is `StorageUnavailable`.
Credentials come from the usual names of the environment, read by obstore.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from obstore.store import LocalStore, MemoryStore, from_url

from kiejobs.errors import SettingsError
from kiejobs.storage.faults import storage_fault

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_BUCKETS = ("s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss")
_SETTING = (
    "KIEJOBS_STORAGE_URL is a folder, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix (with "
    "AZURE_STORAGE_ACCOUNT_NAME), or abfss://container@account.dfs.core.windows.net/prefix."
)

# Work may wait for a slow part; a check must answer while somebody looks at the screen. obstore's own defaults retry
# ten times over three minutes, longer than a lease.
_WORK_CLIENT: "ClientConfig" = {"timeout": timedelta(seconds=120), "connect_timeout": timedelta(seconds=5)}
_WORK_RETRY: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
_CHECK_CLIENT: "ClientConfig" = {"timeout": timedelta(seconds=2), "connect_timeout": timedelta(seconds=2)}
_CHECK_RETRY: "RetryConfig" = {"max_retries": 1, "retry_timeout": timedelta(seconds=2)}


@dataclass(frozen=True, slots=True)
class Place:
    """One storage: opened for work, opened again for checks that must be quick, and its name for people."""

    work: "ObjectStore"
    checker: "ObjectStore"
    shown: str


def open_place(url: str, *, endpoint_url: str | None = None, access: Mapping[str, str] | None = None) -> Place:
    """Open a storage URL; `endpoint_url` is the address of an S3-compatible server.

    `access` may hold S3's `access_key_id`, `secret_access_key`, `session_token`, `region` and
    `virtual_hosted_style_request`; what it does not hold of the first four is looked for in the environment.
    """
    if not _SCHEME.match(url):
        return _folder(Path(url).expanduser().absolute())
    scheme, host = urlsplit(url).scheme.lower(), urlsplit(url).netloc
    if scheme == "memory":
        memory = MemoryStore()
        return Place(memory, memory, "memory:")
    if scheme == "file" and url.lower().startswith("file:///"):
        return _folder(Path(urlsplit(url).path))
    if scheme not in _BUCKETS or not host:
        raise SettingsError(f"{_unsigned(url)!r} names no storage that kiejobs can use", remedy=_SETTING)
    return _bucket(url, endpoint_url, access or {})


def _folder(path: Path) -> Place:
    # `mkdir=True`, not a `file:` URL: obstore reads `file:x/y` as `/x/y`.
    try:
        store = LocalStore(path, mkdir=True)
    except Exception as error:  # noqa: BLE001  # obstore raises built-in classes too
        raise storage_fault(error, str(path)) from None
    return Place(store, store, str(path))


def _bucket(url: str, endpoint_url: str | None, access: Mapping[str, str]) -> Place:
    config: S3Config = {}
    extra: ClientConfig = {}
    if urlsplit(url).scheme.lower() in ("s3", "s3a"):
        config = {**_s3_config(urlsplit(url).netloc, endpoint_url), **cast("S3Config", dict(access))}
        if endpoint_url:
            extra = {"allow_http": urlsplit(endpoint_url).scheme.lower() == "http"}
    try:
        work = _opened(url, config, {**_WORK_CLIENT, **extra}, _WORK_RETRY)
        check = _opened(url, config, {**_CHECK_CLIENT, **extra}, _CHECK_RETRY)
    except Exception as error:  # noqa: BLE001  # whatever it is, this URL cannot be used
        why = str(error).partition("\n")[0][:200]
        raise SettingsError(f"{_unsigned(url)!r} cannot be opened: {why}", remedy=_SETTING) from None
    return Place(work, check, _unsigned(url))


def _s3_config(bucket: str, endpoint_url: str | None) -> "S3Config":
    # Signing a part means hashing it a second time, a third of a copy's CPU. TLS already protects it; so does never
    # leaving this machine.
    if not endpoint_url:
        return {"unsigned_payload": True, "virtual_hosted_style_request": False}
    split = urlsplit(endpoint_url)
    if split.scheme.lower() not in ("http", "https") or not split.hostname:
        raise SettingsError(
            f"AWS_ENDPOINT_URL={_unsigned(endpoint_url)!r} is no http(s) address",
            remedy="Write it with its scheme, such as http://localhost:9000.",
        )
    # Most S3-compatible servers have no host name per bucket; where the address begins with the bucket, it has one.
    per_bucket = split.hostname.startswith(f"{bucket.lower()}.")
    config: S3Config = {"endpoint": endpoint_url.rstrip("/"), "virtual_hosted_style_request": per_bucket}
    if split.scheme.lower() == "https" or split.hostname in ("localhost", "127.0.0.1", "::1"):
        config["unsigned_payload"] = True
    return config


def _opened(url: str, config: "S3Config", client: "ClientConfig", retry: "RetryConfig") -> "ObjectStore":
    if config:
        return from_url(url, config=config, client_options=client, retry_config=retry)
    return from_url(url, client_options=client, retry_config=retry)


def _unsigned(url: str) -> str:
    """The URL without a user name, a password or a query."""
    split = urlsplit(url)
    return f"{split.scheme}://{split.netloc.rpartition('@')[2]}{split.path}"
