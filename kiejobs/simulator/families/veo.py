"""Veo 3.1: videos, their extensions, and better copies of them at 1080p and 4K (see `upgrades`).

`originUrls` are there only when the frame is not 16:9; an extension also has the whole film in `fullResultUrls`. A 4K
task has pictures instead, and no `fallbackFlag`.
Source: docs.kie.ai/veo3-api/generate-veo-3-video, extend-video, get-veo-3-video-details and their callback pages.
"""

from kiejobs.simulator.families.drawing import FLAGS, error, param_json, times, verdict, word
from kiejobs.simulator.family import Family, Files, Operation, several
from kiejobs.simulator.fields import Body, flag, number, one_of, text, urls
from kiejobs.simulator.models import Kind
from kiejobs.simulator.scenarios import Scenario
from kiejobs.simulator.tasks import Look, Task

MODES = ("TEXT_2_VIDEO", "FIRST_AND_LAST_FRAMES_2_VIDEO", "REFERENCE_2_VIDEO")


def videos_and_origins(model: str, given: Body, scenario: Scenario) -> Files:
    """The videos, and their uncropped originals where the frame is not 16:9."""
    videos = (Kind.VIDEO,) * (scenario.outputs or 1)
    return videos * (1 if given.get("aspect_ratio", "16:9") == "16:9" else 2)


def part_and_whole(model: str, given: Body, scenario: Scenario) -> Files:
    """The new seconds, and the film they belong to."""
    return Kind.VIDEO, Kind.VIDEO


def video_and_picture(model: str, given: Body, scenario: Scenario) -> Files:
    """A 4K copy and its thumbnail."""
    return Kind.VIDEO, Kind.IMAGE


GENERATE = Operation(
    path="/api/v1/veo/generate",
    model="veo3_fast",
    fields=(
        text("prompt", required=True),
        urls("imageUrls", at_most=3),
        text("model", "veo3", "veo3_fast", "veo3_lite"),
        text("generationType", *MODES),
        text("aspect_ratio", "16:9", "9:16", "Auto"),
        text("resolution", "720p", "1080p", "4k"),
        one_of("duration", 4, 6, 8),
        flag("enableTranslation"),
        flag("enableFallback"),
    ),
    price=60.0,
    files=videos_and_origins,
)
EXTEND = Operation(
    path="/api/v1/veo/extend",
    model="fast",
    fields=(
        text("taskId", required=True),
        text("prompt", required=True),
        number("seeds", 10000, 99999),
        text("model", "fast", "quality", "lite"),
    ),
    parent="taskId",
    parent_of="veo",
    price=60.0,
    files=part_and_whole,
)
IN_4K = Operation(
    path="/api/v1/veo/get-4k-video",
    model="veo/get-4k-video",
    fields=(text("taskId", required=True), number("index", 0)),
    parent="taskId",
    parent_of="veo",
    price=120.0,
    files=video_and_picture,
)
IN_1080P = Operation(
    path="/api/v1/veo/get-1080p-video",
    model="veo/get-1080p-video",
    fields=(text("taskId", required=True),),
    parent="taskId",
    parent_of="veo",
    files=several(Kind.VIDEO),
)


class Veo(Family):
    """Veo 3.1; the two upgrades are calls of their own kind and stand in `upgrades`."""

    name = "veo"
    record_path = "/api/v1/veo/record-info"
    operations = (GENERATE, EXTEND)

    def record(self, task: Task, look: Look) -> dict[str, object]:
        """The `data` of record-info."""
        return {
            "taskId": task.id,
            "paramJson": param_json(task),
            **times(task, look),
            "response": {"taskId": task.id, **_info(task, look)} if look.made else None,
            "successFlag": word(task, look, FLAGS),
            **error(task, look),
            **_fallback(task),
        }

    def callback(self, task: Task, look: Look) -> dict[str, object]:
        """`info` with the links; no `info` at all after a failure."""
        info = {"info": _info(task, look)} if look.made else {}
        msg = f"{'4K Video' if task.order.operation is IN_4K else 'Veo3.1 Video'} generated successfully."
        extra = {"creditsConsumed": task.price} if task.order.operation is IN_4K else {"promptJson": param_json(task)}
        data = {"taskId": task.id, **info, **_fallback(task), **extra}
        return {**verdict(task, look, msg), "data": data}


def _fallback(task: Task) -> dict[str, object]:
    return {} if task.order.operation is IN_4K else {"fallbackFlag": False}


def _info(task: Task, look: Look) -> dict[str, object]:
    links, operation = list(look.links), task.order.operation
    if operation is IN_4K:
        return {"resultUrls": links[:1], "imageUrls": links[1:]}
    resolution = task.order.given.get("resolution", "720p")
    if operation is EXTEND:
        return {"resultUrls": links[:1], "originUrls": None, "fullResultUrls": links[1:], "resolution": resolution}
    videos = task.scenario.outputs or 1
    return {"resultUrls": links[:videos], "originUrls": links[videos:] or None, "resolution": resolution}
