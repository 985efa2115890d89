"""The recipes of docs/storage.md: each block of settings opens the storage that it says, at the address that it says."""

import re
from pathlib import Path

import pytest
from obstore.store import AzureStore, GCSStore, LocalStore

from kiejobs.settings import Settings, names
from kiejobs.storage.opening import open_place
from kiejobs.storage.store import Store

TEXT = (Path(__file__).parents[2] / "docs/storage.md").read_text(encoding="utf-8")
BLOCKS = [
    dict(line.split("=", 1) for line in block.split("\n"))
    for block in re.findall(r"```sh\n(KIE.*?)\n```", TEXT, re.DOTALL)
]
ADDRESSES = [
    "https://s3.eu-west-3.amazonaws.com/media/results/",
    "https://0123456789abcdef.r2.cloudflarestorage.com/media/",
    "http://minio:9000/media/",
    "https://s3.eu-central-003.backblazeb2.com/media/",
    "http://garage:3900/media/",
]


def test_what_of_awss_names_is_read_from_dotenv_is_what_the_page_says() -> None:
    """The settings read them; the storage's library reads the environment alone, whatever `.env` holds."""
    (said,) = re.findall(r"in `\.env`: (.*?)\. All others", TEXT, re.DOTALL)
    assert set(re.findall(r"`(AWS_\w+)`", said)) == {name for name in names() if name.startswith("AWS_")}


def recipe(block: dict[str, str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> Settings:
    """The settings that somebody has who copies the block, with keys of their own."""
    for name, value in block.items():
        monkeypatch.setenv(name, value.replace("…", "0123456789abcdef") if "KEY" in name else value)
    return Settings(_env_file=None, data_dir=folder)


def test_there_is_a_recipe_for_each_kind_of_storage() -> None:
    """So that the tests below are about all of them."""
    assert len(BLOCKS) == 1 + len(ADDRESSES) + 2


@pytest.mark.parametrize(("block", "address"), list(zip(BLOCKS[1:6], ADDRESSES, strict=True)))
def test_an_s3_recipe_leads_to_its_server_with_its_key_and_region(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, block: dict[str, str], address: str
) -> None:
    """Told by a signed link, without a request."""
    link = Store.of(recipe(block, monkeypatch, tmp_path)).link("default/0.png", 60)
    assert str(link).startswith(f"{address}default/0.png?")
    assert f"%2F{block['AWS_REGION']}%2Fs3%2F" in str(link)


@pytest.mark.parametrize(
    ("block", "kind"), list(zip([BLOCKS[0], *BLOCKS[6:]], [LocalStore, GCSStore, AzureStore], strict=True))
)
def test_the_other_recipes_open_their_kind_of_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, block: dict[str, str], kind: type
) -> None:
    """A folder, Google, Azure."""
    url = block["KIEJOBS_STORAGE_URL"]
    block = {**block, "KIEJOBS_STORAGE_URL": f"{tmp_path}{url}" if url.startswith("/") else url}
    block.pop("GOOGLE_SERVICE_ACCOUNT", None)  # a file of the reader's own
    settings = recipe(block, monkeypatch, tmp_path)
    assert isinstance(open_place(settings.storage).work, kind)
