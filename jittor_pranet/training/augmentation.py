"""Flips and rotations by 90 degrees, each image by itself; exact: pixels change place, not value."""

from __future__ import annotations

import numpy as np

from utils.ranks import Shard


def augment(images: np.ndarray, masks: np.ndarray, rng: np.random.Generator, shard: Shard,
            flips: bool, rot90: bool) -> tuple[np.ndarray, np.ndarray]:
    """Moves squares (n,c,s,s) and their masks (n,1,s,s) alike.

    Args:
        shard: which images of the batch these are; the generator is drawn from for the whole of it.
        flips: each image is mirrored with probability 1/2, left to right and, drawn apart, top to bottom.
        rot90: each image is rotated by 0, 90, 180 or 270 degrees with equal probability.
    """
    across, down = rng.random((2, shard.total))[:, shard.images] < 0.5
    quarters = rng.integers(4, size=shard.total)[shard.images]

    def move(batch: np.ndarray) -> np.ndarray:
        moved = batch.copy()
        if flips:
            moved[across] = moved[across, :, :, ::-1]
            moved[down] = moved[down, :, ::-1]
        if rot90:
            for index, count in enumerate(quarters):
                moved[index] = np.rot90(moved[index], count, axes=(1, 2))
        return moved

    return move(images), move(masks)
