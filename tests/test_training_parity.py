"""Losses, gradients, statistics and steps of training against the published figures."""

from __future__ import annotations

import numpy as np
import pytest

from tests import drawn
from tests.compare import assert_close, parity_bound
from tests.networks import arrays, drawn_network, figures
from utils.backend import jt

ZERO_NORM = 1e-10  # of a gradient that is zero in exact arithmetic, as a bias before a normalisation has


def name_case(case: dict) -> str:
    return case["model"]


@pytest.mark.parametrize("case", figures("train"), ids=name_case)
def test_one_training_pass(case):
    """Losses, every parameter's gradient, and running statistics (PyTorch's unbiased variance)."""
    from lib.optimizer import trainable_parameters

    model = drawn_network(case["model"], seed=case["seed"])
    model.train()
    images = jt.array(drawn.images(case["batch"], case["size"], case["seed"]))
    masks = jt.array(drawn.masks(case["batch"], case["size"], case["seed"]))
    losses = model.losses(model(images), masks)
    names = {id(value): name for name, value in model.state_dict().items()}
    parameters = trainable_parameters(model)
    gradients = dict(zip((names[id(value)] for value in parameters), jt.grad(sum(losses), parameters)))
    jt.sync_all(True)

    assert_close([loss.item() for loss in losses], case["losses"], "loss")
    check_gradients(gradients, case)
    norms = {name: np.linalg.norm(value.numpy()) for name, value in model.state_dict().items()}
    for name, norm in case["running_statistics"].items():
        assert norms[name] == pytest.approx(norm, rel=parity_bound(0, "forward")), name


def check_gradients(gradients: dict, case: dict) -> None:
    """Each gradient by its projection on a random probe, in units of PyTorch's own float32 error."""
    mean_norm = np.mean([norm for norm, _ in case["gradients"].values()])
    errors, floors = [], []
    for name, (norm, projection) in case["gradients"].items():
        gradient = gradients[name].numpy().astype(np.float64)
        probe = drawn.stream("probe" + name, case["seed"]).normal(size=gradient.shape)
        error = abs((gradient * probe).sum() - projection)
        if norm < ZERO_NORM:
            assert error <= 1e-4 * mean_norm, name
            continue
        floor = case["gradient_float32_relative_error"][name]
        assert error / norm <= parity_bound(floor, "gradient"), f"{name}: {error / norm:.2e}, PyTorch {floor:.2e}"
        errors.append(error / norm)
        floors.append(floor)
    assert np.median(errors) <= 2 * np.median(floors)


@pytest.mark.parametrize("case", figures("steps"), ids=name_case)
def test_six_training_steps(case):
    """The published loop: three scales of each batch, clamped gradients, Adam.

    Training is chaotic, so that the later steps are held to the spread between PyTorch's float64 and float32.
    """
    from jittor_pranet.train import scaled_sizes
    from lib.ops import resize_bilinear
    from lib.optimizer import Adam, trainable_parameters

    model = drawn_network(case["model"], seed=case["seed"])
    model.train()
    optimizer = Adam(trainable_parameters(model), case["clip"])
    for step, (expected, expected32) in enumerate(zip(case["losses"], case["losses_float32"])):
        batch, scale = divmod(step, 3)
        size = scaled_sizes(case["size"])[scale]
        images, masks = (jt.array(draw(case["batch"], case["size"], case["seed"] + 100 + batch))
                         for draw in (drawn.images, drawn.masks))
        images, masks = (resize_bilinear(each, (size, size), align_corners=True) for each in (images, masks))
        loss = sum(model.losses(model(images), masks))
        optimizer.step(loss, case["lr"])
        if step == 0:
            assert loss.item() == pytest.approx(expected, rel=parity_bound(0, "first step"))
        assert abs(loss.item() - expected) <= 3 * abs(expected32 - expected) + 1e-3, f"step {step + 1}"


@pytest.mark.parametrize("index", range(2))
def test_losses_on_drawn_maps(index):
    from lib import losses

    case, expected = figures("loss")[index], arrays("loss")
    shape = (case["batch"], case["channels"], case["size"], case["size"])
    rng = drawn.stream(f"loss{case['seed']}", case["seed"])
    fg, bg = (jt.array(rng.normal(0, 2, shape).astype(np.float32)) for _ in range(2))
    mask = drawn.masks(case["batch"], case["size"], case["seed"], case["channels"])
    if case["soft"]:
        pytest.skip("the soft mask of this case is given by its figures alone")
    mask = jt.array(mask)
    v1 = losses.single_supervision(fg, mask)
    v2 = losses.dual_supervision(fg, bg, mask, losses.boundary_weight(mask))
    assert_close([v1.item(), v2.item()], [case["v1"], case["v2"]], "loss")
    for gradient, side in zip(jt.grad(v2, [fg, bg]), ("fg", "bg")):
        found, reference = gradient.numpy(), expected[f"case{index}_grad_{side}"]
        stride = found.shape[-1] // reference.shape[-1]
        error = np.linalg.norm(found[..., ::stride, ::stride] - reference) / np.linalg.norm(reference)
        assert error <= parity_bound(0, "forward")
