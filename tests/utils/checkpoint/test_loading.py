"""Weights into a model and out of it: the file that is saved, and the rules of what has to fit."""

from __future__ import annotations

import hashlib
import zipfile

import numpy as np
import pytest

from lib.registry import class_count, identify_network
from tests.helpers.small_weights import Model, assert_same, jittor_bytes, some_arrays, zeros_like
from utils.checkpoint import (
    Mismatch,
    load_encoder_weights,
    load_weights,
    read_checkpoint,
    read_info,
    read_weights,
    save_weights,
)
from utils.errors import UserError

# ---- What is saved ----


def test_saved_file(tmp_path):
    first, again = tmp_path / "new" / "last.npz", tmp_path / "again.npz"
    info = {"seed": 7, "config": {"lr": 1e-4, "sizes": [0.75, 1, 1.25], "model": "PraNet-V2"}}
    save_weights(Model(some_arrays()), first, info)
    save_weights(Model(some_arrays()), again, info)
    assert_same(read_weights(first), some_arrays())
    assert_same(dict(np.load(first)), some_arrays())
    assert read_info(first) == info
    assert first.read_bytes() == again.read_bytes()


def test_info_is_optional(tmp_path):
    save_weights(Model(some_arrays()), tmp_path / "last.npz")
    assert read_info(tmp_path / "last.npz") == {}
    (tmp_path / "net.pkl").write_bytes(jittor_bytes(some_arrays()))
    assert read_info(tmp_path / "net.pkl") == {}


def test_a_checkpoint_is_all_that_a_file_holds(tmp_path):
    save_weights(Model(some_arrays()), tmp_path / "last.npz", {"seed": 7})
    (tmp_path / "net.pkl").write_bytes(jittor_bytes(some_arrays()))
    for path, info in ((tmp_path / "last.npz", {"seed": 7}), (tmp_path / "net.pkl", {})):
        checkpoint = read_checkpoint(path, with_sha256=True)
        assert (str(checkpoint), checkpoint.path, checkpoint.info) == (str(path), path, info)
        assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert read_checkpoint(path).sha256 is None
        assert_same(checkpoint.arrays, some_arrays())
        model = Model(zeros_like(some_arrays()))
        load_weights(model, checkpoint)
        assert_same(model.arrays, some_arrays())
        with pytest.raises(UserError, match=f"{path.name}: does not fit"):
            load_weights(Model({"other": np.ones(1)}), checkpoint)


@pytest.mark.parametrize(("name", "value", "message"), [
    ("conv1.weight", np.nan, "is not finite"), ("conv1.weight", -np.inf, "is not finite"),
    ("bn1.running_var", np.inf, "is not finite"), ("bn1.running_var", -1e-3, "is a variance below 0"),
    ("fc.bias", 1e300, "is not finite: it holds NaN, or what is infinite as float32")])
def test_values_that_no_network_has_are_named(name, value, message):
    arrays = {each: array.astype(np.float64) for each, array in some_arrays().items()}
    arrays[name].flat[-1] = value
    for load in (load_weights, load_encoder_weights):
        model = Model(zeros_like(some_arrays()))
        with pytest.raises(UserError, match=f"the given weights: {name} {message}"):
            load(model, arrays)
        assert_same(model.arrays, zeros_like(some_arrays()))
    load_weights(Model({"bn1.bias": np.zeros(4, np.float32)}), {"bn1.bias": np.zeros(4), "odd": arrays[name]},
                 allow_unexpected=True)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "complex64"])
def test_weights_that_are_no_floating_point_numbers_are_named(dtype):
    arrays = {**some_arrays(), "fc.bias": np.ones(2, dtype)}
    with pytest.raises(UserError, match=f"fc.bias is of {dtype} numbers"):
        load_weights(Model(zeros_like(some_arrays())), arrays)


def test_info_too_long(tmp_path):
    with pytest.raises(ValueError, match="at most 65535 fit"):
        save_weights(Model(some_arrays()), tmp_path / "last.npz", {"log": "x" * 65536})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("comment", [b"\xff", b"hello", b"[1]", b"[" * 60000])
