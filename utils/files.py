"""Files that are either whole or absent, and what tells their content."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

from utils.errors import UserError

PROJECT_ROOT = Path(__file__).resolve().parents[1]
HALF_WRITTEN = ".*.????????.part"  # matches the files beside, which only a kill leaves behind


def child_environment() -> dict[str, str]:
    """The environment of a process of ours started anywhere: our modules come before the user's."""
    paths = [str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb", **options) -> Iterator[IO]:
    """Opens a file beside ``path`` for writing and renames it to ``path`` when the block ends well.

    A reader sees the old file or the new one, never a part. ``options`` go to ``open``.

    Raises:
        UserError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    path = Path(path)
    beside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o666 & ~_umask())
        os.replace(beside, path)
        beside = None
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); "
                        "free some room or choose another folder") from error
    finally:
        if beside is not None:
            with contextlib.suppress(OSError):
                os.unlink(beside)


def sha256_of(file: BinaryIO) -> str:
    """The SHA-256 of an open file's content from where it stands."""
    state = hashlib.sha256()
    while block := file.read(1 << 20):
        state.update(block)
    return state.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
