"""Kie's APIs, one file each; a file reads like the documentation of its family.

The order is the order of the start page. A new family is one more file and one more line here.
"""

from kiejobs.simulator.families.aleph import Aleph
from kiejobs.simulator.families.flux import FluxKontext
from kiejobs.simulator.families.four_o import FourO
from kiejobs.simulator.families.jobs import Jobs
from kiejobs.simulator.families.luma import Luma
from kiejobs.simulator.families.lyrics import Lyrics
from kiejobs.simulator.families.midjourney import Midjourney
from kiejobs.simulator.families.runway import Runway
from kiejobs.simulator.families.suno import Suno
from kiejobs.simulator.families.suno_cover import SunoCover
from kiejobs.simulator.families.suno_midi import SunoMidi
from kiejobs.simulator.families.suno_sides import MusicVideo, VocalRemoval, Wav
from kiejobs.simulator.families.veo import Veo
from kiejobs.simulator.family import Family

FAMILIES: tuple[Family, ...] = (
    Jobs(),
    FourO(),
    FluxKontext(),
    Veo(),
    Runway(),
    Aleph(),
    Luma(),
    Midjourney(),
    Suno(),
    Lyrics(),
    Wav(),
    MusicVideo(),
    VocalRemoval(),
    SunoMidi(),
    SunoCover(),
)
