"""Luma Modify, withdrawn in 2026: a video changed by a prompt. Flag 4 is made, but the callback failed: `[[ends=4]]`.

Source: docs.kie.ai/luma-api/generate-luma-modify-video and get-luma-modify-details, as they were.
"""

from kiejobs.simulator.families.drawing import FLAGS, error, param_json, times, verdict, word
from kiejobs.simulator.family import Family, Operation, several
from kiejobs.simulator.fields import text
from kiejobs.simulator.models import Kind
from kiejobs.simulator.tasks import Look, Task


class Luma(Family):
    """Luma Modify."""

    name = "luma"
    record_path = "/api/v1/modify/record-info"
    operations = (
        Operation(
            path="/api/v1/modify/generate",
            model="luma-modify",
            fields=(text("prompt", required=True), text("videoUrl", required=True)),
            price=40.0,
            files=several(Kind.VIDEO),
        ),
    )

    def record(self, task: Task, look: Look) -> dict[str, object]:
        """The `data` of record-info."""
        return {
            "taskId": task.id,
            "paramJson": param_json(task),
            **times(task, look),
            "response": {"taskId": task.id, "resultUrls": list(look.links)} if look.made else None,
            "successFlag": word(task, look, FLAGS),
            **error(task, look),
        }

    def callback(self, task: Task, look: Look) -> dict[str, object]:
        """`promptJson` and a flat list of links."""
        links = list(look.links) if look.made else []
        data = {"taskId": task.id, "promptJson": param_json(task), "resultUrls": links}
        return {**verdict(task, look, "Modify video generated successfully."), "data": data}
