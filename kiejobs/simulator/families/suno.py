"""Suno music: nine calls that make songs, three calls that answer at once.

A task goes PENDING, TEXT_SUCCESS, FIRST_SUCCESS, SUCCESS, with a callback for each but the first; only `complete` and
`error` are the end. Songs are camel case in the record and snake case in callbacks. An unknown task is code 200 with
data null, as seen in answers.
Source: docs.kie.ai/suno-api/generate-music and its siblings, get-music-details, generate-music-callbacks.
"""

import secrets
import time
from collections.abc import Callable
from typing import Any

from kiejobs.simulator.families.drawing import error, param_json, verdict, word
from kiejobs.simulator.families.sheets import aligned_words
from kiejobs.simulator.families.songs import camel, song_files, songs_of
from kiejobs.simulator.family import Family, Operation, Stage
from kiejobs.simulator.fields import Body, Field, flag, number, text, urls
from kiejobs.simulator.orders import Order
from kiejobs.simulator.tasks import FAIL, GENERATING, SUCCESS, WAITING, Look, Task

VERSIONS = ("V3_5", "V4", "V4_5", "V4_5PLUS", "V4_5ALL", "V5", "V5_5", "V6", "V6_MINI", "V6_WILD")
STATUSES = {WAITING: "PENDING", SUCCESS: "SUCCESS", FAIL: "GENERATE_AUDIO_FAILED"}
FIRST, SECOND = 1 / 3, 2 / 3
MESSAGES = {"text": "Text generated successfully.", "first": "First track generated successfully."}

_MODEL = text("model", *VERSIONS, required=True)
_WEIGHTS = (
    text("negativeTags"),
    text("vocalGender", "m", "f"),
    number("styleWeight", 0, 1),
    number("weirdnessConstraint", 0, 1),
    number("audioWeight", 0, 1),
    text("personaId"),
    text("personaModel", "style_persona", "voice_persona"),
    number("duration", 10, 360),
)
_STYLED = (text("style", at_most=1000), text("title", at_most=100))
_MODES = (flag("customMode", required=True), flag("instrumental", required=True))


def custom_needs_style(body: Body) -> str:
    """Custom mode wants a style and a title; words are needed unless it is custom and instrumental."""
    custom, instrumental = body["customMode"], body.get("instrumental")
    missing = [name for name in ("style", "title") if custom and not body.get(name)]
    if not body.get("prompt") and not (custom and instrumental):
        missing.append("prompt")
    return f"{missing[0]} is required" if missing else ""


def custom_parameters(body: Body) -> str:
    """With parameters of its own, an extension says where it begins and what it is like."""
    wanted = ("prompt", "style", "title", "continueAt") if body["defaultParamFlag"] else ()
    missing = [name for name in wanted if body.get(name) in (None, "")]
    return f"{missing[0]} is required" if missing else ""


def two_uploads(body: Body) -> str:
    """A mashup is of two."""
    return "" if len(body["uploadUrlList"]) == 2 else "uploadUrlList must have exactly 2 items"


def section(body: Body) -> str:
    """A section belongs to a song or to an upload, and lasts ten seconds at least."""
    if not (body.get("taskId") and body.get("audioId")) and not (body.get("uploadUrl") and body.get("model")):
        return "taskId and audioId, or uploadUrl and model, are required"
    return "" if body["infillEndS"] - body["infillStartS"] >= 10 else "the section must be at least 10 seconds long"


def _music(name: str, kind: str, *fields: Field, **more: Any) -> Operation:
    """A call that makes songs; all but two want a callback address."""
    path = "/api/v1/generate" + (f"/{name}" if name else "")
    usual: dict[str, Any] = {"callback_required": True, "price": 12.0, "files": song_files, "notes": {"type": kind}}
    return Operation(path=path, model=f"suno/{name or 'generate'}", fields=fields, **usual | more)


def _instant(name: str, price: float, answer: Callable[[Order], object], *fields: Field) -> Operation:
    """A call about a finished song that is answered at once."""
    return Operation(
        path=f"/api/v1/generate/{name}",
        model=f"suno/{name}",
        fields=(text("taskId", required=True), text("audioId", required=True), *fields),
        parent="taskId",
        parent_of="suno",
        price=price,
        answer=answer,
    )


def persona(order: Order) -> dict[str, object]:
    """`data` of generate-persona; the same song has the same persona."""
    number = str(order.given["audioId"]).rpartition("-")[2]
    name, description = order.given["name"], order.given["description"]
    return {"personaId": f"persona_{order.given['taskId']}_{number}", "name": name, "description": description}


def timestamps(order: Order) -> dict[str, object]:
    """`data` of get-timestamped-lyrics."""
    return aligned_words()


