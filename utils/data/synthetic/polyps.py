"""Synthetic polyps: pictures that pass for endoscopy at a glance, with masks. To try programs on, no more.

A picture is a height field, the wall of the colon with its folds and the polyps on it, painted with mucosa
and vessels, lit by the lamp beside the lens, and seen by a noisy camera through an octagonal window. Lengths
are in units of the picture's height; arrays without a note are (H, W) float64.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

ASPECTS = (384 / 288, 574 / 500, 622 / 530, 626 / 547)  # width / height of CVC-ClinicDB, CVC-300 and Kvasir


def synthetic_polyp(rng: np.random.Generator, height: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture, uint8 (H, W, 3), and its mask, uint8 (H, W) of 0 and 255, with one polyp or two."""
    width = round(height * rng.choice(ASPECTS))
    y, x = np.mgrid[:height, :width] / height
    x, y = x - width / height / 2, y - 0.5

    wall, depth = _colon(rng, x, y)
    colour = _mucosa(rng, x.shape)
    mask = np.zeros(x.shape, bool)
    for _ in range(rng.choice([1, 2], p=[0.85, 0.15])):
        dome, inside = _polyp(rng, x, y)
        redder = rng.uniform([0.95, 0.62, 0.62], [1.2, 0.85, 0.9])  # than the mucosa, by little or by much
        mottled = redder * (1 + 0.06 * _noise(rng, x.shape, 30)[..., None])
        soft = gaussian_filter(inside.astype(float), 0.008 * height)[..., None]
        colour = colour * (1 - soft + soft * mottled)
        wall, mask = wall * (1 - 0.8 * soft[..., 0]) + dome, mask | inside

    light, gloss = _lamp(rng, wall, depth, x, y)
    picture = colour * light[..., None] + gloss[..., None]
    window = _window(rng, x, y)
    return _camera(rng, picture, window), np.uint8(255) * (mask & (window > 0.5))


def _noise(rng: np.random.Generator, shape: tuple[int, int], cells: float) -> np.ndarray:
    """Smooth noise of deviation about 1 that changes over 1/``cells`` of the height."""
    coarse = [max(4, round(cells * side / shape[0])) for side in shape]
    return zoom(rng.normal(size=coarse), [side / cell for side, cell in zip(shape, coarse)], order=3)


def _colon(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height of the wall, and how far into the tube it lies: 0 at the lens, towards 1 in the lumen."""
    angle, away, turn = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 0.65), rng.uniform(0, np.pi)
    u, v = x - away * np.cos(angle), y - away * np.sin(angle)
    across = u * np.cos(turn) + v * np.sin(turn), rng.uniform(1, 1.8) * (v * np.cos(turn) - u * np.sin(turn))
    distance = np.hypot(*across) + 0.04 * _noise(rng, x.shape, 4)
    phase = rng.uniform(8, 16) * np.log(np.maximum(distance, 0) + 0.15) + 0.6 * _noise(rng, x.shape, 3)
    ridges = np.exp(-6 * np.sin(phase / 2) ** 2) * rng.uniform(0.05, 0.12) * np.clip(distance, 0, 0.5)
    bumps = 0.008 * _noise(rng, x.shape, 6) + 0.0015 * _noise(rng, x.shape, 24)
    return ridges + bumps, np.exp(-(distance / rng.uniform(0.2, 0.4)) ** 2)


def _mucosa(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Colours (H, W, 3) in linear light: pink to orange, blotched, with vessels in places."""
    base = rng.uniform([0.72, 0.36, 0.24], [0.92, 0.54, 0.42])
    blotches = 1 + 0.07 * np.stack([_noise(rng, shape, 5) for _ in range(3)], axis=-1)
    places = np.clip(_noise(rng, shape, 3), 0, 1) * rng.uniform(0, 0.7)
    vessels = places * np.exp(-(_noise(rng, shape, 9) / 0.15) ** 2)
    return base * blotches * (1 - vessels[..., None] * [0.25, 0.6, 0.5])


def _polyp(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height of a dome on a wobbly ellipse, and where it is (bool)."""
    radius, long = rng.uniform(0.1, 0.3), rng.uniform(1, 1.5)
    u, v = x - rng.uniform(-0.3, 0.3), y - rng.uniform(-0.25, 0.25)
    angle = np.arctan2(v, u) - rng.uniform(0, 2 * np.pi)
    edge = np.hypot(np.cos(angle) / long, np.sin(angle) * long) ** -1
    for lobes in (2, 3, 5):
        edge += rng.normal(0, 0.12 / lobes) * np.cos(lobes * angle + rng.uniform(0, 2 * np.pi))
    inner = np.hypot(u, v) / (radius * edge)
    dome = np.clip(1 - inner ** 2, 0, None) ** 0.8 * radius * rng.uniform(0.3, 0.7)
    return gaussian_filter(dome, 0.012 * len(x)) + 0.001 * _noise(rng, x.shape, 40) * (inner < 1), inner < 1


def _lamp(rng: np.random.Generator, wall: np.ndarray, depth: np.ndarray, x: np.ndarray, y: np.ndarray,
          ) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse light, which falls off into the tube, and the specular spots of the wet surface."""
    lamp = [rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3), 0.7]
    ray = _unit(lamp[0] - x, lamp[1] - y, lamp[2])
    halfway = _unit(*(ray + _unit(-x, -y, 0.7)))
    slopes = np.gradient(wall, 1 / len(x))
    diffuse = np.clip((_unit(-slopes[1], -slopes[0], 1) * ray).sum(0), 0, None)
    ripples = np.gradient(wall + 0.0012 * _noise(rng, x.shape, 40), 1 / len(x))
    gloss = np.clip((_unit(-ripples[1], -ripples[0], 1) * halfway).sum(0), 0, None) ** 250
    light = (0.1 + 1.25 * diffuse) * (1 - 0.97 * depth)
    return light, gloss * (1 - depth) * rng.uniform(0.4, 1.2)


def _unit(*vector: np.ndarray) -> np.ndarray:
    """Vectors (3, H, W) of length 1 from their three parts."""
    vectors = np.stack(np.broadcast_arrays(*vector))
    return vectors / np.linalg.norm(vectors, axis=0)


def _window(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The octagonal window of the picture: 1 inside, 0 in the black corners."""
    a, b = abs(x) / x.max() / rng.uniform(0.9, 1.1), abs(y) / y.max() / rng.uniform(0.9, 1.1)
    octagon = np.maximum(np.maximum(a, b), (a + b) / rng.uniform(1.45, 1.75))
    return gaussian_filter((octagon < 1).astype(float), 0.002 * len(x))


def _camera(rng: np.random.Generator, picture: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Vignette, lens blur, noise and gamma: linear light (H, W, 3) to uint8."""
    seen = gaussian_filter(picture * window[..., None], [0.0015 * len(picture)] * 2 + [0])
    seen = seen * rng.uniform(0.8, 1.15) + rng.normal(0, 0.012, picture.shape)
    return np.uint8(np.clip(seen, 0, 1) ** (1 / 1.6) * 255)
