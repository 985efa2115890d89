"""Songs: the one thing Suno makes, in the two spellings its answers have.

A song is an MP3 and its cover picture; of n songs the files 0 to n-1 are the audio, n to 2n-1 the covers. Camel case in
the old record, snake case in callbacks and in the unified `resultJson`.
Source: docs.kie.ai/suno-api/generate-music-callbacks and get-music-details.
"""

from kiejobs.simulator.family import Files
from kiejobs.simulator.fields import Body
from kiejobs.simulator.models import Kind
from kiejobs.simulator.scenarios import Scenario
from kiejobs.simulator.tasks import Look, Task, Tasks

Song = dict[str, object]
TAKES = 2
_SECONDS = 1.54
_UPLOADED = ("source_audio_url", "source_stream_audio_url", "source_image_url")


def song_files(model: str, given: Body, scenario: Scenario) -> Files:
    """Two takes, or as many as the scenario says, and their covers."""
    takes = scenario.outputs or TAKES
    return (Kind.AUDIO,) * takes + (Kind.IMAGE,) * takes


def song_id(task_id: str, number: int) -> str:
    """The audio id of a take."""
    return f"{task_id[:8]}-{task_id[8:12]}-{task_id[12:16]}-{task_id[16:20]}-{number:012d}"


def knows_song(tasks: Tasks, audio_id: str) -> bool:
    """Whether one of these tasks made it."""
    return any(song_id(task.id, 0)[:23] == audio_id[:23] for task in tasks)


def songs_of(task: Task, look: Look) -> list[Song]:
    """The takes in snake case; the audio of those that are not finished is an empty text."""
    takes = len(look.links) // 2
    finished = {"text": 0, "first": 1}.get(look.stage, takes)
    return [_song(task, look, number, finished=number < finished) for number in range(takes)]


def _song(task: Task, look: Look, number: int, *, finished: bool) -> Song:
    audio, cover = look.links[number], look.links[len(look.links) // 2 + number]
    given = task.order.given
    song: Song = {
        "id": song_id(task.id, number),
        "title": given.get("title") or f"Simulated song {number + 1}",
        "duration": _SECONDS,
        "audio_url": audio if finished else "",
        "stream_audio_url": audio,
        "image_url": cover,
        "model_name": "simulator",
        "prompt": given.get("prompt") or "",
        "tags": given.get("style") or given.get("tags") or "sine",
        "createTime": task.created_at_ms,
    }
    uploaded = given.get("uploadUrl")
    return song | dict(zip(_UPLOADED, (uploaded, uploaded, cover), strict=True)) if uploaded else song


def camel(song: Song) -> Song:
    """The same with camel case keys."""
    return {_camel(name): value for name, value in song.items()}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)
