"""Test sets of scans by name: one folder, or a folder of such folders."""

from __future__ import annotations

import os
from pathlib import Path

from utils.data import scan_files
from utils.data.image_io import describe, list_folder
from utils.data.scan_folders import FOLDERS, Scan, find_scans
from utils.errors import UserError


def find_scan_sets(path: str | os.PathLike, names: list[str] | None = None,
                   list_file: str | os.PathLike | None = None) -> dict[str, list[Scan]]:
    """The scans of each set in ``path``, which is one itself or holds folders that are.

    Args:
        names: the sets wanted, in this order; None takes all that are there.
        list_file: see `utils.data.scan_folders.find_scans`; for one set.

    Raises:
        UserError: sets are missing (named, with what is there), there is none, a list is given for many, or
            `find_scans` finds a defect.
    """
    folders = scan_set_folders(path, names)
    if list_file is not None and len(folders) > 1:
        raise UserError(f"{list_file}: is a list for one set, {path} has {', '.join(folders)}; name one by "
                        "--datasets")
    return {name: find_scans(folder, list_file) for name, folder in folders.items()}


def scan_set_folders(path: str | os.PathLike, names: list[str] | None = None) -> dict[str, Path]:
    """The folder of each set that `find_scan_sets` finds, by name. Raises UserError alike."""
    root = Path(path)
    inside = list_folder(root)
    if _is_set(root, inside):
        available = {root.absolute().name: root}
    else:
        available = {folder.name: folder for folder in inside
                     if os.path.isdir(folder) and _is_set(folder, list_folder(folder))}
    if not available:
        raise UserError(f"{root}: holds no set of scans (expected .npz or .h5 files, or images/ and labels/, "
                        f"in it or in folders in it); it holds {describe(inside)}")
    missing = [name for name in names or () if name not in available]
    if missing:
        raise UserError(f"{root}: has no set {', '.join(missing)}; there are {', '.join(available)}")
    return {name: available[name] for name in names or available}


def _is_set(folder: Path, inside: list[Path]) -> bool:
    kinds = {kind[0] for path in inside if (kind := scan_files.kind_of(path))}
    return bool(kinds & set(scan_files.WITH_LABELS)) or any((folder / name).is_dir() for name in FOLDERS)
