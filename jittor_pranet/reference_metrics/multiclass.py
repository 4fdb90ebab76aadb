"""Scores of label maps by plain formulas on the whole volume, to compare with and to time against."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def measure(prediction: np.ndarray, target: np.ndarray, spacing: tuple[float, ...] | None = None,
            ) -> list[float]:
    """Dice, IoU, HD95 and ASSD of two objects, bool (H, W) or (D, H, W), neither empty."""
    shared, either = np.count_nonzero(prediction & target), np.count_nonzero(prediction | target)
    surfaces = surface(prediction), surface(target)
    to_target = ndimage.distance_transform_edt(~surfaces[1], sampling=spacing)[surfaces[0]]
    to_prediction = ndimage.distance_transform_edt(~surfaces[0], sampling=spacing)[surfaces[1]]
    return [2 * shared / (shared + either), shared / either,
            np.percentile(np.hstack([to_target, to_prediction]), 95),
            np.mean([to_target.mean(), to_prediction.mean()])]


def surface(region: np.ndarray) -> np.ndarray:
    """The pixels of a region, bool, that have a neighbour across a side or face outside it."""
    return region & ~ndimage.binary_erosion(region, ndimage.generate_binary_structure(region.ndim, 1))
