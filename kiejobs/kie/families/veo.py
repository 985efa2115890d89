"""Veo 3.1: videos, their extension, and better copies of them at 1080p and 4K.

An older API; the jobs API has it as `veo-3-1`, `veo/extend`, `veo/get-1080p-video` and `veo/get-4k-video`. Source:
https://docs.kie.ai/veo3-api/generate-veo-3-video, https://docs.kie.ai/veo3-api/get-veo-3-video-details,
https://docs.kie.ai/veo3-api/get-veo-3-1080-p-video and https://docs.kie.ai/veo3-api/get-veo-3-4k-video. The two upgrades
have no task: the same call is made again until it gives the file, so the task id that they get is of our making.
"""

from dataclasses import replace
from typing import Any, ClassVar

from kiejobs.answers import Accepted, Finished, NotVisible, Outcome, Pending, Snapshot
from kiejobs.kie.adoption import Echo
from kiejobs.kie.envelope import Envelope, refusal
from kiejobs.kie.family import Call, accepted, common_link, flat, given
from kiejobs.kie.reading import (
    FAILED_CODES,
    NOT_VISIBLE_CODES,
    broken,
    credits,
    files,
    mapping,
    param_echo,
    task_id,
    unseen,
    word,
)

WORKING = frozenset({"0"})
MADE = frozenset({"1"})
FAILED = frozenset({"2", "3"})
"""`successFlag`. Source: https://docs.kie.ai/veo3-api/get-veo-3-video-details"""

GENERATES = frozenset({"veo3", "veo3_fast", "veo3_lite"})
EXTENDS = "veo3/extend"

URL_KEYS = (("resultUrls", "result"), ("fullResultUrls", "full"), ("originUrls", "origin"), ("imageUrls", "cover"))
"""Results; the whole film of an extension; the uncropped originals of other frames than 16:9; a thumbnail of a 4K copy.

Older pages have the lists as JSON text.
"""

NOT_ECHOED = ("model", "watermark", "callBackUrl")
"""Parameters that are compared by themselves, or that the documented record spells in its own way."""


