"""timm's files as backbone weights: our encoders give the features of timm's networks."""

from __future__ import annotations

import numpy as np
import pytest

from lib import build_model
from lib.encoders import ENCODERS
from lib.timm_names import published_weights
from tests.helpers.compare import parity_bound
from tests.helpers.networks import relative_error
from tests.helpers.timm_networks import timm_encoder, timm_features
from utils.checkpoint import load_encoder_weights, read_weights
from utils.data.synthetic import deterministic
from utils.errors import UserError
from utils.runtime.backend import jt

TIMM = {"Res2Net50-v1b": "res2net50d", "PVTv2-B2": "pvt_v2_b2"}
CLASSIFIERS = ("fc.", "head.")


def save(network, path):
    """Writes a network's state dict as timm's releases have it: float32, with the classifier."""
    torch = pytest.importorskip("torch")
    state = {name: value.float() if value.is_floating_point() else value
             for name, value in network.state_dict().items()}
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(state, path, metadata={"format": "pt"})
    return path


@pytest.mark.gpu
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", TIMM)
def test_our_encoders_give_the_features_of_timms(tmp_path, name, suffix):
    import torch

    network = timm_encoder(TIMM[name])
    encoder = ENCODERS[name]()
    load_encoder_weights(encoder, save(network, tmp_path / f"model{suffix}"))
    encoder.eval()
    images = deterministic.images(2, 96)
    with jt.no_grad():
        ours = [feature.numpy() for feature in encoder(jt.array(images))]
    expected = timm_features(network, torch.from_numpy(images).double())
    floors = map(relative_error, timm_features(network.float(), torch.from_numpy(images)), expected)
    for number, (values, exact, floor) in enumerate(zip(ours, expected, floors)):
        assert values.shape == exact.shape
        error = relative_error(values, exact)
        assert error <= parity_bound(floor, "forward"), f"feature {number}: {error:.2e}, timm {floor:.2e}"


@pytest.mark.parametrize("name", TIMM)
def test_names_and_shapes_are_the_published_ones(name):
    """All of them, one to one, the classifier apart; counters of BatchNorm are passed over."""
    theirs = {key: value.numpy() for key, value in timm_encoder(TIMM[name]).state_dict().items()
              if not key.endswith("num_batches_tracked") and not key.startswith(CLASSIFIERS)}
    shapes = {key: tuple(value.shape) for key, value in ENCODERS[name]().state_dict().items()
              if not key.startswith(CLASSIFIERS)}
    assert {key: value.shape for key, value in published_weights(theirs).items()} == shapes


@pytest.mark.parametrize("other", ["pvt_v2_b1", "pvt_v2_b2_li", "res2net50_26w_4s", "res2net101d"])
def test_other_networks_of_timm_are_refused(tmp_path, other):
    path = save(timm_encoder(other), tmp_path / "model.pth")
    encoder = ENCODERS["PVTv2-B2" if other.startswith("pvt") else "Res2Net50-v1b"]()
    before = {name: value.numpy() for name, value in encoder.state_dict().items()}
    with pytest.raises(UserError, match=r"model\.pth: does not fit the model"):
        load_encoder_weights(encoder, path)
    assert all(np.array_equal(value.numpy(), before[name]) for name, value in encoder.state_dict().items())


# ---- Without timm ----


def renamed(weights):
    """Weights of PVTv2-B2 under timm's names."""
    def timm(name: str) -> str:
        part, _, rest = name.partition(".")
        kind, stage = part[:-1], int(part[-1]) - 1
        if kind == "patch_embed" and stage == 0:
            return f"patch_embed.{rest}"
        kind = {"patch_embed": "downsample", "block": "blocks", "norm": "norm"}[kind]
        return f"stages.{stage}.{kind}.{rest.replace('dwconv.dwconv', 'dwconv')}"

    return {timm(name): array for name, array in weights.items()}


@pytest.fixture(scope="module")
def published():
    """Weights of PVTv2-B2, each array with numbers of its own."""
    return {name: deterministic.weights(name, tuple(value.shape))
            for name, value in ENCODERS["PVTv2-B2"]().state_dict().items()}


def test_timms_names_of_pvt_v2(published):
    theirs = renamed(published)
    assert not theirs.keys() & published.keys()
    assert {"patch_embed.proj.weight", "stages.3.downsample.norm.bias", "stages.0.blocks.2.mlp.dwconv.weight",
            "stages.1.blocks.0.attn.kv.bias", "stages.2.norm.weight"} <= theirs.keys()
    found = published_weights(theirs)
    assert list(found) == list(published)
    assert all(found[name] is published[name] for name in published)
    assert list(published_weights(published)) == list(published), "published names stay"


def test_weights_under_both_names_are_refused(published):
    both = {**published, "patch_embed.proj.bias": published["patch_embed1.proj.bias"]}
    with pytest.raises(UserError, match=r"1 unexpected: patch_embed\.proj\.bias"):
        load_encoder_weights(ENCODERS["PVTv2-B2"](), both)


def test_the_error_says_whose_weights_timms_are(published):
    model = build_model("PraNet-V2")
    with pytest.raises(UserError, match="those of a bare PVTv2 encoder, the model is a bare Res2Net encoder"):
        load_encoder_weights(model.encoder, renamed(published))


def test_convert_gives_the_published_names(published, tmp_path, capsys):
    from jittor_pranet.__main__ import main
    from utils.checkpoint import save_arrays

    save_arrays({**renamed(published), "head.bias": np.zeros(1000, np.float32)}, tmp_path / "timm.npz")
    out = tmp_path / "pvt_v2_b2.safetensors"
    assert main(["convert", "--weights", str(tmp_path / "timm.npz"), "--out", str(out)]) == 0
    assert "a bare PVTv2 encoder" in capsys.readouterr().out
    assert list(read_weights(out)) == [*published, "head.bias"]
