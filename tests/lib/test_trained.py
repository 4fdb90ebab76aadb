"""What weights say of their training: taken where a training could say it, refused where none could."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jittor_pranet.training.options import Config
from jittor_pranet.training.snapshot import weights_info
from lib.inference import load_model, network_of
from lib.registry import NETWORKS, check_size
from lib.trained import SETTINGS, settings_of, usage_of
from utils.checkpoint import read_checkpoint, save_arrays
from utils.errors import UserError

NAN = float("nan")


def checkpoint(path, info: dict):
    save_arrays({"a": np.zeros(1)}, path, info)
    return read_checkpoint(path)


@pytest.mark.parametrize("config", [
    Config("train", 20, 16), Config("train", 20, 16, model_type="PraNet-V1", trainsize=64),
    Config("train", 300, 6, task="multiclass", num_class=9, model_type="EMCAD-B2-DSRA", gain="difference",
           trainsize=224, slice_axis=2, window=(-125.0, 275.0), label_map="synapse", clip=None)])
def test_what_trainings_say_is_taken(tmp_path, config):
    said = settings_of(checkpoint(tmp_path / "w.npz", weights_info(7, vars(config), 3)))
    expected = {name: vars(config)[name] for name in SETTINGS if vars(config).get(name) is not None}
    assert said == json.loads(json.dumps({**expected, "channels": 3}))


def test_files_that_say_nothing_or_other_things_are_taken(tmp_path):
    assert settings_of(checkpoint(tmp_path / "w.npz", {})) == {}
    assert settings_of(checkpoint(tmp_path / "w.npz", {"seed": -1, "trainsize": None})) == {}


@pytest.mark.parametrize(("name", "value"), [
    *(("trainsize", value) for value in (320_000_000, -32, 0, 33, 352.0, "352", True, [352], {}, 8224)),
    *(("num_class", value) for value in (-1, 0, 257, 10**12, 4.0, "4", True, [], NAN)),
    *(("model_type", value) for value in (3, "", "PraNet-V9", ["PraNet-V2"], {}, "x" * 10_000, "a\nb")),
    *(("gain", value) for value in (7, "hard", ["softmax"], {}, False)),
    *(("task", value) for value in ("both", 1, ["binary"], {})),
    *(("slice_axis", value) for value in (3, -1, 1.0, True, "0", [])),
    *(("window", value) for value in ([1.0], [2.0, 1.0], [0.0, NAN], [0.0, float("inf")], [-1e308, 1e308],
                                      [1, 10**400], ["0", "1"], 3, {}, [0.0, 1.0, 2.0])),
    *(("label_map", value) for value in ("none", 1, [[]], {}))])
def test_what_no_training_says_is_refused_in_one_line(tmp_path, name, value):
    odd = checkpoint(tmp_path / "w.npz", {"model_type": "PraNet-V2", name: value})
    for use in (settings_of, network_of, lambda each: load_model("PraNet-V2", each)):
        with pytest.raises(UserError, match=rf"w\.npz: says {name} .*, expected ") as caught:
            use(odd)
        assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 500


@pytest.mark.parametrize("side", [320_000_000, 8224])
def test_a_size_beyond_all_memory_is_refused(side):
    with pytest.raises(UserError, match=f"image size {side} is too large, at most 8192"):
        check_size(side)


def test_all_networks_are_known(tmp_path):
    for name in NETWORKS:
        assert network_of(checkpoint(tmp_path / "w.npz", {"model_type": name})) == name


@pytest.mark.parametrize(("info", "flags", "text"), [
    ({"trainsize": 96}, {}, "at 96 pixels as trained"),
    ({"trainsize": 96}, {"size": 96}, "at 96 pixels as trained"),
    ({"trainsize": 96}, {"size": 352}, "at 352 pixels"),
    ({}, {}, "at 352 pixels, as published"),
    ({}, {"size": 352}, "at 352 pixels"),
    ({"num_class": 9}, {}, "9 classes, at 224 pixels, as published"),
    ({}, {"num_class": 9}, "9 classes, at 224 pixels, as published"),
    ({"trainsize": 64, "num_class": 4, "gain": "sigmoid", "channels": 1}, {},
     "4 classes, at 64 pixels as trained, gain sigmoid, grey images")])
def test_a_network_is_used_as_it_was_trained(tmp_path, info, flags, text):
    assert str(usage_of(checkpoint(tmp_path / "w.npz", info), **flags)) == text


def test_the_number_of_classes_is_that_of_the_weights_where_they_do_not_say_it(tmp_path):
    for count in (1, 9):
        save_arrays({"out_head1.bias": np.zeros(count)}, tmp_path / "w.npz")
        assert usage_of(read_checkpoint(tmp_path / "w.npz")).num_class == count
    for count in (0, 257):
        save_arrays({"out_head1.bias": np.zeros(count)}, tmp_path / "w.npz")
        with pytest.raises(UserError, match=f"is of {count} classes, expected a number from 1 to 256"):
            usage_of(read_checkpoint(tmp_path / "w.npz"))


def test_flags_that_are_not_as_trained_are_told(tmp_path, capsys):
    info = {"trainsize": 96, "num_class": 9, "gain": "sigmoid", "channels": 1}
    trained = checkpoint(tmp_path / "w.npz", info)
    usage_of(trained, 352, 4, "softmax", 3).warn()
    assert capsys.readouterr().err.splitlines() == [
        "warning: --testsize 352: the weights were trained at 96 pixels",
        "warning: --num_class 4: the weights are of 9",
        "warning: --gain softmax: the weights were trained with sigmoid",
        "warning: --colour: the weights were trained on grey images"]
    usage_of(trained, 96, 9, "sigmoid", 1).warn()
    usage_of(checkpoint(tmp_path / "theirs.npz", {}), 96, 9, "sigmoid", 1).warn()
    assert not capsys.readouterr().err


@pytest.mark.parametrize("size", [0, -32, 100])
def test_a_size_that_is_none_is_refused(tmp_path, size):
    with pytest.raises(UserError, match=f"image size {size} is not a multiple of 32"):
        usage_of(checkpoint(tmp_path / "w.npz", {"trainsize": 96}), size)
