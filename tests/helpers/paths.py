"""Where the tests find things."""

from __future__ import annotations

from pathlib import Path

from utils.files import PROJECT_ROOT as ROOT

GOLDEN = ROOT / "tests" / "golden"  # published figures

__all__ = ["GOLDEN", "ROOT", "visible_files"]


def visible_files(folder: Path) -> dict[str, bytes]:
    """The files below a folder by their place in it, without the hidden mark of who wrote them."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.startswith(".")}
