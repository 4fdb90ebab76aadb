"""What is held out of a training set, and that it is measured as the programs test and evaluate do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jittor_pranet.reports.scales import ticks
from jittor_pranet.training.logs import StepLog
from jittor_pranet.training.options import Config, new_config, resumed_config
from jittor_pranet.training.pictures import FALSE, HIT, MISSED, _error, write_curves
from jittor_pranet.training.validation import find_selection, hold_out, predict
from utils.data.checks.polyps import source_of
from utils.data.clinicdb import sequence_of
from utils.data.image_io import Pair
from utils.errors import BadFile, UserError
from utils.runtime.backend import jt


def pairs_of(*stems: str) -> list[Pair]:
    return [Pair(stem, Path(f"{stem}.jpg"), Path(f"{stem}.png")) for stem in stems]


BENCHMARK = pairs_of(*(f"cju{number:022}" for number in range(90)), *map(str, range(55)))


@pytest.mark.parametrize("seed", range(3))
def test_each_source_gives_its_share(seed):
    train, held = hold_out(BENCHMARK, 0.1, seed)
    assert Counter(source_of(pair.stem) for pair in held) == {"Kvasir": 9, "CVC-ClinicDB": 6}
    assert sorted(train + held, key=BENCHMARK.index) == BENCHMARK and not set(train) & set(held)


def test_names_of_other_sets_are_one_group():
    held = hold_out(pairs_of(*(f"{letter}{letter}7" for letter in "abcdefghijklmnopqrst")), 0.1, 0)[1]
    assert len(held) == 2


def test_the_split_is_a_function_of_the_seed():
    assert hold_out(BENCHMARK, 0.1, 0) == hold_out(BENCHMARK, 0.1, 0)
    assert len({tuple(hold_out(BENCHMARK, 0.1, seed)[1]) for seed in range(5)}) == 5


@pytest.mark.parametrize("seed", range(5))
def test_whole_sequences_are_held_out_on_request(seed):
    frames = np.random.default_rng(0).permutation(612)[:550] + 1  # as many as the benchmark trains on
    pairs = pairs_of(*(f"cju{number:022}" for number in range(900)), *map(str, sorted(frames)))
    train, held = hold_out(pairs, 0.1, seed, whole_sequences=True)
    assert sorted(train + held, key=pairs.index) == pairs and not set(train) & set(held)
    sequences = [{sequence_of(pair.stem) for pair in part} - {None} for part in (train, held)]
    assert len(sequences[1]) >= 2 and not sequences[0] & sequences[1]
    counts = Counter(source_of(pair.stem) for pair in held)
    assert counts["Kvasir"] == 90 and abs(counts["CVC-ClinicDB"] - 55) <= 13, "half the longest sequence"
    images = [{sequence_of(pair.stem) for pair in part} - {None} for part in hold_out(pairs, 0.1, seed)]
    assert images[0] & images[1]
    assert [pair for pair in held if "cju" in pair.stem] == [
        pair for pair in hold_out(pairs, 0.1, seed)[1] if "cju" in pair.stem]


def test_one_sequence_is_not_held_out():
    held = hold_out(pairs_of(*map(str, range(1, 26)), "a", "b"), 0.1, 0, whole_sequences=True)[1]
    assert [len(pair.stem) for pair in held] == [1] and not held[0].stem.isdigit()
    with pytest.raises(UserError, match="--val_fraction 0"):
        hold_out(pairs_of(*map(str, range(1, 26))), 0.1, 0, whole_sequences=True)
    two = hold_out(pairs_of(*map(str, range(1, 51))), 0.02, 0, whole_sequences=True)
    assert [len(part) for part in two] == [25, 25]


def test_what_is_held_out_as_one_is_of_the_configuration():
    pairs = pairs_of(*map(str, range(1, 613)))
    flags = {"train_path": "train"}
    configs = [new_config(flags), new_config({**flags, "hold_out": "sequences"})]
    for config in configs:
        train, selection = find_selection(config, pairs)
        split = hold_out(pairs, 0.1, 0, whole_sequences=config.hold_out == "sequences")
        assert (train, selection["validation"]) == split
    old = {name: value for name, value in vars(configs[0]).items() if name != "hold_out"}
    assert resumed_config({}, old, "state.npz") == configs[0]
    assert resumed_config({}, vars(configs[1]), "state.npz") == configs[1]
    with pytest.raises(UserError, match=r"--hold_out sequences: the run of .* has images"):
        resumed_config({"hold_out": "sequences"}, old, "state.npz")


@pytest.mark.parametrize(("flags", "message"), [
    ({"task": "multiclass", "num_class": 4, "val_path": "x", "val_fraction": 0.1},
     "--val_fraction: nothing is held out where --val_path says"),
    ({"select_on_test": ["One"], "test_path": "x", "val_fraction": 0.1},
     "--val_fraction: nothing is held out where --select_on_test says"),
    ({"select_on_test": ["One"], "test_path": "x", "hold_out": "images"},
     "--hold_out: nothing is held out where --select_on_test says"),
    ({"val_fraction": 0.0, "hold_out": "sequences"}, "--hold_out: nothing is held out with --val_fraction 0"),
    ({"task": "multiclass", "num_class": 4, "hold_out": "sequences"},
     "--hold_out: is not for --task multiclass"),
    ({"weights": "a", "backbone_weights": "b"}, "--backbone_weights: --weights holds the encoder's as well"),
    ({"trainsize": 0}, "image size 0 is not a multiple of 32"),
])
def test_flags_that_would_have_no_effect_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        new_config({"train_path": "train", **flags})


def test_runs_of_earlier_versions_with_such_flags_are_resumed():
    config = Config("train", 1, 1, weights="a", backbone_weights="b", select_on_test=("One",), test_path="x",
                    val_fraction=0.2)
    assert resumed_config({}, vars(config), "state.npz") == config


def test_nothing_is_held_out_at_fraction_0_and_something_of_few_pairs():
    assert hold_out(BENCHMARK, 0, 0) == (BENCHMARK, [])
    assert [len(part) for part in hold_out(BENCHMARK[:3], 0.1, 0)] == [2, 1]
    assert [len(part) for part in hold_out(BENCHMARK[:3], 0.99, 0)] == [1, 2]
    with pytest.raises(UserError, match="--val_fraction 0"):
        hold_out(BENCHMARK[:1], 0.1, 0)


def test_a_validation_image_whose_logits_are_not_finite_is_named(tmp_path):
    class Model:
        """Gives NaN where the image is black."""

        def __call__(self, images):
            return images[:, :1]

        def final_logits(self, maps):
            return jt.ternary(maps < -2, jt.full_like(maps, float("nan")), maps)

        def eval(self):
            pass

        train = eval

    pairs = [Pair(name, tmp_path / f"{name}.png", tmp_path / "mask.png") for name in ("grey", "black")]
    Image.new("L", (32, 32)).save(tmp_path / "mask.png")
    for level, pair in zip((128, 0), pairs):
        Image.new("RGB", (32, 32), (level,) * 3).save(pair.image)
    with pytest.raises(BadFile, match=r"black\.png: what the network gives for it is not finite"):
        list(predict(Model(), pairs, 32, 2))


# ---- logs and pictures

def test_a_log_goes_on_after_the_step_it_is_resumed_at(tmp_path):
    log = StepLog(tmp_path / "log.csv", ("step", "loss", "mDice"), step=0)
    for step in range(1, 5):
        log.record(step=step, loss=step / 3, mDice=None)
    with open(tmp_path / "log.csv", "a") as file:
        file.write("\0\0\0\n,1,1\n5,1.")  # what a crash of the machine and a kill may leave
    resumed = StepLog(tmp_path / "log.csv", ("step", "loss", "mDice"), step=2)
    resumed.record(step=3, loss=0.5, mDice=0.25)
    assert [tuple(row.values()) for row in resumed.rows] == [
        (1, 1 / 3, None), (2, 2 / 3, None), (3, 0.5, 0.25)]
    assert (tmp_path / "log.csv").read_text().split() == [
        "step,loss,mDice", f"1,{1 / 3},", f"2,{2 / 3},", "3,0.5,0.25"]


def test_a_log_with_other_columns_is_gone_on_with(tmp_path):
    (tmp_path / "log.csv").write_text("step,old,loss\n1,0.5,2.0\n2,0.25,1.0\n3,0.125,0.5\n")
    log = StepLog(tmp_path / "log.csv", ("step", "loss", "new"), step=2)
    log.record(step=3, loss=0.75, new=7)
    assert (tmp_path / "log.csv").read_text().split() == [
        "step,loss,new,old", "1,2.0,,0.5", "2,1.0,,0.25", "3,0.75,7,"]
    write_curves(tmp_path / "curves.png", log.rows, log.rows, ["loss", "new"])


@pytest.mark.parametrize(("text", "rows"), [("", []), ("step", []), ("\xff\xfe\n1\n", None), ("a,b\n", None)])
def test_a_file_that_is_no_log(tmp_path, text, rows):
    (tmp_path / "log.csv").write_text(text, encoding="latin-1")
    if rows is None:
        with pytest.raises(UserError, match="is no log of a training"):
            StepLog(tmp_path / "log.csv", ("step", "loss"), step=2)
        assert (tmp_path / "log.csv").read_text(encoding="latin-1") == text
    else:
        assert StepLog(tmp_path / "log.csv", ("step", "loss"), step=2).rows == rows


def test_a_new_run_begins_a_new_log(tmp_path):
    (tmp_path / "log.csv").write_text("step\n1\n")
    StepLog(tmp_path / "log.csv", ("step",), step=0)
    assert (tmp_path / "log.csv").read_text().split() == ["step"]


def test_errors_are_coloured_by_kind():
    prediction, mask = np.array([[1, 1, 0, 0]], bool), np.array([[1, 0, 1, 0]], bool)
    assert _error(prediction, mask).tolist() == [[list(HIT), list(FALSE), list(MISSED), [0, 0, 0]]]


@pytest.mark.parametrize("values", [[0, 1], [0.3, 0.3001], [5, 5], [0, 54321], [-3.2, 8.9], [0.0, 0.0]])
def test_ticks_are_few_even_and_around_the_values(values):
    marks = ticks(min(values), max(values), 7)
    assert 2 <= len(marks) <= 9 and marks[0] <= min(values) and max(values) <= marks[-1]
    np.testing.assert_allclose(np.diff(marks), marks[1] - marks[0], rtol=1e-6)


def test_a_falling_loss_falls_in_its_chart(tmp_path):
    steps = [{"step": step, "map2": 10.0 / step} for step in range(1, 400)]
    write_curves(tmp_path / "curves.png", steps, [{"step": 399, "val_mDice": None}], ["map2"])
    pixels = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB")).astype(int)
    rows, columns = np.nonzero((pixels == (0, 114, 178)).all(2) & (np.arange(len(pixels)) > 43)[:, None])
    heights = [rows[columns == column].mean() for column in np.unique(columns)]
    assert len(heights) > 600 and np.all(np.diff(heights) >= -0.01), "downwards on the screen throughout"
