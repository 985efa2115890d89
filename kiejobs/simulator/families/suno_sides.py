"""What is made of a finished song: a WAV file, a music video, its voices and instruments apart.

The status is a word in `successFlag`. Times are text for WAV and music video, milliseconds for the stems. The parent
must be a finished Suno task: another one is 422 "Record does not exist", and a second WAV of the same song is 409.
Source: docs.kie.ai/suno-api/get-wav-details, get-music-video-details, get-vocal-separation-details and their callbacks.
"""

from kiejobs.simulator.families.drawing import as_text, error, times, verdict, word
from kiejobs.simulator.family import Family, Files, Operation, several
from kiejobs.simulator.fields import Body, text
from kiejobs.simulator.models import Kind
from kiejobs.simulator.scenarios import Scenario
from kiejobs.simulator.tasks import FAIL, GENERATING, SUCCESS, WAITING, Look, Task

_SONG = (text("taskId", required=True), text("audioId", required=True))


def statuses(failed: str) -> dict[str, str]:
    """The words of one kind of task; only its failure has a name of its own."""
    return {WAITING: "PENDING", GENERATING: "PENDING", SUCCESS: "SUCCESS", FAIL: failed}


def frame(task: Task, look: Look, failed: str, response: dict[str, object] | None) -> dict[str, object]:
    """The record these three share."""
    number = str(task.order.given.get("audioId", "")).rpartition("-")[2]
    return {
        "taskId": task.id,
        "musicId": task.order.given.get("audioId"),
        "callbackUrl": task.order.callback_url,
        "musicIndex": int(number) if number.isdigit() else 0,
        "response": response,
        "successFlag": word(task, look, statuses(failed)),
        **error(task, look),
    }


def text_times(task: Task, look: Look) -> dict[str, object]:
    """The times as text."""
    ended = look.state in (SUCCESS, FAIL)
    completed = as_text(task.completed_at_ms) if ended else None
    return {"createTime": as_text(task.created_at_ms), "completeTime": completed}


class Wav(Family):
    """The song as WAV."""

    name = "suno-wav"
    record_path = "/api/v1/wav/record-info"
    unknown = None
    operations = (
        Operation(
            path="/api/v1/wav/generate",
            model="suno/wav",
            fields=_SONG,
            callback_required=True,
            parent="taskId",
            parent_of="suno",
            once=True,
            price=0.4,
            files=several(Kind.WAV),
        ),
    )

    def record(self, task: Task, look: Look) -> dict[str, object]:
        """The `data` of record-info."""
        response: dict[str, object] | None = {"audioWavUrl": look.links[0]} if look.made else None
        return frame(task, look, "GENERATE_WAV_FAILED", response) | text_times(task, look)

    def callback(self, task: Task, look: Look) -> dict[str, object]:
        """`audioWavUrl` beside `task_id`."""
        link = {"audioWavUrl": look.links[0]} if look.made else {}
        return {**verdict(task, look, "success"), "data": {"task_id": task.id, **link}}


class MusicVideo(Family):
    """The song as a video."""

    name = "suno-mp4"
    record_path = "/api/v1/mp4/record-info"
    unknown = None
    operations = (
        Operation(
            path="/api/v1/mp4/generate",
            model="suno/mp4",
            fields=(*_SONG, text("author", at_most=50), text("domainName", at_most=50)),
            callback_required=True,
            parent="taskId",
            parent_of="suno",
            price=2.0,
            files=several(Kind.VIDEO),
        ),
    )

    def record(self, task: Task, look: Look) -> dict[str, object]:
        """The `data` of record-info."""
        response: dict[str, object] | None = {"videoUrl": look.links[0]} if look.made else None
        return frame(task, look, "GENERATE_MP4_FAILED", response) | text_times(task, look)

    def callback(self, task: Task, look: Look) -> dict[str, object]:
        """`video_url` beside `task_id`."""
        link = {"video_url": look.links[0]} if look.made else {}
        return {**verdict(task, look, "MP4 generated successfully."), "data": {"task_id": task.id, **link}}


STEMS = (
    *("vocal", "instrumental", "backingVocals", "drums", "bass", "guitar", "piano", "keyboard"),
    *("percussion", "strings", "synth", "fx", "brass", "woodwinds"),
)
_PAIR = ("vocal", "instrumental")
_BAND = tuple(stem for stem in STEMS if stem not in ("instrumental", "piano"))


def stems_of(given: Body) -> tuple[str, ...]:
    """Which stems one gets: two, twelve, or the one asked for."""
    kind = given.get("type") or "separate_vocal"
    if kind == "split_stem_advanced":
        return (str(given["stemName"]),)
    return _BAND if kind == "split_stem" else _PAIR


def stem_files(model: str, given: Body, scenario: Scenario) -> Files:
    """One file for each stem."""
    return (Kind.AUDIO,) * len(stems_of(given))


def song_or_link(body: Body) -> str:
    """The audio is a song of a task or a file, and a single stem needs its name."""
    if not body.get("taskId") and not body.get("audioUrl"):
        return "taskId or audioUrl is required"
    return "stemName is required" if body.get("type") == "split_stem_advanced" and not body.get("stemName") else ""


class VocalRemoval(Family):
    """The stems of a song."""

    name = "suno-vocal-removal"
    record_path = "/api/v1/vocal-removal/record-info"
    unknown = None
    operations = (
        Operation(
            path="/api/v1/vocal-removal/generate",
            model="suno/vocal-removal",
            fields=(
                text("audioId", required=True),
                text("type", "separate_vocal", "separate_vocals", "split_stem", "split_stem_advanced"),
                text("stemName"),
            ),
            rule=song_or_link,
            callback_required=True,
            parent="taskId",
            parent_of="suno",
            price=10.0,
            files=stem_files,
        ),
    )

    def record(self, task: Task, look: Look) -> dict[str, object]:
        """The `data` of record-info; links of stems that were not asked for are null."""
        response: dict[str, object] | None = None
        if look.made:
            links = dict(zip(stems_of(task.order.given), look.links, strict=True))
            urls = {f"{stem}Url": links.get(stem) for stem in STEMS}
            response = {"originUrl": None, **urls, "originData": origin_data(task, look)}
        return frame(task, look, "GENERATE_AUDIO_FAILED", response) | times(task, look)

    def callback(self, task: Task, look: Look) -> dict[str, object]:
        """Links by stem, or a list of them for a single stem."""
        info: dict[str, object] = {}
        if look.made and task.order.given.get("type") == "split_stem_advanced":
            info = {"vocal_removal_info": {"origin_data": origin_data(task, look)}}
        elif look.made:
            links = zip(stems_of(task.order.given), look.links, strict=True)
            named = {f"{_snake(stem)}_url": link for stem, link in links}
            info = {"vocal_separation_info": {"origin_url": "", **named}}
        msg = "vocal separation generated successfully."
        return {**verdict(task, look, msg), "data": {"task_id": task.id, **info}}


def origin_data(task: Task, look: Look) -> list[dict[str, object]]:
    """The stems as a list; their ids are audio ids for the notes."""
    named = enumerate(zip(stems_of(task.order.given), look.links, strict=True))
    return [
        {"id": f"{task.id}-{n}", "duration": 1.54, "audio_url": link, "stem_type_group_name": stem.capitalize()}
        for n, (stem, link) in named
    ]


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
