"""The catalogue: its files are sound, requests that work pass, and a mistake is named before it costs anything."""

import subprocess
import sys
from datetime import date
from typing import Any

import jsonschema
import pytest

from kiejobs.errors import InvalidInput
from kiejobs.kie.catalogue import Field, Model, check, find, models, near, schema
from kiejobs.kie.catalogue.checking import _FITS

EVERY_MODEL = models()

KLING_26 = {
    "prompt": "Visual: 在一个时尚直播房间里，衣服挂在架子上，一面全长的镜子反射出主持人的身影。对话：[非裔美国女性主持人] "
    "转过身来展示这件运动衫的合身效果。[非裔美国女性主持人，欢快的声音] 说：‘360 度无缝剪裁，修身显瘦。’ 立刻，"
    "[非裔美国女性主持人] 走向摄像头。[非裔美国女性主持人，活泼的声音] 说：‘双面拉绒面料，现在购买可享受 30 美元折扣。’",
    "sound": False,
    "aspect_ratio": "1:1",
    "duration": "5",
}
KLING_21_PRO = {
    "prompt": "第一人称视角：反重力冲浪者穿梭于悬浮半空的古老遗迹之间，发光苔藓照亮路径，速度越快，周遭的回声越响亮",
    "image_url": "https://file.aiquickdraw.com/custom-page/akr/section-images/1754892534386c8wt0qfs.webp",
    "duration": "5",
    "negative_prompt": "模糊、畸变、低画质",
    "cfg_scale": 0.5,
    "tail_image_url": "",
}
WORKING: dict[str, dict[str, Any]] = {
    "kling-2.6/text-to-video": KLING_26,
    "kling/v2-1-pro": KLING_21_PRO,
    "kling/v2-1-master-text-to-video": {
        "prompt": "A cinematic close-up of a ramen chef plating noodles, steam swirling, warm neon reflections.",
        "duration": "5",
        "aspect_ratio": "16:9",
        "negative_prompt": "blur, distort, low quality, watermark",
        "cfg_scale": 0.5,
    },
    "wan/2-2-a14b-text-to-video-turbo": {
        "prompt": "Drone shot through a rainy alley in Tokyo at night, smooth forward motion.",
        "resolution": "720p",
        "aspect_ratio": "16:9",
        "enable_prompt_expansion": False,
        "seed": 42,
        "acceleration": "none",
    },
    "grok-imagine/text-to-image": {
        "prompt": "Cinematic portrait of a woman sitting by a vinyl record player with warm lighting",
        "aspect_ratio": "3:2",
    },
    "kling-3.0/video": {
        "prompt": "In a bright rehearsal room @element_dog",
        "image_urls": ["https://example.com/image.png"],
        "sound": True,
        "duration": "5",
        "aspect_ratio": "16:9",
        "mode": "pro",
        "multi_shots": False,
        "kling_elements": [{"name": "element_dog", "element_input_urls": ["https://example.com/dog1.jpeg"]}],
    },
}
SORA_2_PRO = {
    "prompt": "a happy dog running in the garden, sunlight, slow motion, natural camera tracking",
    "aspect_ratio": "landscape",
    "n_frames": "10",
    "size": "high",
    "remove_watermark": True,
}
REFERENCE = {"$from": {"job": "job_1", "output": 0}}


def refusal(model_id: str, given: Any, *, strict: bool = False) -> InvalidInput:
    """The error that this request is answered with."""
    with pytest.raises(InvalidInput) as caught:
        check(model_id, given, strict=strict)
    assert "\n" not in str(caught.value)
    return caught.value


def kling_26(**changes: Any) -> dict[str, Any]:
    """A request to Kling 2.6 that works, but for these changes."""
    return {**KLING_26, **changes}


# The files.


@pytest.mark.parametrize("model", EVERY_MODEL, ids=lambda model: model.id)
def test_every_entry_is_well_formed(model: Model) -> None:
    """Known words only, an https page, a day, and a reason where a model is withdrawn."""
    assert model.kind in {"image", "video", "audio", "text"}
    assert model.status in {"current", "withdrawn"}
    assert model.note or not model.withdrawn
    assert model.doc.startswith("https://docs.kie.ai/")
    assert type(model.date) is date
    assert len({field.name for field in model.fields}) == len(model.fields)


