"""The models that moved to the jobs API in September 2026: what each leaves behind, and on whose task it builds.

The ids are those of docs.kie.ai/market; the shapes of `resultJson` were seen for music, WAV, music video and lyrics,
and follow the older API where nothing was seen (stems, notes, persona, timestamps, covers).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from kiejobs.simulator.families.sheets import aligned_words, instruments, lyrics_sheets
from kiejobs.simulator.families.songs import song_files, songs_of
from kiejobs.simulator.family import Files, no_files, several
from kiejobs.simulator.fields import Body
from kiejobs.simulator.models import Kind
from kiejobs.simulator.scenarios import Scenario
from kiejobs.simulator.tasks import Look, Task


class Unified(NamedTuple):
    """One migrated model."""

    price: float
    files: Callable[[str, Body, Scenario], Files]
    result: Callable[[Task, Look], dict[str, object]]


def _urls(task: Task, look: Look) -> dict[str, object]:
    return {"resultUrls": list(look.links)}


def _songs(task: Task, look: Look) -> dict[str, object]:
    return {"data": songs_of(task, look)}


def _lyrics(task: Task, look: Look) -> dict[str, object]:
    return {"resultObject": {"lyricsData": lyrics_sheets(task, "errorMessage")}}


def _stems(task: Task, look: Look) -> dict[str, object]:
    vocal, instrumental = look.links[:2]
    return {"resultObject": {"vocal_url": vocal, "instrumental_url": instrumental, "origin_url": ""}}


def _notes(task: Task, look: Look) -> dict[str, object]:
    return {"resultObject": {"state": "complete", "instruments": instruments()}}


def _aligned(task: Task, look: Look) -> dict[str, object]:
    return {"resultObject": aligned_words()}


def _persona(task: Task, look: Look) -> dict[str, object]:
    return {"resultObject": {"personaId": task.id}}


def _style(task: Task, look: Look) -> dict[str, object]:
    return {"resultObject": {"result": f"Simulated style: {task.order.given.get('content', '')}"}}


def _voice(task: Task, look: Look) -> dict[str, object]:
    return {"resultObject": {"voiceId": task.id}}


def _stem_files(model: str, given: Body, scenario: Scenario) -> Files:
    return (Kind.AUDIO, Kind.AUDIO)


_IMAGE, _VIDEO = several(Kind.IMAGE), several(Kind.VIDEO)
_MUSIC = Unified(12.0, song_files, _songs)

_SUNO = {
    "generate": _MUSIC,
    "extend": _MUSIC,
    "upload-and-cover-audio": _MUSIC,
    "upload-and-extend-audio": _MUSIC,
    "add-instrumental": _MUSIC,
    "add-vocals": _MUSIC,
    "replace-section": _MUSIC,
    "mashup": _MUSIC,
    "sounds": _MUSIC,
    "suno-recovery-audio": _MUSIC,
    "generate-lyrics": Unified(0.4, no_files, _lyrics),
    "convert-to-wav-format": Unified(0.4, several(Kind.WAV), _urls),
    "create-music-video": Unified(2.0, _VIDEO, _urls),
    "cover-generate": Unified(4.0, several(Kind.IMAGE, 2), _urls),
    "separate-vocals": Unified(10.0, _stem_files, _stems),
    "generate-midi-from-audio": Unified(2.0, no_files, _notes),
    "timeStamped-lyrics": Unified(0.5, no_files, _aligned),
    "generate-persona": Unified(0.4, no_files, _persona),
    "boost-music-style": Unified(0.4, no_files, _style),
    "check-voice": Unified(0.4, no_files, _voice),
    "create-voice": Unified(0.4, no_files, _voice),
    "validation-phrase": Unified(0.4, no_files, _voice),
    "regenerate-phrase": Unified(0.4, no_files, _voice),
}

UNIFIED: Mapping[str, Unified] = {
    "4o-image-api": Unified(6.0, _IMAGE, _urls),
    "flux1-kontext": Unified(5.0, _IMAGE, _urls),
    "veo-3-1": Unified(60.0, _VIDEO, _urls),
    "veo/extend": Unified(60.0, _VIDEO, _urls),
    "veo/get-1080p-video": Unified(5.0, _VIDEO, _urls),
    "veo/get-4k-video": Unified(120.0, _VIDEO, _urls),
    "runway": Unified(12.0, _VIDEO, _urls),
    "runway/extend-ai-video": Unified(12.0, _VIDEO, _urls),
    "runway/gen4-aleph": Unified(40.0, _VIDEO, _urls),
    **{f"ai-music-api/{name}": model for name, model in _SUNO.items()},
}

PARENTS: Mapping[str, tuple[str, str]] = {
    "veo/extend": ("task_id", ""),
    "veo/get-1080p-video": ("taskId", ""),
    "veo/get-4k-video": ("task_id", ""),
    "runway/extend-ai-video": ("task_id", ""),
    **{
        f"ai-music-api/{name}": ("task_id", "")
        for name in (
            *("convert-to-wav-format", "create-music-video", "cover-generate", "separate-vocals"),
            *("generate-midi-from-audio", "timeStamped-lyrics", "generate-persona"),
        )
    },
}
"""The field that names the finished task a model builds on; any family will do."""


def is_refused(body: Body) -> str:
    """Suno's versions are no models: they go into `input.model`."""
    model = str(body.get("model"))
    versions = model.startswith("V") and model[1:2].isdigit()
    return f"The model name you specified is not supported: {model}" if versions else ""
