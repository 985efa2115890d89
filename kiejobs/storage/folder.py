"""Writes one file of a folder so that it is there whole or not at all, also after a power cut.

The bytes go to a part beside the file, under a hidden name that no key can have; they are brought to the disk, and only
then the part takes the file's place, and the entries of the folders are brought to the disk as well. A writer holds a
lock on its part, so that what a killed one left is taken over by the next writer of the same file. Knows no keys. Errors
are the file system's.
"""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_NO_SYNC = (errno.EACCES, errno.EINVAL, errno.EOPNOTSUPP)
"""A folder that may not be opened, or whose file system knows nothing of the kind: nothing more can be done for it."""


def write(root: Path, path: Path, chunks: Iterable[bytes]) -> None:
    """Put the chunks in the place of the file `path` below the folder `root`; an older file is replaced.

    Whatever `chunks` raises is raised again as it is, and nothing of them stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part, file = _part_of(path)
    with file:
        try:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
    for folder in path.parents:
        _sync(folder)
        if folder == root.parent:
            return


def _part_of(path: Path) -> tuple[Path, BinaryIO]:
    """Open an empty part for this writer alone: the first that nobody else holds, whoever has left it."""
    for number in count(1):
        part = path.with_name(f".{path.name}.{number}.part")
        file = part.open("ab")  # which empties nothing: until it is locked it may be somebody else's
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it may have moved it into the file's place just before.
            if os.path.samestat(os.fstat(file.fileno()), part.stat()):
                file.truncate(0)
                return part, file
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError as error:
            file.close()
            if error.errno not in _NO_LOCKS:
                raise
            break
        file.close()
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    return part, part.open("xb")


def _sync(folder: Path) -> None:
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
