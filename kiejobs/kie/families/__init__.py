"""The families, an explicit tuple, and which one a model belongs to."""

from kiejobs.kie.families.market import Market
from kiejobs.kie.family import Family

FAMILIES: tuple[Family, ...] = (Market(),)


def family(name: str) -> Family:
    """Return the family of this name, as a job's row has it."""
    return next(known for known in FAMILIES if known.name == name)


def family_for(model: str) -> Family:
    """Return the family that makes a model. Whatever no other family claims goes to the jobs API."""
    return FAMILIES[0]
