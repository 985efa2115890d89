"""Every route of the web pages; none of them is part of the HTTP API's description."""

from fastapi import APIRouter

from kiejobs.gateway.pages import assets, gallery, installation, job, login

router = APIRouter(include_in_schema=False)
for part in (gallery.router, job.router, installation.router, login.router, assets.router):
    router.include_router(part)
