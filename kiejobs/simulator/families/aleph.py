"""Runway Aleph: a video changed by a prompt.

Its callback has `taskId` at the top, not in `data`, and snake case links. An `errorCode` beside flag 0 is a failure all
the same: `[[fail=500]] [[ends=0]]`.
Source: docs.kie.ai/runway-api/generate-aleph-video, get-aleph-video-details, generate-aleph-video-callbacks.
"""

from kiejobs.simulator.families.drawing import FLAGS, error, param_json, times, verdict, word
from kiejobs.simulator.families.runway import video_and_picture
from kiejobs.simulator.family import Family, Operation
from kiejobs.simulator.fields import flag, text
from kiejobs.simulator.tasks import Look, Task


class Aleph(Family):
    """Aleph."""

    name = "aleph"
    record_path = "/api/v1/aleph/record-info"
    operations = (
        Operation(
            path="/api/v1/aleph/generate",
            model="runway-aleph",
            fields=(
                text("prompt", required=True),
                text("videoUrl", required=True),
                flag("uploadCn"),
                text("aspectRatio", "16:9", "9:16", "4:3", "3:4", "1:1", "21:9"),
                text("referenceImage"),
            ),
            price=40.0,
            files=video_and_picture,
        ),
    )

    def record(self, task: Task, look: Look) -> dict[str, object]:
        """The `data` of record-info."""
        response = dict(zip(("resultVideoUrl", "resultImageUrl"), look.links, strict=True)) if look.made else None
        return {
            "taskId": task.id,
            "paramJson": param_json(task),
            "response": None if response is None else {"taskId": task.id, **response},
            **times(task, look),
            "successFlag": word(task, look, FLAGS),
            **error(task, look),
        }

    def callback(self, task: Task, look: Look) -> dict[str, object]:
        """`data` with both links, or null."""
        data = dict(zip(("result_video_url", "result_image_url"), look.links, strict=True)) if look.made else None
        return {**verdict(task, look, "success"), "taskId": task.id, "data": data}
