"""Where the tests find things."""

from __future__ import annotations

from pathlib import Path

from utils.files import PROJECT_ROOT as ROOT

GOLDEN = ROOT / "tests" / "golden"  # published figures

__all__ = ["GOLDEN", "ROOT", "visible_files"]


def visible_files(folder: Path) -> dict[str, bytes]:
    """The content of what lies in a folder by name, without the hidden mark of who wrote it."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}
