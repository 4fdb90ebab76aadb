"""A map drawn over its image, to judge by eye."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

from utils.data.scans import PALETTE

MAP_COLOUR = (0, 255, 255)  # cyan and yellow stand out from mucosa, for colour-blind eyes too
MASK_COLOUR = (255, 255, 0)
OPACITY = 0.5  # of a class's colour


def overlay(image: np.ndarray, prediction: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Outlines of the map ``prediction`` (cyan) and of the mask (yellow, below) on an image: uint8 (H, W, 3).

    Args:
        image: uint8 (H, W, 3).
        prediction, mask: uint8 (H, W); 128 and more is polyp.
    """
    picture = image.copy()
    if mask is not None:
        picture[_outline(mask >= 128)] = MASK_COLOUR
    picture[_outline(prediction >= 128)] = MAP_COLOUR
    return picture


def label_overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The classes of ``labels`` (H, W) in colour over an image (C, H, W) in [0, 1]: uint8 (H, W, 3)."""
    grey = np.broadcast_to(image, (3, *labels.shape)).transpose(1, 2, 0) * 255
    tinted = np.where(labels[..., None] > 0, (1 - OPACITY) * grey + OPACITY * PALETTE[labels], grey)
    return np.round(tinted).clip(0, 255).astype(np.uint8)


def _outline(region: np.ndarray) -> np.ndarray:
    """The pixels on both sides of the region's edge, a line of about 1/150 of the picture's height."""
    reach = max(1, len(region) // 300)
    # What lies beyond the picture counts as region: a polyp cut by the border has no edge there.
    inside = binary_erosion(region, iterations=reach, border_value=1)
    return binary_dilation(region, iterations=reach) & ~inside
