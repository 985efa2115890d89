"""What kind of file each output may be."""

import pytest

from kiejobs.kie import catalogue
from kiejobs.kie.kinds import allowed_kinds

MEDIA = {"image", "video", "audio"}


@pytest.mark.parametrize(
    ("model", "role", "index", "kinds"),
    [
        ("kling-2.6/text-to-video", "result", 0, {"video"}),
        ("kling-2.6/text-to-video", "last_frame", 1, {"image"}),
        ("kling-2.6/text-to-video", "result", 1, MEDIA),
        ("veo3_fast", "origin", 1, MEDIA),
        ("runway", "cover", 1, {"image"}),
        ("z-image", "result", 0, {"image"}),
        ("suno", "result", 0, {"audio", "video"}),
        ("suno", "cover", 1, {"image"}),
        ("suno/stems", "vocals", 0, {"audio", "video"}),
        ("suno/wav", "result", 0, {"audio", "video"}),
        ("suno/music-video", "result", 0, {"video"}),
        ("suno/cover-image", "result", 0, {"image"}),
        ("suno/midi", "document", 0, None),
        ("ai-music-api/separate-vocals", "linked", 1, MEDIA),
        ("elevenlabs/speech-to-text", "linked", 1, None),
        ("gemini-2.5-flash", "linked", 2, None),
        ("nobody/knows-it", "result", 0, None),
        ("nobody/knows-it", "cover", 1, {"image"}),
    ],
)
def test_a_file_must_be_what_the_model_makes(model: str, role: str, index: int, kinds: set[str] | None) -> None:
    """A picture is no video, an error in JSON is neither, and a song's cover is a picture."""
    assert allowed_kinds(model, role, index) == kinds


def test_no_model_that_makes_media_takes_a_text_for_its_result() -> None:
    """Whatever is added to the catalogue."""
    for model in catalogue.models():
        kinds = allowed_kinds(model.id, "result", 0)
        assert (kinds is None) == (model.kind == "text"), model.id
        assert kinds is None or (model.kind in kinds and "text" not in kinds), model.id
