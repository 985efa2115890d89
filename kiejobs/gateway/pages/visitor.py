"""Who looks at a page: a route's parameters that give the visitor and the fields of a form, and send strangers to log in.

A form is taken only from a page of this gateway's own: the Origin that browsers name must be the address that was asked,
and the token of the form must be the visitor's.
"""

import time
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import Depends, Request

from kiejobs.db import reads
from kiejobs.errors import Forbidden, JobNotFound, TooManyRequests, Unreadable, WrongMediaType
from kiejobs.gateway.bodies import read_body
from kiejobs.gateway.door import host_of
from kiejobs.gateway.keys import Scope
from kiejobs.gateway.limits import Bucket
from kiejobs.gateway.pages.session import COOKIE, Sessions, Visitor
from kiejobs.gateway.services import Services, Uses
from kiejobs.producer import KieJobs

FORM_BYTES = 32 * 1024
_FIELDS = 20
_WITHIN_S = 10.0
_STALE = "Open the page again and press the button there."


class LoginNeeded(Exception):
    """Nobody is logged in: no error, but a way to the login."""


def sessions_of(request: Request, services: Services) -> Sessions:
    """Return this gateway's sessions, made when they are first asked for."""
    state = request.app.state
    if not hasattr(state, "sessions"):
        state.sessions = Sessions(services.settings)
    made: Sessions = state.sessions
    return made


@dataclass(frozen=True, slots=True)
class Looking:
    """A visitor and what they may see."""

    visitor: Visitor
    services: Services

    @property
    def tenant(self) -> str | None:
        """Whose jobs they see; None: everybody's."""
        return None if self.visitor.sees_all else self.visitor.caller.tenant

    def jobs(self, tenant: str | None = None) -> KieJobs:
        """Return the producer's interface of the visitor's tenant, or, for an admin, of another one."""
        return self.services.jobs_of(tenant or self.visitor.caller.tenant, who=self.visitor.who)

    def jobs_with(self, job_id: str) -> KieJobs:
        """Return the interface of the tenant that has this job; JobNotFound where the visitor may not know of it."""
        try:
            tenant = reads.tenant_of(self.services.database, str(UUID(job_id)))
        except ValueError:
            tenant = None
        if tenant is None or self.tenant not in (None, tenant):
            raise JobNotFound("there is no such job", remedy="It may be another tenant's, or its rows were pruned.")
        return self.jobs(tenant)


async def _looking(request: Request, services: Uses) -> Looking:
    visitor = sessions_of(request, services).visitor(request.cookies.get(COOKIE))
    if visitor is None:
        raise LoginNeeded
    _count(request, services, visitor.caller.tenant)
    return Looking(visitor, services)


def _count(request: Request, services: Services, tenant: str) -> None:
    """Bound how often one tenant's people ask, as the door does for its programs."""
    state, limits = request.app.state, services.limits
    if not hasattr(state, "page_buckets"):
        state.page_buckets = {}
    bucket = state.page_buckets.setdefault(tenant, Bucket(limits.requests_per_s, limits.burst))
    wait_s = bucket.wait_s(time.monotonic())
    if wait_s:
        raise TooManyRequests("too many pages at once", retry_after_s=wait_s, remedy="Wait a moment.")


Look = Annotated[Looking, Depends(_looking)]
"""A route's parameter: who looks. Sends to the login where nobody is logged in."""


async def form_of(request: Request) -> dict[str, str]:
    """Read a form's fields. Forbidden where it was not sent from a page of this address."""
    if host_of(request.headers.get("origin", "")) != request.headers.get("host", ""):
        raise Forbidden("the form does not come from a page of this gateway", remedy=_STALE)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise WrongMediaType("this is no form", remedy=_STALE)
    body = await read_body(request, at_most=FORM_BYTES, within_s=_WITHIN_S)
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_FIELDS))
    except ValueError:
        raise Unreadable("the form cannot be read", remedy=_STALE) from None


@dataclass(frozen=True, slots=True)
class Ordering(Looking):
    """A visitor who pressed a button."""

    form: dict[str, str]


async def _ordering(request: Request, look: Look, services: Uses) -> Ordering:
    form = await form_of(request)
    if not sessions_of(request, services).is_from(look.visitor, form.get("token", "")):
        raise Forbidden("the form is not of this session", remedy=_STALE)
    return Ordering(look.visitor, services, form)


async def _writing(order: Annotated[Ordering, Depends(_ordering)]) -> Ordering:
    order.visitor.caller.must(Scope.WRITE)
    return order


Order = Annotated[Ordering, Depends(_ordering)]
"""A route's parameter: who sent a form of their own."""

WriteOrder = Annotated[Ordering, Depends(_writing)]
"""The same, if their key allows to change something."""
