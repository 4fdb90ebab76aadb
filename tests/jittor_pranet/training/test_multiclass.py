"""Scans of several classes from training to a table, as a user runs the programs."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jittor_pranet.__main__ import main
from jittor_pranet.training.multiclass import MulticlassTask, split
from jittor_pranet.training.options import Config
from tests.jittor_pranet.test_programs import run, write_set
from tests.jittor_pranet.training.test_resume import assert_same_run, log_of, position
from tests.utils.data.test_slices import write_scan
from utils.checkpoint import read_info, read_weights, save_arrays
from utils.data.image_io import image_size
from utils.data.scans import ScanOptions
from utils.data.slices import LabelledSlices
from utils.errors import UserError

SIZE = 64
TRAIN = ("--task", "multiclass", "--num_class", 4, "--model_type", "PVT-PraNet-V2", "--train_path", "train",
         "--trainsize", SIZE, "--batchsize", 3, "--device", "cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Slices of four patients, two volumes to test on, and an unbroken run of two epochs in whole/."""
    folder = tmp_path_factory.mktemp("classes")
    for name in ("train", "tests"):
        (folder / name).mkdir()
    for number in range(8):
        write_scan(folder / "train" / f"case{number // 2}_slice{number % 2}.npz", (40, 36), number)
    for number in range(2):
        write_scan(folder / "tests" / f"case{number + 8}.npz", (3, 44, 40), 8 + number, spacing=[4, 1.5, 1])
    run("train", *TRAIN, "--train_save", "whole", "--epoch", 2, "--seed", 3, cwd=folder)
    return folder


def test_the_run_tells_its_losses_and_the_dice_of_each_class(place):
    rows, epochs = log_of(place / "whole"), log_of(place / "whole", "epochs.csv")
    assert list(rows[0]) == ["step", "epoch", "size", "lr", "loss", "ce", "dice", "background"]
    assert len(rows) == 4 and all(row["size"] == str(SIZE) and float(row["lr"]) == 1e-4 for row in rows)
    for row in rows:
        assert float(row["loss"]) == pytest.approx(sum(float(row[name]) for name in list(row)[5:]), rel=1e-6)
    for row in epochs:
        figures = [float(row[f"val_dice{label}"]) for label in (1, 2, 3) if row[f"val_dice{label}"]]
        assert float(row["val_mDice"]) == pytest.approx(np.mean(figures), rel=1e-12)
    info = read_info(place / "whole" / "last.npz")
    said = {"task": "multiclass", "num_class": 4, "weight_decay": 1e-4, "clip": None, "channels": 1}
    assert said.items() <= info.items()
    assert all(image_size(place / "whole" / name)[1] > 100 for name in ("samples.png", "curves.png"))


def test_a_run_in_parts_equals_the_whole(place):
    run("train", *TRAIN, "--train_save", "parts", "--epoch", 2, "--seed", 3, "--max_steps", 3, cwd=place)
    run("train", "--resume", "parts", "--max_steps", 4, "--workers", 0, "--device", "cpu", cwd=place)
    assert_same_run(place / "parts", place / "whole")
    assert position(place / "parts") == position(place / "whole")


def test_a_test_needs_the_weights_alone_and_gives_a_table(place):
    """Task, classes and size are what the weights say; the labels do not depend on batch and workers."""
    output = run("test", "--weights", "whole/last.npz", "--test_path", "tests", "--save_path", "maps",
                 "--evaluate", "--overlays", "--device", "cpu", cwd=place)
    assert f"4 classes, at {SIZE} pixels" in output and "HD95" in output and "Dice" in output
    assert (place / "maps" / "evaluation" / "report.html").exists()
    assert image_size(place / "maps" / "overlays" / "tests" / "case8_002.png") == (40, 44)
    run("test", "--weights", "whole/last.npz", "--test_path", "tests", "--save_path", "batch", "--bs", 3,
        "--workers", 0, "--device", "cpu", cwd=place)
    (place / "list.txt").write_text("case9\n")
    output = run("test", "--weights", "whole/last.npz", "--test_path", "tests", "--save_path", "listed",
                 "--test_list", "list.txt", "--evaluate", "--device", "cpu", cwd=place)
    assert "1 scans of tests" in output and not (place / "listed" / "tests" / "case8.npz").exists()
    for name in ("case8.npz", "case9.npz"):
        found, again = (np.load(place / folder / "tests" / name) for folder in ("maps", "batch"))
        assert found["label"].shape == (3, 44, 40) and found["spacing"].tolist() == [4.0, 1.5, 1.0]
        np.testing.assert_array_equal(found["label"], again["label"])


def test_the_held_out_dice_is_that_of_test_and_evaluate(place):
    """Each patient being a volume, validation and evaluation see the same."""
    output = run("train", *TRAIN, "--train_save", "judged", "--max_steps", 1, "--val_path", "tests",
                 cwd=place)
    assert "6 slices of 2 patients to choose the best weights on" in output
    run("test", "--weights", "judged/best.npz", "--test_path", "tests", "--save_path", "judged/maps",
        "--evaluate", "--device", "cpu", cwd=place)
    summary = json.loads((place / "judged" / "maps" / "evaluation" / "summary.json").read_text())
    dice = read_info(place / "judged" / "best.npz")["mDice"]
    assert summary["datasets"]["tests"]["mean"]["Dice"] == pytest.approx(dice, rel=1e-12)
    row, = csv.DictReader((place / "judged" / "epochs.csv").read_text().splitlines())
    assert float(row["val_mDice"]) == dice


