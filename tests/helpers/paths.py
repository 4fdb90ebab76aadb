"""Where the tests find things."""

from __future__ import annotations

from pathlib import Path

from utils.files import PROJECT_ROOT as ROOT

GOLDEN = ROOT / "tests" / "golden"  # published values

__all__ = ["GOLDEN", "ROOT", "files_of", "visible_files"]


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder by its path from there."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def visible_files(folder: Path) -> dict[str, bytes]:
    """The files below a folder by their place in it, without the hidden mark of who wrote them."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.startswith(".")}
