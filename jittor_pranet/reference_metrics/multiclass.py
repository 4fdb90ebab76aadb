"""The measures of label maps by plain formulas on the whole volume, to compare with and to time against."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def measure(found: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...] | None = None) -> list[float]:
    """Dice, IoU, HD95 and ASSD of two objects, bool (H, W) or (D, H, W), neither empty."""
    shared, either = np.count_nonzero(found & truth), np.count_nonzero(found | truth)
    found_surface, true_surface = surface(found), surface(truth)
    to_true = ndimage.distance_transform_edt(~true_surface, sampling=spacing)[found_surface]
    to_found = ndimage.distance_transform_edt(~found_surface, sampling=spacing)[true_surface]
    return [2 * shared / (shared + either), shared / either,
            np.percentile(np.hstack([to_true, to_found]), 95), np.mean([to_true.mean(), to_found.mean()])]


def surface(region: np.ndarray) -> np.ndarray:
    return region & ~ndimage.binary_erosion(region, ndimage.generate_binary_structure(region.ndim, 1))
