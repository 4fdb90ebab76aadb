"""The program check-data on scans: a sound set, and copies of it with one defect planted each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jittor_pranet.__main__ import main
from utils.data.checks.scans import ERRORS, WARNINGS

SIZE = (8, 9)


def image(seed: int, *depth: int) -> np.ndarray:
    return np.random.default_rng(seed).random((*depth, *SIZE)).astype(np.float32)


def labels(*depth: int) -> np.ndarray:
    """Class 1 in two voxels of each slice, class 2 in one."""
    values = np.zeros((*depth, *SIZE), np.uint8)
    values[..., 2, 2:4], values[..., 5, 5] = 1, 2
    return values


def save(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{"spacing": np.array([5, 1, 1.5]), **arrays})


def change(path: Path, **arrays: np.ndarray) -> None:
    with np.load(path) as file:
        save(path, **{**file, **arrays})


@pytest.fixture
def sound(tmp_path) -> Path:
    """Two patients of three slices to train on, two volumes to test on."""
    for number in range(6):
        path = tmp_path / "train" / f"p{number // 3}_slice{number % 3}.npz"
        save(path, image=image(number), label=labels())
    for number in range(2):
        save(tmp_path / "test" / f"q{number}.npz", image=image(10 + number, 4), label=labels(4))
    return tmp_path


def check(place: Path, *flags: str, code: int = 0) -> dict:
    """Runs the program; gives what its JSON says of the sets by their folder's name."""
    written = place / "found.json"
    assert main(["check-data", "--task", "multiclass", "--num_class", "3", "--json", str(written),
                 "--train_path", str(place / "train"), "--test_path", str(place / "test"), *flags]) == code
    return {Path(each["path"]).name: each for each in json.loads(written.read_text())["sets"]}


def kinds(found: dict) -> dict[str, list[str]]:
    return {kind: [finding["file"] for finding in findings]
            for kind, findings in found["findings"].items() if findings}


def test_a_sound_set_is_counted(sound, capsys):
    found = check(sound)
    assert kinds(found["train"]) == kinds(found["test"]) == {}
    train, test = found["train"], found["test"]
    assert (train["scans"], train["slices"], train["patients"]) == (6, 6, 2)
    assert (test["scans"], test["slices"], test["patients"]) == (2, 8, 2)
    assert train["voxels"] == [6 * 69, 12, 6] and test["voxels"] == [8 * 69, 16, 8]
    assert train["scans_with_class"] == [6, 6, 6] and test["scans_with_class"] == [2, 2, 2]
    assert (train["sizes"], test["sizes"]) == ({"8x9": 6}, {"4x8x9": 2})
    assert train["spacings"] == [{"mm": [5, 1, 1.5], "scans": 6}]
    printed = capsys.readouterr().out
    assert "6 scans, 6 slices, 2 patients by name" in printed and "!" not in printed
    assert "5x1x1.5 mm (6); one side of a voxel up to 5.0 times another" in printed
    assert "0: 95.83 % in 6 scans; 1: 2.78 % in 6 scans; 2: 1.39 % in 6 scans" in printed


# Each plants one defect in p0_slice1 of the training set or q0 of the test set.

def plant_no_label(place: Path) -> None:
    save(place / "train" / "p0_slice1.npz", image=image(1))


def plant_broken_file(place: Path) -> None:
    path = place / "train" / "p0_slice1.npz"
    path.write_bytes(path.read_bytes()[:-40])


def plant_broken_image(place: Path) -> None:
    change(place / "train" / "p0_slice1.npz", image=np.full(SIZE, np.nan))


def plant_other_size(place: Path) -> None:
    change(place / "train" / "p0_slice1.npz", label=labels()[:, :-1])


def plant_hounsfield(place: Path) -> None:
    change(place / "train" / "p0_slice1.npz", image=image(1) * 400 - 125)


def plant_unknown_label(place: Path) -> None:
    change(place / "train" / "p0_slice1.npz", label=labels() * 2)


def plant_fractions(place: Path) -> None:
    change(place / "train" / "p0_slice1.npz", label=labels() / 2)


def plant_empty_label(place: Path) -> None:
    change(place / "train" / "p0_slice1.npz", label=labels() * 0)


def plant_constant_image(place: Path) -> None:
    change(place / "train" / "p0_slice1.npz", image=np.zeros(SIZE, np.float32))


def plant_bad_spacing(place: Path) -> None:
    change(place / "train" / "p0_slice1.npz", spacing=np.array([5.0, 0, 1]))


def plant_copy(place: Path) -> None:
    change(place / "train" / "p0_slice1.npz", image=image(4))


def plant_slice_of_training(place: Path) -> None:
    change(place / "test" / "q0.npz", image=np.stack([image(90), image(4), image(91), image(92)]))


def plant_patient_of_training(place: Path) -> None:
    shutil.move(place / "test" / "q0.npz", place / "test" / "p1_volume_ED.npz")


def plant_other_file(place: Path) -> None:
    (place / "test" / "notes.csv").write_text("q0: motion")
    (place / "test" / "list.txt").write_text("q0")


TRAIN, TEST = {"train": ["p0_slice1.npz"]}, {"test": ["q0.npz"]}


