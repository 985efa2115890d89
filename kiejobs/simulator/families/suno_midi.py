"""Suno MIDI: the notes of each instrument of separated stems. There is no file: the notes are the result.

Unlike the other tasks on a song its `successFlag` is a number, and the notes are in `midiData`.
Source: docs.kie.ai/suno-api/generate-midi, get-midi-details, generate-midi-callbacks.
"""

from kiejobs.simulator.families.drawing import FLAGS, error, times, verdict, word
from kiejobs.simulator.families.sheets import instruments
from kiejobs.simulator.family import Family, Operation
from kiejobs.simulator.fields import text
from kiejobs.simulator.tasks import Look, Task


class SunoMidi(Family):
    """Suno MIDI."""

    name = "suno-midi"
    record_path = "/api/v1/midi/record-info"
    unknown = None
    operations = (
        Operation(
            path="/api/v1/midi/generate",
            model="suno/midi",
            fields=(text("taskId", required=True), text("audioId")),
            callback_required=True,
            parent="taskId",
            parent_of="suno-vocal-removal",
            once=True,
            price=2.0,
        ),
    )

    def record(self, task: Task, look: Look) -> dict[str, object]:
        """The `data` of record-info; `errorCode` is text here."""
        failed = error(task, look)
        return {
            "taskId": task.id,
            "recordTaskId": -1,
            "audioId": task.order.given.get("audioId", ""),
            "callbackUrl": task.order.callback_url,
            **times(task, look),
            "midiData": {"state": "complete", "instruments": instruments()} if look.made else None,
            "successFlag": word(task, look, FLAGS),
            **failed | {"errorCode": None if failed["errorCode"] is None else str(failed["errorCode"])},
        }

    def callback(self, task: Task, look: Look) -> dict[str, object]:
        """The notes beside `taskId`."""
        notes = {"state": "complete", "instruments": instruments()} if look.made else {"state": "error"}
        return {**verdict(task, look, "success"), "data": {"taskId": task.id, **notes}}