def test_whole_patients_are_held_out(place):
    whole = LabelledSlices(place / "train", ScanOptions(4), SIZE)
    config = Config("train", epoch=1, batchsize=1, task="multiclass", num_class=4, val_fraction=0.25)
    for seed in range(4):
        train, held = split(replace(config, seed=seed), whole)
        groups = [{scan.group for scan in part.scans} for part in (train, held)]
        assert len(groups[1]) == 1 and not groups[0] & groups[1] and len(train) + len(held) == 8
    one = whole.subset([scan for scan in whole.scans if scan.group == "case0"])
    with pytest.raises(UserError, match="--val_path"):
        split(config, one)


@pytest.mark.parametrize(("published", "expected"), [(False, 3.0), (True, 3.0 - 12.0)])
def test_the_published_validation_takes_the_backgrounds_off(published, expected):
    class Model:
        """Of two stages."""

        def final_logits(self, maps):
            return maps[0] + maps[1]

    task = object.__new__(MulticlassTask)
    task.config = Config("train", epoch=1, batchsize=1, published_validation=published)
    assert task.merge(Model(), [1.0, 2.0, 4.0, 8.0]) == expected


@pytest.mark.parametrize(("flags", "message"), [
    (("--flips",), "--flips: is not for --task multiclass"),
    (("--task", "binary"), "--num_class: is not for --task binary"),
    (("--val_list", "x.txt"), "goes with --val_path"),
    (("--window", "1", "1"), "expected finite grey levels"),
    (("--model_type", "PVT-PraNet-V1", "--gain", "sigmoid"), "is for networks with DSRA"),
])
def test_flags_that_do_not_go_together(place, flags, message):
    output = run("train", *TRAIN, "--train_save", "none", *flags, cwd=place, code=2)
    assert message in output and "Traceback" not in output
    assert not (place / "none").exists()


@pytest.mark.parametrize(("said", "value"), [
    ("task", ["multiclass"]), ("num_class", "4"), ("slice_axis", {}), ("window", [1, "2", None]),
    ("label_map", [[]]), ("trainsize", {}), ("trainsize", 320_000_000), ("gain", 7)])
@pytest.mark.parametrize("flags", [(), ("--task", "multiclass"), ("--task", "multiclass", "--num_class", 4)])
def test_a_strangers_weights_that_say_what_no_training_has_are_refused(place, capsys, flags, said, value):
    weights = place / "odd.npz"
    info = {"model_type": "PVT-PraNet-V2", said: value}
    save_arrays(read_weights(place / "whole" / "last.npz"), weights, info)
    arguments = ("test", *flags, "--weights", weights, "--test_path", place / "tests", "--save_path",
                 place / "none", "--device", "cpu")
    assert main([*map(str, arguments)]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {weights}: says {said} {value!r}, expected ")
    assert not (place / "none").exists()


def test_scans_of_another_kind_than_those_of_the_training_are_told(place, capsys):
    weights = place / "colour.npz"
    save_arrays(read_weights(place / "whole" / "last.npz"), weights,
                {**read_info(place / "whole" / "last.npz"), "channels": 3})
    for file, warnings in (("whole/last.npz", []), (weights, [
            f"warning: {place}/tests/case8.npz: is grey, the weights were trained on colour images"])):
        arguments = ("test", "--weights", place / file, "--test_path", place / "tests", "--save_path",
                     place / f"kind{len(warnings)}", "--device", "cpu")
        assert main([*map(str, arguments)]) == 0
        output = capsys.readouterr()
        assert [line for line in output.err.splitlines() if line.startswith("warning")] == warnings
        assert f"4 classes, at {SIZE} pixels as trained" + ", grey images" * (not warnings) in output.out


def test_slices_whose_logits_are_not_finite_are_named(place, capsys):
    info, arrays = read_info(place / "whole" / "last.npz"), read_weights(place / "whole" / "last.npz")
    for name, array in arrays.items():
        if name.startswith("agg1") and array.ndim == 4:
            array[...] = np.sign(array) * 1e30
    save_arrays(arrays, place / "huge.npz", info)
    arguments = ("test", "--weights", place / "huge.npz", "--test_path", place / "tests", "--save_path",
                 place / "huge", "--device", "cpu")
    assert main([*map(str, arguments)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"error: {place}/tests/case8.npz, slice 0: what the network gives for it is not finite" in line


def test_weights_of_several_classes_are_refused_where_there_is_one(place):
    write_set(place / "polyps" / "One", 1)
    output = run("test", "--task", "binary", "--weights", "whole/last.npz", "--test_path", "polyps",
                 "--testsize", SIZE, "--save_path", "none", "--device", "cpu", cwd=place, code=2)
    assert "whole/last.npz: are of 4 classes, this is for one" in output and "Traceback" not in output
