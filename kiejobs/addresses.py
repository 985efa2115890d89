"""The addresses of a tenant's messages: where jobs are told of that name none, and those that want nothing more."""

from kiejobs.db import endpoints
from kiejobs.db.endpoints import Endpoint
from kiejobs.db.session import Database
from kiejobs.errors import InvalidInput, JobNotFound
from kiejobs.storage.addresses import how_to_allow, url_refused

LONGEST = 2000


class Addresses:
    """Read and change them, for one tenant. `allow` are exact exceptions to the ban on private addresses."""

    def __init__(self, database: Database, tenant: str, allow: frozenset[tuple[str, int]]) -> None:
        self._database, self._tenant, self._allow = database, tenant, allow

    def list(self) -> tuple[Endpoint, ...]:
        """List those of which there is something to say: the default one, and the disabled ones."""
        return tuple(endpoints.listed(self._database, self._tenant))

    def default(self) -> str | None:
        """Return the address that is told of jobs which name none of their own."""
        return next((one.url for one in self.list() if one.is_default), None)

    def set_default(self, url: str | None) -> None:
        """Tell this address of every job that names none, from its next message on; None: nobody."""
        if url is not None:
            too_long = "longer than 2000 characters" if len(url) > LONGEST else ""
            refused = too_long or url_refused(url, self._allow)
            if refused:
                raise InvalidInput(
                    f"this address cannot be called: {refused}",
                    field="url",
                    allowed="a public http(s) URL",
                    remedy="" if too_long else how_to_allow(url),
                )
        endpoints.set_default(self._database, self._tenant, url)

    def enable(self, url: str) -> None:
        """Send again to an address that answered 410 Gone. What was given up meanwhile is sent on demand."""
        if "\0" in url or not endpoints.enable(self._database, self._tenant, url):
            raise JobNotFound(
                f"no messages are withheld from {url[:200]}",
                remedy="List what is: `kiejobs deliveries default`, or GET /api/addresses.",
            )