@pytest.mark.parametrize("model", EVERY_MODEL, ids=lambda model: model.id)
def test_every_field_is_well_formed(model: Model) -> None:
    """Types are known, allowed values and defaults are of the type, and limits belong to it and leave room."""
    for field in model.fields:
        assert {field.type, field.items} <= set(_FITS), field
        assert all(_FITS[field.type](value) for value in field.allowed), field
        assert field.default is None or _FITS[field.type](field.default), field
        assert field.default is None or not field.allowed or field.default in field.allowed, field
        assert field.max_length is None or field.type == "string", field
        assert (field.minimum, field.maximum) == (None, None) or field.type in {"number", "integer"}, field
        assert (field.min_items, field.max_items, field.items) == (None, None, "any") or field.type == "array", field
        assert (field.minimum or 0) <= (field.maximum or 0) or field.maximum is None, field
        assert (field.min_items or 0) <= (field.max_items or 1), field


def test_no_model_stands_in_two_files() -> None:
    """Each id is found once, and `find` gives the very entry that `models` lists."""
    ids = [model.id for model in EVERY_MODEL]
    assert ids == sorted(set(ids))
    assert all(find(model.id) is model for model in EVERY_MODEL)


def test_every_text_to_model_needs_its_prompt() -> None:
    """The looser rule never goes as far as a generation from no text."""
    for model in EVERY_MODEL:
        if "text-to-image" in model.id or "text-to-video" in model.id:
            assert all(field.must_be_given for field in model.fields if field.name == "prompt"), model.id


def test_importing_the_catalogue_reads_no_file() -> None:
    """The command line starts fast: the parser and the files are left for the first look-up."""
    code = "import sys, kiejobs.kie.catalogue; print('tomllib' in sys.modules, 'importlib.resources' in sys.modules)"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.split() == ["False", "False"]


# Requests that work.


@pytest.mark.parametrize("model_id", WORKING)
def test_a_request_as_documented_passes_without_a_word(model_id: str) -> None:
    """The examples of Kie's users and pages are accepted."""
    assert check(model_id, WORKING[model_id], strict=True) == ()


def test_a_withdrawn_model_is_warned_about_and_not_refused() -> None:
    """Sora 2 Pro is gone, but that is for Kie to say."""
    (warning,) = check("sora-2-pro-text-to-video", SORA_2_PRO, strict=True)
    assert warning.startswith("model sora-2-pro-text-to-video is withdrawn: Sora 2 left")


@pytest.mark.parametrize("resolution", ["480p", "580p", "720p"])
@pytest.mark.parametrize("aspect_ratio", ["16:9", "9:16", "1:1"])
def test_the_looser_rule_holds_where_sources_disagree(resolution: str, aspect_ratio: str) -> None:
    """Wan 2.2 takes what any of its descriptions names."""
    given = {"prompt": "rain", "resolution": resolution, "aspect_ratio": aspect_ratio}
    assert check("wan/2-2-a14b-text-to-video-turbo", given) == ()


def test_a_required_field_with_a_default_may_be_left_out() -> None:
    """Kie fills it in, so a reminder is enough."""
    (warning,) = check("kling-2.6/text-to-video", {"prompt": "x", "sound": False, "aspect_ratio": "1:1"})
    assert warning == 'input.duration of kling-2.6/text-to-video: not given; Kie calls it required, its default is "5"'


def test_an_output_of_another_job_stands_for_text_and_for_lists() -> None:
    """What nobody knows yet cannot be wrong, be it a whole list or one item of it."""
    assert check("kling/v2-1-pro", {**KLING_21_PRO, "image_url": REFERENCE, "duration": REFERENCE}) == ()
    assert check("grok-imagine/image-to-image", {"image_urls": REFERENCE}) == ()
    assert check("grok-imagine/image-to-image", {"image_urls": ["https://example.com/a.png", REFERENCE]}) == ()


