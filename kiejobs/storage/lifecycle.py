"""Asks a bucket whether it removes unfinished uploads by itself: a copy that died midway leaves parts that are billed.

No call of the store's library shows this, so one request is signed here: AWS Signature Version 4, GET `?lifecycle`
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLifecycleConfiguration.html). A question, never a change;
where the answer cannot be had, that is said.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlsplit

import requests

_EMPTY = hashlib.sha256(b"").hexdigest()
_RULE = re.compile(r"<Rule>(.*?)</Rule>", re.DOTALL)
_DAYS = re.compile(r"<AbortIncompleteMultipartUpload>\s*<DaysAfterInitiation>(\d{1,5})<")
_PREFIX = re.compile(r"<Prefix>([^<]*)</Prefix>")
_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Cleaning:
    """After how many days unfinished uploads are removed; None for never, or, with `unknown`, for nobody can say."""

    days: int | None
    unknown: str = ""


def cleaning(link: str, prefix: str, access: Mapping[str, str]) -> Cleaning:
    """Ask the bucket behind `link`, a signed link to the object `{prefix}x` in it, with the same key."""
    split = urlsplit(link)
    scope = parse_qs(split.query).get("X-Amz-Credential", [""])[0].split("/")
    if len(scope) != 5 or "secret_access_key" not in access:
        return Cleaning(None, "only S3 with a key in the settings can be asked")
    path = split.path.removesuffix(f"{prefix}x") or "/"
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    headers = signed(split.netloc, path, scope[2], access, at)
    session = requests.Session()
    session.trust_env = False
    try:
        answer = session.get(
            f"{split.scheme}://{split.netloc}{path}?lifecycle=",
            headers=headers,
            timeout=_TIMEOUT_S,
            allow_redirects=False,
        )
    except requests.RequestException:
        return Cleaning(None, "the bucket did not answer")
    return read(answer.status_code, answer.text[:200_000], prefix)


def read(status: int, text: str, prefix: str) -> Cleaning:
    """Read a bucket's lifecycle rules: those in force that cover our prefix."""
    if status == 404 and "NoSuchLifecycleConfiguration" in text:
        return Cleaning(None)
    if status != 200 or "LifecycleConfiguration" not in text:
        return Cleaning(None, f"the server does not show its lifecycle rules (HTTP {status})")
    days = [
        int(found[1])
        for rule in _RULE.findall(text)
        if "<Status>Enabled</Status>" in rule and (found := _DAYS.search(rule)) and _covers(rule, prefix)
    ]
    return Cleaning(min(days, default=None))


def _covers(rule: str, prefix: str) -> bool:
    return "<Tag>" not in rule and all(prefix.startswith(one) for one in _PREFIX.findall(rule))


def signed(host: str, path: str, region: str, access: Mapping[str, str], at: str) -> dict[str, str]:
    """Return the header fields that sign GET `{path}?lifecycle=` at the time `at` (`20261121T050000Z`)."""
    fields = {"host": host, "x-amz-content-sha256": _EMPTY, "x-amz-date": at}
    if access.get("session_token"):
        fields["x-amz-security-token"] = access["session_token"]
    names = ";".join(sorted(fields))
    lines = "".join(f"{name}:{fields[name]}\n" for name in sorted(fields))
    request = "\n".join(("GET", quote(path, safe="/~%"), "lifecycle=", lines, names, _EMPTY))
    scope = f"{at[:8]}/{region}/s3/aws4_request"
    key = f"AWS4{access['secret_access_key']}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = "\n".join(("AWS4-HMAC-SHA256", at, scope, hashlib.sha256(request.encode()).hexdigest()))
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"{access['access_key_id']}/{scope}"
    fields["Authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return fields
