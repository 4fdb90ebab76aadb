"""Synthetic scans of the abdomen, grey as CT is, with label maps of organs. To try programs on, no more.

A patient is a stack of slices: a body with fat, muscle, spine and gas, and organs that have their place, size
and grey level by their class, and vary from patient to patient. Lengths are in units of the picture's side,
along the stack in units of its depth; arrays without a note are (D, H, W) float64.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

GOLDEN_ANGLE = np.pi * (3 - 5 ** 0.5)
MAX_CLASSES = 16  # classes; more organs have no room
THICKNESS, PIXEL = (2.5, 5.0), (180.0, 260.0)  # mm: between slices; a picture's side
FAT, MUSCLE, TISSUE, BONE = 0.2, 0.5, 0.42, 0.95  # grey levels of what is no organ


def synthetic_scan(rng: np.random.Generator, classes: int, depth: int, side: int,
                   ) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """A scan, float32 (D, H, W) in [0, 1], its labels, uint8 below ``classes``, and its spacing in mm."""
    z, y, x = np.meshgrid(np.linspace(-0.5, 0.5, depth), *[(np.arange(side) + 0.5) / side - 0.5] * 2,
                          indexing="ij")
    x, y = x * rng.uniform(1, 1.12), y * rng.uniform(1.2, 1.4)
    levels, inside = _body(rng, x, y)
    labels = np.zeros(x.shape, np.uint8)
    for organ in range(1, classes):
        place = _organ(rng, organ, classes, z, y, x) & inside & (labels == 0)
        labels[place] = organ
        texture = 0.02 * _noise(rng, x.shape, 16)
        levels = np.where(place, _level(organ) + rng.normal(0, 0.015) + texture, levels)
    blurred = gaussian_filter(levels, [0, side / 350, side / 350])
    grain = gaussian_filter(rng.normal(size=x.shape), [0, 0.6, 0.6]) * rng.uniform(0.03, 0.06)
    spacing = rng.uniform(*THICKNESS), *[rng.uniform(*PIXEL) / side] * 2
    return np.clip(blurred + grain, 0, 1).astype(np.float32), labels, spacing


def _level(organ: int) -> float:
    """The grey level of a class: between muscle and bone, neighbours in number far apart."""
    return 0.55 + 0.32 * (organ * 0.618034 % 1)


def _body(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grey levels without organs, and the room for these (bool)."""
    shape = x.shape
    away = np.hypot(x, y) * (1 + 0.02 * _noise(rng, shape, 2))
    levels = np.where(away < 0.47, FAT + 0.02 * _noise(rng, shape, 12), 0)
    wall = rng.uniform(0.38, 0.43)
    levels = np.where(away < wall, MUSCLE + 0.02 * _noise(rng, shape, 20), levels)
    room = away < wall - 0.04
    bowel = TISSUE - 0.16 * (_noise(rng, shape, 7) > 0.3) + 0.02 * _noise(rng, shape, 20)
    levels = np.where(room, bowel, levels)
    levels = np.where(room & (_noise(rng, shape, 5) > 2.2), 0.03, levels)  # gas
    spine = np.hypot(x - rng.normal(0, 0.01), y - 0.33) < 0.075
    return np.where(spine, BONE - 0.2 * abs(_noise(rng, shape, 25)), levels), room & ~spine


def _organ(rng: np.random.Generator, organ: int, classes: int, z: np.ndarray, y: np.ndarray, x: np.ndarray,
           ) -> np.ndarray:
    """Where an organ is (bool): a wobbly ellipsoid; the classes spread as a sunflower's seeds do."""
    fraction = (classes - organ - 0.3) / (classes - 1)  # the first lie outside, where there is most room
    angle, away = organ * GOLDEN_ANGLE + 2.6, 0.27 * fraction ** 0.5
    radius = 0.21 / (classes - 1) ** 0.4 * (0.75 + 0.5 * fraction)
    centre = rng.normal([0.05 * np.sin(5 * organ), away * np.sin(angle) - 0.03, away * np.cos(angle)], 0.015)
    sides = radius * rng.normal([1, 1, 1.2], 0.06) * [3.2, 1, 1]
    inner = sum(((axis - middle) / half) ** 2 for axis, middle, half in zip((z, y, x), centre, sides))
    return inner < 1 + 0.22 * _noise(rng, x.shape, 4)


def _noise(rng: np.random.Generator, shape: tuple[int, int, int], cells: float) -> np.ndarray:
    """Smooth noise of deviation about 1 that changes over 1/``cells`` of the side, slowly along the stack."""
    coarse = [4, *[max(4, round(cells))] * 2]
    return zoom(rng.normal(size=coarse), [side / cell for side, cell in zip(shape, coarse)], order=3)
