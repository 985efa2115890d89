"""What kind of file an output may be, by the model that made it and the output's role.

Pure. A web page, an error in JSON or a picture where a video was bought is no result, whatever the link promised.
"""

from kiejobs.jobs import BY_PRODUCTS
from kiejobs.kie import catalogue

PICTURES = frozenset({"cover", "first_frame", "last_frame"})
"""Roles of outputs that are pictures, whatever the model makes."""

MEDIA = frozenset({"image", "video", "audio"})

_MAY_BE = {
    "image": frozenset({"image"}),
    "video": frozenset({"video"}),
    "audio": frozenset({"audio", "video"}),  # an MP4 does not say in its first bytes that there is nothing to see in it
}


def allowed_kinds(model_id: str, role: str, index: int) -> frozenset[str] | None:
    """Return the kinds that an output may be; None where any that is stored at all will do.

    The first output is what the model makes. Further ones may be other media, such as a frame among a video's results,
    but never text.
    """
    if role in PICTURES:
        return _MAY_BE["image"]
    model = catalogue.find(model_id)
    if model is None or model.kind == "text":
        return None
    return MEDIA if index > 0 or role in BY_PRODUCTS else _MAY_BE[model.kind]