def test_an_output_of_another_job_is_no_number() -> None:
    """A number is known when a job is entered."""
    assert refusal("kling/v2-1-pro", {**KLING_21_PRO, "cfg_scale": REFERENCE}).field == "input.cfg_scale"


def test_a_reference_written_wrongly_is_not_a_reference() -> None:
    """An object without `$from` or `$file` is an object; what is wrong within one of those is said elsewhere."""
    for wrong in ({"from": {"job": "job_1"}}, {"$form": REFERENCE}, {}):
        assert "(object), allowed text" in str(refusal("kling/v2-1-pro", {**KLING_21_PRO, "image_url": wrong}))


# Mistakes.


def test_a_missing_prompt_is_refused_by_name() -> None:
    """The message says which field of which model, and what belongs there."""
    error = refusal("kling-2.6/text-to-video", {"sound": False})
    assert str(error) == "input.prompt of kling-2.6/text-to-video: not given, required is text of 1 to 2500 characters"
    assert (error.field, error.allowed) == ("input.prompt", "text of 1 to 2500 characters")


def test_what_one_of_our_jobs_would_fill_in_is_said_when_it_is_missing() -> None:
    """Whoever extends a video knows our job, seldom Kie's task."""
    with pytest.raises(InvalidInput) as refused:
        check("veo3/extend", {"prompt": "on"})
    assert refused.value.remedy.startswith("Name one of your finished jobs as input.job: taskId is filled in from it.")


def test_an_edit_by_pictures_is_not_asked_for_a_segment_map() -> None:
    """The id means another operation since October 2026; whoever still edits segments by it may go on."""
    url = "https://files.example/a.png"
    model = "grok-imagine-image-2-0/image-edit"
    assert check(model, {"prompt": "red", "image_urls": [url], "aspect_ratio": "1:1"}) == ()
    assert check(model, {"prompt": "red", "task_id": "t", "mask_indexs": [0]}) == ()


def test_a_missing_field_that_was_misspelt_is_pointed_at() -> None:
    """The remedy is the renaming."""
    assert refusal("z-image", {"promt": "a cat"}).remedy == "Rename promt to prompt."


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_a_blank_prompt_is_refused(blank: str) -> None:
    """Required text must say something."""
    assert "(blank text), allowed text of 1 to" in str(refusal("kling-2.6/text-to-video", kling_26(prompt=blank)))


def test_a_number_is_no_text_of_digits() -> None:
    """Kie wants the seconds of Kling as text, and both sides of the mistake are shown."""
    error = refusal("kling-2.6/text-to-video", kling_26(duration=5))
    assert str(error) == 'input.duration of kling-2.6/text-to-video: given 5 (number), allowed "5" or "10" (text)'
    assert (error.field, error.given, error.allowed) == ("input.duration", 5, '"5" or "10" (text)')


@pytest.mark.parametrize(
    ("model_id", "field", "value", "words"),
    [
        ("kling-2.6/text-to-video", "sound", "true", 'given "true" (text), allowed true or false'),
        ("kling-2.6/text-to-video", "sound", 1, "given 1 (number), allowed true or false"),
        ("kling-2.6/text-to-video", "prompt", None, "given null (nothing), allowed text of"),
        (
            "kling-2.6/text-to-video",
            "aspect_ratio",
            "4:3",
            'given "4:3" (text), allowed "1:1", "16:9" or "9:16" (text)',
        ),
        ("kling/v2-1-pro", "cfg_scale", True, "given true (boolean), allowed 0 to 1 (number)"),
        ("kling/v2-1-pro", "cfg_scale", "0.5", 'given "0.5" (text), allowed 0 to 1 (number)'),
        ("kling/v2-1-pro", "cfg_scale", 1.01, "given 1.01 (number), allowed 0 to 1 (number)"),
        ("kling/v2-1-pro", "cfg_scale", float("nan"), "given NaN (number), allowed 0 to 1 (number)"),
        ("wan/2-5-text-to-video", "seed", 1.5, "given 1.5 (number), allowed a whole number"),
        ("bytedance/seedance-2", "duration", 3, "given 3 (number), allowed -1, 4, 5,"),
        ("grok-imagine/image-to-video", "duration", "31", 'given "31" (text), allowed "6", "7", "8", … or "30" (text)'),
        (
            "grok-imagine/image-to-image",
            "image_urls",
            "https://a",
            'given "https://a" (text), allowed a list of up to 5',
        ),
        ("grok-imagine/image-to-image", "image_urls", ["a"] * 6, "(list of 6 items), allowed a list of up to 5 items"),
        (
            "grok-imagine/image-to-image",
            "image_urls",
            ["a", 5],
            "image_urls[1] of grok-imagine/image-to-image: given 5",
        ),
        ("sora-2-image-to-video", "image_urls", [], "given [] (list of 0 items), allowed a list of 1 item, each text"),
    ],
)
def test_a_value_of_the_wrong_kind_or_size_is_refused(model_id: str, field: str, value: Any, words: str) -> None:
    """Both what was given and what is allowed are said."""
    given = {"prompt": "x", "image_url": "https://a", "image_urls": ["https://a"], "duration": "5", field: value}
    known = {each.name for each in find(model_id).fields}  # type: ignore[union-attr]
    assert words in str(refusal(model_id, {name: each for name, each in given.items() if name in known}))


