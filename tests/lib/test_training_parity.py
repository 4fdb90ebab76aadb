"""Losses, gradients, statistics and steps of training against the published figures."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.compare import CROSSING_DISTANCE, CROSSING_SHARE, assert_close, parity_bound
from tests.helpers.networks import golden, golden_arrays, relative_error, seeded_network, soft_masks
from tests.helpers.training_pass import (
    branch_errors,
    jittor_pass,
    projection_errors,
    projection_floors,
    reference_pass,
)
from utils.data.synthetic import deterministic
from utils.runtime.backend import jt

pytestmark = pytest.mark.gpu


def name_case(case: dict) -> str:
    return case["model"]


@pytest.fixture(scope="module", params=golden("train"), ids=name_case)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def ours(case):
    return jittor_pass(case)


@pytest.fixture(scope="module")
def reference(case, ours):
    pytest.importorskip("torch", reason="whether ReLU inputs round across zero takes PyTorch to tell")
    return reference_pass(case, ours)


def test_losses_and_statistics_of_a_training_pass(case, ours):
    """PyTorch keeps the unbiased variance."""
    assert_close(ours.losses, case["losses"], "loss")
    for name, norm in case["running_statistics"].items():
        assert ours.statistics[name] == pytest.approx(norm, rel=parity_bound(0, "forward")), name


def test_gradients_against_the_published_ones(case, ours, request):
    """In units of PyTorch's own float32 error, unless a ReLU input has rounded across zero."""
    errors, floors = projection_errors(ours.gradients, case), projection_floors(case)
    outside = [f"{name}: {error:.2e}, PyTorch {floors[name]:.2e}" for name, error in errors.items()
               if error > parity_bound(floors[name], "gradient")]
    if np.median(list(errors.values())) > 2 * np.median(list(floors.values())):
        outside.append("the median over all parameters")
    if outside:  # then the comparison on the same branches, which is narrower, stands for this one
        crossings = request.getfixturevalue("reference").crossings
        assert len(crossings), f"no ReLU input has rounded across zero, yet: {outside}"


def test_gradients_on_the_same_branches(ours, reference):
    """Each whole gradient within 1e-4 of float64, where PyTorch's own float32 errors are up to 2e-2."""
    for name, error in branch_errors(ours, reference).items():
        assert error <= parity_bound(0, "gradient on the same branches"), f"{name}: {error:.2e}"


def test_branches_differ_only_by_rounding(ours, reference):
    assert [each.shape for each in ours.relu_outputs] == [each.shape for each in reference.relu_outputs]
    assert reference.crossings.max(initial=0) <= CROSSING_DISTANCE
    assert len(reference.crossings) <= CROSSING_SHARE * sum(each.size for each in ours.relu_outputs)


@pytest.mark.parametrize("case", golden("steps"), ids=name_case)
def test_six_training_steps(case):
    """The published loop: three scales of each batch, clamped gradients, Adam.

    Training is chaotic, so that the later steps are held to the largest spread so far between PyTorch's
    float64 and float32. One step's own spread is a single draw, and may be small by luck: in step 6 of
    PVT-PraNet-V2 the published one is 0.004, where PyTorch 2.13 in float32 is off by 0.014, and by 0.008 if
    all images are scaled by 1 + 1e-7.
    """
    from jittor_pranet.training.binary import scaled_sizes
    from lib.ops import resize_bilinear
    from lib.optimizer import Adam, trainable_parameters

    model = seeded_network(case["model"], seed=case["seed"])
    model.train()
    optimizer = Adam(trainable_parameters(model), case["clip"])
    spread = 0.0
    for step, (expected, expected32) in enumerate(zip(case["losses"], case["losses_float32"])):
        batch, scale = divmod(step, 3)
        size = scaled_sizes(case["size"])[scale]
        images, masks = (jt.array(draw(case["batch"], case["size"], case["seed"] + 100 + batch))
                         for draw in (deterministic.images, deterministic.masks))
        images, masks = (resize_bilinear(each, (size, size), align_corners=True) for each in (images, masks))
        loss = sum(model.losses(model(images), masks))
        optimizer.step(loss, case["lr"])
        if step == 0:
            assert loss.item() == pytest.approx(expected, rel=parity_bound(0, "first step"))
        spread = max(spread, abs(expected32 - expected))
        assert abs(loss.item() - expected) <= 3 * spread + 1e-3, f"step {step + 1}"


# Several classes: the published figures do not tell of which labels their loss is, so that PyTorch's port,
# which gives the published maps, stands for them.
CLASS_CASES = [{"seed": 0, "batch": 2, "channels": 3, **case} for case in (
    {"model": "EMCAD-B2", "num_class": 9, "size": 224, "channels": 1},
    {"model": "EMCAD-B2-DSRA", "num_class": 9, "size": 224, "channels": 1},
    {"model": "PraNet-V2", "num_class": 4, "size": 128},
    {"model": "PVT-PraNet-V2", "num_class": 9, "size": 64},
    {"model": "PVT-PraNet-V1", "num_class": 4, "size": 64})]


@pytest.mark.parametrize("case", CLASS_CASES, ids=name_case)
def test_training_pass_of_several_classes(case):
    pytest.importorskip("torch")
    ours = jittor_pass(case)
    reference = reference_pass(case, ours)
    assert_close(ours.losses, reference.losses, "loss")
    floors = {published["model"]: published["train"]["gradient_float32_relative_error"]
              for published in golden("multiclass") if "train" in published}
    for name, error in branch_errors(ours, reference).items():
        bound = parity_bound(0, "gradient on the same branches")
        if name == "conv.0.weight":
            # The normalisation takes out its scale, of which only eps leaves a gradient: nothing but a
            # difference of large terms, in PyTorch as here.
            bound = parity_bound(floors[case["model"]][name], "gradient")
        assert error <= bound, f"{name}: {error:.2e}"
    for name, norm in reference.statistics.items():
        if "running" in name:
            assert ours.statistics[name] == pytest.approx(norm, rel=parity_bound(0, "forward")), name
    test_branches_differ_only_by_rounding(ours, reference)


@pytest.mark.parametrize("index", range(2), ids=["binary", "soft"])
def test_losses_on_drawn_maps(index):
    from lib import losses, ops

    case, expected = golden("loss")[index], golden_arrays("loss")
    shape = (case["batch"], case["channels"], case["size"], case["size"])
    rng = deterministic.stream(f"loss{case['seed']}", case["seed"])
    fg, bg = (jt.array(rng.normal(0, 2, shape).astype(np.float32)) for _ in range(2))
    draw = soft_masks if case["soft"] else deterministic.masks
    mask = jt.array(draw(case["batch"], case["size"], case["seed"], case["channels"]).astype(np.float32))
    weight = ops.boundary_weight(mask)
    v1 = losses.v1_loss(fg, mask, weight)
    v2 = losses.v2_loss(fg, bg, mask, weight)
    assert_close([v1.item(), v2.item()], [case["v1"], case["v2"]], "loss")
    for gradient, side in zip(jt.grad(v2, [fg, bg]), ("fg", "bg")):
        found, reference = gradient.numpy(), expected[f"case{index}_grad_{side}"]
        stride = found.shape[-1] // reference.shape[-1]
        assert relative_error(found[..., ::stride, ::stride], reference) <= parity_bound(0, "forward")
