"""Runway: videos and their extensions, with a `state` of its own words and `expireFlag` once the files are gone.

`generateTime` is text, `failCode` a number. The callback spells `task_id`, and its fields are empty after a failure.
Source: docs.kie.ai/runway-api/generate-ai-video, extend-ai-video, get-ai-video-details, generate-ai-video-callbacks.
"""

from kiejobs.simulator.families.drawing import as_number, as_text, verdict, word
from kiejobs.simulator.family import Family, Files, Operation
from kiejobs.simulator.fields import Body, one_of, text
from kiejobs.simulator.models import Kind
from kiejobs.simulator.scenarios import Scenario
from kiejobs.simulator.tasks import FAIL, GENERATING, SUCCESS, WAITING, Look, Task

STATES = {WAITING: "wait", GENERATING: "generating", SUCCESS: "success", FAIL: "fail"}
_QUEUED_UNTIL = 0.5
"""The share of a generation after which `queueing` becomes `generating`."""


def video_and_picture(model: str, given: Body, scenario: Scenario) -> Files:
    """The video and its first frame."""
    return Kind.VIDEO, Kind.IMAGE


def not_both(body: Body) -> str:
    """1080p is for 5 seconds only, and a video from text needs a frame."""
    if body.get("quality") == "1080p" and str(body.get("duration")) == "10":
        return "quality 1080p is only available with duration 5"
    return "" if body.get("imageUrl") or body.get("aspectRatio") else "aspectRatio is required"


class Runway(Family):
    """Runway."""

    name = "runway"
    record_path = "/api/v1/runway/record-detail"
    operations = (
        Operation(
            path="/api/v1/runway/generate",
            model="runway",
            fields=(
                text("prompt", required=True, at_most=1800),
                text("imageUrl"),
                one_of("duration", 5, 10, required=True),
                text("quality", "720p", "1080p", required=True),
                text("aspectRatio", "16:9", "4:3", "1:1", "3:4", "9:16"),
            ),
            rule=not_both,
            price=12.0,
            files=video_and_picture,
        ),
        Operation(
            path="/api/v1/runway/extend",
            model="runway/extend",
            fields=(
                text("taskId", required=True),
                text("prompt", required=True, at_most=1800),
                text("quality", "720p", "1080p", required=True),
            ),
            parent="taskId",
            parent_of="runway",
            price=12.0,
            files=video_and_picture,
        ),
    )

    def record(self, task: Task, look: Look) -> dict[str, object]:
        """The `data` of record-detail."""
        state = word(task, look, STATES)
        if state == "generating" and task.progress < _QUEUED_UNTIL:
            state = "queueing"
        code, message = task.failure if look.state == FAIL else ("0", "")
        return {
            "taskId": task.id,
            "parentTaskId": task.order.parent.id if task.order.parent else "",
            "generateParam": {
                "prompt": task.order.given["prompt"],
                "imageUrl": task.order.given.get("imageUrl", ""),
                "expandPrompt": True,
            },
            "state": state,
            "generateTime": as_text(task.created_at_ms),
            "videoInfo": _video(task, look) if look.made else None,
            "failCode": as_number(code),
            "failMsg": message,
            "expireFlag": int(look.expired),
        }

    def callback(self, task: Task, look: Look) -> dict[str, object]:
        """The links side by side with `task_id`."""
        video, image = look.links if look.made else ("", "")
        data = {"task_id": task.id, "video_id": task.id if video else "", "video_url": video, "image_url": image}
        return {**verdict(task, look, "All generated successfully."), "data": data}


def _video(task: Task, look: Look) -> dict[str, str]:
    return {"videoId": task.id, "taskId": task.id, "videoUrl": look.links[0], "imageUrl": look.links[1]}
