"""4o Image: pictures from a prompt or up to five files.

The record has a flag and a status word, and `progress` as text from "0.00" to "1.00"; camel case `resultUrls` in the
record, snake case `result_urls` in the callback. It has a download-url call of its own, see `links`.
Source: docs.kie.ai/4o-image-api/generate-4-o-image, get-4-o-image-details, generate-4-o-image-callbacks.
"""

from kiejobs.simulator.families.drawing import FLAGS, error, param_json, times, verdict, word
from kiejobs.simulator.family import Family, Operation, several
from kiejobs.simulator.fields import Body, text, urls
from kiejobs.simulator.models import Kind
from kiejobs.simulator.tasks import FAIL, SUCCESS, Look, Task

WORDS = {SUCCESS: "SUCCESS", FAIL: "GENERATE_FAILED"}


def prompt_or_files(body: Body) -> str:
    """One of the two there must be."""
    return "" if body.get("prompt") or body.get("filesUrl") or body.get("fileUrl") else "prompt or filesUrl is required"


class FourO(Family):
    """4o Image."""

    name = "4o"
    record_path = "/api/v1/gpt4o-image/record-info"
    operations = (
        Operation(
            path="/api/v1/gpt4o-image/generate",
            model="gpt4o-image",
            fields=(
                text("size", "1:1", "3:2", "2:3", required=True),
                text("prompt"),
                urls("filesUrl", at_most=5),
                text("fileUrl"),
            ),
            rule=prompt_or_files,
            price=6.0,
            files=several(Kind.IMAGE),
        ),
    )

    def record(self, task: Task, look: Look) -> dict[str, object]:
        """The `data` of record-info."""
        flag = word(task, look, FLAGS)
        odd = flag if isinstance(flag, str) else None
        return {
            "taskId": task.id,
            "paramJson": param_json(task),
            **times(task, look),
            "response": {"resultUrls": list(look.links)} if look.made else None,
            "successFlag": FLAGS.get(look.state, 0) if odd else flag,
            "status": odd or WORDS.get(look.state, "GENERATING"),
            **error(task, look),
            "progress": f"{task.progress:.2f}",
        }

    def callback(self, task: Task, look: Look) -> dict[str, object]:
        """`info.result_urls`, or `info` null."""
        info = {"result_urls": list(look.links)} if look.made else None
        return {**verdict(task, look, "success"), "data": {"taskId": task.id, "info": info}}
