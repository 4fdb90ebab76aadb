"""No program writes in what it reads or over what others wrote; a refusal is one line and touches nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jittor_pranet.__main__ import main
from tests.helpers import evaluations, label_maps
from tests.helpers.paths import ROOT
from utils.checkpoint import save_arrays

MULTICLASS = ["--task", "multiclass", "--num_class", "4"]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Test sets of polyps in polyps/gt, of scans in scans/gt, maps of both, a training set, and weights."""
    evaluations.write_folders(tmp_path / "polyps")
    label_maps.write_folders(tmp_path / "scans")
    shutil.copytree(tmp_path / "polyps" / "gt" / "first", tmp_path / "train")
    (tmp_path / "link").symlink_to(tmp_path / "polyps" / "gt" / "first")
    (tmp_path / "theirs").mkdir()
    for name in ("summary.json", "first", "last.npz", "predictions.csv"):
        (tmp_path / "theirs" / name).write_text("theirs")
    save_arrays({"name": np.zeros(3, np.float32)}, tmp_path / "w.npz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tree(folder: Path) -> dict[str, str]:
    """What lies below a folder, with a hash of each file."""
    return {str(path.relative_to(folder)): path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")}


REASONS = ("which is read", "no program of this project wrote it", "is there already", "cannot be written")
TEST = ["test", "--weights", "w.npz", "--test_path"]
EVALUATE = ["evaluate", "--gt_root", "polyps/gt", "--pred_root", "polyps/maps", "--result_path"]
SCANS = ["evaluate", *MULTICLASS, "--gt_root", "scans/gt", "--pred_root", "scans/maps", "--result_path"]
PREDICT = ["predict", "--weights", "w.npz"]


@pytest.mark.parametrize("command", [
    [*TEST, "polyps/gt", "--save_path", "polyps/gt"],
    [*TEST, "polyps/gt", "--save_path", "polyps/gt/first/images"],
    [*TEST, "polyps/gt", "--save_path", "link/images"],
    [*TEST, "polyps/gt", "--save_path", "theirs"],
    [*TEST, "polyps/gt/first/..", "--datasets", "first", "--save_path", "w.npz"],
    [*TEST, "scans/gt", *MULTICLASS, "--save_path", "scans/gt"],
    [*TEST, "scans/gt/first", *MULTICLASS, "--save_path", "scans/gt"],
    [*TEST, "scans/gt/first", *MULTICLASS, "--save_path", "scans/gt/first"],
    [*EVALUATE, "polyps/gt/first"], [*EVALUATE, "polyps/maps/first"], [*EVALUATE, "link/masks"],
    [*EVALUATE, "theirs"], [*SCANS, "scans/gt/first"], [*SCANS, "scans/maps/first"],
    ["convert", "--weights", "w.npz", "--out", "w.npz"],
    ["convert", "--weights", "w.npz", "--out", "w.npz", "--overwrite"],
    ["convert", "--weights", "w.npz", "--model_type", "PraNet-V2", "--out", "theirs/last.npz"],
    ["check-data", "--train_path", "train", "--json", "train/images/found.json"],
    ["check-data", "--train_path", "train", "--json", "theirs/summary.json"],
    ["check-data", "--train_path", "train", "--test_path", "polyps/gt", "--json", "link/found.json"],
], ids=" ".join)
def test_refused(place, capsys, command):
    before = tree(place)
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert any(reason in error for reason in REASONS)
    assert tree(place) == before


@pytest.mark.parametrize("command", [
    [*TEST, "polyps/gt", "--save_path", "busy"], [*EVALUATE, "busy"],
    [*PREDICT, "polyps/gt", "--model_type", "PraNet-V2", "--out", "busy"],
    ["demo", "--out", "busy"], ["train", "--train_path", "train", "--train_save", "busy"]], ids=" ".join)
def test_one_program_at_a_time(place, capsys, command):
    code = ("import sys\nfrom pathlib import Path\nfrom utils.outputs import output_folder\n"
            "with output_folder(Path('busy'), [], [], 'train'):\n    print('writing', flush=True)\n"
            "    sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)},
                          text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == "writing\n"
        before = tree(place)
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and f"busy: train, process {holder.pid} on " in error
        assert tree(place) == before


@pytest.mark.parametrize("command", [[*EVALUATE, "polyps/out"], [*SCANS, "scans/out"]], ids=" ".join)
def test_again_in_the_same_folder(place, command):
    assert main(command) == main(command) == 0
    os.unlink(Path(command[-1], ".jittor-pranet.json"))
    assert main(command) == 2


@pytest.mark.parametrize("command", [
    ["convert", "--weights", "w.npz", "--model_type", "PraNet-V2", "--out", "theirs/last.npz", "--overwrite"],
    ["check-data", "--train_path", "train", "--json", "theirs/summary.json", "--overwrite"]], ids=" ".join)
def test_overwrite(place, command):
    assert main(command) in (0, 1)  # check-data has findings
    assert Path(command[-2]).read_bytes() != b"theirs"
