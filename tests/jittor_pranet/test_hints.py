"""What programs say of mistakes that are often made: the flag or the command that was meant."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from jittor_pranet.__main__ import main
from tests.helpers import evaluations, label_maps
from tests.helpers.polyp_sets import write_set
from utils.checkpoint import read_checkpoint, save_arrays
from utils.data.image_io import find_pairs
from utils.errors import UserError
from utils.runtime import cuda


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Sets of polyps and of scans with maps of both, and a training set."""
    evaluations.write_folders(tmp_path / "polyps")
    label_maps.write_folders(tmp_path / "scans")
    write_set(tmp_path / "train", 3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def error_of(capsys, *command: str) -> str:
    assert main(list(command)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("command", [
    ("train", "--train_path", "scans/gt/first", "--train_save", "run"),
    ("check-data", "--train_path", "scans/gt/first"),
    ("evaluate", "--pred_root", "scans/maps", "--gt_root", "scans/gt")])
def test_scans_without_their_task(place, capsys, command):
    assert "these seem to be scans with label maps: give --task multiclass" in error_of(capsys, *command)


def test_nnunets_folders_and_pictures_with_labels_are_scans(place, capsys):
    (place / "train" / "masks").rename(place / "train" / "labels")
    assert "--task multiclass" in error_of(capsys, "train", "--train_path", "train", "--train_save", "run")


def test_masks_with_letters_behind_the_images_name(place):
    for path in (place / "train" / "masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    with pytest.raises(UserError, match="masks seem to be called NAME_mask: take _mask out of their names"):
        find_pairs("train/images", "train/masks")
    next((place / "train" / "masks").iterdir()).unlink()
    with pytest.raises(UserError) as refused:
        find_pairs("train/images", "train/masks")
    assert "seem to be" not in str(refused.value)


@pytest.mark.parametrize(("flags", "message"), [
    (("--backbone_weights", "nowhere.pth"), "nowhere.pth: no such file of weights"),
    (("--weights", "train"), "train: no such file of weights"),
    (("--device", "cuda"), "--device cuda: "), (("--train_save", "train/images/run"), "which is read")])
def test_what_is_quick_to_tell_is_told_before_the_data(place, capsys, monkeypatch, request, flags, message):
    monkeypatch.setattr("jittor_pranet.train.TASK_CLASSES", {})  # which read the data
    monkeypatch.setattr(cuda, "ask_driver", lambda: cuda.Driver((0, 0), (), ("no NVIDIA driver",)))
    request.addfinalizer(cuda.find.cache_clear)
    cuda.find.cache_clear()
    assert message in error_of(capsys, "train", "--train_path", "train", "--train_save", "run", *flags)


@pytest.mark.parametrize("what", ["polyps", "scans"])
def test_maps_of_some_sets(place, capsys, what):
    first, second = sorted(path.name for path in (place / what / "maps").iterdir())
    shutil.rmtree(place / what / "maps" / second)
    task = ["--task", "multiclass", "--num_class", "4"] if what == "scans" else []
    error = error_of(capsys, "evaluate", "--pred_root", f"{what}/maps", "--gt_root", f"{what}/gt", *task)
    assert f"/{second}: no such folder; to evaluate what is there give --datasets {first}" in error


def test_weights_of_others_tell_their_network_by_their_names(tmp_path):
    from lib.inference import network_of
    from tests.helpers.networks import PUBLISHED_STATE

    for name, state in PUBLISHED_STATE.items():
        save_arrays({key: np.zeros(shape, np.float32) for key, shape in state}, tmp_path / "w.npz")
        assert network_of(read_checkpoint(tmp_path / "w.npz")) == name


def test_a_list_without_its_folder(place, capsys):
    assert "--test_list: names scans of --test_path" in error_of(
        capsys, "check-data", "--task", "multiclass", "--num_class", "4", "--train_path", "scans/gt/first",
        "--test_list", "names.txt")
