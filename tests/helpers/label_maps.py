"""Volumes of several classes and the label maps that a method predicts, for the tests of `evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.helpers import evaluations
from tests.helpers.saved_scans import save_npz
from utils.data.scans import ScanOptions, find_scans, read_scan, write_labels

SETS = ("first", "second & <b>")
SCANS = 3
SPACING = (4.0, 0.5, 0.8)
SCAN_OPTIONS = ScanOptions(4)


def write_folders(root: Path) -> Path:
    """Two sets of volumes in gt/, and predictions in maps/: worse the higher a volume's number.

    Of the three classes the last is in no volume; the second is missed in volume 1 and made up in volume 2.
    """
    for place, name in enumerate(SETS):
        for number in range(SCANS):
            target = np.zeros((4, 24, 30), np.uint8)
            target[1:, 5:15, 3:14] = 1
            if number != 2:
                target[:3, 8:20, 18:28] = 2
            image = np.random.default_rng(number).random(target.shape, np.float32)
            save_npz(root / "gt" / name / f"volume{number}.npz", image=image, label=target,
                     spacing=np.array(SPACING))
        write_maps(root / "gt" / name, root / "maps" / name, {
            f"volume{number}": predicted_labels(number, place) for number in range(SCANS)})
    return root


def predicted_labels(number: int, place: int) -> np.ndarray:
    prediction = np.zeros((4, 24, 30), np.uint8)
    prediction[1:, 5 + 2 * number:15 + number, 3 + place:14] = 1
    if number != 1:
        prediction[:2, 8:20, 18:28] = 2
    return prediction


def write_maps(gt: Path, folder: Path, maps: dict[str, np.ndarray], nifti: bool = False) -> None:
    for scan in find_scans(gt):
        write_labels(folder, scan, maps[scan.name], read_scan(scan, SCAN_OPTIONS), nifti)


def evaluate(folders: Path, *more: str) -> int:
    return evaluations.evaluate(folders, "--task", "multiclass", "--num_class", "4", *more)


def per_scan(folders: Path) -> dict[tuple[str, str, str], dict]:
    rows = json.loads((folders / "out" / "per_scan.json").read_text())
    return {(row["dataset"], row["scan"], row["class"]): row for row in rows}
