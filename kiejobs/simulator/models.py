"""What a model id makes (a picture, a clip, a sound), how many, and what it costs here.

Guesses from the words of the id, so that ids unknown today work too; it keeps no list of Kie's models and refuses none.
The prices are round numbers for counting in tests, not Kie's.
"""

import re
from enum import StrEnum


class Kind(StrEnum):
    """A kind of result file; the value is its file extension."""

    IMAGE = "png"
    VIDEO = "mp4"
    AUDIO = "mp3"
    WAV = "wav"

    @property
    def content_type(self) -> str:
        """The media type the files host declares."""
        return _CONTENT_TYPES[self]


_CONTENT_TYPES = {
    Kind.IMAGE: "image/png",
    Kind.VIDEO: "video/mp4",
    Kind.AUDIO: "audio/mpeg",
    Kind.WAV: "audio/wav",
}

PRICES = {Kind.IMAGE: 4.0, Kind.AUDIO: 12.0, Kind.VIDEO: 60.0}
"""Credits per task."""

_VIDEO = (
    "video|kling|wan|sora|veo|runway|seedance|hailuo|minimax|happyhorse|pixverse|omnihuman|infinitalk|avatar|r2v|luma"
)
_AUDIO = "tts|speech|music|suno|audio|sound|dialogue|song"

# The first match decides: wan/2-2-a14b-speech-to-video-turbo is a video, wan/2-7-image a picture.
_WORDS = (
    (re.compile(r"to-video|-video\b"), Kind.VIDEO),
    (re.compile(r"to-image|-image(-pro)?$"), Kind.IMAGE),
    (re.compile(rf"\b({_VIDEO})"), Kind.VIDEO),
    (re.compile(rf"\b({_AUDIO})"), Kind.AUDIO),
)

_SEVERAL = {"grok-imagine/text-to-image": 6}
"""Models that answer more than one file; six were seen on the wire for this one."""


def kind_of(model: str) -> Kind:
    """The kind of file `model` makes; a picture when its words say nothing."""
    return next((kind for pattern, kind in _WORDS if pattern.search(model.lower())), Kind.IMAGE)


def usual_outputs(model: str) -> int:
    """How many files `model` makes when nobody asks for another number."""
    return _SEVERAL.get(model, 1)
