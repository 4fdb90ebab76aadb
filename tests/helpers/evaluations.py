"""What the tests of `evaluate` share: sets with the maps of a method, the program, and what it wrote."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from jittor_pranet.__main__ import main

SETS = ("first", "second")
IMAGES = 5


def write_folders(root: Path) -> Path:
    """Two sets of masks in gt/, and the maps of a method for them in maps/."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :60]
    for name in SETS:
        gt, maps = root / "gt" / name, root / "maps" / name
        for number in range(IMAGES):
            row, column, radius = rng.uniform(5, 35), rng.uniform(5, 55), rng.uniform(3, 15)
            distance = np.hypot(y - row, x - column)
            blurred = 1 / (1 + np.exp((distance + rng.normal(0, 2, distance.shape) - 8) / 2))
            write(gt / "images" / f"{number}.jpg", rng.integers(0, 255, (40, 60, 3), np.uint8))
            write(gt / "masks" / f"{number}.png", np.uint8(255 * (distance < radius)))
            write(maps / f"{number}.png", np.uint8(255 * blurred))
    return root


def write(path: Path, values: np.ndarray) -> None:
    save(path, Image.fromarray(values))


def save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def evaluate(folders: Path, *more: str) -> int:
    return main(["evaluate", "--pred_root", str(folders / "maps"), "--gt_root", str(folders / "gt"),
                 "--result_path", str(folders / "out"), *more])


def summary(folders: Path) -> dict:
    return json.loads((folders / "out" / "summary.json").read_text())


def rows(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
