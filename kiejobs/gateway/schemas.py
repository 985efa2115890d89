"""What the HTTP API takes and gives, for the OpenAPI document. Nothing is checked with these classes.

Requests are checked by `kiejobs.request`, the same for HTTP, Python and Celery; answers are written by
`kiejobs.documents`. A test holds the answers against these schemas.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from kiejobs.jobs import JobState, PublicState
from kiejobs.prompts import PARTS


class _Document(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


class Problem(_Document):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="A name for this kind of problem.")
    title: str
    status: int
    detail: str = Field(description="What happened, in one sentence.")
    code: str = Field(description="The kind of problem, for programs.")
    reason: str | None = Field(description="Where a job would end with one: its reason.")
    field: str | None = Field(description="The field at fault.")
    given: Any = Field(description="What was given there, if it is short.")
    allowed: str | None = Field(description="What may stand there.")
    action: str = Field(description="What to do about it.")


class JobError(_Document):
    """Why a job did not end well, or is not well."""

    code: str | None = Field(description="Kie's code.")
    reason: str | None = Field(description="Ours; see the lifecycle's page.")
    message: str | None
    action: str = Field(description="What to do about it.")


class Output(_Document):
    """One result file."""

    index: int
    state: Literal["pending", "stored", "failed"]
    role: str = Field(description="What Kie called it: result, watermark, first_frame, cover …")
    key: str | None = Field(description="Its key in the bucket.")
    url: str | None = Field(description="Where this gateway gives it: GET it with the same key.")
    media_type: str | None
    size_bytes: int | None
    received_bytes: int
    sha256: str | None
    error: str | None
    expires_at: datetime | None = Field(description="When Kie's own link dies; of interest until it is stored.")


class Event(_Document):
    """One line of a timeline."""

    at: datetime
    kind: str
    who: str
    from_state: str | None = Field(alias="from")
    to_state: str | None = Field(alias="to")
    note: str
    detail: dict[str, Any]


class Listed(_Document):
    """A generation, as it stands in a list."""

    generation_id: str
    provider_task_id: str | None
    state: PublicState
    phase: JobState = Field(description="The fine state.")
    message: str | None = Field(description="Why it stands there, where there is something to say.")
    model: str
    tenant: str
    account: str
    progress: float | None
    polls: int
    found_by: Literal["callback", "poll", "sweep", "answer"] | None = Field(
        description="What brought its end at Kie to light; `answer` is the create call itself."
    )
    place_in_line: int | None = Field(description="1 is sent next; null where the job is not in line, and in lists.")
    created_at: datetime
    accepted_at: datetime | None
    ended_at: datetime | None
    result_urls: list[str]
    outputs: list[Output]
    error: JobError | None
    credits: float | None = Field(description="null while unknown, which is not zero.")
    late: bool = Field(description="Whether it succeeded after the timeout.")
    metadata: dict[str, Any]


class Generation(Listed):
    """A generation with its timeline."""

    timeline: list[Event]


class Accepted(Listed):
    """A generation that was accepted."""

    reused: bool = Field(description="Whether `reuseWithinS` gave back an earlier job of the same model and input.")


class AcceptedMany(_Document):
    """The generations of a batch, in its order."""

    generations: list[Accepted]


class Page(_Document):
    """Generations, newest first."""

    generations: list[Listed]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one.")


class Timeline(_Document):
    """What happened to a generation, oldest first."""

    timeline: list[Event]


class Model(_Document):
    """One model of the catalogue."""

    id: str
    kind: str
    vendor: str
    status: str
    note: str
    doc: str
    date: str
    price_credits: float | None
    typical_s: float | None


class Models(_Document):
    """The models whose parameters are known. Others of Kie's jobs API work too."""

    models: list[Model]


class ModelInput(Model):
    """A model with the JSON Schema (2020-12) of its input."""

    input: dict[str, Any]


class Account(_Document):
    """One Kie account."""

    name: str
    paused_until: datetime | None
    pause_code: str | None
    pause_note: str | None
    models_paused: dict[str, str] = Field(description="Models it may not create with now, and why.")
    credits: float | None
    checked_at: datetime | None
    drift_credits: float | None = Field(description="Credits that left the balance and that no known create explains.")
    free_creates: int | None = Field(
        description="Creates that may be made now; null where the limit is not known here."
    )


class Accounts(_Document):
    """Kie's accounts."""

    accounts: list[Account]


class Delivery(_Document):
    """One message to a producer."""

    id: str
    generation_id: str
    sequence: int
    type: str
    state: Literal["pending", "delivered", "gave_up"]
    attempts: int
    due_at: datetime | None
    url: str
    error: str | None
    created_at: datetime
    delivered_at: datetime | None


class Address(_Document):
    """An address that messages go to."""

    url: str
    is_default: bool = Field(description="Told of every generation that names no address.")
    disabled_at: datetime | None = Field(description="Since when it wants nothing more (410 Gone).")
    gave_up: int = Field(description="Messages to it that were given up.")


class Addresses(_Document):
    """The addresses of which there is something to say."""

    addresses: list[Address]


class Deliveries(_Document):
    """Messages to producers, newest first."""

    deliveries: list[Delivery]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one.")


class Queue(_Document):
    """The tenant's unfinished generations."""

    in_line: int = Field(description="In line to be sent.")
    held: int = Field(description="Queued, but kept out of the line for now: a cap, a paused model, a parent.")
    in_flight: dict[str, int] = Field(description="By fine state, from submitting on.")


class FileKey(_Document):
    """What an uploaded file is known by."""

    key: str


class StoredFile(_Document):
    """An uploaded file. Put this whole object where an input wants a URL."""

    file: FileKey = Field(alias="$file")