def test_info_of_another_kind(tmp_path, comment):
    with zipfile.ZipFile(tmp_path / "last.npz", "w") as archive:
        archive.comment = comment
    with pytest.raises(UserError, match=r"last\.npz"):
        read_info(tmp_path / "last.npz")


def test_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "last.npz"
    save_weights(Model(some_arrays()), path)
    with pytest.raises(ValueError):
        save_weights(Model({"a": np.zeros(3), "b": np.array([object()])}), path)
    assert_same(read_weights(path), some_arrays())
    assert list(tmp_path.iterdir()) == [path]


# ---- What has to fit ----


def test_load_sets_everything():
    model = Model(zeros_like(some_arrays()))
    assert load_weights(model, some_arrays()) == Mismatch()
    assert_same(model.arrays, some_arrays())


def test_load_converts_to_the_models_types():
    model = Model({"a": np.zeros(2, np.float32), "n": np.zeros(1, np.int32)})
    load_weights(model, {"a": np.array([1.5, 2.5]), "n": np.array(3)})
    assert_same(model.arrays, {"a": np.array([1.5, 2.5], np.float32), "n": np.array([3], np.int32)})


def misfit():
    model = Model({**zeros_like(some_arrays()), "lost": np.zeros(1), "fc.bias": np.zeros(3)})
    return model, {**some_arrays(), **{f"odd{i}": np.zeros(1) for i in range(6)}}


def test_strict_names_all_that_does_not_fit_and_loads_nothing():
    model, weights = misfit()
    before = {name: array.copy() for name, array in model.arrays.items()}
    with pytest.raises(UserError) as caught:
        load_weights(model, weights)
    assert str(caught.value) == (
        "the given weights: does not fit the model; give weights that were saved from the same network "
        "(1 missing: lost; 6 unexpected: odd0, odd1, odd2, ...; "
        "1 of another shape: fc.bias (2,) instead of (3,))"
    )
    assert_same(model.arrays, before)


def test_not_strict_loads_what_fits():
    model, weights = misfit()
    mismatch = load_weights(model, weights, strict=False)
    assert mismatch == Mismatch(("lost",), tuple(f"odd{i}" for i in range(6)), {"fc.bias": ((2,), (3,))})
    np.testing.assert_array_equal(model.arrays["conv1.weight"], weights["conv1.weight"])
    np.testing.assert_array_equal(model.arrays["fc.bias"], np.zeros(3))


def test_step_counters_are_passed_over():
    model = Model(zeros_like(some_arrays()))
    load_weights(model, {**some_arrays(), "bn1.num_batches_tracked": np.array(9)})
    assert_same(model.arrays, some_arrays())


@pytest.mark.parametrize("optional", [("fc.",), ("conv.", "fc.")])
def test_optional_names_may_be_absent(optional):
    initial = {**zeros_like(some_arrays()), "fc.bias": np.full(2, 5, np.float32)}
    weights = {name: array for name, array in some_arrays().items() if name != "fc.bias"}
    model = Model(initial, optional)
    load_weights(model, weights)
    assert_same(model.arrays, {**some_arrays(), "fc.bias": initial["fc.bias"]})
    load_weights(model, some_arrays())
    assert_same(model.arrays, some_arrays())
    with pytest.raises(UserError, match=r"1 of another shape: fc\.bias \(7,\) instead of \(2,\)"):
        load_weights(model, {**weights, "fc.bias": np.zeros(7)})


def test_optional_names_are_none_by_default():
    weights = {name: array for name, array in some_arrays().items() if name != "fc.bias"}
    with pytest.raises(UserError, match=r"1 missing: fc\.bias"):
        load_weights(Model(some_arrays()), weights)


def test_encoder_passes_over_the_classifier():
    arrays = {"patch_embed1.proj.weight": np.ones((2, 3), np.float32)}
    encoder = Model(zeros_like(arrays))
    load_encoder_weights(encoder, {**arrays, "head.weight": np.ones(3), "head.bias": np.ones(1)})
    assert_same(encoder.arrays, arrays)
    with pytest.raises(UserError, match="1 unexpected: norm"):
        load_encoder_weights(encoder, {**arrays, "norm": np.ones(1)})
    with pytest.raises(UserError, match=r"1 unexpected: head\.bias"):
        load_weights(encoder, {**arrays, "head.bias": np.ones(1)})


