"""The families, an explicit tuple, and which one a model belongs to."""

from kiejobs.errors import KieUnavailable
from kiejobs.kie.families.aleph import Aleph
from kiejobs.kie.families.chat import Chat
from kiejobs.kie.families.flux_kontext import FluxKontext
from kiejobs.kie.families.four_o import FourO
from kiejobs.kie.families.luma import Luma
from kiejobs.kie.families.market import Market
from kiejobs.kie.families.midjourney import Midjourney
from kiejobs.kie.families.runway import Runway
from kiejobs.kie.families.suno import SUNO
from kiejobs.kie.families.veo import Veo, Veo4k, Veo1080p
from kiejobs.kie.family import Family

FAMILIES: tuple[Family, ...] = (
    Market(),
    FourO(),
    FluxKontext(),
    Veo(),
    Veo1080p(),
    Veo4k(),
    Runway(),
    Aleph(),
    Luma(),
    Midjourney(),
    *SUNO,
    Chat(),
)


_BY_NAME = {known.name: known for known in FAMILIES}
_BY_MODEL = {model: known for known in FAMILIES for model in known.models}


def family(name: str) -> Family:
    """Return the family of this name, as a job's row has it; KieUnavailable where this version has none."""
    if name not in _BY_NAME:
        raise KieUnavailable(
            f"this version of kiejobs has no API family {name!r}", remedy="Run the version that made the job."
        )
    return _BY_NAME[name]


def family_for(model: str) -> Family:
    """Return the family that makes a model. Whatever no other family claims goes to the jobs API."""
    return _BY_MODEL.get(model, FAMILIES[0])


def chosen(model: str) -> tuple[Family, str]:
    """Read a model's id as a request gives it: `family:model` names the family outright, as in `jobs:runway`."""
    prefix, _, rest = model.partition(":")
    return (_BY_NAME[prefix], rest) if rest and prefix in _BY_NAME else (family_for(model), model)
