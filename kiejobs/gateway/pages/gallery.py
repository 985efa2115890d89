"""The first page: generations, newest first, with what they brought and how far they are; and the filters above them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from kiejobs.db import reads
from kiejobs.gateway import queries
from kiejobs.gateway.pages.view import PageRoute, page
from kiejobs.gateway.pages.visitor import Look, Looking
from kiejobs.jobs import ENDED, Job, JobState, PublicState
from kiejobs.kie import catalogue

router = APIRouter(route_class=PageRoute)

PER_PAGE = 24
_FIELDS = ("state", "model", "since", "until", "cursor")
_FINE = "phase-"
CHOICES: tuple[tuple[str, str], ...] = (
    ("", "Any"),
    (PublicState.WAITING, "Unfinished"),
    (PublicState.SUCCESS, "Done"),
    (PublicState.FAIL, "Failed"),
    (PublicState.TIMEOUT, "Late"),
    (PublicState.CANCELED, "Canceled"),
    (_FINE + JobState.QUEUED, "Unfinished: queued"),
    (_FINE + JobState.WAITING, "Unfinished: at Kie"),
    (_FINE + JobState.STORING, "Unfinished: storing"),
    (_FINE + JobState.UNCONFIRMED, "Unfinished: unconfirmed"),
)
"""(value, label) of the filter by state."""


@dataclass(frozen=True, slots=True)
class _Card:
    job: Job
    prompt: str


@router.get("/")
def gallery(look: Look, request: Request) -> Response:
    """Show generations."""
    given = {name: value.strip() for name, value in request.query_params.items() if value.strip()}
    queries.only(given, *_FIELDS, *(["tenant"] if look.visitor.sees_all else []))
    found = _found(look, given)
    shown, more = found[:PER_PAGE], len(found) > PER_PAGE
    kept = {name: value for name, value in given.items() if name != "cursor"}
    return page(
        "gallery.html",
        look.services,
        look.visitor,
        cards=_cards(look, shown),
        now=reads.now(look.services.database),
        given=given,
        choices=CHOICES,
        models=[model.id for model in catalogue.models()],
        older=f"/?{urlencode(kept | {'cursor': queries.cursor_of(shown[-1])})}" if more else None,
        newest=f"/?{urlencode(kept)}" if "cursor" in given else None,
        filtered=bool(kept),
        live="cursor" not in given or any(job.phase not in ENDED for job in shown),
    )


_LAST = datetime.max.replace(tzinfo=UTC) - timedelta(days=1)


def _found(look: Looking, given: Mapping[str, str]) -> list[Job]:
    state = given.get("state", "")
    fine = {"phase": state.removeprefix(_FINE)} if state.startswith(_FINE) else {"state": state} if state else {}
    until = queries.moment(given, "until")
    whole_day = until and len(given["until"]) <= len("2026-01-31") and until < _LAST
    wanted: dict[str, Any] = {
        "state": queries.word(fine, "state", PublicState),
        "phase": queries.word(fine, "phase", JobState),
        "model": given.get("model"),
        "since": queries.moment(given, "since"),
        "until": until + timedelta(days=1) if until and whole_day else until,
    }
    tenant = given.get("tenant") if look.visitor.sees_all else look.tenant
    before = queries.place_of(given.get("cursor"))
    return reads.listed(look.services.database, tenant=tenant, before=before, limit=PER_PAGE + 1, **wanted)


def _cards(look: Looking, jobs: list[Job]) -> list[_Card]:
    asked = reads.requests(look.services.database, [job.id for job in jobs])
    return [_Card(job, prompt_of(asked.get(job.id, {}))) for job in jobs]


def prompt_of(request: Mapping[str, Any]) -> str:
    """Return the prompt of a request, whatever its model calls it; empty where there is none."""
    given = request.get("input")
    fields = given if isinstance(given, dict) else {}
    for name in ("prompt", "text", "lyrics", "title"):
        if isinstance(fields.get(name), str) and fields[name].strip():
            return str(fields[name])
    return ""
