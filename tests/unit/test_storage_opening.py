"""Which store a URL opens, and where it leads: told without a request, by signing a link for it."""

import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store

from kiejobs.errors import SettingsError
from kiejobs.settings import Settings
from kiejobs.storage.opening import open_place
from kiejobs.storage.store import Store
from tests.factories import make_settings

ACCESS = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "secretsecret", "region": "eu-west-3"}
KEY = "default/0.png"


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account that `az://` URLs leave out."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "acme")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0c2VjcmV0")


@pytest.mark.parametrize(
    ("url", "kind", "prefix"),
    [
        ("s3://media/results", S3Store, "results"),
        ("s3a://media", S3Store, None),
        ("gs://media/results", GCSStore, "results"),
        ("az://media/results", AzureStore, "results"),
        ("azure://media", AzureStore, None),
        ("abfss://media@acme.dfs.core.windows.net/results", AzureStore, "results"),
        ("memory:", MemoryStore, None),
    ],
)
def test_a_url_opens_the_store_of_its_kind(azure: None, url: str, kind: type, prefix: str | None) -> None:
    """No request is made by opening."""
    work = open_place(url).work
    assert isinstance(work, kind)
    assert getattr(work, "prefix", None) == prefix


@pytest.mark.parametrize("form", ["media", "./media", "file://{0}/media"])
def test_a_folder_is_opened_by_its_name_or_its_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """Relative to where the process started."""
    monkeypatch.chdir(tmp_path)
    work = open_place(form.format(tmp_path)).work
    assert isinstance(work, LocalStore)
    assert Path(str(work.prefix)) == tmp_path / "media"


def test_azure_without_an_account_says_what_to_write() -> None:
    """`az://container` alone does not say whose."""
    with pytest.raises(SettingsError) as caught:
        open_place("az://media/results")
    assert "AZURE_STORAGE_ACCOUNT_NAME" in caught.value.remedy


def settings(tmp_path: Path, **given: str) -> Settings:
    """Settings with a key for a bucket in Paris."""
    known = {"storage_url": "s3://media/results", "storage_key_id": "AKIDEXAMPLE", "storage_secret": "secretsecret"}
    return make_settings(tmp_path, **{**known, "storage_region": "eu-west-3", **given})


def link(tmp_path: Path, **given: str) -> str:
    """Where the store that the settings name would be asked for an object."""
    made = Store.of(settings(tmp_path, **given)).link(KEY, 60)
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (None, "https://s3.eu-west-3.amazonaws.com/media/results/default/0.png"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000/media/results/default/0.png"),
        ("https://acme.r2.cloudflarestorage.com/", "https://acme.r2.cloudflarestorage.com/media/results/default/0.png"),
        (
            "https://media.s3.eu-central-003.backblazeb2.com",
            "https://media.s3.eu-central-003.backblazeb2.com/results/default/0.png",
        ),
        ("https://media2.example.com", "https://media2.example.com/media/results/default/0.png"),
    ],
)
def test_the_address_decides_between_path_and_host_style(tmp_path: Path, endpoint: str | None, expected: str) -> None:
    """A server's address that begins with the bucket is that bucket's own."""
    found = link(tmp_path, **({"storage_endpoint_url": endpoint} if endpoint else {}))
    assert found.partition("?")[0] == expected


def test_host_style_at_aws_is_asked_for_by_awss_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`AWS_VIRTUAL_HOSTED_STYLE_REQUEST`; empty, as a template leaves it, it says nothing."""
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    assert link(tmp_path).startswith("https://media.s3.eu-west-3.amazonaws.com/results/default/0.png?")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "")
    assert link(tmp_path).startswith("https://s3.eu-west-3.amazonaws.com/media/results/default/0.png?")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "https://media.example.com/results/default/0.png"),
        ("false", "https://media.example.com/media/results/default/0.png"),
        ("true", "https://media.example.com/results/default/0.png"),
        ("", "https://media.example.com/results/default/0.png"),
    ],
)
def test_an_endpoint_that_merely_begins_like_the_bucket_is_put_right_by_awss_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    """`s3://storage` at storage.example.com, taken for the bucket's own host: there a tenant would be the bucket."""
    if given is not None:
        monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", given)
    assert link(tmp_path, storage_endpoint_url="https://media.example.com").partition("?")[0] == expected


def test_host_style_at_another_server_is_asked_for_by_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address is used as it is given."""
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    found = link(tmp_path, storage_endpoint_url="https://files.example.com")
    assert found.startswith("https://files.example.com/results/default/0.png?")


def test_a_value_that_obstore_cannot_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not passed over."""
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "nonsense")
    with pytest.raises(SettingsError, match="nonsense"):
        link(tmp_path, storage_endpoint_url="https://files.example.com")


def test_key_region_and_session_token_are_the_settings_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they stand in `.env`, which no library of storage reads; the environment's others do not get in."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SOMEBODYELSE")
    query = parse_qs(urlsplit(link(tmp_path, storage_token="a+session/token")).query)
    assert query["X-Amz-Credential"][0].split("/")[0] == "AKIDEXAMPLE"
    assert query["X-Amz-Credential"][0].split("/")[2] == "eu-west-3"
    assert query["X-Amz-Security-Token"] == ["a+session/token"]
    assert query["X-Amz-Expires"] == ["60"]


def test_the_endpoint_for_s3_alone_wins_as_in_every_tool_of_aws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """obstore reads it from the environment and lets it win: the settings say the same, and so does `doctor`."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9001")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://elsewhere.example")
    made = Settings(_env_file=None, data_dir=tmp_path, storage_url="s3://media")
    assert made.storage_endpoint == "http://127.0.0.1:9001"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secretsecret")
    assert str(Store.of(made).link(KEY, 60)).startswith("http://127.0.0.1:9001/media/default/0.png?")


def test_no_secret_of_the_storage_is_ever_shown(tmp_path: Path) -> None:
    """I11: neither by the settings, nor by a store, nor by its place."""
    made = settings(tmp_path, storage_token="tokentoken")
    shown = f"{made!r} {made} {Store.of(made)!r} {Store.of(made).location(KEY)} {open_place('s3://m', access=ACCESS)!r}"
    assert "secretsecret" not in shown
    assert "tokentoken" not in shown


def test_what_a_copy_needs_brings_no_settings_along() -> None:
    """They are as large as all the rest of it, and nothing that is known here stands in them."""
    program = "import sys, kiejobs.storage.store, kiejobs.storage.transfer; print('pydantic' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
