"""Numbers, names and lists beyond what a program or a disk can take: one line, exit code 2."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from jittor_pranet.__main__ import main
from utils.checkpoint import save_arrays

TRAIN = ("train", "--train_path", "nowhere", "--train_save", "none")


@pytest.mark.parametrize("arguments", [
    *((*TRAIN, f"--{name}", number) for name in ("seed", "epoch", "batchsize", "max_steps", "warmup_steps")
      for number in (str(2**32), str(10**30), "9" * 5000)),
    (*TRAIN, "--trainsize", "320000000"), (*TRAIN, "--trainsize", "9" * 4000),
    ("demo", "--out", "none", "--seed", str(2**32)),
    *(("predict", "nowhere", "--out", "none", "--weights", "w.npz", "--batch", number)
      for number in (str(2**31), "9" * 5000))])
def test_large_numbers_are_refused_in_one_line(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(list(arguments))
    except SystemExit as ended:
        code = ended.code
    line, = capsys.readouterr().err.splitlines()
    assert code == 2 and line.startswith("error: ") and not list(tmp_path.iterdir())
    assert "is too large" in line or "no whole number" in line or "invalid int value" in line
    assert len(line) < 6000


def test_the_largest_seed_is_taken(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*TRAIN, "--seed", str(2**32 - 1)]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


LONG, DEEP = "x" * 300, "d/" * 3000
WEIGHTS = ("--weights", "w.npz")
SCANS = ("--task", "multiclass", "--num_class", "4")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A small set of each kind, and weights that no program comes to load."""
    monkeypatch.chdir(tmp_path)
    for folder in ("train/images", "train/masks", "tests/One/images", "tests/One/masks", "maps/One",
                   "scans/images", "scans/labels"):
        (tmp_path / folder).mkdir(parents=True)
        level = 1 if folder == "scans/labels" else 255
        Image.fromarray(np.full((32, 32), level, np.uint8)).save(f"{folder}/a.png")
    save_arrays({"a": np.zeros(1)}, tmp_path / "w.npz", {"model_type": "PraNet-V2"})
    return tmp_path


def refusal(capsys, *arguments: str) -> str:
    """The last line that a program prints of its refusal."""
    assert main([*arguments]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and len(line) < 7000
    return line


@pytest.mark.parametrize("name", [LONG, DEEP, f"new/{LONG}", f"{LONG}/new"], ids=["long", "deep", "in", "on"])
@pytest.mark.parametrize("arguments", [
    ("train", "--train_path", "train", "--train_save", "NAME"),
    ("train", "--train_path", "NAME", "--train_save", "o"),
    ("train", "--resume", "NAME"),
    ("train", "--train_path", "train", "--train_save", "o", "--weights", "NAME"),
    ("test", *WEIGHTS, "--test_path", "tests", "--save_path", "NAME"),
    ("test", *WEIGHTS, "--test_path", "NAME", "--save_path", "o"),
    ("test", *WEIGHTS, "--test_path", "tests", "--datasets", "NAME", "--save_path", "o"),
    ("evaluate", "--pred_root", "NAME", "--gt_root", "tests"),
    ("evaluate", "--pred_root", "maps", "--gt_root", "NAME"),
    ("evaluate", "--pred_root", "maps", "--gt_root", "tests", "--result_path", "NAME"),
    ("predict", "NAME", *WEIGHTS, "--out", "o"), ("predict", "train/images", *WEIGHTS, "--out", "NAME"),
    ("predict", "train/images", "--weights", "NAME", "--out", "o"),
    ("convert", "--weights", "NAME", "--out", "o.npz"), ("convert", *WEIGHTS, "--out", "NAME.npz"),
    ("check-data", "--train_path", "NAME"), ("check-data", "--train_path", "train", "--json", "NAME"),
    ("demo", "--out", "NAME")], ids=lambda each: " ".join(each)[:60])
def test_names_that_no_file_can_have_are_refused(place, capsys, arguments, name):
    before = sorted(path for path in place.rglob("*") if path.is_file())
    refusal(capsys, *(each.replace("NAME", name) for each in arguments))
    assert sorted(path for path in place.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize("content", [LONG.encode(), DEEP.encode(), b"y" * 1_000_000, b"a\0b",
                                     bytes(range(256))], ids=["long", "deep", "endless", "null", "binary"])
@pytest.mark.parametrize("arguments", [
    ("train", *SCANS, "--train_path", "scans", "--train_save", "o", "--train_list", "list.txt"),
    ("train", *SCANS, "--train_path", "scans", "--train_save", "o", "--val_path", "scans", "--val_list",
     "list.txt"),
    ("test", *SCANS, *WEIGHTS, "--test_path", "scans", "--save_path", "o", "--test_list", "list.txt"),
    ("evaluate", *SCANS, "--pred_root", "scans/labels", "--gt_root", "scans", "--test_list", "list.txt"),
    ("check-data", *SCANS, "--train_path", "scans", "--train_list", "list.txt")], ids=lambda each: each[0])
def test_lists_of_what_no_name_can_be_are_refused(place, capsys, arguments, content):
    (place / "list.txt").write_bytes(content + b"\na\n")
    assert "list.txt: " in refusal(capsys, *arguments)


def test_a_list_of_images_that_is_no_text_is_refused(place, capsys):
    (place / "list.txt").write_bytes(b"train/images/a.png\na\0b.png\n")
    assert "list.txt: is no text" in refusal(capsys, "predict", "list.txt", *WEIGHTS, "--out", "o")
