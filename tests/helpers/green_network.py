"""A network that takes green for polyp in place of a trained one, for the tests of the program predict."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jittor_pranet import predict
from jittor_pranet.__main__ import main
from lib.inference import PolypSegmenter
from utils.checkpoint import save_arrays
from utils.data.polyps import MEAN, STD

SIZE = 32
KINDS = ("maps", "masks", "overlays")


class GreenIsPolyp(PolypSegmenter):
    """The map is the green of the image, 0 to 1."""

    def __init__(self, size: int = SIZE):
        self.model_type, self.device, self.size, self.max_batch = "PraNet-V2", "cpu", size, 1000

    def try_maps(self, images: np.ndarray, sizes: list, minmax: bool = False, names: list | None = None,
                 ) -> Iterator[np.ndarray]:
        greens = images[:, 1] * STD[1] + MEAN[1]
        maps = [np.asarray(Image.fromarray(green).resize(size[::-1], Image.NEAREST)).clip(0, 1)
                for green, size in zip(greens, sizes)]
        yield from [(each - each.min()) / (np.ptp(each) + 1e-8) for each in maps] if minmax else maps


@pytest.fixture(autouse=True)
def green_network(monkeypatch):
    monkeypatch.setattr(predict, "load_segmenter",
                        lambda kind, checkpoint, args: GreenIsPolyp(args.testsize))


def run(folder: Path, *arguments, out: str = "out", workers: int = 0) -> int:
    save_arrays({"green": np.ones(1, np.float32)}, folder / "weights.npz")
    arguments = arguments or (folder / "in",)
    return main(["predict", *map(str, arguments), "--out", str(folder / out), "--weights",
                 str(folder / "weights.npz"), "--model_type", "PraNet-V2", "--testsize", str(SIZE),
                 "--workers", str(workers)])


def draw(path: Path, box: tuple[int, int, int, int] = (4, 8, 16, 12), level: int = 255,
         size: tuple[int, int] = (32, 32), **options) -> Path:
    """A dark picture with a green rectangle (left, top, width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*size[::-1], 3), (60, 20, 40), np.uint8)
    left, top, width, height = box
    pixels[top:top + height, left:left + width, 1] = level
    Image.fromarray(pixels).save(path, **options)
    return path


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))
