"""Suno's own API, from before September 2026: music, what is made from a song, and what is answered at once.

Source: https://docs.kie.ai/suno-api/quickstart, since the move under https://docs.kie.ai/old-model. The newer ids
`ai-music-api/…` belong to the jobs API. Music and each operation on it have records of their own with words of their
own, so each is a family of its own; `calls` has what their create calls share.
"""

from kiejobs.kie.families.suno.at_once import AT_ONCE
from kiejobs.kie.families.suno.music import Music
from kiejobs.kie.families.suno.sides import COVER_IMAGE, LYRICS, MIDI, MUSIC_VIDEO, STEMS, WAV
from kiejobs.kie.family import Family

SUNO: tuple[Family, ...] = (Music(), LYRICS, WAV, MUSIC_VIDEO, STEMS, MIDI, COVER_IMAGE, AT_ONCE)
