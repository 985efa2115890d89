"""A file of a folder is there whole or not at all: while it is written, after its writer was killed, after a power cut."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiejobs.errors import StorageUnavailable
from kiejobs.storage.store import Store

KEY = "default/2026/03/09/018f3a5e-7c1d-7e6a-9b0f-2d4c6e8a0b1c/0.mp4"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the store keeps its files."""
    return tmp_path / "media"


@pytest.fixture
def store(root: Path) -> Store:
    """A store in that folder."""
    return Store.open(str(root))


def put(store: Store, chunks: Iterator[bytes]) -> None:
    """Put chunks under the usual key."""
    store.put(KEY, chunks, media_type="video/mp4")


def files(root: Path) -> list[str]:
    """Every file there is, hidden ones, too."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_file_reaches_the_disk_before_its_name_and_its_name_before_the_put_ends(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut leaves an empty file under a name that the row calls stored."""
    synced: list[tuple[str, bool, int]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        place = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        synced.append((place, (root / KEY).exists(), os.fstat(descriptor).st_size))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    put(store, iter([b"a" * 1000, b"b" * 500]))
    (part, visible, size), *folders = synced
    assert (Path(part).parent, visible, size) == ((root / KEY).parent, False, 1500)
    assert Path(part).name.startswith("."), "and no key can name it meanwhile"
    parents = [path for path in (root / KEY).parents if path.is_relative_to(root.parent)]
    assert [(Path(place), seen) for place, seen, _ in folders] == [(path, True) for path in parents]


def test_a_disk_that_cannot_be_synced_stores_nothing(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails tells so only then."""

    def fsync(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageUnavailable, match="Input/output error"):
        put(store, iter([b"x"]))
    assert files(root) == []


def killed_midway(store: Store) -> None:
    """Run a put in a process that is gone after its first chunk."""

    def chunks() -> Iterator[bytes]:
        yield b"half"
        os._exit(0)

    child = os.fork()
    if child == 0:
        put(store, chunks())
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_what_a_killed_writer_left_is_taken_over_by_the_next_one(store: Store, root: Path) -> None:
    """Invisible under the key, and no litter for ever: a copy of 2 GiB would cost as much of the disk at every crash."""
    for _ in range(3):
        killed_midway(store)
        assert store.head(KEY) is None
    assert len(files(root)) == 1, "each takes over the part of the one before"
    put(store, iter([b"whole"]))
    assert files(root) == [KEY]
    assert (root / KEY).read_bytes() == b"whole"


def test_two_writers_of_one_file_do_not_mix(store: Store, root: Path) -> None:
    """A copy whose lease was taken over writes on for a moment: each is whole, and the last one stays."""

    def slow() -> Iterator[bytes]:
        yield b"slow-"
        put(store, iter([b"quick-", b"quick"]))
        assert (root / KEY).read_bytes() == b"quick-quick"
        yield b"slow"

    put(store, slow())
    assert (root / KEY).read_bytes() == b"slow-slow"
    assert files(root) == [KEY]


def test_a_file_system_without_locks_stores_all_the_same(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems have none: then each writer has a name of its own."""
    from kiejobs.storage import folder

    def flock(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(folder.fcntl, "flock", flock)
    put(store, iter([b"whole"]))
    assert (root / KEY).read_bytes() == b"whole"