def test_whole_numbers_may_be_written_with_a_point() -> None:
    """JSON has one kind of number."""
    assert check("bytedance/seedance-2", {"prompt": "rain", "duration": 5.0}) == ()


def test_a_prompt_may_be_exactly_as_long_as_allowed() -> None:
    """Characters are counted, not bytes."""
    assert check("kling-2.6/text-to-video", kling_26(prompt="字" * 2500)) == ()
    error = refusal("kling-2.6/text-to-video", kling_26(prompt="字" * 2501))
    assert "(text of 2501 characters), allowed text of 1 to 2500 characters" in str(error)


ODD_VALUES = ["x" * 100_000, "\x1b[31m\u2028" * 500, 10**4000, 10**6000, [[["deep"]] * 999], {1, 2}]


@pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: type(value).__name__)
def test_a_value_of_any_size_makes_one_short_printable_line(value: Any) -> None:
    """An error can be shown to anyone, whatever was sent."""
    message = str(refusal("z-image", {"prompt": "x", "aspect_ratio": value}))
    assert len(message.partition(", allowed")[0].partition("given ")[2]) <= 60 + len(" (list of 1 item)")
    assert message.isprintable()


def test_an_input_that_is_no_object_is_refused() -> None:
    """A list of fields is not an input."""
    assert refusal("z-image", ["prompt"]).field == "input"


def test_what_pages_of_october_call_required_is_asked_for() -> None:
    """Without it Kie may answer 500, after which nobody knows whether something was bought."""
    with pytest.raises(InvalidInput) as refused:
        check("qwen2-1/image-to-image", {"prompt": "x"})
    assert refused.value.field == "input.image_urls"
    (warning,) = check("kling/v2-1-pro", {"prompt": "x", "image_url": "https://a"})
    assert warning.endswith('Kie calls it required, its default is "5"')


# What the catalogue does not know.


def test_a_misspelt_field_is_sent_with_a_question() -> None:
    """It may be new, so it is not refused; and a field that is there already is not what was meant."""
    given = {"prompt": "x", "image_url": "https://a", "duration": "5", "cfgScale": 1}
    (warning,) = check("kling/v2-1-pro", given)
    assert warning == (
        "input.cfgScale of kling/v2-1-pro is not in the catalogue; it is sent as it is; did you mean cfg_scale?"
    )
    (warning,) = check("kling/v2-1-pro", {**KLING_21_PRO, "cfgScale": 1})
    assert warning.endswith("it is sent as it is")


def test_a_switch_that_pages_leave_out_is_no_stranger() -> None:
    """Many models take `nsfw_checker` without saying so."""
    assert check("kling/v2-1-pro", {**KLING_21_PRO, "nsfw_checker": True}) == ()


def test_thousands_of_unknown_fields_make_few_warnings() -> None:
    """A stranger cannot fill the log."""
    assert len(check("z-image", {"prompt": "x", **{f"field_{n}": n for n in range(5000)}})) < 30


