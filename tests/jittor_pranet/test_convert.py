"""Weights from one file into another, and networks in ONNX against ours."""

from __future__ import annotations

import numpy as np
import pytest

from jittor_pranet.__main__ import main
from tests.helpers.networks import onnx_errors, reference_network, seeded_network
from utils.checkpoint import read_info, read_weights, save_arrays, save_weights

torch = pytest.importorskip("torch")
NETWORKS = ("PraNet-V1", "PVT-PraNet-V1", "PraNet-V2", "PVT-PraNet-V2")
SIZE = 64


def convert(weights, out, *flags: str) -> int:
    return main(["convert", "--weights", str(weights), "--out", str(out), *flags])


@pytest.fixture
def ours(tmp_path):
    path = tmp_path / "ours.npz"
    save_weights(seeded_network("PVT-PraNet-V2"), path, {"model_type": "PVT-PraNet-V2", "seed": 7})
    return path


def test_there_and_back_gives_the_same_bytes(ours, tmp_path, capsys):
    assert convert(ours, tmp_path / "theirs.pth") == 0
    reference_network("PVT-PraNet-V2").load_state_dict(torch.load(tmp_path / "theirs.pth", weights_only=True))
    assert convert(tmp_path / "theirs.pth", tmp_path / "back.npz") == 0
    assert read_info(tmp_path / "back.npz") == {"model_type": "PVT-PraNet-V2"}, "told by the names"
    before, after = read_weights(ours), read_weights(tmp_path / "back.npz")
    assert list(before) == list(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert convert(ours, tmp_path / "copy.npz") == 0
    assert (tmp_path / "copy.npz").read_bytes() == ours.read_bytes()
    assert f"{tmp_path}/theirs.pth: PVT-PraNet-V2, a plain state dict" in capsys.readouterr().out


def test_safetensors_there_and_back(ours, tmp_path, capsys):
    path = tmp_path / "theirs.safetensors"
    assert convert(ours, path) == 0
    assert f"{path}: PVT-PraNet-V2, {len(read_weights(ours))} tensors" in capsys.readouterr().out
    assert convert(path, tmp_path / "back.npz") == 0
    assert read_info(tmp_path / "back.npz") == {"model_type": "PVT-PraNet-V2"}, "told by the names"
    before, after = read_weights(ours), read_weights(tmp_path / "back.npz")
    assert list(before) == list(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    package = pytest.importorskip("safetensors.torch")
    package.load_model(reference_network("PVT-PraNet-V2"), str(path), strict=True)


def test_a_bare_encoder_is_converted_but_is_no_onnx(tmp_path, capsys):
    weights = {"patch_embed1.proj.weight": np.ones((2, 3), np.float32)}
    save_arrays(weights, tmp_path / "bare.npz")
    assert convert(tmp_path / "bare.npz", tmp_path / "bare.safetensors") == 0
    assert "bare.safetensors: a bare PVTv2 encoder, 1 tensors" in capsys.readouterr().out
    assert list(read_weights(tmp_path / "bare.safetensors")) == [*weights]
    assert convert(tmp_path / "bare.npz", tmp_path / "x.onnx") == 2
    assert "holds a bare PVTv2 encoder, an .onnx takes the weights of a whole" in capsys.readouterr().err


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_gives_our_maps(tmp_path, capsys, name):
    pytest.importorskip("onnxruntime")
    from_ours, from_reference = onnx_errors(name, SIZE, tmp_path)
    assert from_ours < 1e-5 and from_reference < 1e-5
    assert "onnxruntime differs from PyTorch by" in capsys.readouterr().out


def test_onnx_of_several_classes_takes_grey_images(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    from_ours, from_reference = onnx_errors("EMCAD-B2-DSRA", SIZE, tmp_path, num_class=4, channels=1)
    assert from_ours < 1e-5 and from_reference < 1e-5
    assert "images (N,1,64,64) to logits (N,4,64,64)" in capsys.readouterr().out


def test_onnx_is_of_the_size_gain_and_channels_of_the_training(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    info = {"trainsize": SIZE, "gain": "sigmoid", "num_class": 4, "channels": 1}
    save_weights(seeded_network("PVT-PraNet-V2", 4), tmp_path / "w.npz", info)
    assert convert(tmp_path / "w.npz", tmp_path / "w.onnx") == 0
    assert ("PVT-PraNet-V2, 4 classes, at 64 pixels as trained, gain sigmoid, grey images: images "
            "(N,1,64,64) to logits (N,4,64,64)") in capsys.readouterr().out
    assert convert(tmp_path / "w.npz", tmp_path / "colour.onnx", "--colour", "--testsize", "32") == 0
    output = capsys.readouterr()
    assert "images (N,3,32,32) to logits (N,4,32,32)" in output.out
    assert output.err.splitlines() == ["warning: --testsize 32: the weights were trained at 64 pixels",
                                       "warning: --colour: the weights were trained on grey images"]


@pytest.mark.parametrize(("out", "flags", "message"), [
    ("x.pt", (), "ends in .pt, expected one of .npz, .pth, .safetensors, .onnx"),
    ("x.onnx", ("--testsize", "100"), "96 or 128 would do"),
    ("x.npz", ("--model_type", "PraNet-V9"), "unknown network 'PraNet-V9'"),
    ("x.onnx", ("--testsize", "0"), "image size 0 is not a multiple of 32"),
    ("x.npz", ("--testsize", "64"), "--testsize: is for an .onnx"),
    ("x.pth", ("--num_class", "2"), "--num_class: is for an .onnx"),
    ("x.pth", ("--gain", "softmax"), "--gain: is for an .onnx"),
    ("x.pth", ("--grey",), "--grey: is for an .onnx"),
])
def test_mistakes_are_one_line(ours, tmp_path, capsys, out, flags, message):
    assert convert(ours, tmp_path / out, *flags) == 2
    line, = capsys.readouterr().err.splitlines()
    assert message in line and not (tmp_path / out).exists()


def test_weights_of_another_network_are_no_onnx(ours, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    assert convert(ours, tmp_path / "x.onnx", "--model_type", "PraNet-V2") == 2
    assert "does not fit PraNet-V2" in capsys.readouterr().err and not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize("out", ["x.npz", "x.pth", "x.onnx"])
def test_weights_that_are_not_finite_are_not_written(tmp_path, capsys, out):
    weights = {name: value.numpy() for name, value in seeded_network("PVT-PraNet-V2").state_dict().items()}
    name = next(iter(weights))
    weights[name][...] = np.nan
    save_arrays({**weights, "epoch": np.array(7)}, tmp_path / "w.npz")
    assert convert(tmp_path / "w.npz", tmp_path / out) == 2
    assert f"w.npz: {name} is not finite" in capsys.readouterr().err and not (tmp_path / out).exists()


def test_without_pytorch_it_says_what_to_install(ours, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert convert(ours, tmp_path / "x.pth") == 2
    assert "torch must be installed to write it; python -m pip install -r requirements-torch.txt" in (
        capsys.readouterr().err)
    assert convert(ours, tmp_path / "x.onnx") == 2
    assert "torch and onnx and onnxruntime must be installed" in capsys.readouterr().err
    assert convert(ours, tmp_path / "x.npz") == 0
