"""Midjourney, withdrawn in 2026: four pictures or videos, and upscales and variations of one of them.

The record has objects in `resultInfoJson.resultUrls` and times as ISO text; the callback has flat links.
Source: docs.kie.ai/mj-api/generate-mj-image, get-mj-task-details, generate-mj-image-callbacks, as they were.
"""

from kiejobs.simulator.families.drawing import FLAGS, as_iso, error, param_json, times, verdict, word
from kiejobs.simulator.family import Family, Files, Operation, several
from kiejobs.simulator.fields import Body, number, one_of, text, urls
from kiejobs.simulator.models import Kind
from kiejobs.simulator.scenarios import Scenario
from kiejobs.simulator.tasks import Look, Task

VIDEOS = ("mj_video", "mj_video_hd")
TYPES = ("mj_txt2img", "mj_img2img", "mj_style_reference", "mj_omni_reference", *VIDEOS)

ASPECTS = ("1:2", "9:16", "2:3", "3:4", "5:6", "6:5", "4:3", "3:2", "1:1", "16:9", "2:1")


def pictures_or_videos(model: str, given: Body, scenario: Scenario) -> Files:
    """Four pictures; of videos as many as were asked for."""
    if given.get("taskType") in VIDEOS:
        return (Kind.VIDEO,) * (scenario.outputs or int(given.get("videoBatchSize") or 1))
    return (Kind.IMAGE,) * (scenario.outputs or 4)


def has_its_files(body: Body) -> str:
    """All but text to image need a file, and a video needs to know how much moves."""
    if body["taskType"] != "mj_txt2img" and not (body.get("fileUrls") or body.get("fileUrl")):
        return "fileUrls is required"
    return "motion is required" if body["taskType"] in VIDEOS and not body.get("motion") else ""


def _on_one_picture(name: str, files: int) -> Operation:
    return Operation(
        path=f"/api/v1/mj/{name}",
        model=f"mj/{name}",
        fields=(text("taskId", required=True), number("imageIndex", 1, 4, required=True)),
        parent="taskId",
        parent_of="midjourney",
        price=8.0,
        files=several(Kind.IMAGE, files),
    )


class Midjourney(Family):
    """Midjourney."""

    name = "midjourney"
    record_path = "/api/v1/mj/record-info"
    operations = (
        Operation(
            path="/api/v1/mj/generate",
            model="midjourney",
            fields=(
                text("taskType", *TYPES, required=True),
                text("prompt", required=True),
                text("speed", "relaxed", "fast", "turbo"),
                urls("fileUrls"),
                text("aspectRatio", *ASPECTS),
                text("version", "7", "6.1", "6", "5.2", "5.1", "niji6"),
                number("variety", 0, 100),
                number("stylization", 0, 1000),
                number("weirdness", 0, 3000),
                number("ow", 1, 1000),
                one_of("videoBatchSize", 1, 2, 4),
                text("motion", "high", "low"),
            ),
            rule=has_its_files,
            price=8.0,
            files=pictures_or_videos,
        ),
        _on_one_picture("generateUpscale", 1),
        _on_one_picture("generateVary", 4),
    )

    def record(self, task: Task, look: Look) -> dict[str, object]:
        """The `data` of record-info."""
        result = {"resultUrls": [{"resultUrl": link} for link in look.links]} if look.made else None
        return {
            "taskId": task.id,
            "taskType": task.order.given.get("taskType", task.order.model),
            "paramJson": param_json(task),
            **{name: as_iso(at_ms) for name, at_ms in times(task, look).items()},
            "resultInfoJson": result,
            "successFlag": word(task, look, FLAGS),
            **error(task, look),
        }

    def callback(self, task: Task, look: Look) -> dict[str, object]:
        """`promptJson` and a flat list of links, empty after a failure."""
        links = list(look.links) if look.made else []
        data = {"taskId": task.id, "promptJson": param_json(task), "resultUrls": links}
        return {**verdict(task, look, "success"), "data": data}
