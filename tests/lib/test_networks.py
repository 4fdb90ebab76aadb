"""The six networks against the published figures, and the rules of their interface."""

from __future__ import annotations

import numpy as np
import pytest

from lib import NETWORKS
from tests.helpers.compare import parity_bound
from tests.helpers.networks import (
    PUBLISHED_STATE,
    forward_errors,
    golden,
    published_classes,
    reference_network,
    relative_error,
    seeded_network,
)
from utils.data.synthetic import deterministic
from utils.errors import UserError

FORWARD = [(file, index, case) for file in ("forward", "multiclass")
           for index, case in enumerate(golden(file))]


@pytest.mark.gpu
@pytest.mark.parametrize(("file", "index", "case"), FORWARD,
                         ids=[f"{case['model']}-{case.get('num_class', 1)}" for *_, case in FORWARD])
def test_maps_equal_the_published_ones(file, index, case):
    for number, (error, floor) in enumerate(forward_errors(case, index, file)):
        assert error <= parity_bound(floor, "forward"), f"map {number}: {error:.2e}, PyTorch {floor:.2e}"


@pytest.mark.parametrize("name", PUBLISHED_STATE)
def test_names_and_shapes_are_the_published_ones(name):
    published = {key: tuple(shape) for key, shape in PUBLISHED_STATE[name]
                 if not key.endswith("num_batches_tracked")}
    from lib import build_model

    model = build_model(name, published_classes(name))
    own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert own == published


@pytest.mark.gpu
def test_one_class_gain_is_the_identity():
    """The published binary networks: R_f = 2 P_f, whatever the guide, to which no gradient goes."""
    from lib.ops import dsra_gain
    from utils.runtime.backend import jt

    fg, guide = (jt.array(deterministic.images(1, size, channels=1)) for size in (8, 4))
    raised = dsra_gain(fg, guide, guide * -3.0)
    np.testing.assert_array_equal(raised.numpy(), 2 * fg.numpy())
    np.testing.assert_array_equal(jt.grad(raised.sum(), guide).numpy(), np.zeros((1, 1, 4, 4), np.float32))


def test_guide_of_three_classes_takes_a_gradient():
    from lib.reverse_attention import DualSupervisedReverseAttention
    from utils.runtime.backend import jt

    stage = DualSupervisedReverseAttention(16, num_class=3)
    guide = jt.array(deterministic.images(1, 4, channels=3))
    fg, bg = stage(jt.array(deterministic.images(1, 8, channels=16)), (guide, -guide))
    assert tuple(fg.shape) == tuple(bg.shape) == (1, 3, 8, 8)
    assert np.abs(jt.grad(fg.sum(), guide).numpy()).max() > 0


@pytest.mark.parametrize(("module", "encoder"), [("lib.encoders.res2net", "Res2Net50"),
                                                 ("lib.encoders.pvt_v2", "PVTv2B2")])
def test_encoders_stand_alone(module, encoder):
    import importlib

    from utils.runtime.backend import jt

    network = getattr(importlib.import_module(module), encoder)()
    network.eval()
    features = network(jt.array(deterministic.images(1, 64)))
    assert [tuple(f.shape) for f in features] == [(1, c, 64 // s, 64 // s)
                                                  for c, s in zip(network.channels, (4, 8, 16, 32))]


@pytest.mark.parametrize(("shape", "message"), [
    ((1, 3, 100, 64), "96 or 128 would do"), ((1, 3, 64, 16), "32 or 64 would do"),
    ((1, 2, 64, 64), "C in (1, 3)"), ((3, 64, 64), "expected (N,C,H,W)"),
])
def test_wrong_input_says_what_would_do(shape, message):
    from lib import build_model
    from utils.runtime.backend import jt

    with pytest.raises(UserError) as error:
        build_model("PraNet-V2")(jt.zeros(shape))
    assert message in str(error.value)


def test_unknown_network_lists_the_known_ones():
    from lib import build_model

    with pytest.raises(UserError) as error:
        build_model("PraNet-V3")
    assert all(name in str(error.value) for name in NETWORKS)
    with pytest.raises(UserError, match="unknown gain 'tanh'; the known ones are softmax, sigmoid"):
        build_model("PraNet-V2", gain="tanh")
    with pytest.raises(UserError, match="has no DSRA"):
        build_model("EMCAD-B2", gain="sigmoid")
    with pytest.raises(UserError, match="0 classes"):
        build_model("PraNet-V1", num_class=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_do_not_depend_on_the_batch(name):
    """To the last bit: a written map must not change with --bs."""
    from utils.runtime.backend import jt

    model = seeded_network(name)
    model.eval()
    images = deterministic.images(3, 96)
    together = model.final_logits(model(jt.array(images))).numpy()
    for index in range(3):
        alone = model.final_logits(model(jt.array(images[index:index + 1]))).numpy()
        np.testing.assert_array_equal(alone[0], together[index])


@pytest.mark.parametrize("name", ["PraNet-V2", "PVT-PraNet-V1", "EMCAD-B2", "EMCAD-B2-DSRA"])
def test_fused_network_gives_the_same_maps(name):
    """Folding once is folding each time; and both follow the unfolded formula."""
    from lib import ops
    from utils.runtime.backend import jt

    model = seeded_network(name)
    model.eval()
    images = jt.array(deterministic.images(1, 64))
    folded = model.final_logits(model(images)).numpy()
    with ops.plain_ops():
        again = seeded_network(name)  # its weights are still to be read when the first map is asked for
        again.eval()
        plain = again.final_logits(again(images)).numpy()
    assert relative_error(plain, folded) <= parity_bound(0, "forward")
    model.fuse()
    for _ in range(2):
        np.testing.assert_array_equal(model.final_logits(model(images)).numpy(), folded)


def test_batch_norm_alone_in_testing_uses_the_running_statistics():
    from lib.layers import ConvBN
    from utils.runtime.backend import jt

    layer = ConvBN(3, 4, 3, padding=1)
    layer.bn.running_mean.update(jt.array(np.float32([1, -2, 0.5, 3])))
    layer.bn.running_var.update(jt.array(np.float32([4, 0.25, 1, 2])))
    layer.eval()
    x = jt.array(deterministic.images(2, 8))
    apart = layer.bn(layer.conv(x), relu=True).numpy()
    assert relative_error(layer(x, relu=True).numpy(), apart) <= parity_bound(0, "forward")


# The published figures have neither grey images nor several classes for these; the port in PyTorch has.
GREY = {"PraNet-V1": 1, "PVT-PraNet-V1": 4, "PraNet-V2": 9, "PVT-PraNet-V2": 4, "EMCAD-B2-DSRA": 1}


@pytest.mark.gpu
@pytest.mark.parametrize("name", GREY)
def test_grey_images_and_several_classes(name):
    torch = pytest.importorskip("torch")
    from utils.runtime.backend import jt

    gain = "sigmoid" if name == "EMCAD-B2-DSRA" else "softmax"
    model, reference = (make(name, GREY[name], gain=gain) for make in (seeded_network, reference_network))
    model.eval()
    reference.eval()
    grey = deterministic.images(1, 64, channels=1)
    with jt.no_grad(), torch.no_grad():
        found, expected = model(jt.array(grey)), reference(torch.from_numpy(grey).double())
        merged = model.final_logits(found).numpy(), reference.final_logits(expected).numpy()
    for ours, theirs in zip([*(each.numpy() for each in found), merged[0]],
                            [*(each.numpy() for each in expected), merged[1]]):
        assert ours.shape == theirs.shape == (1, GREY[name], 64, 64)
        assert relative_error(ours, theirs) <= parity_bound(0, "forward")
