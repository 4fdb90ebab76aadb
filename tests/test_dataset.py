"""The loader: published preprocessing, an order that the seed decides, and sets with something wrong."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jittor_pranet.__main__ import main
from tests.compare import assert_close
from tests.test_readers import readers
from utils.dataset import (
    MEAN,
    STD,
    TestImages,
    TrainSet,
    batches_per_epoch,
    epoch_batches,
    find_test_sets,
    image_batches,
    normalise,
    read_ahead,
)
from utils.errors import UserError
from utils.memory import available_memory

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "polyp"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the benchmark's images are not here")


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
    return path


def draw_set(root: Path, count: int) -> Path:
    """Pairs of different sizes; image k has the grey level 20 + k and its mask 200 + k."""
    for k in range(count):
        save(root / "images" / f"p{k}.png", np.full((20 + k, 30, 3), 20 + k))
        save(root / "masks" / f"p{k}.png", np.full((20 + k, 30), 200 + k))
    return root


@pytest.fixture
def root(tmp_path) -> Path:
    return draw_set(tmp_path / "TrainDataset", 7)


def error_of(function, *args) -> str:
    with pytest.raises(UserError) as caught:
        function(*args)
    assert "\n" not in str(caught.value), "an error is one line"
    return str(caught.value)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


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


# ---- batches for training

def levels(values: np.ndarray) -> list[int]:
    """The grey level of each image or mask of a batch of one-coloured ones."""
    first = values[:, 0, 0, 0]
    grey = first * STD[0] + MEAN[0] if values.shape[1] == 3 else first
    return np.rint(255 * grey).astype(int).tolist()


def test_images_masks_and_stems_stay_together(root):
    for images, masks, stems in epoch_batches(TrainSet(root, 16), 3, seed=0, epoch=1):
        assert images.shape == (len(stems), 3, 16, 16)
        assert masks.shape == (len(stems), 1, 16, 16)
        assert images.dtype == masks.dtype == np.float32
        numbers = [int(stem[1:]) for stem in stems]
        assert levels(images) == [20 + k for k in numbers]
        assert levels(masks) == [200 + k for k in numbers]


@pytest.mark.parametrize("batch_size", [1, 3, 6, 7, 8])
def test_an_epoch_has_every_pair_once_and_keeps_the_rest(root, batch_size):
    train_set = TrainSet(root, 8)
    batches = [stems for _, _, stems in epoch_batches(train_set, batch_size, 3, 1, workers=0)]
    assert len(batches) == batches_per_epoch(train_set, batch_size)
    assert all(len(stems) == batch_size for stems in batches[:-1])
    assert sorted(stem for stems in batches for stem in stems) == [f"p{k}" for k in range(7)]


def test_the_order_is_a_function_of_seed_and_epoch_alone(root):
    train_set = TrainSet(root, 8)

    def order(seed, epoch, workers=0):
        return [stem for _, _, stems in epoch_batches(train_set, 2, seed, epoch, workers) for stem in stems]

    assert order(0, 1) == order(0, 1, workers=1) == order(0, 1, workers=3)
    orders = {tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


@pytest.mark.parametrize("first_batch", range(5))
def test_an_epoch_can_begin_at_any_of_its_batches_without_reading_those_before(root, first_batch):
    train_set = TrainSet(root, 8)
    whole = [stems for _, _, stems in epoch_batches(train_set, 2, 0, 1, workers=0)]
    for stem in (stem for stems in whole[:first_batch] for stem in stems):
        (root / "masks" / f"{stem}.png").unlink()
    rest = [stems for _, _, stems in epoch_batches(train_set, 2, 0, 1, first_batch=first_batch)]
    assert len(whole) == 4 and rest == whole[first_batch:]


def test_a_subset_holds_the_pairs_it_is_given(root):
    train_set = TrainSet(root, 8)
    subset = train_set.subset([train_set.pairs[5], train_set.pairs[2]])
    assert len(subset) == 2 and len(train_set) == 7
    for found, index in zip((subset[0], subset[1]), (5, 2)):
        np.testing.assert_array_equal(found[0], train_set[index][0])


@pytest.mark.parametrize("workers", [1, 2, 30])
def test_batches_do_not_depend_on_the_number_of_workers(root, workers):
    train_set = TrainSet(root, 8)
    for found, expected in zip(epoch_batches(train_set, 3, 0, 1, workers),
                               epoch_batches(train_set, 3, 0, 1, workers=0)):
        assert found[2] == expected[2]
        for values, wanted in zip(found[:2], expected[:2]):
            np.testing.assert_array_equal(values, wanted)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_during_an_epoch_is_named_and_no_process_stays(root, workers):
    train_set = TrainSet(root, 8)
    (root / "masks" / "p4.png").write_bytes(b"")
    assert f"{root}/masks/p4.png" in error_of(list, epoch_batches(train_set, 2, 0, 1, workers))
    assert not readers()


def test_leaving_an_epoch_early_ends_its_processes(root):
    for _ in epoch_batches(TrainSet(root, 8), 2, 0, 1, workers=2):
        assert len(readers()) == 2
        break
    assert not readers()


def test_an_interrupt_in_the_consumer_leaves_no_process(root):
    def train():
        for _ in epoch_batches(TrainSet(root, 8), 1, 0, 1, workers=2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert not readers()


# ---- kept in memory

def test_a_set_in_memory_gives_the_same_and_reads_no_file_again(root):
    expected = list(epoch_batches(TrainSet(root, 8), 3, 0, 1, workers=0))
    kept = TrainSet(root, 8, in_memory=True)
    for path in [*root.glob("images/*"), *root.glob("masks/*")]:
        path.unlink()
    for found, wanted in zip(epoch_batches(kept, 3, 0, 1, workers=2), expected):
        assert found[2] == wanted[2]
        np.testing.assert_array_equal(found[0], wanted[0])
        np.testing.assert_array_equal(found[1], wanted[1])
        assert not readers(), "nothing is left for them to read"
    last = kept.pairs[6]
    np.testing.assert_array_equal(kept.subset([last])[0][0], kept[6][0])


def test_a_set_larger_than_the_memory_is_refused_before_it_is_read(root, monkeypatch):
    monkeypatch.setattr("utils.dataset.available_memory", lambda: 7 * 4 * 100**2 - 1)
    with pytest.raises(UserError, match=r"7 pairs of 100x100 pixels take 0 MB, 0 MB .* take --cache none"):
        TrainSet(root, 100, in_memory=True)
    assert len(TrainSet(root, 99, in_memory=True)) == 7
    assert len(TrainSet(root, 100)) == 7


@pytest.mark.parametrize(("files", "expected"), [
    ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   4 kB\n"}, 4096),
    ({"proc/meminfo": "MemAvailable: 4 kB\n", "sys/fs/cgroup/memory.max": "max\n",
      "sys/fs/cgroup/memory.current": "900\n", "sys/fs/cgroup/memory.stat": "inactive_file 5\n"}, 4096),
    ({"proc/meminfo": "MemAvailable: 4 kB\n", "sys/fs/cgroup/memory.max": "1000\n",
      "sys/fs/cgroup/memory.current": "900\n", "sys/fs/cgroup/memory.stat": "inactive_file 5\n"}, 105),
    ({"proc/meminfo": "MemAvailable: 4 kB\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000\n",
      "sys/fs/cgroup/memory/memory.usage_in_bytes": "900\n",
      "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 5\n"}, 105),
    ({}, 2**63),
])
def test_memory_that_machine_and_container_leave(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path) == expected


# ---- reading ahead in threads

@settings(max_examples=25, deadline=None)
@given(st.integers(0, 20), st.integers(1, 4), st.integers(0, 8))
def test_reading_ahead_keeps_the_order(count, workers, ahead):
    def load(number):
        time.sleep(0.001 * (number % 3))  # later ones are done sooner
        return -number

    assert list(read_ahead(load, range(count), workers, ahead)) == [-number for number in range(count)]


def test_reads_while_the_consumer_works_but_not_without_bound():
    loaded = []
    results = read_ahead(loaded.append, range(100), workers=2, ahead=5)
    next(results)
    deadline = time.monotonic() + 10
    assert reading_threads(), "the tests for leftover threads know their name"
    while len(loaded) < 6 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)  # room for one too many
    assert loaded == list(range(6)), "the one handed out and five ahead"
    results.close()
    assert len(loaded) == 6


def test_a_failure_comes_in_its_place_and_cancels_the_rest():
    begun = []

    def load(number):
        begun.append(number)
        if number == 2:
            raise UserError("number 2")
        return number

    results = read_ahead(load, range(100), workers=1, ahead=4)
    assert [next(results), next(results)] == [0, 1]
    assert error_of(next, results) == "number 2"
    assert len(begun) <= 7
    assert not reading_threads()


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


# ---- timing it

def test_the_timing_names_every_way_to_read_and_what_training_takes(root, capsys):
    arguments = ["benchmark", "--what", "data", "--train_path", str(root), "--trainsize", "64", "--batchsize",
                 "2", "--rounds", "1", "--images", "9", "--workers", "0", "1"]
    assert main([*arguments, "--step_seconds", "0.01"]) == 0
    printed = capsys.readouterr().out
    assert "training           66.7 images/s; a batch has 3 steps in 0.03 s" in printed
    assert re.findall(r"^(--.*?) +[0-9.]+ images/s; training waits [0-9.]+ ms", printed, re.MULTILINE) == [
        "--workers 0", "--workers 1", "--cache ram"]
    assert not readers()


def test_training_is_timed_by_the_seconds_of_its_second_batch(root, capsys, monkeypatch):
    def train(command, **_):
        assert command[command.index("--max_steps") + 1] == "6"
        folder = Path(command[command.index("--train_save") + 1])
        rows = "".join(f"{step},{seconds}\n" for step, seconds in enumerate((90, 50, 40, 0.1, 0.2, 0.3), 1))
        (folder / "log.csv").write_text("step,seconds\n" + rows)
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr("jittor_pranet.benchmarks.data.subprocess.run", train)
    arguments = ["benchmark", "--what", "data", "--train_path", str(root), "--trainsize", "64", "--rounds",
                 "1", "--images", "1", "--workers", "0"]
    code = 0
    assert main(arguments) == 0
    assert "13.3 images/s; a batch has 3 steps in 0.6 s" in capsys.readouterr().out
    code = 2
    assert main(arguments) == 2
    assert "the training to be timed has failed" in capsys.readouterr().err
    assert main(arguments[:3]) == 2
    assert "--what data needs --train_path" in capsys.readouterr().err


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
