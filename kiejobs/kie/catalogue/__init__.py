"""What Kie's models take: their parameters as data, one TOML file per vendor, and the check of a request against them.

A mistake is found at enqueue, before anything is sent or paid. Where Kie's own pages disagree the looser rule is kept,
and what the catalogue does not know (a new model, a new field) is warned about, never refused: Kie adds both monthly.
It knows nothing of jobs, prices in force or the network. Files are read at the first look-up, not at import; entries of
one's own come from the folder that `use` is given when a process starts.
"""

from kiejobs.kie.catalogue.checking import check
from kiejobs.kie.catalogue.entries import Field, Model, closest, counted_as, find, models, near, use
from kiejobs.kie.catalogue.schemas import schema

__all__ = ["Field", "Model", "check", "closest", "counted_as", "find", "models", "near", "schema", "use"]