@pytest.mark.parametrize("found, wanted, names, model_names", [
    ("PraNet-V1", "PraNet-V2", ["resnet.conv1.0.weight"], ["backbone.conv1.0.weight"]),
    ("PVT-PraNet-V2", "PVT-PraNet-V1", ["backbone.patch_embed1.proj.weight", "agg1.conv5_fg.weight"],
     ["backbone.patch_embed1.proj.weight", "agg1.conv5.weight"]),
    ("a bare Res2Net encoder", "PraNet-V1", ["conv1.0.weight"], ["resnet.conv1.0.weight"]),
    ("EMCAD-B2-DSRA", "EMCAD-B2", ["out_head1.weight", "decoder.ConvBlock1_fg.conv.weight"],
     ["out_head1.weight", "decoder.sab.conv.weight"]),
    ("a bare PVTv2 encoder", "another", ["patch_embed1.proj.weight"], ["weight"]),
])
def test_weights_of_another_network_are_recognised(found, wanted, names, model_names):
    model = Model({name: np.zeros(1) for name in model_names})
    model.identify = identify_network
    with pytest.raises(UserError, match=f"weights are those of {found}, the model is {wanted}: choose"):
        load_weights(model, {name: np.zeros(1) for name in names})


@pytest.mark.parametrize(("weights", "classes"), [
    ({"agg1.conv5_fg.bias": np.zeros(4)}, 4),
    ({"out_head1.bias": np.zeros(9), "conv.0.bias": np.zeros(3)}, 9), ({"conv.0.bias": np.zeros(3)}, None),
    ({"agg1.conv5.bias": np.float32(0)}, None)])
def test_classes_are_counted(weights, classes):
    assert class_count(weights) == classes


# ---- With Jittor itself ----


@pytest.fixture(scope="module")
def jt():
    from utils.runtime.backend import jt

    return jt


def jittor_net(jt):
    return jt.nn.Sequential(jt.nn.Conv(3, 4, 3), jt.nn.BatchNorm(4), jt.nn.Linear(4, 2))


def test_jittor_files(jt, tmp_path):
    net = jittor_net(jt)
    expected = {name: variable.numpy() for name, variable in net.state_dict().items()}
    jt.save(net.state_dict(), str(tmp_path / "variables.pkl"))
    jt.save({"model": net.state_dict(to="numpy"), "epoch": 3}, str(tmp_path / "arrays.pkl"))
    for path in sorted(tmp_path.iterdir()):
        assert_same(read_weights(path), expected)


def test_jittor_torch_file(jt, tmp_path):
    """`jittor.save` to a .pth needs PyTorch and writes a dialect of its own: numbers for storage keys."""
    pytest.importorskip("torch")
    net = jittor_net(jt)
    jt.save(net.state_dict(), str(tmp_path / "net.pth"))
    assert_same(read_weights(tmp_path / "net.pth"), {n: v.numpy() for n, v in net.state_dict().items()})


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_loading_keeps_what_a_jittor_variable_is(jt, mode):
    net = jittor_net(jt)
    getattr(net, mode)()
    variables = net.state_dict()
    before = {name: (v.shape, v.dtype, v.requires_grad, v.name()) for name, v in variables.items()}
    weights = {name: v.numpy().astype(np.float64) + 1 for name, v in variables.items()}
    load_weights(net, weights)
    assert {name: (v.shape, v.dtype, v.requires_grad, v.name()) for name, v in variables.items()} == before
    assert_same({n: v.numpy() for n, v in variables.items()}, {n: a.astype("f4") for n, a in weights.items()})


def test_jittor_round_trip(jt, tmp_path):
    net, other = jittor_net(jt), jittor_net(jt)
    save_weights(net, tmp_path / "last.npz")
    load_weights(other, tmp_path / "last.npz")
    found = {name: variable.numpy() for name, variable in other.state_dict().items()}
    assert_same(found, {name: variable.numpy() for name, variable in net.state_dict().items()})