def better_style(order: Order) -> dict[str, object]:
    """`data` of style/generate, with the flag in Chinese as seen."""
    return {
        "taskId": secrets.token_hex(16),
        "param": order.given["content"],
        "result": f"Simulated style: {order.given['content']}",
        "creditsConsumed": order.price,
        "creditsRemaining": order.account.balance,
        "successFlag": "成功",
        "errorCode": None,
        "errorMsg": None,
        "createTime": time.time_ns() // 1_000_000,
    }


class Suno(Family):
    """Suno music."""

    name = "suno"
    record_path = "/api/v1/generate/record-info"
    unknown = None
    stages = (Stage("text", FIRST), Stage("first", SECOND))
    operations = (
        _music(
            "", "GENERATE", _MODEL, *_MODES, text("prompt", at_most=5000), *_STYLED, *_WEIGHTS, rule=custom_needs_style
        ),
        _music(
            "extend",
            "EXTEND",
            flag("defaultParamFlag", required=True),
            text("audioId", required=True),
            _MODEL,
            number("continueAt", 0),
            *_STYLED,
            *_WEIGHTS,
            rule=custom_parameters,
            song="audioId",
        ),
        _music(
            "upload-cover",
            "UPLOAD_COVER",
            text("uploadUrl", required=True),
            _MODEL,
            *_MODES,
            *_STYLED,
            *_WEIGHTS,
            rule=custom_needs_style,
        ),
        _music(
            "upload-extend",
            "UPLOAD_EXTEND",
            text("uploadUrl", required=True),
            flag("defaultParamFlag", required=True),
            number("continueAt", 0, required=True),
            _MODEL,
            *_STYLED,
            *_WEIGHTS,
        ),
        _music(
            "add-instrumental",
            "ADD_INSTRUMENTAL",
            text("uploadUrl", required=True),
            text("title", required=True, at_most=100),
            text("negativeTags", required=True, at_most=200),
            text("tags", required=True, at_most=1000),
            text("model", *VERSIONS),
        ),
        _music(
            "add-vocals",
            "ADD_VOCALS",
            text("uploadUrl", required=True),
            text("prompt", required=True),
            text("title", required=True, at_most=100),
            text("negativeTags", required=True),
            text("style", required=True, at_most=1000),
            text("model", *VERSIONS),
        ),
        _music(
            "mashup",
            "MASHUP",
            urls("uploadUrlList", required=True),
            text("style", required=True),
            text("title", required=True),
            flag("customMode", required=True),
            _MODEL,
            *_WEIGHTS,
            rule=two_uploads,
        ),
        _music(
            "replace-section",
            "REPLACE_SECTION",
            *(text(name, required=True) for name in ("prompt", "tags", "title", "fullLyrics")),
            number("infillStartS", 0, required=True),
            number("infillEndS", 0, required=True),
            rule=section,
            parent="taskId",
            parent_of="suno",
            callback_required=False,
        ),
        _music(
            "sounds",
            "SOUNDS",
            text("prompt", required=True, at_most=500),
            _MODEL,
            flag("soundLoop"),
            number("soundTempo", 1, 300),
            callback_required=False,
        ),
        _instant("generate-persona", 0.4, persona, text("name", required=True), text("description", required=True)),
        _instant("get-timestamped-lyrics", 0.5, timestamps),
        Operation(
            path="/api/v1/style/generate",
            model="suno/style",
            fields=(text("content", required=True),),
            price=0.4,
            answer=better_style,
        ),
    )

    def record(self, task: Task, look: Look) -> dict[str, object]:
        """The `data` of record-info; songs show as soon as their words are written."""
        stage = _stage(task, look)
        status = {"text": "TEXT_SUCCESS", "first": "FIRST_SUCCESS"}.get(stage) or word(task, look, STATUSES)
        shown = look.made or stage
        songs = [camel(song) for song in songs_of(task, _at(look, stage))] if shown else None
        return {
            "taskId": task.id,
            "parentMusicId": task.order.given.get("audioId", ""),
            "param": param_json(task),
            "response": {"taskId": task.id, "sunoData": songs} if shown else None,
            "status": status,
            "type": task.order.operation.notes["type"],
            **error(task, look),
        }

    def callback(self, task: Task, look: Look) -> dict[str, object]:
        """`callbackType` says which of the three it is, or that it failed."""
        failed = look.state == FAIL
        kind = "error" if failed else look.stage or "complete"
        data = {"callbackType": kind, "task_id": task.id, "data": None if failed else songs_of(task, look)}
        return {**verdict(task, look, MESSAGES.get(kind, "All generated successfully.")), "data": data}


def _stage(task: Task, look: Look) -> str:
    """What is ready of a task that is still at work."""
    if look.state != GENERATING:
        return ""
    return "text" if task.progress < SECOND else "first"


def _at(look: Look, stage: str) -> Look:
    return Look(state=look.state, links=look.links, stage=stage)
