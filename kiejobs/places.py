"""The places in a JSON value: where in it something stands, and what that place is called, as in `images[2].url`.

Pure. Made for values that strangers send: the work grows with the value's size alone, whatever its shape, because a name
is put together only for a place that is spoken of.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Steps = tuple[str | int, ...]
"""The names and positions that lead to a place, from the outermost on."""

_SHOWN = 200
"""Of a name's characters; a stranger chose them."""


def places(value: Any) -> Iterator[tuple[Steps, Any]]:
    """Yield every place and what stands there, in reading order, the value itself first."""
    waiting: list[tuple[Steps, Any]] = [((), value)]
    while waiting:
        path, found = waiting.pop()
        yield path, found
        if isinstance(found, Mapping):
            waiting += reversed([((*path, str(name)), inner) for name, inner in found.items()])
        elif isinstance(found, list | tuple):
            waiting += reversed([((*path, position), inner) for position, inner in enumerate(found)])


def name_of(path: Steps, top: str = "") -> str:
    """Return what a place is called; `top` is the value's own name."""
    name = top
    for step in path:
        if isinstance(step, int):
            name += f"[{step}]"
        else:
            name += f".{step}" if name else step
        if len(name) > _SHOWN:
            return f"{name[:_SHOWN]}…"
    return name