class Veo:
    """Generation and extension; both are read by record-info."""

    name = "veo"
    models = GENERATES | {EXTENDS}
    create_deadline_s: float | None = None
    readable = NOT_VISIBLE_CODES | FAILED_CODES

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Call:
        """POST /api/v1/veo/generate with the model, or /api/v1/veo/extend, whose `model` is a tier of its own."""
        if model == EXTENDS:
            return flat("/api/v1/veo/extend", given(request), callback_url)
        return flat("/api/v1/veo/generate", given(request) | {"model": model}, callback_url)

    def created(self, answer: Envelope, request: dict[str, Any]) -> Outcome:
        """`data.taskId`."""
        return accepted(task_id(answer.data), answer)

    def read(self, task_id: str) -> Call:
        """GET /api/v1/veo/record-info?taskId=…."""
        return Call("GET", "/api/v1/veo/record-info", query={"taskId": task_id})

    def snapshot(self, envelope: Envelope) -> Snapshot:
        """Read the record by its flag."""
        record = envelope.data
        if not isinstance(record, dict):
            return unseen(envelope)
        flag, spent = word(record.get("successFlag")), credits(record.get("creditsConsumed"))
        if flag in MADE:
            return Finished(files(record.get("response"), URL_KEYS), spent)
        if flag in FAILED:
            return broken(record.get("errorCode") or flag, record.get("errorMessage"), spent)
        return Pending(flag or "no flag", known=flag in WORKING)

    def fresh_link(self, task_id: str, url: str) -> Call:
        """The common download-url call."""
        return common_link(url)

    def asked(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        """The parameters that the record repeats as they were sent."""
        return {name: value for name, value in given(request).items() if name not in NOT_ECHOED}

    def echo(self, record: Any) -> Echo:
        """`paramJson` and `createTime`; a generation's model is named among the parameters, if at all."""
        found = param_echo(record)
        named = (found.input or {}).get("model")
        return replace(found, model=named if isinstance(named, str) and named in GENERATES else None)


UPGRADE_WAITS = frozenset({400, 422})
"""1080p answers 400 and 4K answers 422 while the copy is made; and 422, with the file, once it was made before.

Source: https://docs.kie.ai/veo3-api/get-veo-3-1080-p-video and https://docs.kie.ai/veo3-api/get-veo-3-4k-video
"""

UPGRADE_WORDS = ("processing", "be ready", "not ready", "check back", "generating", "generated successfully")
"""What these answers say when they do not refuse. Source: the same pages."""

NO_RECORD_WORDS = ("not exist", "is null")

UPGRADE_URL_KEYS = (("resultUrl", "result"), *URL_KEYS)


class _Upgrade:
    """What both upgrades share. Asking twice for the same copy makes and costs no second one."""

    name: ClassVar[str]
    create_deadline_s: float | None = None
    readable = UPGRADE_WAITS | NOT_VISIBLE_CODES | FAILED_CODES

    def read(self, task_id: str) -> Call:
        raise NotImplementedError

    def create(self, model: str, request: dict[str, Any], callback_url: str | None) -> Call:
        """The call itself. It takes no callback address of ours: its callback would name a task of Kie's."""
        return self.read(_made_up(self.name, request))

    def created(self, answer: Envelope, request: dict[str, Any]) -> Outcome:
        """Ready, or still being made: accepted under a task id that says what to ask for again."""
        if answer.ok or _is_under_way(answer):
            return Accepted(_made_up(self.name, request))
        return refusal(answer)

    def snapshot(self, envelope: Envelope) -> Snapshot:
        """Read the answer by its file: without one the copy is still being made."""
        record, code = mapping(envelope.data), envelope.code
        found = files(record, UPGRADE_URL_KEYS)
        if found and (envelope.ok or code in UPGRADE_WAITS):
            return Finished(found, credits(record.get("creditsConsumed")))
        if code in FAILED_CODES:
            return broken(code, envelope.message)
        said = envelope.message
        if code == 404 or any(words in said.lower() for words in NO_RECORD_WORDS):
            return NotVisible(said or f"code {code}")
        return Pending(said[:100] or "no file yet", known=envelope.ok or _is_under_way(envelope))

    def fresh_link(self, task_id: str, url: str) -> Call:
        """The common download-url call."""
        return common_link(url)

    def asked(self, model: str, request: dict[str, Any]) -> dict[str, Any]:
        """The task that is upgraded."""
        return {name: value for name, value in given(request).items() if name == "taskId"}

    def echo(self, record: Any) -> Echo:
        """The answer repeats the task id and no time, so nothing proves whose upgrade it is; asking again is free."""
        named = mapping(record).get("taskId")
        return Echo(None, {"taskId": named} if named else None, None, None)


class Veo1080p(_Upgrade):
    """A copy at 1080p, ready 1 to 2 minutes after it was first asked for."""

    name = "veo-1080p"
    models = frozenset({"veo3/1080p"})

    def read(self, task_id: str) -> Call:
        """GET /api/v1/veo/get-1080p-video?taskId=…&index=…."""
        of, index = _meant(task_id)
        return Call("GET", "/api/v1/veo/get-1080p-video", query={"taskId": of, "index": str(index)})


class Veo4k(_Upgrade):
    """A copy at 4K, ready 5 to 10 minutes after it was first asked for; costs about two fast generations."""

    name = "veo-4k"
    models = frozenset({"veo3/4k"})

    def read(self, task_id: str) -> Call:
        """POST /api/v1/veo/get-4k-video; said again it tells how far it is."""
        of, index = _meant(task_id)
        return Call("POST", "/api/v1/veo/get-4k-video", body={"taskId": of, "index": index})


def _made_up(name: str, request: dict[str, Any]) -> str:
    """The upgraded task, which of its videos, and the submission: two jobs may ask for the same copy."""
    asked = given(request)
    index = word(asked.get("index")) or "0"
    return f"{name}:{word(asked.get('taskId'))}:{index}:{word(request.get('submission'))[:8]}"


def _meant(made_up: str) -> tuple[str, int]:
    """Read a task id of ours; anything else is a task of Kie's, whose first video is meant."""
    parts = made_up.rsplit(":", 2)
    name, colon, of = parts[0].partition(":")
    if len(parts) == 3 and colon and name in (Veo1080p.name, Veo4k.name) and parts[1].isdecimal():
        return of, int(parts[1])
    return made_up, 0


def _is_under_way(answer: Envelope) -> bool:
    said = answer.message.lower()
    return answer.code in UPGRADE_WAITS and any(words in said for words in UPGRADE_WORDS)
