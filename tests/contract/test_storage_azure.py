"""The recipe for Azure, against Azurite, Microsoft's own emulator of its storage, which checks signatures."""

import base64
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from kiejobs.errors import Incomplete, StorageUnavailable
from kiejobs.settings import Settings
from kiejobs.storage.keys import disposition
from kiejobs.storage.store import PART_BYTES, Store, StoredObject
from tests import support
from tests.unit.test_storage_recipes import BLOCKS

# The emulator's account, the same for everybody: learn.microsoft.com/azure/storage/common/storage-use-azurite
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
OBJECT = "default/2026/03/09/018f3a5e-7c1d-7e6a-9b0f-2d4c6e8a0b1c/0.png"
START_S = 30.0
RECIPE = next(block for block in BLOCKS if block["KIEJOBS_STORAGE_URL"].startswith("az:"))


@pytest.fixture(scope="module")
def azurite() -> Iterator[str]:
    """The emulator on a port of its own, with the recipe's container in it."""
    binary = shutil.which("azurite-blob")
    if binary is None:
        support.missing("azurite: `npm install --global azurite` for a server that speaks Azure's language")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(binary), "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    with subprocess.Popen([*command, "--blobPort", str(port)], stdout=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + START_S
            while not support.answers(port):
                assert process.poll() is None, "it ended before it listened"
                assert time.monotonic() < until, "it never listened"
                time.sleep(0.05)
            create_container(f"http://127.0.0.1:{port}", urlsplit(RECIPE["KIEJOBS_STORAGE_URL"]).netloc)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def create_container(url: str, name: str) -> None:
    """Make it by one request, signed with the account's key (which obstore does for objects only)."""
    date, version = format_datetime(datetime.now(UTC), usegmt=True), "2021-08-06"
    resource = f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n{resource}"
    signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)).decode()
    headers = {"x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey {ACCOUNT}:{signature}"}
    answer = requests.put(f"{url}/{ACCOUNT}/{name}?restype=container", headers=headers, timeout=10)
    assert answer.status_code == 201, answer.text


def opened(azurite: str, monkeypatch: pytest.MonkeyPatch, folder: Path, **other: str) -> Store:
    """What somebody has who copies the recipe, pointed at the emulator."""
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    own = {"AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": KEY}
    emulator = {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": azurite}
    for name, value in {**RECIPE, **own, **emulator, **other}.items():
        monkeypatch.setenv(name, value)
    return Store.of(Settings(_env_file=None, data_dir=folder))


@pytest.mark.parametrize("sizes", [(5,), (PART_BYTES, 77), (PART_BYTES, PART_BYTES, PART_BYTES, 1)])
def test_the_recipe_keeps_an_object_and_what_is_said_of_it(
    azurite: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    """Small and in parts: whole, in part, by a link, and gone when it is removed."""
    store = opened(azurite, monkeypatch, tmp_path)
    store.check()
    chunks = [bytes([number]) * size for number, size in enumerate(sizes, start=1)]
    store.put(OBJECT, iter(chunks), media_type="image/png", disposition=disposition(OBJECT))
    assert store.head(OBJECT) == StoredObject(OBJECT, sum(sizes), "image/png")
    assert store.read(OBJECT).read() == b"".join(chunks)
    with store.open_range(OBJECT, 2, 4) as part:
        assert part.read() == b"".join(chunks)[2:4]
    answer = requests.get(store.link(OBJECT, 60) or "", timeout=10)
    assert answer.content == b"".join(chunks)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Disposition"] == disposition(OBJECT)
    store.delete(OBJECT)
    store.delete(OBJECT)
    assert store.head(OBJECT) is None


def test_a_failure_midway_leaves_the_earlier_object_as_it_was(
    azurite: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Blocks that were never committed are no object."""

    def breaking() -> Iterator[bytes]:
        yield from (bytes(PART_BYTES) for _ in range(3))
        raise Incomplete("the source broke off")

    store = opened(azurite, monkeypatch, tmp_path)
    store.put(OBJECT, iter([b"whole"]), media_type="image/png")
    with pytest.raises(Incomplete, match="broke off"):
        store.put(OBJECT, breaking(), media_type="image/png")
    assert store.read(OBJECT).read() == b"whole"


def test_what_is_wrong_is_named(azurite: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A container that is not there, a key that is not the account's."""
    nowhere = opened(azurite, monkeypatch, tmp_path, KIEJOBS_STORAGE_URL="az://nowhere")
    with pytest.raises(StorageUnavailable, match="does not exist") as caught:
        nowhere.check()
    assert "KIEJOBS_STORAGE_URL" in caught.value.remedy
    wrong = base64.b64encode(b"not the account's").decode()
    with pytest.raises(StorageUnavailable, match="access is denied") as caught:
        opened(azurite, monkeypatch, tmp_path, AZURE_STORAGE_ACCOUNT_KEY=wrong).check()
    assert wrong not in f"{caught.value} {caught.value.remedy}"
