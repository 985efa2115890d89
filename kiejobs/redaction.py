"""Takes secrets out of text: by value where the settings know them, by pattern where they are somebody else's.

A value is found as it is, percent-encoded, and escaped as in JSON. Patterns know the shapes in which secrets travel:
headers, addresses with a password, signed links, our own keys. What is taken out is `***`, so that a line still says
what kind of thing stood there.
"""

import base64
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote, unquote_plus

from pydantic import SecretStr

from kiejobs.settings import CALLBACK_FILE, WEBHOOK_FILE, Settings

_LEAST_CHARACTERS = 6
"""A shorter value would riddle the lines."""

_NAMED = "|".join(
    (
        r"x-(?:amz|goog|oss|cos)-(?:signature|credential|security-token)",
        r"signature|credential|sig",
        r"(?:access|session|refresh|id)?[_-]?token",
        r"api[_-]?key",
        r"secret(?:[_-]?access)?(?:[_-]?key)?",
        r"password|passwd",
    )
)
_PATTERNS = (
    (re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?(?:bearer\s+|basic\s+)?|bearer\s+)[^\s'\",}]+"), r"\1***"),
    (re.compile(rf"(?i)((?<![a-z])(?:{_NAMED})['\"]?\s*[:=]\s*['\"]?)(?!\*\*\*)[^\s'\"&,;}})]{{6,}}"), r"\1***"),
    (re.compile(r"(\b\w+://[^\s:/?#@]*):[^\s/?#]+@"), r"\1:***@"),  # to the last @: a password may have one in it
    (re.compile(r"(?i)([?&](?:ssl)?(?:password|passwd|pwd)=)(?!\*\*\*)[^\s&#'\"]+"), r"\1***"),
    (re.compile(r"(/callbacks/kie/[0-9a-f-]{36}\.)[\w-]+"), r"\1***"),
    (re.compile(r"\b(whsec_)[A-Za-z0-9+/=_-]+"), r"\1***"),
    (re.compile(r"\b(kj_)[A-Za-z0-9_-]{20,}"), r"\1***"),
)


class Redaction:
    """What must not be shown, and how it is taken out."""

    def __init__(self, secrets: Iterable[str], files: Iterable[Path] = ()) -> None:
        self._files = list(files)
        self._secrets: list[str] = []
        self._learn(secrets)

    def _learn(self, secrets: Iterable[str]) -> None:
        long = {secret for secret in secrets if len(secret) >= _LEAST_CHARACTERS}
        forms = {form for secret in long for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])}
        self._secrets = sorted({*self._secrets, *forms}, key=len, reverse=True)

    def _read_files(self) -> None:
        """Learn what is in the files that are there by now: secrets are made when they are first needed."""
        there = [path for path in self._files if path.exists()]
        for path in there:
            with suppress(OSError):  # then this process cannot show it either
                text = path.read_text(errors="replace").strip()
                self._learn([text, base64.b64encode(text.encode()).decode()])
        if there:
            self._files = [path for path in self._files if path not in there]

    def clean(self, text: str) -> str:
        """Return a text without secrets and without control characters."""
        if self._files:
            self._read_files()
        for secret in self._secrets:
            text = text.replace(secret, "***")
        for pattern, shown in _PATTERNS:
            text = pattern.sub(shown, text)
        return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def redaction_of(settings: Settings) -> Redaction:
    """Return what must not be shown under these settings, the secrets that the data dir gets later included."""
    files = (settings.data_dir / name for name in (CALLBACK_FILE, WEBHOOK_FILE))
    return Redaction(secrets_of(settings), files)


def secrets_of(settings: Settings) -> list[str]:
    """List the values that no line may show."""
    accounts = settings.keys.values()
    single = [settings.webhook_hmac_key, settings.storage_secret, settings.storage_token, settings.callback_secret]
    single += [own.key for own in accounts] + [own.hmac_key for own in accounts]
    found = [one for secret in single for one in _values(secret)]
    found += [one for listed in _values(settings.webhook_secrets) for one in listed.split(",")]
    for url in (settings.database_url, settings.broker_url):
        found += passwords_of(url.get_secret_value()) if url else []
    found += [login.partition(":")[2] for login in _values(settings.flower_auth)]
    return [one.strip() for one in found]


def passwords_of(address: str) -> list[str]:
    """List the passwords in an address, or in several with `;` between them: as they stand there, and decoded."""
    found = []
    for url in address.split(";"):
        before, _, query = url.partition("?")
        found += re.findall(r"://[^:/@]*:(.+)@", before)  # to the last @, whatever stands before it
        found += re.findall(rf"(?i)(?:^|&)\w*(?:{_NAMED})=([^&#]+)", query)
    return [form for password in found for form in (password, unquote(password), unquote_plus(password))]


def _values(secret: SecretStr | None) -> list[str]:
    return [secret.get_secret_value()] if secret else []
