"""Results: which files a task leaves behind, and the shape of the resultJson that names them.

Three shapes: `resultUrls`, `resultObject`, and the two songs of a music model. A file's index is its place in
`files_of`; frames and covers come after the files they belong to.
"""

from kiejobs.simulator.models import Kind
from kiejobs.simulator.scenarios import Scenario

_SONGS = 2


def files_of(kind: Kind, scenario: Scenario, usual: int) -> tuple[Kind, ...]:
    """The kind of each result file, by index."""
    if scenario.result_object:
        return ()
    if scenario.result_songs:
        songs = scenario.outputs or _SONGS
        return (Kind.AUDIO,) * songs + (Kind.IMAGE,) * songs
    frames = (Kind.IMAGE, Kind.IMAGE) if scenario.first_last_frame else ()
    return (kind,) * (scenario.outputs or usual) + frames


def result_of(links: list[str], task_id: str, created_at_ms: int, scenario: Scenario) -> dict[str, object]:
    """The value whose JSON text is `resultJson`."""
    if scenario.result_object:
        return {"resultObject": {"text": "A simulated structured result.", "taskId": task_id}}
    if scenario.result_songs:
        half = len(links) // 2
        pairs = zip(links[:half], links[half:], strict=True)
        return {"data": [_song(task_id, n, audio, cover, created_at_ms) for n, (audio, cover) in enumerate(pairs)]}
    if scenario.first_last_frame:
        return {"resultUrls": links[:-2], "firstFrameUrl": links[-2], "lastFrameUrl": links[-1]}
    return {"resultUrls": links}


def _song(task_id: str, number: int, audio: str, cover: str, created_at_ms: int) -> dict[str, object]:
    return {
        "id": f"{task_id[:8]}-{task_id[8:12]}-{task_id[12:16]}-{task_id[16:20]}-{number:012d}",
        "title": f"Simulated song {number + 1}",
        "duration": 1.54,
        "audio_url": audio,
        "stream_audio_url": audio,
        "image_url": cover,
        "model_name": "simulator",
        "prompt": "",
        "tags": "sine",
        "createTime": created_at_ms,
    }
