"""The jobs API: one create and one record call for nearly all models; since September 2026 for all of them.

`param` is JSON text whose `input` is JSON text again, `resultJson` is JSON text and empty until success, `costTime` is
in seconds. What a migrated model leaves behind is in `unified`; every other model gives files by the words of its id.
Source: docs.kie.ai/market/quickstart, market/common/get-task-detail; the rest was seen in answers.
"""

from typing import Any

from kiejobs.simulator.families.drawing import word
from kiejobs.simulator.families.songs import song_files, songs_of
from kiejobs.simulator.families.unified import PARENTS, UNIFIED, is_refused
from kiejobs.simulator.family import Family, Files, Operation
from kiejobs.simulator.fields import Body
from kiejobs.simulator.models import PRICES, Kind, kind_of, usual_outputs
from kiejobs.simulator.orders import to_json
from kiejobs.simulator.scenarios import Scenario
from kiejobs.simulator.tasks import FAIL, GENERATING, SUCCESS, WAITING, Look, Task

STATES = {WAITING: "waiting", GENERATING: "generating", SUCCESS: "success", FAIL: "fail"}


def price_of(model: str) -> float:
    """Credits for one task of that model."""
    return UNIFIED[model].price if model in UNIFIED else PRICES[kind_of(model)]


def files_of(model: str, given: Body, scenario: Scenario) -> Files:
    """The kinds of the result files; frames and covers come after the files they belong to."""
    if scenario.result_object:
        return ()
    if scenario.result_songs:
        return song_files(model, given, scenario)
    if model in UNIFIED:
        return UNIFIED[model].files(model, given, scenario)
    frames = (Kind.IMAGE, Kind.IMAGE) if scenario.first_last_frame else ()
    return (kind_of(model),) * (scenario.outputs or usual_outputs(model)) + frames


def result_of(task: Task, look: Look) -> dict[str, object]:
    """The value whose JSON text is `resultJson`."""
    links, scenario = list(look.links), task.scenario
    if scenario.result_object:
        return {"resultObject": {"text": "A simulated structured result.", "taskId": task.id}}
    if scenario.result_songs:
        return {"data": songs_of(task, look)}
    if task.order.model in UNIFIED:
        return UNIFIED[task.order.model].result(task, look)
    if scenario.first_last_frame:
        return {"resultUrls": links[:-2], "firstFrameUrl": links[-2], "lastFrameUrl": links[-1]}
    return {"resultUrls": links}


def param_of(model: str, given: dict[str, Any], callback_url: str | None) -> str:
    """The `param` text of a record: the request as JSON whose `input` is JSON text again, with what Kie adds."""
    param: dict[str, object] = {"input": to_json({**given, "nsfw_checker": given.get("nsfw_checker", False)})}
    if callback_url is not None:
        param["callBackUrl"] = callback_url
    return to_json(param | {"model": model})


class Jobs(Family):
    """createTask and recordInfo."""

    name = "jobs"
    record_path = "/api/v1/jobs/recordInfo"
    operations = (
        Operation(
            path="/api/v1/jobs/createTask",
            model="",
            wrapped=True,
            rule=is_refused,
            price=price_of,
            files=files_of,
            notes={"parents": PARENTS, "record_id": True},
        ),
    )

    def record(self, task: Task, look: Look) -> dict[str, object]:
        """The `data` of recordInfo."""
        done = look.state in (SUCCESS, FAIL) and task.settled_s is not None
        fail_code, fail_msg = task.failure if look.state == FAIL else (None, None)
        order = task.order
        return {
            "taskId": task.id,
            "model": order.model,
            "state": word(task, look, STATES),
            "param": param_of(order.model, order.given, order.callback_url),
            "resultJson": to_json(result_of(task, look)) if look.made else "",
            "failCode": fail_code,
            "failMsg": fail_msg,
            "costTime": round(task.took_s) if done else None,
            "completeTime": task.completed_at_ms if done else None,
            "createTime": task.created_at_ms,
            "creditsConsumed": 0.0 if look.state == FAIL else task.price,
        }

    def callback(self, task: Task, look: Look) -> dict[str, object]:
        """The record in an envelope; 501 if it failed."""
        record = self.record(task, look)
        code, msg = (501, record["failMsg"]) if look.state == FAIL else (200, "success")
        return {"code": code, "msg": msg, "data": record}
