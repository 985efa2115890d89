"""The families, an explicit tuple, and which one a model belongs to."""

from kiejobs.errors import KieUnavailable
from kiejobs.kie.families.market import Market
from kiejobs.kie.family import Family

FAMILIES: tuple[Family, ...] = (Market(),)


def family(name: str) -> Family:
    """Return the family of this name, as a job's row has it; KieUnavailable where this version has none."""
    for known in FAMILIES:
        if known.name == name:
            return known
    raise KieUnavailable(
        f"this version of kiejobs has no API family {name!r}", remedy="Run the version that made the job."
    )


def family_for(model: str) -> Family:
    """Return the family that makes a model. Whatever no other family claims goes to the jobs API."""
    return FAMILIES[0]
