"""What must hold of files, whatever happened to the program that read or wrote them."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import numpy as np
from PIL import Image

from utils.files import HALF_WRITTEN, sha256_of
from utils.outputs import MARKER

GROWING = ("predictions.csv", "log.csv", "epochs.csv", MARKER)  # written in place: a kill may cut their end
CLOCK = ("seconds", "images_per_s")  # columns of a log that no two runs have alike


def tree(folder: Path) -> dict[str, str]:
    """Everything below a folder: by its path what it is, and of a file what it holds."""
    return {str(path.relative_to(folder)): _content(path) for path in sorted(folder.rglob("*"))}


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    if not path.is_file():
        return "folder" if path.is_dir() else "neither file nor folder"
    with open(path, "rb") as file:
        return sha256_of(file)


def outputs(folder: Path) -> dict[str, object]:
    """As `tree`, but of a log the rows without what the clock says."""
    return {name: _rows(folder / name) if name in ("log.csv", "epochs.csv") else content
            for name, content in tree(folder).items()}


def _rows(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        return [{name: row[name] for name in row if name not in CLOCK} for row in csv.DictReader(file)]


def differences(found: dict, expected: dict, whose: str) -> list[str]:
    """One line for each path that is not in both with the same content."""
    lines = [f"{whose}{name} is missing" for name in expected if name not in found]
    lines += [f"{whose}{name} should not be there" for name in found if name not in expected]
    return lines + [f"{whose}{name} has another content" for name in expected
                    if name in found and found[name] != expected[name]]


def half_written(folder: Path) -> set[str]:
    """The files that `atomic_write` has not renamed yet."""
    return {str(path.relative_to(folder)) for path in folder.rglob(HALF_WRITTEN)}


def broken(folder: Path) -> Iterator[str]:
    """One line for each file that stands under its own name but is not whole."""
    for path in sorted(folder.rglob("*")):
        check = CHECKS.get(path.suffix)
        if check and path.is_file() and path.name not in GROWING:
            try:
                check(path)
            except Exception as error:  # whatever a library says of a file that is cut
                yield f"{path.relative_to(folder)} is not whole: {type(error).__name__}: {error}"


def _read_picture(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()


def _read_arrays(path: Path) -> None:
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            arrays[name]


def _require_end(end: str) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        if not path.read_text(encoding="utf-8").endswith(end):
            raise ValueError(f"does not end with {end!r}")
    return check


CHECKS = {".png": _read_picture, ".npz": _read_arrays, ".json": lambda path: json.loads(path.read_bytes()),
          ".html": _require_end("</html>\n"), ".csv": _require_end("\n")}
