"""Weights, images and masks seeded by their names, so that several programs can be compared on them.

A stream is NumPy's legacy generator seeded with the CRC-32 of "seed:tag"; it is the same on every machine.
"""

from __future__ import annotations

import zlib

import numpy as np


def stream(tag: str, seed: int = 0) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(f"{seed}:{tag}".encode()))


def weights(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """The float32 parameter or running statistic of a published name."""
    rng = stream(name, seed)
    if name.endswith("running_mean"):
        values = rng.normal(0.0, 0.1, shape)
    elif name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif name.endswith("bias"):
        values = rng.normal(0.0, 0.05, shape)
    elif len(shape) == 1:  # scale of a normalisation; halved where a residual branch ends
        values = rng.uniform(0.8, 1.2, shape) * (0.5 if name.endswith("bn3.weight") else 1.0)
    else:
        values = rng.normal(0.0, np.sqrt(1.0 / np.prod(shape[1:])), shape)
    return values.astype(np.float32)


def images(count: int, size: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """Smooth fields with noise, about as large as normalised images: float32 (count,channels,size,size)."""
    rng = stream(f"image{count}x{size}x{channels}", seed)
    rows, columns = np.mgrid[0:size, 0:size] / float(size)
    planes = []
    for _ in range(count * channels):
        a, b, p, q = rng.uniform(1, 6, 4)
        planes.append(np.sin(a * columns + p) + np.cos(b * rows + q) + rng.normal(0, 0.3, (size, size)))
    return np.reshape(planes, (count, channels, size, size)).astype(np.float32)


def masks(count: int, size: int, seed: int = 0, channels: int = 1) -> np.ndarray:
    """One ellipse each: float32 (count,channels,size,size) of 0 and 1."""
    rng = stream(f"mask{count}x{size}x{channels}", seed)
    rows, columns = np.mgrid[0:size, 0:size] / float(size)
    planes = []
    for _ in range(count * channels):
        (x, y), (width, height) = rng.uniform(0.3, 0.7, 2), rng.uniform(0.08, 0.28, 2)
        planes.append(((columns - x) / width) ** 2 + ((rows - y) / height) ** 2 < 1)
    return np.reshape(planes, (count, channels, size, size)).astype(np.float32)


def labels(count: int, size: int, seed: int = 0, classes: int = 2) -> np.ndarray:
    """Ellipses of the classes from 1 on, each over those before: int32 (count,size,size), 0 elsewhere."""
    values = np.arange(1, classes).reshape(1, -1, 1, 1)
    return (masks(count, size, seed, classes - 1) * values).max(axis=1).astype(np.int32)
