"""The gateway's application: the routes, the door in front of them, and what they use.

`make_app` is given settings and builds the rest when the server starts; a test hands its own database and publisher in.
A further part of the gateway is a router in `ROUTERS`; it finds what it uses through `services.Uses`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, FastAPI

from kiejobs import __version__
from kiejobs.db.session import Database
from kiejobs.gateway import addresses, callbacks, files, generations, health, listings, outputs, problems, schemas
from kiejobs.gateway.door import Door
from kiejobs.gateway.keys import Keys
from kiejobs.gateway.limits import Limits
from kiejobs.gateway.metrics import router as metrics_router
from kiejobs.gateway.pages import routes
from kiejobs.gateway.services import Services, open_services
from kiejobs.nudge import Publish
from kiejobs.settings import Settings

ROUTERS: tuple[APIRouter, ...] = (
    generations.router,
    outputs.router,
    listings.router,
    files.router,
    addresses.router,
    callbacks.router,
    health.router,
    metrics_router,
    routes.router,
)


def make_app(
    settings: Settings,
    *,
    database: Database | None = None,
    publish: Publish | None = None,
    limits: Limits | None = None,
    services: Services | None = None,
) -> FastAPI:
    """Make the application. What is not handed in is built from the settings when the server starts."""
    limits = services.limits if services else limits or Limits()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = limits.threads
        used = services or open_services(settings, database=database, publish=publish, limits=limits)
        app.state.services = used
        used.callbacks  # noqa: B018 - says at the start, not to Kie's first callback, where none can be taken
        yield
        used.close()

    app = FastAPI(
        title="kiejobs",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,  # would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    problems.add_to(app)
    for router in ROUTERS:
        app.include_router(router)
    app.add_middleware(Door, keys=Keys(settings.gateway_keys), limits=limits)
    return app


_ABOUT = "Buy AI generations at Kie.ai once, watch them to the end, keep every result."


def _described(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with the form of every problem."""
    if app.openapi_schema is None:
        made = FastAPI.openapi(app)
        made["components"].setdefault("schemas", {})["Problem"] = schemas.Problem.model_json_schema()
        app.openapi_schema = made
    return app.openapi_schema
