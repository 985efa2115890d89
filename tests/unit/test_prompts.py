"""A prompt in parts: one order, plain words, and what must not be there where the model takes it."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from kiejobs.cli.app import app
from kiejobs.db.intake import NewJob
from kiejobs.db.session import Database
from kiejobs.db.tables import payloads
from kiejobs.errors import InvalidInput
from kiejobs.gateway.schemas import REQUEST
from kiejobs.kie import catalogue
from kiejobs.producer import KieJobs
from kiejobs.prompts import PARTS, composed
from kiejobs.request import new_job
from tests.factories import make_settings

PLAIN = "kling-2.6/text-to-video"  # takes no negative prompt
NEGATIVE = "kling/v2-1-master-text-to-video"
TOKYO = {
    "style": ["cinematic", "realistic"],
    "camera": "slow push-in, shallow depth of field",
    "subject": "a ramen chef plates noodles!",
    "scene": "a rainy alley in Tokyo at night",
    "avoid": ["blur", "watermark", "text"],
}
WISHES = (
    "A ramen chef plates noodles! A rainy alley in Tokyo at night. Slow push-in, shallow depth of field. "
    "Cinematic, realistic."
)


def refusal(parts: Any, given: dict[str, Any] | None = None, model: str = PLAIN) -> InvalidInput:
    with pytest.raises(InvalidInput) as raised:
        composed(parts, given or {}, catalogue.find(model))
    return raised.value


def test_the_parts_become_sentences_in_one_order() -> None:
    """However they are given; the model that takes no negative prompt is told at the end."""
    made = composed(TOKYO, {"duration": "5"}, catalogue.find(PLAIN))
    assert made == {"duration": "5", "prompt": f"{WISHES} Avoid: blur, watermark, text."}
    assert composed(dict(reversed(TOKYO.items())), {"duration": "5"}, catalogue.find(PLAIN)) == made


def test_what_to_avoid_goes_where_the_model_takes_it() -> None:
    """A model with a field of its own for it never reads it as a wish."""
    made = composed(TOKYO, {"duration": "5"}, catalogue.find(NEGATIVE))
    assert made == {"prompt": WISHES, "negative_prompt": "blur, watermark, text", "duration": "5"}
    assert catalogue.check(NEGATIVE, made) == ()


def test_music_has_its_own_word_for_it() -> None:
    """The catalogue knows that Suno calls it tags."""
    made = composed({"subject": "a slow waltz", "avoid": "drums"}, {}, catalogue.find("ai-music-api/generate"))
    assert made == {"prompt": "A slow waltz.", "negative_tags": "drums"}


def test_a_model_of_which_nothing_is_known_is_told_in_the_prompt() -> None:
    """Not in the catalogue, or in it by name only."""
    for model in (None, catalogue.find("wan/3-0-video")):
        assert composed({"subject": "a cat", "avoid": "dogs"}, {}, model) == {"prompt": "A cat. Avoid: dogs."}


def test_sentences_that_end_are_left_alone() -> None:
    """Also in other scripts; a comma at the end is no end."""
    made = composed({"subject": "夜晚东京小巷。", "camera": "steady,", "style": "why not?"}, {}, None)
    assert made["prompt"] == "夜晚东京小巷。 Steady. Why not?"


def test_a_part_that_is_none_is_named() -> None:
    """With what was probably meant, and the list of all."""
    error = refusal({"subject": "a cat", "styel": "oil"})
    assert str(error) == "'styel' is no part of a prompt; did you mean style?"
    assert (error.field, error.allowed) == ("promptParts.styel", ", ".join(PARTS))


@pytest.mark.parametrize("value", ["", "  ", 5, None, [], ["a", ""], [5], {"a": 1}])
def test_a_part_must_say_something(value: object) -> None:
    """Text, or texts."""
    error = refusal({"subject": value})
    assert error.field == "promptParts.subject"
    assert "who or what it is about" in str(error)


@pytest.mark.parametrize("parts", [{}, {"avoid": "blur"}])
def test_parts_that_wish_for_nothing_are_refused(parts: dict[str, str]) -> None:
    """Nothing can be made of what must not be there."""
    assert "subject, scene, camera, style" in refusal(parts).allowed


def test_a_prompt_beside_parts_is_refused() -> None:
    """One of them would silently win; the same holds for the negative prompt."""
    assert refusal(TOKYO, {"prompt": "x"}).field == "promptParts"
    assert str(refusal(TOKYO, {"negative_prompt": "x"}, NEGATIVE)).startswith("negative_prompt is given beside")


def test_a_model_that_takes_no_prompt_is_named() -> None:
    """An upscaler has no use for a scene."""
    assert str(refusal(TOKYO, {}, "topaz/image-upscale")) == "topaz/image-upscale takes no prompt"


# In a request.


def asked(**request: Any) -> NewJob:
    return new_job({"promptParts": TOKYO} | request, tenant="default", who="test", allow=frozenset())


def test_a_request_may_bring_parts_instead_of_a_prompt() -> None:
    """Beside `input` or `options`; what is sent and compared is the prompt that was made."""
    options = {"duration": "5", "sound": False}
    whole = {**options, "prompt": f"{WISHES} Avoid: blur, watermark, text."}
    for beside in ({"input": options}, {"options": options}):
        job = asked(model=PLAIN, **beside)
        assert job.request["input"] == whole
        assert job.request_hash() == asked(model=PLAIN, input=whole, promptParts=None).request_hash()


def test_each_fallback_has_its_prompt_made_for_it() -> None:
    """One takes a negative prompt, the next does not; an input of one's own stays as it is."""
    own = {"model": "z-image", "input": {"prompt": "own"}}
    job = asked(model=NEGATIVE, fallbackModels=["grok-imagine/text-to-video", own], validate="off")
    first, second, third = (choice["input"] for choice in job.request["choices"])
    assert first == {"prompt": WISHES, "negative_prompt": "blur, watermark, text"}
    assert second == {"prompt": f"{WISHES} Avoid: blur, watermark, text."}
    assert third == {"prompt": "own"}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"prompt": "x"}, "promptParts"),
        ({"prompt": "x", "input": {"sound": False}}, "prompt"),
        ({"input": {"prompt": "x"}}, "promptParts"),
        ({"promptParts": {"sbject": "x"}}, "promptParts.sbject"),
        ({"promptParts": "x"}, "promptParts"),
        ({"promptParts": {"subject": "x\x00"}}, "promptParts"),
        ({"promptParts": {"subject": "x" * 3000}}, "input.prompt"),
    ],
)
def test_a_request_whose_parts_cannot_be_used_names_the_field(request_: dict[str, Any], field: str) -> None:
    """Before anything is stored; what is too long for the model is found by its check."""
    with pytest.raises(InvalidInput) as raised:
        asked(model=PLAIN, **request_)
    assert raised.value.field == field


def test_parts_come_from_python_and_from_the_command_line(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same parts, the same job."""
    jobs = KieJobs(make_settings(tmp_path), database=sqlite)
    parts = {"subject": "a red door", "avoid": "people"}
    job = jobs.enqueue("z-image", {"aspect_ratio": "1:1"}, prompt_parts=parts, idempotency_key="k")
    monkeypatch.setenv("KIEJOBS_DATA_DIR", str(tmp_path))
    words = ("--prompt-part", "subject=a red door", "--prompt-part", "avoid=people", "-i", "aspect_ratio=1:1")
    typed = CliRunner().invoke(app, ["submit", "z-image", *words, "--idempotency-key", "k"])
    assert typed.stdout.strip() == job.id, typed.output
    with sqlite.read() as connection:
        (stored,) = connection.scalars(select(payloads.c.request))
    assert stored["input"]["prompt"] == "A red door. Avoid: people."


def test_the_http_api_names_the_same_parts() -> None:
    """Its schema is written from them."""
    assert set(REQUEST["properties"]["promptParts"]["properties"]) == set(PARTS)
