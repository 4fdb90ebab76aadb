"""Synthetic sets of pairs, for the tests of what reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.errors import UserError


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
    return path


def write_set(root: Path, count: int) -> Path:
    """Pairs of different sizes; image k has the grey level 20 + k and its mask 200 + k."""
    for k in range(count):
        save(root / "images" / f"p{k}.png", np.full((20 + k, 30, 3), 20 + k))
        save(root / "masks" / f"p{k}.png", np.full((20 + k, 30), 200 + k))
    return root


def error_of(function, *args) -> str:
    with pytest.raises(UserError) as caught:
        function(*args)
    assert "\n" not in str(caught.value), "an error is one line"
    return str(caught.value)
