"""Slices of scans as networks take them: the published preprocessing and augmentation."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from utils.data.polyps import MEAN, STD
from utils.data.scan_folders import find_scans
from utils.data.scans import ScanOptions
from utils.data.slices import (
    LabelledSlices,
    augment,
    network_input,
    prepare_slice,
    resize_labels,
    slice_batches,
)
from utils.errors import UserError
from utils.ranks import Shard

SIZE = 32
SCAN_OPTIONS = ScanOptions(num_class=4)


def write_scan(path: Path, shape: tuple[int, ...], seed: int, **arrays) -> None:
    """An image that is its labels, blurred; ``shape`` (H,W) or (D,H,W)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    for label in (1, 2, 3):
        y, x = rng.integers(4, min(shape[-2:]) - 8, 2)
        labels[..., y:y + 6, x:x + 7] = label
    image = ndimage.gaussian_filter(labels / 3.0, [0] * (len(shape) - 2) + [1, 1]).astype(np.float32)
    np.savez(path, **{"image": image, "label": labels, **arrays})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two patients of two slices each, and a volume of three slices."""
    folder = tmp_path_factory.mktemp("scans")
    for number in range(4):
        write_scan(folder / f"case{number // 2}_slice{number % 2}.npz", (40, 36), number)
    write_scan(folder / "case2.npz", (3, 44, 40), 4)
    return folder


@pytest.fixture(scope="module")
def whole(folder) -> LabelledSlices:
    return LabelledSlices(folder, SCAN_OPTIONS, SIZE)


def test_a_volume_counts_by_its_slices_and_names_them(whole):
    assert len(whole) == 7 and whole.channels == 1
    assert [piece.name for piece in whole.slices] == [
        "case0_slice0", "case0_slice1", "case1_slice0", "case1_slice1", "case2[0]", "case2[1]", "case2[2]"]
    assert len(whole.subset([scan for scan in whole.scans if scan.group == "case1"])) == 2


def test_preprocessing_is_the_published_one(whole):
    piece = whole.slices[0]
    stored = np.load(piece.scan.image)
    planes = prepare_slice((piece, None), SCAN_OPTIONS, SIZE).view(np.float32)
    zooms = SIZE / 40, SIZE / 36
    np.testing.assert_array_equal(planes[0], ndimage.zoom(stored["image"], zooms, order=3))
    np.testing.assert_array_equal(planes[1], ndimage.zoom(stored["label"], zooms, order=0))


def test_colour_is_in_imagenets_units_and_an_image_of_the_size_is_left_as_it_is():
    image = np.random.default_rng(0).random((1, 3, SIZE, SIZE)).astype(np.float32)
    expected = (image - MEAN.reshape(3, 1, 1)) / STD.reshape(3, 1, 1)
    np.testing.assert_array_equal(network_input(image, SIZE), expected)
    np.testing.assert_array_equal(network_input(image[:, :1], SIZE), image[:, :1])


def test_labels_come_back_at_the_scans_size():
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[8:24, 4:20] = 3
    back = resize_labels(labels, (64, 48))
    assert back.shape == (64, 48) and back.dtype == np.uint8 and set(np.unique(back)) == {0, 3}
    assert abs((back == 3).mean() - (labels == 3).mean()) < 0.03


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_depend_on_the_seed_and_the_epoch_alone(whole, workers):
    batches, others, later = (list(slice_batches(whole, 3, 5, epoch, True, workers=some, first_batch=first))
                              for epoch, some, first in ((1, workers, 0), (2, 0, 0), (1, 0, 1)))
    assert [len(names) for *_, names in batches] == [3, 3, 1]
    names = [name for *_, names in batches for name in names]
    assert sorted(names) == [piece.name for piece in whole.slices]
    assert names != [name for *_, names in others for name in names]
    for batch, again in zip(batches[1:], later):
        np.testing.assert_array_equal(batch[0], again[0])
        np.testing.assert_array_equal(batch[1], again[1])
    images, labels, _ = batches[0]
    assert images.shape == (3, 1, SIZE, SIZE) and images.dtype == np.float32
    assert labels.shape == (3, SIZE, SIZE) and labels.dtype == np.int32


def test_processes_share_a_batch(whole, monkeypatch):
    alone = list(slice_batches(whole, 4, 0, 0, True, workers=0))
    parts = []
    for start, stop in ((0, 1), (1, 4)):
        monkeypatch.setattr("utils.ranks.shard_of",
                            lambda total, start=start, stop=stop: Shard(start, min(stop, total), total))
        parts.append(next(slice_batches(whole, 4, 0, 0, True, workers=0)))
    assert parts[0][2] == parts[1][2] == alone[0][2]
    np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), alone[0][0])
    np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), alone[0][1])


def test_augmentation_moves_image_and_labels_alike_in_the_published_shares():
    labels = np.zeros((16, 16), np.uint8)
    labels[2:9, 3:6] = np.arange(1, 8)[:, None]
    image = labels[None].astype(np.float32)
    kinds: Counter = Counter()
    rights = {np.flip(np.rot90(labels, quarters), axis).tobytes() for quarters in range(4) for axis in (0, 1)}
    seen = set()
    for seed in range(800):
        moved, moved_labels = augment(image, labels, np.random.default_rng(seed))
        np.testing.assert_array_equal(moved[0], moved_labels)
        same, right = (moved_labels == labels).all(), moved_labels.tobytes() in rights
        seen |= {moved_labels.tobytes()} & rights
        kinds["right" if right else "same" if same else "turned"] += 1
    assert seen == rights
    # A turn by 0 degrees, one of 40, counts as the same.
    for kind, share in (("right", 0.5), ("turned", 0.25 * 39 / 40), ("same", 0.25 + 0.25 / 40)):
        assert abs(kinds[kind] - 800 * share) < 5 * (800 * share) ** 0.5


def test_a_broken_scan_is_named_before_training(folder, tmp_path):
    for scan in find_scans(folder):
        (tmp_path / scan.image.name).write_bytes(scan.image.read_bytes())
    (tmp_path / "case1_slice1.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(UserError, match=r"case1_slice1\.npz"):
        LabelledSlices(tmp_path, SCAN_OPTIONS, SIZE)


def test_a_set_without_any_class_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.zeros((8, 8), np.float32), label=np.zeros((8, 8), np.uint8))
    with pytest.raises(UserError, match="no label map shows a class"):
        LabelledSlices(tmp_path, SCAN_OPTIONS, SIZE)


def test_labels_beyond_the_classes_are_refused(folder):
    with pytest.raises(UserError, match="3"):
        LabelledSlices(folder, ScanOptions(num_class=3), SIZE)


def test_volumes_that_do_not_fit_are_told(folder, monkeypatch):
    monkeypatch.setattr("utils.data.slices.available_memory", lambda: 10)
    with pytest.raises(UserError, match=r"case2\.npz: the memory does not hold"):
        LabelledSlices(folder, SCAN_OPTIONS, SIZE)


def test_volumes_of_all_ranks_of_a_machine_are_counted(folder, monkeypatch):
    room = 10**6
    monkeypatch.setattr("utils.data.slices.available_memory", lambda: room)
    taken = room - LabelledSlices(folder, SCAN_OPTIONS, SIZE, in_memory=True).free_memory
    monkeypatch.setattr("utils.ranks.LOCAL_SIZE", 3)
    room = 3 * taken
    assert LabelledSlices(folder, SCAN_OPTIONS, SIZE, in_memory=True).free_memory == 0
    room -= 1
    with pytest.raises(UserError, match="the memory does not hold"):
        LabelledSlices(folder, SCAN_OPTIONS, SIZE, in_memory=True)
