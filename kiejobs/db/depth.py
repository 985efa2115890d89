"""How many jobs of a tenant wait to be sent, and the end of it: a producer that runs wild fills no database.

Of requests at the same moment each counts its own and what is committed, so a queue may grow by as many beyond its limit.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, func, select

from kiejobs.db.tables import in_state, jobs
from kiejobs.errors import TooManyRequests
from kiejobs.jobs import JobState

_BEYOND = 1000
"""By how many jobs more than allowed a queue is counted: enough to say when to come again."""


def check(tx: Connection, tenants: Iterable[str], *, limit: int, spacing_s: float) -> None:
    """Refuse what this transaction has entered where it makes a tenant's queue longer than `limit`: TooManyRequests.

    `spacing_s` is how long the account takes for one of them.
    """
    for tenant in tenants:
        waiting = tx.execute(_DEPTH, {"tenant": tenant, "most": limit + _BEYOND}).one()
        over = waiting.in_line + waiting.held - limit
        if over > 0:
            raise TooManyRequests(
                f"more than {limit} jobs of tenant {tenant} would wait to be sent",
                retry_after_s=min(max(over * spacing_s, 5.0), 300.0),
                remedy="Come again when some of them have been sent: GET /api/queue counts them.",
            )


_OF_TENANT = (jobs.c.tenant == bindparam("tenant")) & in_state(JobState.QUEUED)
_DEPTH = select(
    *(
        select(func.count())
        .select_from(select(jobs.c.id).where(_OF_TENANT, which).limit(bindparam("most")).subquery())
        .scalar_subquery()
        .label(name)
        for name, which in (("in_line", jobs.c.line_at.is_not(None)), ("held", jobs.c.due_at.is_not(None)))
    )
)
"""How many wait: each of the two reads the index of what is unfinished."""
