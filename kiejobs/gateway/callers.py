"""Who may call a route: a parameter that says which scope it needs and gives the caller's own `KieJobs`."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from kiejobs.gateway.keys import Caller, Scope
from kiejobs.gateway.services import Uses
from kiejobs.producer import KieJobs

_BEARER = HTTPBearer(
    auto_error=False, description="A key made by `kiejobs keys new`. On loopback without keys: nothing is needed."
)
"""For the documentation alone; the door has looked already."""


class _Needs:
    """A dependency: the jobs of the caller's tenant, if its key's scope is enough."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def __call__(self, request: Request, services: Uses, _: Annotated[object, Depends(_BEARER)]) -> KieJobs:
        """Return the producer's interface of the caller's tenant; Forbidden where the scope is too small."""
        caller: Caller = request.state.caller
        caller.must(self._scope)
        return services.jobs_of(caller.tenant)


Reader = Annotated[KieJobs, Depends(_Needs(Scope.READ))]
Writer = Annotated[KieJobs, Depends(_Needs(Scope.WRITE))]
Admin = Annotated[KieJobs, Depends(_Needs(Scope.ADMIN))]
