"""A prompt in parts (subject, scene, camera, style, avoid), put together in plain words.

People who write prompts forget the camera, and write what they do not want where the model reads it as a wish. Given in
parts, the wishes become sentences in one fixed order, and `avoid` goes where the model takes it: into its own field of
that kind if the catalogue knows one, else to the end of the prompt. Pure; the same parts give the same prompt.
"""

from collections.abc import Mapping
from typing import Any

from kiejobs.errors import InvalidInput
from kiejobs.kie.catalogue import Model, closest

PARTS = {
    "subject": "who or what it is about, and what happens",
    "scene": "place, time, weather, mood",
    "camera": "movement, focal length, depth of field, steadiness",
    "style": "film, photograph, anime, watercolour …",
    "avoid": "what must not be there: watermark, blur, text …",
}
"""The parts, in the order in which they stand in a prompt."""

_NEGATIVE_FIELDS = ("negative_prompt", "negative_tags", "negativeTags")
"""What models call the field for what must not be there."""

_ENDS = ".!?…。！？"


def composed(parts: Mapping[str, Any], given: Mapping[str, Any], model: Model | None) -> dict[str, Any]:
    """Return the input with the prompt made of these parts; InvalidInput names the part at fault.

    A part is a text or a list of texts. The rest of the input stays as it is; a prompt beside parts is refused, and so is
    `avoid` beside the model's own field for it, because one would silently win.
    """
    said = {name: _words(name, value) for name, value in parts.items()}
    if not set(said) - {"avoid"}:
        wishes = ", ".join(name for name in PARTS if name != "avoid")
        raise InvalidInput("promptParts wishes for nothing", field="promptParts", allowed=f"at least one of {wishes}")
    _refuse_twice("prompt", given)
    known = {field.name for field in model.fields} if model else set()
    if model and known and "prompt" not in known:
        raise InvalidInput(f"{model.id} takes no prompt", field="promptParts", allowed="the fields of the model")
    sentences = [_sentence(", ".join(said[name])) for name in PARTS if name in said and name != "avoid"]
    filled = dict(given)
    if "avoid" in said:
        avoid = ", ".join(said["avoid"])
        negative = next((name for name in _NEGATIVE_FIELDS if name in known), None)
        if negative:
            _refuse_twice(negative, given)
            filled[negative] = avoid
        else:
            sentences.append(_sentence(f"Avoid: {avoid}"))
    return filled | {"prompt": " ".join(sentences)}


def _words(name: str, value: Any) -> list[str]:
    if name not in PARTS:
        near = closest(name, PARTS)
        question = f"; did you mean {near}?" if near else ""
        raise InvalidInput(
            f"{name!r} is no part of a prompt{question}", field=f"promptParts.{name}", allowed=", ".join(PARTS)
        )
    listed = value if isinstance(value, list | tuple) else [value]
    if not listed or not all(isinstance(each, str) and each.strip() for each in listed):
        raise InvalidInput(
            f"promptParts.{name} is no text: it says {PARTS[name]}",
            field=f"promptParts.{name}",
            given=value,
            allowed="a text, or a list of texts",
        )
    return [each.strip() for each in listed]


def _refuse_twice(name: str, given: Mapping[str, Any]) -> None:
    if given.get(name) is not None:
        raise InvalidInput(
            f"{name} is given beside promptParts, which makes it", field="promptParts", allowed="one of both"
        )


def _sentence(text: str) -> str:
    whole = text if text.endswith(tuple(_ENDS)) else f"{text.rstrip(' ,;:')}."
    return whole[:1].upper() + whole[1:]
