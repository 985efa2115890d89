"""What every database takes: text without NUL and without halves of surrogate pairs, money that fits its column.

Pure. What Kie says is kept as it came as far as it can be kept; what cannot be written must never keep an outcome or a
result from being written.
"""

import re
from decimal import Decimal
from math import isfinite
from typing import Any

_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
_MOST = Decimal(10) ** 10
_STEP = Decimal("0.0001")


def writable(value: Any) -> Any:
    """Return text, or JSON with all text in it, without what no database takes."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode() if _UNWRITABLE.search(value) else value
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, list):
        return [writable(one) for one in value]
    if isinstance(value, dict):
        return {writable(name): writable(one) for name, one in value.items()}
    return value


def writable_credits(credits: Decimal | None) -> Decimal | None:
    """Return credits with four places; None for what no bill can be."""
    if credits is None or not credits.is_finite() or abs(credits) >= _MOST:
        return None
    return credits.quantize(_STEP)
