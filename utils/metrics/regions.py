"""What a map says in numbers: how much is polyp, in how many pieces, where, how sure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, label

CORNERS_TOUCH = np.ones((3, 3), int)  # pixels that touch at a corner belong together


@dataclass(frozen=True)
class Regions:
    """The pixels of a map above a threshold.

    Attributes:
        area: their number.
        percent: their part of the picture, times 100.
        boxes: (left, top, width, height) in pixels around each connected piece, the largest piece first.
        confidence: the mean of the map over them; None where there are none.
        highest: the highest value of the whole map.
    """

    area: int
    percent: float
    boxes: list[tuple[int, int, int, int]]
    confidence: float | None
    highest: float


def find_regions(values: np.ndarray, threshold: float) -> Regions:
    """Measures a map, float32 (H, W) in [0, 1]; a pixel counts when it is above ``threshold``."""
    mask = values > threshold
    area = int(mask.sum())
    pieces, _ = label(mask, CORNERS_TOUCH)
    order = np.argsort(-np.bincount(pieces.ravel())[1:], kind="stable")
    slices = find_objects(pieces)
    boxes = [(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
             for rows, columns in (slices[number] for number in order)]
    confidence = float(values[mask].mean(dtype=np.float64)) if area else None
    return Regions(area, 100 * area / mask.size, boxes, confidence, float(values.max()))
