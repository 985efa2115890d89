"""References in an input: what may stand there for a URL, and what is no reference."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from kiejobs.errors import InvalidInput
from kiejobs.references import KeptFile, OutputOf, Reference, files_kept, references, replaced

JOB = str(uuid4())
KEY = "default/inputs/" + "a" * 64 + ".png"


def read(given: Any) -> list[Reference]:
    return references(given, tenant="default")


def test_references_are_found_wherever_they_stand() -> None:
    """In fields, lists and objects; a job's bare id is short for its first output."""
    given = {
        "image_url": {"$from": {"job": JOB, "output": 2}},
        "image_urls": ["https://files.example/a", {"$from": JOB}],
        "shots": [{"frames": {"$from": {"job": JOB, "output": "all"}}}],
        "mask": {"$file": {"key": KEY, "name": "mask.png"}},
        "prompt": "$from",
    }
    assert read(given) == [OutputOf(JOB, 2), OutputOf(JOB), OutputOf(JOB, None), KeptFile(KEY, "mask.png")]


def test_an_input_without_references_has_none() -> None:
    """Text that looks like one is text."""
    assert read({"prompt": '{"$from": 1}', "seed": 3, "list": [1, [2]], "none": None}) == []


@pytest.mark.parametrize("given", [{"$file": {"key": KEY}}, {"$from": JOB}])
def test_a_reference_is_no_input(given: dict[str, Any]) -> None:
    """It stands for a URL, and Kie takes named fields; sent as it is, it would only break the call."""
    with pytest.raises(InvalidInput, match="a reference itself") as refused:
        read(given)
    assert refused.value.field == "input"


@pytest.mark.parametrize(
    "value",
    [
        {"$from": {}},
        {"$from": {"job": "no uuid"}},
        {"$from": {"job": JOB, "output": -1}},
        {"$from": {"job": JOB, "output": True}},
        {"$from": {"job": JOB, "output": "first"}},
        {"$from": {"job": JOB, "outputs": 1}},
        {"$from": 17},
        {"$from": {"job": JOB}, "output": 1},
        {"$from": JOB, "$file": {"key": KEY}},
        {"$file": KEY},
        {"$file": {"key": "other/inputs/" + "a" * 64 + ".png"}},
        {"$file": {"key": "default/2026/11/21/secret.png"}},
        {"$file": {"key": KEY, "name": 3}},
        {"$file": {"key": KEY, "url": "http://10.0.0.1/"}},
    ],
)
def test_a_wrong_reference_is_refused_with_its_place(value: dict[str, Any]) -> None:
    """Also a file of another tenant, and one that is no input file."""
    with pytest.raises(InvalidInput) as refused:
        read({"images": ["https://files.example/a", value]})
    assert refused.value.field == "input.images[1]"


def test_a_hundred_references_are_enough() -> None:
    """Each may have to be uploaded."""
    assert len(read([{"$from": JOB}] * 100)) == 100
    with pytest.raises(InvalidInput, match="more than 100 references"):
        read([{"$from": JOB}] * 101)


def test_every_reference_is_replaced_and_nothing_else() -> None:
    """The input keeps its shape."""
    given = {"a": [{"$from": JOB}, "x"], "b": {"c": {"$file": {"key": KEY}}}, "n": 1}
    found = replaced(given, lambda reference: f"https://kie.example/{type(reference).__name__}")
    assert found == {
        "a": ["https://kie.example/OutputOf", "x"],
        "b": {"c": "https://kie.example/KeptFile"},
        "n": 1,
    }


def test_files_become_references(tmp_path: Path) -> None:
    """Paths keep their names, bytes have none; the rest stays."""
    kept: list[Any] = []

    def keep(content: Path | bytes) -> str:
        kept.append(content)
        return f"default/inputs/{len(kept)}.png"

    photo = tmp_path / "photo.png"
    given = files_kept({"image": photo, "more": [b"bytes", "https://files.example/a"], "n": 1}, keep)
    assert given == {
        "image": {"$file": {"key": "default/inputs/1.png", "name": "photo.png"}},
        "more": [{"$file": {"key": "default/inputs/2.png"}}, "https://files.example/a"],
        "n": 1,
    }
    assert kept == [photo, b"bytes"]
