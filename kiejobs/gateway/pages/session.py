"""Sessions of people in a browser, as a signed cookie: which key somebody logged in with, and until when.

The cookie holds a mark of the key, neither the key nor its hash, so a key that is taken out of the settings takes its
sessions along. The same secret makes the tokens of forms. It is derived from the one that callback addresses are signed
with, so that any gateway knows the sessions of another; where there is none, it is this process's own.
"""

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from kiejobs.errors import SettingsError, Unauthorized
from kiejobs.gateway.keys import ON_LOOPBACK, Caller, Keys, Scope, digest_of
from kiejobs.settings import Settings

log = logging.getLogger(__name__)

COOKIE = "kiejobs_session"
LIVES_S = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks at a page, and what proves that a form is from a page of theirs."""

    caller: Caller
    token: str
    who: str
    """As timelines name them."""
    logged_in: bool = False
    """Whether there is a session to end."""

    @property
    def may_write(self) -> bool:
        """Whether the key allows to change something."""
        return self.caller.scope >= Scope.WRITE

    @property
    def sees_all(self) -> bool:
        """Whether the key allows to see every tenant."""
        return self.caller.scope >= Scope.ADMIN


class Sessions:
    """The sessions that one setting of keys allows. `now_s` is the time that they end by."""

    def __init__(self, settings: Settings, now_s: Callable[[], float] = time.time) -> None:
        self._keys, self._now_s = Keys(settings.gateway_keys), now_s
        self._secret = _secret_of(settings)
        self._callers = {
            self._mark(key.sha256): Caller(key.tenant, Scope[key.scope.upper()]) for key in settings.gateway_keys
        }

    @property
    def needed(self) -> bool:
        """Whether anybody must log in."""
        return self._keys.needed

    def begin(self, key: str) -> str:
        """Return the cookie of a new session; Unauthorized for a key that is not known."""
        try:
            self._keys.caller(f"Bearer {key}")
        except Unauthorized:
            raise Unauthorized("this key is not known here", remedy="`kiejobs keys new` makes a key.") from None
        told = f"{self._mark(digest_of(key.strip()))}.{int(self._now_s() + LIVES_S)}.{secrets.token_urlsafe(12)}"
        return f"{told}.{self._sign('session', told)}"

    def visitor(self, cookie: str | None) -> Visitor | None:
        """Say whose cookie this is; None where somebody must log in."""
        if not self.needed:
            return Visitor(ON_LOOPBACK, self._sign("form", "loopback"), "web")
        told, _, signature = (cookie or "").rpartition(".")
        if not _equal(signature, self._sign("session", told)):
            return None
        mark, ends, _ = told.split(".", 2)
        caller = self._callers.get(mark)
        if caller is None or int(ends) <= self._now_s():
            return None
        return Visitor(caller, self._sign("form", told), f"web, key {mark[:6]}", logged_in=True)

    def is_from(self, visitor: Visitor, token: str) -> bool:
        """Say whether a form's token was made for this visitor."""
        return _equal(token, visitor.token)

    def _mark(self, sha256: str) -> str:
        return self._sign("key", sha256)[:16]

    def _sign(self, what: str, told: str) -> str:
        return hmac.new(self._secret, f"{what}:{told}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _equal(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode())


def _secret_of(settings: Settings) -> bytes:
    try:
        known = settings.callbacks_signed_with
    except (SettingsError, OSError) as error:
        log.warning("sessions of the web pages end with this process: %s", error)
        return secrets.token_bytes(32)
    return hmac.new(known.encode(), b"sessions of the web pages", hashlib.sha256).digest()