def request_body(
    schema: dict[str, Any], examples: dict[str, dict[str, Any]], *, required: bool = True
) -> dict[str, Any]:
    """Describe a JSON body for a route's `openapi_extra`."""
    content = {"application/json": {"schema": schema, "examples": examples}}
    return {"requestBody": {"required": required, "content": content}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the problems that a route may answer, beside those that every route may."""
    everywhere = (401, 403, 429, 503)
    return {
        status: {"description": _WHEN[status], "content": {"application/problem+json": {"schema": _PROBLEM}}}
        for status in sorted({*statuses, *everywhere})
    }


def answers(good: dict[int, Any], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe what a route answers: its documents by status (a class, or a description), and problems."""
    told: dict[int | str, dict[str, Any]] = {}
    told |= {status: one if isinstance(one, dict) else {"model": one} for status, one in good.items()}
    return told | problems(*statuses)


_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_WHEN = {
    400: "The body is no JSON object.",
    401: "No key was given, or one that is not known.",
    403: "The key's scope is too small.",
    404: "This tenant has no such thing.",
    408: "The body came too slowly.",
    409: "What stands already does not allow it.",
    413: "The body is too large.",
    415: "The body has the wrong media type.",
    416: "The file has no such range.",
    422: "A field is wrong; `field` names it.",
    429: "Too many requests; the header Retry-After says when to come back.",
    503: "Something that the gateway needs does not answer; try again.",
}

REQUEST: dict[str, Any] = {
    "type": "object",
    "required": ["model"],
    "additionalProperties": False,
    "properties": {
        "model": {"type": "string", "minLength": 1, "maxLength": 500, "description": "Kie's exact id of the model."},
        "input": {"type": "object", "description": "Its parameters; GET /api/models/{id} says which."},
        "prompt": {"type": "string", "description": "With `options`, another way to give the input; not beside it."},
        "options": {"type": "object", "description": "The rest of the input, beside `prompt`."},
        "promptParts": {
            "type": "object",
            "additionalProperties": False,
            "description": "Makes the prompt, instead of one: sentences in a fixed order; `avoid` goes into the model's own "
            "field for what must not be there, where it has one.",
            "properties": {
                name: {
                    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
                    "description": what,
                }
                for name, what in PARTS.items()
            },
        },
        "provider": {"type": "string", "enum": ["kie"]},
        "idempotencyKey": {
            "type": "string",
            "maxLength": 500,
            "description": "The same key and request again: the same generation. Or the header Idempotency-Key.",
        },
        "callbackUrl": {
            "type": "string",
            "format": "uri",
            "maxLength": 2000,
            "description": "Told, signed, when the generation ends, is late or is parked.",
        },
        "metadata": {
            "type": "object",
            "description": "Yours, at most 64 KiB, given back with the generation and with every message about it.",
        },
        "priority": {"type": "string", "enum": ["interactive", "batch"], "default": "interactive"},
        "account": {"type": "string", "default": "default", "description": "The Kie account that pays."},
        "fallbackModels": {
            "type": "array",
            "maxItems": 10,
            "description": "Tried in turn where Kie refuses a create for credits or for a model that is switched off.",
            "items": {
                "anyOf": [
                    {"type": "string"},
                    {
                        "type": "object",
                        "required": ["model"],
                        "additionalProperties": False,
                        "properties": {"model": {"type": "string"}, "input": {"type": "object"}},
                    },
                ]
            },
        },
        "validate": {
            "type": "string",
            "enum": ["on", "strict", "off"],
            "default": "on",
            "description": "Whether the input is held against the catalogue; `strict` refuses unknown models, too.",
        },
        "reuseWithinS": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 31622400,
            "description": "Give back this tenant's job of the same model and input, if it was asked for at most so many "
            "seconds ago and has neither failed nor been canceled; 200 and `reused: true` say so.",
        },
    },
}
"""The body of POST /api/generations."""

EXAMPLES: dict[str, dict[str, Any]] = {
    "picture": {
        "summary": "A picture",
        "value": {"model": "z-image", "input": {"prompt": "a red door in the rain", "aspect_ratio": "1:1"}},
    },
    "video": {
        "summary": "A video, bought once however often it is asked for",
        "value": {
            "model": "kling-2.6/text-to-video",
            "input": {"prompt": "a red panda on a mossy log", "sound": False, "aspect_ratio": "16:9", "duration": "5"},
            "idempotencyKey": "order-42",
            "metadata": {"order": 42},
        },
    },
    "prompt": {
        "summary": "Prompt and options",
        "value": {"provider": "kie", "model": "z-image", "prompt": "a lighthouse", "options": {"aspect_ratio": "16:9"}},
    },
    "told": {
        "summary": "In no hurry, told when it is done",
        "value": {
            "model": "z-image",
            "input": {"prompt": "a harbour at night", "aspect_ratio": "4:3"},
            "priority": "batch",
            "callbackUrl": "https://example.com/hooks/kiejobs",
        },
    },
    "reused": {
        "summary": "The same picture of the last hour will do",
        "value": {
            "model": "z-image",
            "input": {"prompt": "a red door in the rain", "aspect_ratio": "1:1"},
            "reuseWithinS": 3600,
        },
    },
    "another": {
        "summary": "With a model to fall back on",
        "value": {
            "model": "grok-imagine/text-to-image",
            "input": {"prompt": "a paper boat"},
            "fallbackModels": [{"model": "z-image", "input": {"prompt": "a paper boat", "aspect_ratio": "1:1"}}],
        },
    },
}
"""Requests that work as they are printed."""
