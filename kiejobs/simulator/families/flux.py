"""Flux Kontext: one picture made or edited, and for ten minutes the one it was made from.

Source: docs.kie.ai/flux-kontext-api/generate-or-edit-image, generate-or-edit-image-callbacks.
"""

from types import MappingProxyType

from kiejobs.simulator.families.drawing import FLAGS, error, param_json, times, verdict, word
from kiejobs.simulator.family import Family, Files, Operation
from kiejobs.simulator.fields import Body, flag, number, text
from kiejobs.simulator.models import Kind
from kiejobs.simulator.scenarios import Scenario
from kiejobs.simulator.tasks import Look, Task

RESULT, ORIGIN = 0, 1
ORIGIN_LIFE_S = 600.0


def result_and_origin(model: str, given: Body, scenario: Scenario) -> Files:
    """Always these two."""
    return Kind.IMAGE, Kind.IMAGE


class FluxKontext(Family):
    """Flux Kontext."""

    name = "flux-kontext"
    record_path = "/api/v1/flux/kontext/record-info"
    short_lived = MappingProxyType({ORIGIN: ORIGIN_LIFE_S})
    operations = (
        Operation(
            path="/api/v1/flux/kontext/generate",
            model="flux-kontext-pro",
            fields=(
                text("prompt", required=True),
                flag("enableTranslation"),
                flag("uploadCn"),
                text("inputImage"),
                text("aspectRatio", "21:9", "16:9", "4:3", "1:1", "3:4", "9:16"),
                text("outputFormat", "jpeg", "png"),
                flag("promptUpsampling"),
                text("model", "flux-kontext-pro", "flux-kontext-max"),
                number("safetyTolerance", 0, 6),
            ),
            price=5.0,
            files=result_and_origin,
        ),
    )

    def record(self, task: Task, look: Look) -> dict[str, object]:
        """The `data` of record-info."""
        return {
            "taskId": task.id,
            "paramJson": param_json(task),
            **times(task, look),
            "response": _pair(look) if look.made else None,
            "successFlag": word(task, look, FLAGS),
            **error(task, look),
        }

    def callback(self, task: Task, look: Look) -> dict[str, object]:
        """`info` with both pictures, or null."""
        info = _pair(look) if look.made else None
        msg = "BFL image generated successfully."
        return {**verdict(task, look, msg), "data": {"taskId": task.id, "info": info}}


def _pair(look: Look) -> dict[str, str]:
    return {"originImageUrl": look.links[ORIGIN], "resultImageUrl": look.links[RESULT]}
