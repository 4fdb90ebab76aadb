"""Sets of pairs and of test images: published preprocessing, and sets with something wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.compare import assert_close
from tests.helpers.paths import ROOT
from tests.helpers.polyp_sets import error_of, save, write_set
from utils.data.polyps import (
    MEAN,
    STD,
    TestImages,
    TrainSet,
    batches_per_epoch,
    find_test_sets,
    image_batches,
    normalise,
)

REAL = ROOT.parent / "shared" / "data" / "polyp"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the benchmark's images are not here")


@pytest.fixture
def root(tmp_path) -> Path:
    return write_set(tmp_path / "TrainDataset", 7)


# ---- preprocessing

def test_shrinking_averages_by_the_triangle_filter():
    # 4 columns to 2: the triangle reaches two pixels to each side of its centre (antialiasing), so the first
    # column weighs 3, 3, 1, 0 sevenths. Plain bilinear sampling would give 1/2, 1/2, 0, 0.
    row = np.array([70, 0, 140, 0], np.uint8)
    image = Image.fromarray(np.tile(row[:, None], (4, 1, 3)))
    grey = np.float32([(3 * 70 + 140) / 7, (70 * 0 + 3 * 140) / 7]) / np.float32(255)
    for channel, plane in enumerate(normalise(image, 2)):
        np.testing.assert_array_equal(plane, np.tile((grey - MEAN[channel]) / STD[channel], (2, 1)))


def test_black_and_white_in_imagenets_units():
    black, white = (normalise(Image.new("RGB", (3, 3), colour), 1)[:, 0, 0] for colour in ("black", "white"))
    assert_close(black, [-2.1179039, -2.0357143, -1.8044444], "float32")
    assert_close(white, [2.2489083, 2.4285714, 2.64], "float32")


def test_the_mask_has_soft_edges_between_0_and_1(tmp_path):
    save(tmp_path / "images" / "a.png", np.zeros((4, 4, 3)))
    save(tmp_path / "masks" / "a.png", np.tile([255, 255, 255, 0], (4, 1)))
    _, mask = TrainSet(tmp_path, 2)[0]
    # sevenths as above: 1, and (1 + 3) / 7 of 255 rounded to 146
    np.testing.assert_array_equal(mask, np.float32([[[1, 146 / 255]] * 2]))
    assert mask.dtype == np.float32


def test_equals_the_published_transforms_in_torch():
    torch = pytest.importorskip("torch")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    image = Image.fromarray(pixels)
    # torchvision: Resize, ToTensor, Normalize
    tensor = torch.from_numpy(np.array(image.resize((32, 32), Image.BILINEAR))).permute(2, 0, 1).contiguous()
    tensor = tensor.to(torch.float32).div(255)
    tensor.sub_(torch.tensor(MEAN).view(-1, 1, 1)).div_(torch.tensor(STD).view(-1, 1, 1))
    ours = normalise(image, 32)
    np.testing.assert_array_equal(ours, tensor.numpy())
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous


def test_grey_images_and_colour_masks_are_taken(tmp_path):
    save(tmp_path / "images" / "a.JPG", np.full((8, 8), 51))
    save(tmp_path / "masks" / "a.bmp", np.full((8, 8, 3), 255))
    image, mask = TrainSet(tmp_path, 4)[0]
    np.testing.assert_array_equal(image[:, 0, 0], (np.float32(0.2) - MEAN) / STD)
    assert mask.min() == mask.max() == 1


# ---- sets that are not as they should be

def test_a_missing_mask_and_a_mask_of_another_size(root):
    save(root / "masks" / "p2.png", np.full((30, 20), 255))
    assert "p2.png: is 20x30 pixels, its image p2.png 30x22" in error_of(TrainSet, root, 8)
    (root / "masks" / "p3.png").unlink()
    assert f"1 of 7 files have no mask in {root}/masks: p3.png" in error_of(TrainSet, root, 8)


def test_a_truncated_jpeg_is_named_before_training(root):
    rng = np.random.default_rng(0)
    (root / "images" / "p1.png").unlink()
    path = save(root / "images" / "p1.jpg", rng.integers(0, 256, (21, 30, 3)))
    path.write_bytes(path.read_bytes()[:-200])
    message = error_of(TrainSet, root, 8)
    assert message.startswith(f"{path}: cannot be read as an image (image file is truncated")


def test_every_defect_is_counted(root):
    for stem in ("p1", "p5"):
        (root / "images" / f"{stem}.png").write_text("a text file")
    message = error_of(TrainSet, root, 8)
    assert message.startswith("2 of 7")
    assert "p1.png: cannot be read as an image (its content is of no known image format)" in message
    assert "p5.png: cannot be read" in message


@pytest.mark.parametrize("label", [0, 1])
def test_masks_without_any_polyp_are_refused(tmp_path, label):
    for stem in "ab":
        save(tmp_path / "images" / f"{stem}.png", np.zeros((8, 8, 3)))
        save(tmp_path / "masks" / f"{stem}.png", np.full((8, 8), label))
    assert f"no mask is brighter than {label} of 255" in error_of(TrainSet, tmp_path, 8)
    save(tmp_path / "masks" / "b.png", np.full((8, 8), 255))
    assert len(TrainSet(tmp_path, 8)) == 2, "a single empty mask is a healthy frame"


@pytest.mark.parametrize("wrong, hint", [
    ("", "did you mean {root}/TrainDataset?"),
    ("TrainDataset/images", "give the folder above it, {root}/TrainDataset"),
    ("TrainDataset/images/p0.png", "this is a file"),
    ("TrainDatasets", "no such folder; {root} holds TrainDataset/"),
])
def test_a_wrong_folder_says_what_is_there(root, wrong, hint):
    message = error_of(TrainSet, root.parent / wrong, 8)
    assert hint.format(root=root.parent.resolve()) in message


# ---- test images

def test_test_images_keep_the_size_of_their_file(tmp_path):
    save(tmp_path / "b.png", np.full((10, 30, 3), 20))
    save(tmp_path / "A.JPG", np.full((40, 20), 21))
    images = TestImages(tmp_path, 16)
    assert len(images) == 2
    assert [images[k][1:] for k in range(2)] == [("A", (40, 20)), ("b", (10, 30))]
    assert images[0][0].shape == (3, 16, 16)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (2, 1), (5, 2), (7, 0), (9, 2)])
def test_batches_of_test_images_do_not_depend_on_their_size(root, batch_size, workers):
    images = TestImages(root / "images", 16)
    batches = list(image_batches(images, batch_size, workers))
    assert [len(stems) for _, stems, _ in batches][:-1] == [batch_size] * ((7 - 1) // batch_size)
    assert [stem for _, stems, _ in batches for stem in stems] == images.stems
    assert [size for _, _, sizes in batches for size in sizes] == [(20 + k, 30) for k in range(7)]
    np.testing.assert_array_equal(np.concatenate([batch for batch, _, _ in batches]),
                                  np.stack([images[k][0] for k in range(7)]))


def test_a_turned_photograph_goes_with_a_mask_drawn_as_it_is_seen(root):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (40, 20), (90, 60, 50)).save(root / "images" / "p0.png", exif=exif)
    Image.new("L", (20, 40), 255).save(root / "masks" / "p0.png")
    assert TrainSet(root, 8)[0][0].shape == (3, 8, 8)
    Image.new("L", (40, 20), 255).save(root / "masks" / "p0.png")
    assert "masks/p0.png: is 40x20 pixels, its image p0.png 20x40" in error_of(TrainSet, root, 8)


def test_a_test_image_that_is_text_is_named_at_the_start(root):
    (root / "images" / "p0.png").write_text("a text file")
    assert f"{root}/images/p0.png" in error_of(TestImages, root / "images", 8)


def make_test_sets(root: Path, *names: str) -> Path:
    for name in names:
        (root / name / "images").mkdir(parents=True)
    return root


def test_test_sets_come_in_the_benchmarks_order(tmp_path):
    make_test_sets(tmp_path, "mine", "ETIS-LaribPolypDB", "Kvasir", "also mine", "CVC-300")
    (tmp_path / "notes").mkdir()
    found = find_test_sets(tmp_path)
    assert list(found) == ["CVC-300", "Kvasir", "ETIS-LaribPolypDB", "also mine", "mine"]
    assert found["mine"] == tmp_path / "mine" / "images"
    assert list(find_test_sets(tmp_path, ["mine", "Kvasir"])) == ["mine", "Kvasir"]


def test_missing_test_sets_are_named_with_what_is_there(tmp_path):
    make_test_sets(tmp_path, "Kvasir", "CVC-300")
    assert error_of(find_test_sets, tmp_path, ["Kvasir", "ETIS", "CVC300"]) == (
        f"{tmp_path}: has no test set ETIS, CVC300; there are CVC-300, Kvasir")


@pytest.mark.parametrize("wrong, hint", [
    ("TestDataset/Kvasir", "is one test set; give the folder above it, {root}/TestDataset"),
    ("", "did you mean {root}/TestDataset?"),
    ("TestDataset/Kvasir/images", "holds no test set"),
    ("TestData", "no such folder; {root} holds TestDataset/"),
])
def test_a_wrong_test_folder_says_what_is_there(tmp_path, wrong, hint):
    make_test_sets(tmp_path / "TestDataset", "Kvasir")
    assert hint.format(root=tmp_path.resolve()) in error_of(find_test_sets, tmp_path / wrong)


# ---- the benchmark itself

@needs_real_data
def test_the_benchmarks_training_set_loads():
    train_set = TrainSet(REAL / "TrainDataset", 352)
    assert len(train_set) == 1450
    assert batches_per_epoch(train_set, 16) == 91
    image, mask = train_set[0]
    assert image.shape == (3, 352, 352)
    assert 0 == mask.min() < mask.max() == 1


@needs_real_data
def test_the_benchmarks_test_sets_load():
    sets = {name: TestImages(folder, 352) for name, folder in find_test_sets(REAL / "TestDataset").items()}
    assert [(name, len(images)) for name, images in sets.items()] == [
        ("CVC-300", 60), ("CVC-ClinicDB", 62), ("Kvasir", 100)]
    assert sets["CVC-300"][0][1:] == ("149", (500, 574))
