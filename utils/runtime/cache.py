"""The folder for all that is compiled on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from utils.errors import UserError

CACHE_VARIABLE = "JITTOR_PRANET_CACHE"


def cache_folder() -> Path:
    """The folder where Jittor keeps what it compiles: ours alone, so that the user's Jittor stays as it is.

    ``$JITTOR_PRANET_CACHE``, else ``~/.cache/jittor-pranet``, else (home read-only, or a path with a space,
    which Jittor's compile commands cannot take) a folder of this user under the temporary folder.

    Raises:
        UserError: none of them can be used.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        folder = Path(named).expanduser().absolute()
        if not _is_usable(folder):
            raise UserError(f"{CACHE_VARIABLE}={named}: cannot be used; name a writable folder of your own "
                            "without spaces in its path")
        return folder
    home = Path.home() / ".cache" / "jittor-pranet"
    temporary = Path(tempfile.gettempdir()) / f"jittor-pranet-{os.getuid()}"
    for folder in (home, temporary):
        if _is_usable(folder):
            return folder
    raise UserError(f"neither {home} nor {temporary} can be written; set {CACHE_VARIABLE} to one that can")


@contextlib.contextmanager
def new_folder(home: Path) -> Iterator[Path]:
    """A temporary folder to fill, which becomes ``home`` in the cache when the block ends well.

    An incomplete one is never used. Another process that is faster has made the same.

    Raises:
        UserError: it cannot be written.
    """
    temporary = None
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".part-", dir=home.parent))
        yield temporary
        try:
            temporary.rename(home)
        except OSError:
            if not home.is_dir():
                raise
    except OSError as error:
        raise UserError(f"{home}: cannot be written ({error.strerror or error}); free some room or choose "
                        f"another folder in {CACHE_VARIABLE}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _is_usable(folder: Path) -> bool:
    """Whether we can write there and nobody else owns it: compiled code is loaded from it."""
    if " " in str(folder):
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return folder.stat().st_uid == os.getuid()
    except OSError:
        return False