def test_an_unknown_model_is_sent_with_a_question() -> None:
    """Kie adds models monthly."""
    (warning,) = check("kling-2.6/text-to-vidoe", KLING_26)
    assert warning.startswith(
        "model kling-2.6/text-to-vidoe is not in the catalogue; it is sent to Kie's jobs API as it is"
    )
    assert warning.endswith("; did you mean kling-2.6/text-to-video?")
    assert check("someone/else", {}) == (
        "model someone/else is not in the catalogue; it is sent to Kie's jobs API as it is",
    )


def test_an_unknown_model_is_refused_when_strict() -> None:
    """Whoever asks for strictness gets it, with the question."""
    error = refusal("kling-2.6/text-to-vidoe", KLING_26, strict=True)
    assert str(error) == "model kling-2.6/text-to-vidoe is not in the catalogue; did you mean kling-2.6/text-to-video?"
    assert error.field == "model"


def test_a_model_known_by_name_only_takes_anything() -> None:
    """One warning says so, instead of one per field."""
    warnings = check("wan/3-0-video", {"prompt": 1, "anything": 2}, strict=True)
    assert warnings == ("the fields of wan/3-0-video are not in the catalogue; the input is sent as it is",)


def test_nothing_is_suggested_for_what_resembles_nothing() -> None:
    """No question is better than a silly one."""
    assert near("x" * 50) is None
    assert near("Z-Image") == "z-image"
    assert find("Z-Image") is None


# JSON Schema.


@pytest.mark.parametrize("model", EVERY_MODEL, ids=lambda model: model.id)
def test_every_schema_is_one(model: Model) -> None:
    """The standard's own validator accepts it."""
    jsonschema.Draft202012Validator.check_schema(schema(model.id))


def test_the_schema_of_a_follow_up_takes_our_job_or_kies_ids() -> None:
    """Whoever checks an input by it may name a job, as the request itself may."""
    job = "0f3c0000-0000-4000-8000-000000000000"
    wav = jsonschema.Draft202012Validator(schema("suno/wav"))
    for given in ({"job": job}, {"job": job, "output": 2}, {"taskId": "t", "audioId": "a"}):
        assert wav.is_valid(given), given
    for given in ({}, {"taskId": "t"}, {"job": 7}, {"job": job, "output": -1}):
        assert not wav.is_valid(given), given
    extend = jsonschema.Draft202012Validator(schema("veo3/extend"))
    assert extend.is_valid({"job": job, "prompt": "on"})
    assert not extend.is_valid({"job": job}), "the prompt is nothing that a job fills in"
    assert "output" not in schema("veo3/extend")["properties"]


@pytest.mark.parametrize("model_id", WORKING)
def test_the_schema_accepts_what_the_check_accepts(model_id: str) -> None:
    """Documented requests are valid, also with a reference to another job's output."""
    validator = jsonschema.Draft202012Validator(schema(model_id))
    validator.validate(WORKING[model_id])
    validator.validate({**WORKING[model_id], "prompt": REFERENCE, "a_new_field": 1})


@pytest.mark.parametrize("change", [{"duration": 5}, {"prompt": " "}, {"prompt": "x" * 2501}, {"sound": "true"}])
def test_the_schema_refuses_what_the_check_refuses(change: dict[str, Any]) -> None:
    """Both say the same in their own words."""
    refusal("kling-2.6/text-to-video", kling_26(**change))
    assert not jsonschema.Draft202012Validator(schema("kling-2.6/text-to-video")).is_valid(kling_26(**change))


def test_there_is_no_schema_of_an_unknown_model() -> None:
    """An empty schema would look like a promise."""
    with pytest.raises(InvalidInput) as caught:
        schema("z-imag")
    assert (caught.value.field, caught.value.allowed) == ("model", "z-image")


def test_a_field_knows_whether_it_must_be_given() -> None:
    """Required and without a default."""
    assert Field("prompt", "string", required=True).must_be_given
    assert not Field("duration", "string", required=True, default="5").must_be_given
