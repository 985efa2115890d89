"""Suno lyrics: variants of a text, each with a status of its own. `status` is a word, as for music.

Source: docs.kie.ai/suno-api/generate-lyrics, get-lyrics-details, generate-lyrics-callbacks.
"""

from kiejobs.simulator.families.drawing import error, param_json, verdict, word
from kiejobs.simulator.families.sheets import lyrics_sheets
from kiejobs.simulator.family import Family, Operation
from kiejobs.simulator.fields import text
from kiejobs.simulator.tasks import FAIL, GENERATING, SUCCESS, WAITING, Look, Task

STATUSES = {WAITING: "PENDING", GENERATING: "PENDING", SUCCESS: "SUCCESS", FAIL: "GENERATE_LYRICS_FAILED"}


class Lyrics(Family):
    """Suno lyrics."""

    name = "suno-lyrics"
    record_path = "/api/v1/lyrics/record-info"
    unknown = None
    operations = (
        Operation(
            path="/api/v1/lyrics",
            model="suno/lyrics",
            fields=(text("prompt", required=True),),
            callback_required=True,
            price=0.4,
        ),
    )

    def record(self, task: Task, look: Look) -> dict[str, object]:
        """The `data` of record-info."""
        response = {"taskId": task.id, "data": lyrics_sheets(task, "errorMessage")} if look.made else None
        return {
            "taskId": task.id,
            "param": param_json(task),
            "response": response,
            "status": word(task, look, STATUSES),
            "type": "LYRICS",
            **error(task, look),
        }

    def callback(self, task: Task, look: Look) -> dict[str, object]:
        """The variants, with `error_message` in snake case."""
        failed = look.state == FAIL
        sheets = None if failed else lyrics_sheets(task, "error_message")
        data = {"callbackType": "error" if failed else "complete", "task_id": task.id, "data": sheets}
        return {**verdict(task, look, "All generated successfully."), "data": data}
