"""What is held out of a training set, and that it is measured as the programs test and evaluate do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jittor_pranet.reports.scales import ticks
from jittor_pranet.training.logs import StepLog
from jittor_pranet.training.pictures import FALSE, HIT, MISSED, _error, write_curves
from jittor_pranet.training.validation import hold_out
from utils.data.checks.polyps import source_of
from utils.data.image_io import Pair
from utils.errors import UserError


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


def test_nothing_is_held_out_at_fraction_0_and_something_of_few_pairs():
    assert hold_out(BENCHMARK, 0, 0) == (BENCHMARK, [])
    assert [len(part) for part in hold_out(BENCHMARK[:3], 0.1, 0)] == [2, 1]
    assert [len(part) for part in hold_out(BENCHMARK[:3], 0.99, 0)] == [1, 2]
    with pytest.raises(UserError, match="--val_fraction 0"):
        hold_out(BENCHMARK[:1], 0.1, 0)


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