@pytest.mark.parametrize("plant, kind, files", [
    (plant_no_label, "image without label", TRAIN), (plant_broken_file, "unreadable", TRAIN),
    (plant_broken_image, "unreadable", TRAIN), (plant_other_size, "wrong shape", TRAIN),
    (plant_hounsfield, "unscaled image", TRAIN), (plant_unknown_label, "unknown label", TRAIN),
    (plant_fractions, "unknown label", TRAIN), (plant_empty_label, "empty label", TRAIN),
    (plant_constant_image, "constant image", TRAIN), (plant_bad_spacing, "without spacing", TRAIN),
    (plant_copy, "image twice", {"train": ["p1_slice1.npz"]}), (plant_other_file, "no scan file",
                                                                {"test": ["notes.csv"]}),
    (plant_slice_of_training, "image of another set", TEST),
    (plant_patient_of_training, "patient of another set", {"test": ["p1_volume_ED.npz"]}),
], ids=lambda value: getattr(value, "__name__", "")[6:])
def test_a_defect_is_found_and_nothing_else(sound, plant: Callable, kind: str, files: dict):
    plant(sound)
    found = check(sound, code=int(kind in ERRORS))
    assert {name: kinds(each) for name, each in found.items() if kinds(each)} == {
        name: {kind: paths} for name, paths in files.items()}


def test_all_defects_are_found_at_once(sound, capsys):
    plant_broken_file(sound)
    change(sound / "train" / "p0_slice0.npz", image=image(1) * 400 - 125, label=labels() * 2)
    plant_slice_of_training(sound)
    found = check(sound, code=1)
    assert kinds(found["train"]) == {"unreadable": ["p0_slice1.npz"], "unscaled image": ["p0_slice0.npz"],
                                     "unknown label": ["p0_slice0.npz"]}
    detail, = found["test"]["findings"]["image of another set"]
    assert detail["detail"] == "1 of 4 slices as in train/p1_slice1.npz"
    assert "4 in 1 voxels" in capsys.readouterr().out


def test_a_window_and_another_number_of_classes_make_a_set_sound(sound):
    plant_hounsfield(sound)
    plant_unknown_label(sound)
    found = check(sound, "--window", "-125", "275", "--num_class", "5")
    assert kinds(found["train"]) == {"class in no label": ["."]}  # class 3
    assert found["train"]["voxels"] == [6 * 69, 10, 7, 0, 1]


def test_a_set_without_any_class_stops(sound):
    for path in (sound / "train").iterdir():
        change(path, label=labels() * 0)
    found = check(sound, code=1)
    assert set(kinds(found["train"])) == {"no class in any label", "empty label"}


def test_lists_choose_what_is_looked_through(sound):
    plant_broken_file(sound)
    (sound / "list.txt").write_text("p0_slice0\np1_slice2\n")
    found = check(sound, "--train_list", str(sound / "list.txt"))
    assert (found["train"]["scans"], found["train"]["patients"]) == (2, 2)


def test_folders_of_pictures(sound):
    train = sound / "train"
    shutil.rmtree(train)
    for folder in ("images", "labels"):
        (train / folder).mkdir(parents=True)
    for name, pixels in (("a", image(0)), ("b", image(1)), ("c", image(2)[..., None].repeat(3, 2))):
        Image.fromarray(np.uint8(pixels * 255)).save(train / "images" / f"{name}.png")
        Image.fromarray(labels()).save(train / "labels" / f"{name}.png")
    (train / "labels" / "a.png").rename(train / "labels" / "z.png")
    Image.fromarray(labels()).save(train / "images" / "b.bmp")
    assert kinds(check(sound, code=1)["train"]) == {
        "image without label": ["images/a.png"], "label without image": ["labels/z.png"],
        "same name": ["images/b.png"], "colour among grey": ["images/c.png"]}


def test_a_label_that_lies_elsewhere(sound):
    nibabel = pytest.importorskip("nibabel")
    train = sound / "train"
    shutil.rmtree(train)
    for number, shift in enumerate((0, 1e-3, 2)):
        affine = np.diag([1.0, 1, 3, 1])
        for folder, array in (("images", image(number, 4)), ("labels", labels(4))):
            (train / folder).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, affine), train / folder / f"v{number}.nii.gz")
            affine = affine + np.diag([0, 0, shift / 9, 0])
    found = check(sound)
    assert kinds(found["train"]) == {"label elsewhere": ["labels/v2.nii.gz"]}
    assert found["train"]["findings"]["label elsewhere"][0]["detail"] == "by up to 2 mm"


def test_the_flags_of_scans_are_for_scans(sound, capsys):
    assert main(["check-data", "--train_path", str(sound / "train"), "--num_class", "3"]) == 2
    assert "--num_class: is not for --task binary; leave it out, or give --task" in capsys.readouterr().err
    assert main(["check-data", "--task", "multiclass", "--train_path", str(sound / "train")]) == 2
    assert "--num_class is missing" in capsys.readouterr().err
    assert main(["check-data", "--task", "multiclass", "--num_class", "3", "--window", "5", "5",
                 "--train_path", str(sound / "train")]) == 2
    assert "--window 5 5: expected finite grey levels" in capsys.readouterr().err


def test_every_kind_of_finding_is_known(sound):
    assert list(check(sound)["train"]["findings"]) == [*ERRORS, *WARNINGS]
