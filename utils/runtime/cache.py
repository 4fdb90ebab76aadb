"""The folder for all that is compiled on this machine."""

from __future__ import annotations

import os
import tempfile
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
