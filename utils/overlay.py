"""Pictures of a map on its image."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

MAP_COLOUR = (0, 255, 0)


def overlay(image: Image.Image, values: np.ndarray) -> np.ndarray:
    """The RGB image with the contour, two pixels wide, of where a uint8 (H,W) map is above mid-grey.

    Returns uint8 (H,W,3).
    """
    picture = np.array(image)
    found = values > 127
    picture[found & ~ndimage.binary_erosion(found, iterations=2)] = MAP_COLOUR
    return picture
