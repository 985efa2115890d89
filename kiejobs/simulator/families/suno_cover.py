"""Suno cover: two pictures for a finished song.

Its page lists words for the status, but its example has a number in `successFlag`, and code 200 without a message in
the error fields of a task that was made; so it is here. A sister site's page says that 2 means being made: that is
`[[odd-state=2]]`. A second cover of the same task is 409 and names the earlier one.
Source: docs.kie.ai/suno-api/cover-suno, get-cover-suno-details, cover-suno-callbacks.
"""

from kiejobs.simulator.families.drawing import FLAGS, as_iso, error, times, verdict, word
from kiejobs.simulator.family import Family, Operation, several
from kiejobs.simulator.fields import text
from kiejobs.simulator.models import Kind
from kiejobs.simulator.tasks import SUCCESS, Look, Task

NO_ERROR = {"errorCode": 200, "errorMessage": ""}


class SunoCover(Family):
    """Suno cover."""

    name = "suno-cover"
    record_path = "/api/v1/suno/cover/record-info"
    unknown = None
    operations = (
        Operation(
            path="/api/v1/suno/cover/generate",
            model="suno/cover",
            fields=(text("taskId", required=True),),
            callback_required=True,
            parent="taskId",
            parent_of="suno",
            once=True,
            price=4.0,
            files=several(Kind.IMAGE, 2),
            notes={"conflict_names_task": True},
        ),
    )

    def record(self, task: Task, look: Look) -> dict[str, object]:
        """The `data` of record-info."""
        return {
            "taskId": task.id,
            "parentTaskId": task.order.given["taskId"],
            "callbackUrl": task.order.callback_url,
            **{name: as_iso(at_ms, "milliseconds") for name, at_ms in times(task, look).items()},
            "response": {"images": list(look.links)} if look.made else None,
            "successFlag": word(task, look, FLAGS),
            **(NO_ERROR if look.state == SUCCESS else error(task, look)),
        }

    def callback(self, task: Task, look: Look) -> dict[str, object]:
        """The pictures beside `taskId`."""
        images = list(look.links) if look.made else []
        return {**verdict(task, look, "success"), "data": {"taskId": task.id, "images": images}}
