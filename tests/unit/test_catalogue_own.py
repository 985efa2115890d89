"""A folder of one's own entries: it adds, it overrides, and a mistake in it is named before anything starts."""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kiejobs.cli.app import app
from kiejobs.errors import InvalidInput, SettingsError
from kiejobs.kie import catalogue
from kiejobs.kie.catalogue import own
from kiejobs.producer import KieJobs
from kiejobs.settings import load
from tests.factories import make_settings

SHIPPED = Path(own.__file__).parent
ABOVE = 'kind = "image"\ndoc = "https://docs.kie.ai/x.md"\ndate = 2026-11-01\n'
PROMPT = 'prompt = { type = "string", required = true, max_length = 9 }\n'

Write = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder; what a test made the process use is forgotten afterwards."""
    made = tmp_path / "catalogue"
    made.mkdir()
    yield made
    catalogue.use(None)


@pytest.fixture
def write(folder: Path) -> Write:
    """Writes a file of entries into the folder; `entry` stands under ["our/model"]."""

    def written(entry: str = "", *, above: str = ABOVE, name: str = "ours.toml") -> Path:
        (folder / name).write_text(f'{above}["our/model"]\n{entry}', encoding="utf-8")
        return folder

    return written


def refusal(folder: Path) -> str:
    """What a process that is given this folder says."""
    with pytest.raises(SettingsError) as raised:
        catalogue.use(folder)
    assert "\n" not in str(raised.value).rstrip()
    assert "KIEJOBS_CATALOGUE" in raised.value.remedy
    return str(raised.value)


def test_a_new_model_is_known_from_then_on(write: Write) -> None:
    """Listed, found, suggested, checked and described like one that ships."""
    catalogue.use(write('["our/model".input]\n' + PROMPT))
    found = catalogue.find("our/model")
    assert found is not None
    assert (found.vendor, found.status, found.fields[0].max_length) == ("ours", "current", 9)
    assert found in catalogue.models()
    assert catalogue.near("our/modle") == "our/model"
    assert catalogue.schema("our/model")["properties"]["prompt"]
    with pytest.raises(InvalidInput, match="text of 1 to 9 characters"):
        catalogue.check("our/model", {"prompt": "much too long"})


def test_an_entry_of_ones_own_stands_before_the_shipped_one_as_a_whole(folder: Path) -> None:
    """Nothing of the shipped entry is left, its neighbours in the same file stay."""
    (folder / "kling.toml").write_text(
        f'{ABOVE}["kling-2.6/text-to-video"]\n["kling-2.6/text-to-video".input]\n{PROMPT}'
    )
    before = len(catalogue.models())
    catalogue.use(folder)
    assert catalogue.check("kling-2.6/text-to-video", {"prompt": "a cat"}, strict=True) == ()
    assert catalogue.find("kling-2.6/text-to-video").kind == "image"  # type: ignore[union-attr]
    assert catalogue.find("kling-2.6/image-to-video").kind == "video"  # type: ignore[union-attr]
    assert len(catalogue.models()) == before
    catalogue.use(None)
    assert catalogue.find("kling-2.6/text-to-video").kind == "video"  # type: ignore[union-attr]


def test_the_folder_that_ships_passes_the_strict_reader() -> None:
    """One's own files follow the rules of ours, and ours follow them too."""
    assert own.read(SHIPPED) == {model.id: model for model in catalogue.models()}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("pric_credits = 5\n", "pric_credits is no part of an entry; did you mean price_credits?"),
        ("inputs = {}\n", "inputs is no part of an entry; did you mean input?"),
        ('price_credits = "5"\n', "price_credits is '5': input should be a valid number"),
        ('kind = "film"\n', "kind is 'film': input should be 'image', 'video', 'audio' or 'text'"),
        ('status = "withdrawn"\n', "note is missing: it says why the model is withdrawn"),
        ('input = "prompt"\n', "input is no table of fields"),
        ('input.prompt = { typ = "string" }\n', "input.prompt.typ is no part of a field; did you mean type?"),
        ('input.prompt = { type = "text" }\n', "input.prompt.type is 'text': input should be 'string', 'number'"),
        ("input.prompt = {}\n", "input.prompt.type is missing"),
        ('input.prompt = "string"\n', "input.prompt is no table"),
        (
            'input.prompt = { type = "string", required = 1 }\n',
            "input.prompt.required is 1: input should be a valid bool",
        ),
        ('input.n = { type = "integer", max_length = 3 }\n', "input.n.max_length limits string fields"),
        ('input.n = { type = "integer", items = "string" }\n', "input.n.items belongs to arrays"),
        ('input.n = { type = "integer", allowed = [1, "2"] }\n', "input.n.allowed holds a value that is not of type"),
        ('input.n = { type = "integer", default = "2" }\n', "input.n.default is not of type integer"),
        ('input.n = { type = "integer", allowed = [1], default = 2 }\n', "input.n.default is not among the allowed"),
        ('parent = { tsk = "task_id" }\n', "parent.tsk is no part of an entry; did you mean task?"),
        ('parent = { index = "index" }\n', "parent names neither task nor part: nothing would be filled in"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_entry(entry: str, said: str, write: Write) -> None:
    """Part, value and what was meant, on one line; and what was in use before stays in use."""
    message = refusal(write(entry))
    assert message.startswith(f'KIEJOBS_CATALOGUE: {write(entry) / "ours.toml"}, ["our/model"]: ')
    assert said in message
    assert catalogue.find("our/model") is None


def test_what_an_entry_must_have_is_asked_for(write: Write) -> None:
    """Its kind, its page, its day."""
    assert "kind is missing" in refusal(write(above=""))
    assert "date is missing" in refusal(write(above='kind = "image"\ndoc = "https://docs.kie.ai/x.md"\n'))


def test_a_file_that_is_no_toml_is_named(folder: Path) -> None:
    """With the line, as far as the parser knows it."""
    (folder / "broken.toml").write_text('["our/model"\nkind = 1')
    assert "broken.toml: it is no TOML that can be read: " in refusal(folder)
    (folder / "broken.toml").write_bytes(b"\xff\xfe")
    assert "broken.toml: it is no TOML that can be read: " in refusal(folder)
    (folder / "broken.toml").write_text('doc = "https://docs.kie.ai/x.md"')
    assert "broken.toml: it holds no entry" in refusal(folder)


def test_the_same_model_in_two_files_is_refused(write: Write) -> None:
    """Nobody could say which one holds."""
    write(name="a.toml")
    assert 'b.toml, ["our/model"]: this model is also in a.toml' in refusal(write(name="b.toml"))


def test_a_folder_that_is_none_or_empty_is_refused(folder: Path) -> None:
    """A misspelt folder would otherwise look like one without entries."""
    assert "holds no .toml file" in refusal(folder)
    assert "cannot be read: No such file" in refusal(folder / "nowhere")


# Every process uses it from its start.


def test_every_process_stops_at_a_wrong_file(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer, a worker, the command line."""
    monkeypatch.setenv("KIEJOBS_CATALOGUE", str(write("knid = 1\n", above="")))
    monkeypatch.chdir(tmp_path)
    workers_app = import_module("workers.app")  # the package's `app` is Celery's
    monkeypatch.setattr(workers_app, "_runtime", None)
    for start in (lambda: KieJobs(load()), workers_app.runtime):
        with pytest.raises(SettingsError, match="did you mean kind"):
            start()
    for command in (["models"], ["list"], ["up"], ["submit", "z-image", "--prompt", "x"]):
        result = CliRunner().invoke(app, command)
        assert (result.exit_code, "did you mean kind?" in result.stderr) == (2, True), command
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 2


def test_the_settings_name_the_folder(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment to the check of a request; blank is unset."""
    KieJobs(make_settings(tmp_path, catalogue=write('["our/model".input]\n' + PROMPT)))
    assert catalogue.find("our/model")
    monkeypatch.setenv("KIEJOBS_CATALOGUE", " ")
    assert load().catalogue is None
    KieJobs(make_settings(tmp_path))
    assert catalogue.find("our/model") is None
