"""Flips and rotations: every orientation comes about, image and mask alike, from the generator alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from jittor_pranet.training.augmentation import augment
from utils.ranks import Shard, shard_of

SQUARE = np.array([[1, 2], [3, 4]], np.float32)


def orientations(flips: bool, rot90: bool, count: int = 800) -> Counter:
    images = np.tile(SQUARE, (count, 3, 1, 1))
    masks = np.tile(SQUARE, (count, 1, 1, 1))
    moved, moved_masks = augment(images, masks, np.random.default_rng(0), shard_of(count), flips, rot90)
    for channel in range(3):
        np.testing.assert_array_equal(moved[:, channel], moved_masks[:, 0])
    assert (images == SQUARE).all(), "the loader's arrays are left as they are"
    return Counter(tuple(each.ravel()) for each in moved_masks[:, 0].astype(int))


@pytest.mark.parametrize(("flips", "rot90", "expected"), [
    (False, False, {(1, 2, 3, 4)}),
    (True, False, {(1, 2, 3, 4), (2, 1, 4, 3), (3, 4, 1, 2), (4, 3, 2, 1)}),
    (False, True, {(1, 2, 3, 4), (2, 4, 1, 3), (4, 3, 2, 1), (3, 1, 4, 2)}),
    (True, True, {(1, 2, 3, 4), (2, 1, 4, 3), (3, 4, 1, 2), (4, 3, 2, 1),
                  (2, 4, 1, 3), (3, 1, 4, 2), (1, 3, 2, 4), (4, 2, 3, 1)}),
])
def test_every_orientation_comes_equally_often(flips, rot90, expected):
    counts = orientations(flips, rot90)
    assert set(counts) == expected
    share = 800 / len(expected)
    assert all(abs(count - share) < 5 * share ** 0.5 for count in counts.values())


def test_the_generator_alone_decides():
    batch = np.random.default_rng(1).random((6, 1, 4, 4)).astype(np.float32)
    first, second, other = (augment(batch, batch, np.random.default_rng(seed), shard_of(6), True, True)[0]
                            for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    parts = [augment(batch[share.images], batch[share.images], np.random.default_rng(5), share, True, True)[0]
             for share in (Shard(0, 4, 6), Shard(4, 6, 6))]
    np.testing.assert_array_equal(np.concatenate(parts), first)
