"""Who asks: keys per tenant with a scope each, of which the gateway knows only the SHA-256.

A key is 256 random bits, so a plain hash is enough. What is given is compared with every key in constant time, so that
nothing is learned from how long it takes. Several keys of one tenant may be valid at once, for rotation.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from enum import IntEnum

from kiejobs.errors import Forbidden, Unauthorized
from kiejobs.jobs import DEFAULT_TENANT
from kiejobs.settings import GatewayKey

PREFIX = "kj_"


class Scope(IntEnum):
    """What a key allows; each scope includes those before it."""

    READ = 1
    WRITE = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request comes from."""

    tenant: str
    scope: Scope

    def must(self, scope: Scope) -> None:
        """Go on if the caller's key allows it; Forbidden if not."""
        if self.scope < scope:
            raise Forbidden(
                f"the key's scope is {self.scope.name.lower()}, this needs {scope.name.lower()}",
                remedy=f"Use a key made with: kiejobs keys new --scope {scope.name.lower()}",
            )


ON_LOOPBACK = Caller(DEFAULT_TENANT, Scope.ADMIN)
"""Who asks where no keys are set: whoever is on this machine."""


def new_key() -> str:
    """Make a key."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """Return what the setting holds of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


class Keys:
    """The keys of `KIEJOBS_GATEWAY_KEYS`."""

    def __init__(self, keys: tuple[GatewayKey, ...]) -> None:
        self._known = [(bytes.fromhex(key.sha256), Caller(key.tenant, Scope[key.scope.upper()])) for key in keys]

    @property
    def needed(self) -> bool:
        """Whether requests must bring a key."""
        return bool(self._known)

    def caller(self, authorization: str | None) -> Caller:
        """Say who sent this `Authorization` header; Unauthorized where nobody known did."""
        if not self._known:
            return ON_LOOPBACK
        word, _, key = (authorization or "").partition(" ")
        if word.lower() != "bearer" or not key.strip():
            raise Unauthorized("no key was given")
        given = hashlib.sha256(key.strip().encode("utf-8", "replace")).digest()
        found = None
        for known, caller in self._known:  # all of them, whichever fits
            if hmac.compare_digest(known, given):
                found = caller
        if found is None:
            raise Unauthorized("the key is not known here")
        return found
