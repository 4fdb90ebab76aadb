"""The demo set: where it lies, the same bytes for a seed, polyps that can be told from mucosa."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import rankdata

from jittor_pranet.__main__ import main
from tests.helpers.paths import visible_files
from utils.data.image_io import find_pairs
from utils.data.polyps import TrainSet, find_test_sets
from utils.data.scans import ScanOptions, find_scans, read_scan
from utils.data.synthetic.polyps import synthetic_polyp
from utils.data.synthetic.scans import MAX_CLASSES, synthetic_scan


def draw(out: Path, train: int = 3, test: int = 2, seed: int = 0, size: int = 96) -> int:
    return main(["demo", "--out", str(out), "--train", str(train), "--test", str(test), "--seed", str(seed),
                 "--size", str(size)])


def names(folder: str, part: str, numbers: range) -> set[str]:
    return {f"{folder}/{kind}/synthetic_{part}_{k:04d}.{suffix}"
            for kind, suffix in (("images", "jpg"), ("masks", "png")) for k in numbers}


def test_draws_the_benchmarks_layout(tmp_path, capsys):
    assert draw(tmp_path) == 0
    assert set(visible_files(tmp_path)) == (names("TrainDataset", "train", range(3))
                                       | names("TestDataset/Synthetic", "test", range(2)))
    assert len(TrainSet(tmp_path / "TrainDataset", 64)) == 3
    assert list(find_test_sets(tmp_path / "TestDataset")) == ["Synthetic"]
    assert f"{tmp_path}/TrainDataset: 3 pictures" in capsys.readouterr().out


def test_a_seed_draws_the_same_bytes_and_another_seed_none_of_them(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        draw(tmp_path / name, seed=seed)
    first, again, other = (visible_files(tmp_path / name) for name in "abc")
    assert first == again
    assert len(set(first.values())) == 10, "no picture twice"
    assert not set(first.values()) & set(other.values())


def test_a_smaller_set_replaces_a_larger_one_and_says_so(tmp_path, capsys):
    draw(tmp_path, train=4)
    larger = visible_files(tmp_path)
    capsys.readouterr()
    assert draw(tmp_path, train=2) == 0
    assert "an earlier synthetic set of 6 pictures" in capsys.readouterr().out
    smaller = visible_files(tmp_path)
    assert set(larger) - set(smaller) == names("TrainDataset", "train", range(2, 4))
    assert smaller.items() <= larger.items(), "a picture depends on seed and number alone"


@pytest.mark.parametrize("folder", ["TrainDataset/images", "TestDataset/Synthetic/masks"])
def test_never_mixes_with_the_files_of_others(tmp_path, capsys, folder):
    draw(tmp_path)
    (tmp_path / folder / "cju0.png").write_text("somebody's own")
    before = visible_files(tmp_path)
    assert draw(tmp_path, seed=1) == 2
    assert "1 files that this program did not draw: cju0.png" in capsys.readouterr().err
    assert visible_files(tmp_path) == before


def draw_scans(out: Path, train: int = 10, test: int = 1, seed: int = 0, classes: int = 4) -> int:
    return main(["demo", "--out", str(out), "--classes", str(classes), "--train", str(train), "--test",
                 str(test), "--seed", str(seed), "--size", "64"])


def test_scans_are_slices_of_patients_and_volumes_of_others(tmp_path, capsys):
    assert draw_scans(tmp_path) == 0
    assert f"{tmp_path}/TrainDataset: 10 slices of 2 patients" in capsys.readouterr().out
    slices, volumes = find_scans(tmp_path / "TrainDataset"), find_scans(tmp_path / "TestDataset")
    assert [scan.name for scan in slices] == [
        f"synthetic_train_{k // 8:04d}_slice{k % 8:03d}" for k in range(10)]
    assert {scan.group for scan in slices} == {"synthetic_train_0000", "synthetic_train_0001"}
    volume, = (read_scan(scan, ScanOptions(4)) for scan in volumes)
    assert volume.image.shape == (12, 1, 64, 64) and volume.spacing[1] == volume.spacing[2] > 0
    assert set(np.unique(volume.labels)) == {0, 1, 2, 3}
    assert not any(scan.is_volume for scan in slices)


def test_scans_depend_on_the_seed_and_their_number_alone(tmp_path, capsys):
    for name, options in {"a": {}, "b": {"train": 3, "test": 2}, "c": {"seed": 1}}.items():
        draw_scans(tmp_path / name, **options)
    larger, other, reseeded = (visible_files(tmp_path / name) for name in "abc")
    assert len(larger.items() & other.items()) == 3 + 1
    assert not set(larger.values()) & set(reseeded.values())
    capsys.readouterr()
    draw_scans(tmp_path / "a", train=3, test=2)
    assert "an earlier synthetic set of 11 scans was there and has been replaced" in capsys.readouterr().out
    assert visible_files(tmp_path / "a") == other


def test_scans_never_mix_with_the_files_of_others(tmp_path, capsys):
    draw_scans(tmp_path)
    (tmp_path / "TrainDataset" / "case0005_slice012.npz").write_text("somebody's own")
    before = visible_files(tmp_path)
    assert draw_scans(tmp_path, seed=1) == 2
    assert "1 files that this program did not draw: case0005_slice012.npz" in capsys.readouterr().err
    assert visible_files(tmp_path) == before


@pytest.mark.parametrize("classes", [2, 9, MAX_CLASSES])
def test_every_class_is_drawn_in_a_place_of_its_own(classes):
    places = []
    for seed in range(2):
        image, labels, _ = synthetic_scan(np.random.default_rng(seed), classes, 8, 64)
        assert image.dtype == np.float32 and 0 <= image.min() < image.max() <= 1
        assert set(np.unique(labels)) == set(range(classes))
        places.append([np.argwhere(labels == organ).mean(0)[1:] for organ in range(1, classes)])
    moved = np.linalg.norm(np.subtract(*places), axis=1)
    assert moved.max() < 10, "patients differ, but not in where an organ is"


@pytest.mark.parametrize("options", [["--size", "8"], ["--train", "0"], ["--test", "-1"], ["--seed", "-1"]])
def test_impossible_numbers_are_refused(tmp_path, capsys, options):
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--out", str(tmp_path / "set"), *options])
    assert ended.value.code == 2
    assert f"argument {options[0]}: {options[1]} is too small" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert draw(tmp_path / "file") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {tmp_path}/file: cannot be written")


def told_apart(score: np.ndarray, mask: np.ndarray) -> float:
    """The chance that a pixel of the mask has a higher score than one outside (the area under the ROC)."""
    ranks, inside = rankdata(score), int(mask.sum())
    return (ranks[mask].sum() - inside * (inside + 1) / 2) / (inside * (mask.size - inside))


def test_polyps_can_be_told_from_mucosa_by_colour_but_not_without_fault():
    redness, areas, widths = [], [], set()
    for number in range(24):
        picture, mask = synthetic_polyp(np.random.default_rng(number), 128)
        assert picture.shape == (*mask.shape, 3)
        assert picture.dtype == mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 255}
        red, green, _ = picture.astype(float).transpose(2, 0, 1)
        lit = red + green > 60
        redness.append(told_apart((red / (green + 10))[lit], mask[lit] > 0))
        areas.append((mask > 0).mean())
        widths.add(mask.shape[1])
    assert len(widths) > 1
    assert min(areas) > 0.01
    assert max(areas) < 0.5
    assert 0.75 < np.mean(redness) < 0.99
    assert min(redness) < 0.9


def test_pictures_are_as_large_as_asked(tmp_path):
    draw(tmp_path, size=80)
    for pair in find_pairs(tmp_path / "TrainDataset" / "images", tmp_path / "TrainDataset" / "masks"):
        with Image.open(pair.image) as image:
            assert image.height == 80
            assert 1.1 < image.width / image.height < 1.4
