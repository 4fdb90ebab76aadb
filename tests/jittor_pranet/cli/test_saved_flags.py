"""A state.npz whose settings somebody has altered: what no flag could have given is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

from jittor_pranet.__main__ import main
from jittor_pranet.training.options import Config
from jittor_pranet.training.snapshot import FORMAT
from utils.checkpoint import save_arrays

BINARY = vars(Config("nowhere", 20, 16, lr=1e-5, ema=0.999, test_path="tests", max_steps=7, flips=True,
                     select_on_test=("Kvasir", "CVC"), seed=2**32 - 1))
SCANS = vars(Config("nowhere", 300, 6, task="multiclass", num_class=9, model_type="EMCAD-B2-DSRA", clip=None,
                    gain="sigmoid", trainsize=224, window=(-1e-05, 275.0), slice_axis=2, label_map="synapse",
                    decay_rate=1.0))
POSITION = {"step": 6, "ended": 3, "best": {"best.npz": 0.5}}
NAN, INFINITE = float("nan"), float("inf")


def resume(folder, config: object, position: object = POSITION, **info) -> int:
    info = {"format": FORMAT, "config": config, "position": position, "data": "x", **info}
    save_arrays({"weights/a": np.zeros(1)}, folder / "state.npz", info)
    return main(["train", "--resume", str(folder), "--device", "cpu"])


@pytest.mark.parametrize("config", [BINARY, SCANS, {**BINARY, "window": None}])
def test_settings_of_trainings_are_taken(tmp_path, capsys, config):
    assert resume(tmp_path, config) == 2
    assert "error: nowhere: no such folder" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("name", "value"), [
    *(("epoch", value) for value in (0, -1, 2.0, "20", True, None, 10**30, [], NAN)),
    *(("batchsize", value) for value in (0, -8, "16", 16.0, None, {}, 10**30)),
    *(("trainsize", value) for value in (0, -32, 33, 352.0, "352", None, [352], 320_000_000)),
    *(("lr", value) for value in (0.0, -1e-4, "0.0001", NAN, INFINITE, 1, True, None, [1e-4])),
    *(("clip", value) for value in (0.0, -0.5, "x", NAN, False)),
    *(("decay_rate", value) for value in (0.0, None, "0.1", INFINITE)),
    *(("decay_epoch", value) for value in (0, -1, 1.5, None)),
    *(("weight_decay", value) for value in (-1.0, 1.0, NAN, "0")),
    *(("warmup_steps", value) for value in (-1, None, 0.5)),
    *(("max_steps", value) for value in (0, -5, "7", 7.0, 10**30)),
    *(("ema", value) for value in (1.0, -0.1, "0.9", NAN, True)),
    *(("val_fraction", value) for value in (1.0, -0.1, None, "0.1", NAN)),
    *(("seed", value) for value in (-1, 2**32, 1.5, "3", None, 10**400)),
    *(("task", value) for value in ("both", 1, None, ["binary"], {})),
    *(("model_type", value) for value in ("PraNet-V9", 3, None, ["PraNet-V2"])),
    *(("gain", value) for value in ("hard", 7, None, [])),
    *(("precision", value) for value in ("fp8", 32, None)),
    *(("num_class", value) for value in (0, -1, 1.0, "1", None, True, 10**30)),
    *(("flips", value) for value in (1, "yes", None, [])),
    *(("weighted_bce", value) for value in (0, "no", {})),
    *(("train_path", value) for value in (3, None, ["a"], "a\0b", {})),
    *(("test_path", value) for value in (3, [], "\0")),
    *(("select_on_test", value) for value in ("Kvasir", [], [3], [["a"]], {}, 1)),
    *(("backbone_weights", value) for value in (3, True, ["a"])),
    ("unknown", 1), ("help", True), ("resume", "x")])
def test_altered_settings_are_refused_in_one_line(tmp_path, capsys, name, value):
    assert resume(tmp_path, {**BINARY, name: value}) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/state.npz: ") and len(line) < 1000


@pytest.mark.parametrize(("name", "value"), [
    *(("num_class", value) for value in (0, 1, 257, "9", 9.0, None, True)),
    *(("slice_axis", value) for value in (3, -1, "2", 2.0, True)),
    *(("window", value) for value in ([1.0], [2.0, 1.0], [NAN, 1.0], [0.0, INFINITE], ["0", "1"], 3,
                                      [0, 1], {})),
    *(("label_map", value) for value in ("none", 1, [], {})),
    *(("val_list", value) for value in (3, [])), ("val_path", 1), ("no_augmentation", "x")])
def test_altered_settings_of_scans_are_refused_in_one_line(tmp_path, capsys, name, value):
    assert resume(tmp_path, {**SCANS, name: value}) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/state.npz: ")


@pytest.mark.parametrize("position", [
    None, 3, [], {"step": -1}, {**POSITION, "step": "6"}, {**POSITION, "step": True, "ended": True},
    {**POSITION, "step": 1e3}, {**POSITION, "ended": 7}, {**POSITION, "ended": -1},
    {**POSITION, "step": 10**30}, {**POSITION, "best": []}, {**POSITION, "best": {"best.npz": "x"}},
    {**POSITION, "best": {"best.npz": None}}, {**POSITION, "best": {"best.npz": NAN}},
    {**POSITION, "best": {"../other.npz": 0.5}}, {**POSITION, "more": 1}])
def test_altered_positions_are_refused_in_one_line(tmp_path, capsys, position):
    assert resume(tmp_path, BINARY, position) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/state.npz: is no state of a training")


@pytest.mark.parametrize("config", [None, 3, "text", [], [1], [["a", 1]], {"train_path": "x"}, {}])
def test_what_is_no_configuration_is_refused_in_one_line(tmp_path, capsys, config):
    assert resume(tmp_path, config) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/state.npz: ")
