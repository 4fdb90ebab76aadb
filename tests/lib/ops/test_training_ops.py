"""What training alone computes, against PyTorch in float64: weights, losses, the optimizer's steps."""

from __future__ import annotations

import numpy as np
import pytest

from lib import losses, ops
from lib.optimizer import Adam
from tests.helpers.compare import assert_close
from tests.helpers.op_parity import check, noise
from utils.data.synthetic import deterministic
from utils.errors import UserError
from utils.runtime.backend import jt

torch = pytest.importorskip("torch")
functional = torch.nn.functional
pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(("clip", "weight_decay"), [(0.5, 0.0), (None, 0.1)])
def test_adam_takes_pytorchs_steps(formulas, clip, weight_decay):
    """With tiny gradients too, where the place of eps decides, and with clamped ones."""
    start = noise("start", 6)
    slopes = np.array([1e-9, 1e-7, 1e-3, 0.4, -3.0, 50.0], np.float32)
    ours, theirs = jt.array(start), torch.tensor(start, requires_grad=True)
    optimizer = Adam([ours], clip, weight_decay)
    peer = torch.optim.AdamW([theirs], lr=1e-3, weight_decay=weight_decay)
    for step in range(5):
        factor = 1.0 + step % 2
        optimizer.step((ours * jt.array(slopes) * factor).sum(), lr=1e-3)
        peer.zero_grad()
        (theirs * torch.tensor(slopes) * factor).sum().backward()
        if clip:
            theirs.grad.clamp_(-clip, clip)
        peer.step()
    assert_close(ours.numpy(), theirs.detach().numpy(), "adam")


def test_adam_steps_tensors_of_any_shapes_as_each_alone():
    """In more groups than one, of several numbers of dimensions in any order."""
    shapes = [(5,), (2, 3), (2, 1, 2, 3), (1, 4, 2)] * 11
    starts = [noise(f"start{number}", *shape) for number, shape in enumerate(shapes)]

    def steps(starts: list[np.ndarray]) -> list[np.ndarray]:
        values = [jt.array(start) for start in starts]
        optimizer = Adam(values, clip=0.5, weight_decay=0.1)
        for _ in range(2):
            optimizer.step(sum((value * value).sum() for value in values), lr=1e-2)
        return [each.numpy() for each in (*values, *optimizer.means, *optimizer.squares)]

    together, apart = steps(starts), [steps([start]) for start in starts]
    for found, expected in zip(together, [each[part] for part in range(3) for each in apart]):
        np.testing.assert_array_equal(found, expected)


def test_a_loss_is_good_for_one_step():
    weight = jt.array(noise("weight", 4))
    optimizer = Adam([weight], clip=None)
    loss = (weight * weight).sum()
    optimizer.step(loss, lr=1e-3)
    with pytest.raises(ValueError, match="anew"):
        optimizer.step(loss, lr=1e-3)


def test_an_average_of_tensors_of_any_shapes(formulas):
    shapes = [(5,), (2, 3), (2, 1, 2, 3), (40000,), (1,)] * 5
    starts, others = ([noise(f"{tag}{i}", *shape) for i, shape in enumerate(shapes)] for tag in "ab")
    averages = [jt.array(start) for start in starts]
    ops.ema_step(averages, [jt.array(other) for other in others], decay=0.3)
    for found, start, other in zip(averages, starts, others):
        assert_close(found.numpy(), 0.3 * start + 0.7 * other, "float32")


def test_what_reads_values_before_a_step_finds_those_of_before(formulas):
    """Though it is computed afterwards, as a part of what was asked for after the step."""
    start = noise("start", 40)
    values = jt.array(start).sync()
    optimizer = Adam([values], clip=0.5)
    doubled = values * 2.0
    optimizer.step((values * values).sum(), lr=1e-2)
    late = -doubled
    del doubled
    assert np.abs(values.numpy() - start).max() > 5e-3
    np.testing.assert_array_equal(late.numpy(), -2.0 * start)


def test_a_scaled_loss_takes_the_same_steps(formulas):
    """To the bit: a power of two only moves the exponents."""
    start, slopes = noise("start", 6), noise("slopes", 6)
    moved = []
    for scale in (1.0, 1024.0):
        values = jt.array(start)
        optimizer = Adam([values], 0.5, loss_scale=scale)
        for _ in range(3):
            optimizer.step((values * values * jt.array(slopes)).sum(), lr=1e-3)
        moved.append(values.numpy())
    assert np.array_equal(*moved) and not np.array_equal(moved[0], start)


@pytest.mark.parametrize("shape", [(2, 1, 40, 70), (1, 3, 1, 1), (1, 1, 31, 2), (2, 2, 100, 33)])
def test_boundary_weight(shape, formulas):
    random = {name: deterministic.stream(name).random(shape) for name in ("mask", "soft")}
    for mask in (random["mask"] > 0.5, random["soft"]):
        mask = mask.astype(np.float32)
        mean = functional.avg_pool2d(torch.tensor(mask).double(), 31, stride=1, padding=15).numpy()
        assert_close(ops.boundary_weight(jt.array(mask)).numpy(), 1 + 5 * np.abs(mean - mask), "weight")


LOSSES = {
    "V2": lambda fg, bg, mask, weight: losses.v2_loss(fg, bg, mask, weight),
    "V1": lambda fg, bg, mask, weight: losses.v1_loss(fg, mask, weight) + 0 * bg.sum(),
    "V1 weighted": lambda fg, bg, mask, weight: (losses.v1_loss(fg, mask, weight, True)
                                                 + 0 * bg.sum()),
}


@pytest.mark.parametrize("shape", [(2, 1, 24, 40), (1, 1, 1, 1), (2, 3, 70, 61)])
@pytest.mark.parametrize("kind", LOSSES)
def test_structure_loss(kind, shape, formulas):
    """Also far from 0, where a careless formula overflows or loses the gradient."""
    mask = deterministic.stream("mask").random(shape).astype(np.float32)
    weight = 1 + deterministic.stream("weight").random(shape).astype(np.float32)
    fg, bg = 20 * noise("fg", *shape), 20 * noise("bg", *shape)

    def theirs(fg, bg):
        m, w = (torch.tensor(each, dtype=torch.float64) for each in (mask, weight))

        def bce(logits, target, weights):
            each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
            return (weights * each).sum((2, 3)) / weights.sum((2, 3))

        inter, union = ((w * each).sum((2, 3)) for each in (fg.sigmoid() * m, fg.sigmoid() + m))
        iou = 1 - (inter + 1) / (union - inter + 1)
        loss = bce(fg, m, torch.ones_like(w) if kind == "V1" else w) + iou
        return (loss + (0.8 * bce(bg, 1 - m, w) if kind == "V2" else 0 * bg.sum())).mean().reshape(1)

    check(lambda fg, bg: LOSSES[kind](fg, bg, jt.array(mask), jt.array(weight)), theirs, fg, bg)


def test_loss_gradient_is_the_slope_of_the_loss():
    """Against differences of the loss itself, in float64 by PyTorch's formula through `check`; here by
    float32 differences that are large enough to be seen."""
    shape, step = (1, 1, 3, 3), 0.05
    fg, bg = noise("fg", *shape), noise("bg", *shape)
    mask = jt.array((deterministic.stream("mask").random(shape) > 0.5).astype(np.float32))
    weight = ops.boundary_weight(mask)

    def loss(values):
        return losses.v2_loss(jt.array(values), jt.array(bg), mask, weight).item()

    variable = jt.array(fg)
    gradient = jt.grad(losses.v2_loss(variable, jt.array(bg), mask, weight), variable).numpy()
    for place in np.ndindex(shape):
        change = np.zeros(shape, np.float32)
        change[place] = step
        assert_close((loss(fg + change) - loss(fg - change)) / (2 * step), gradient[place], "slope")


def labels_of(shape: tuple[int, ...], classes: int) -> np.ndarray:
    return deterministic.stream("labels").randint(0, classes, (shape[0], *shape[1:])).astype(np.int32)


@pytest.mark.parametrize(("maps", "shape"), [(1, (1, 2, 1, 1)), (2, (3, 2, 5, 7)), (4, (2, 4, 41, 29)),
                                             (3, (1, 9, 6, 6))])
@pytest.mark.parametrize("dual", [True, False])
def test_class_losses(maps, shape, dual, formulas):
    """Over patches and strips that pixels do not fill, and far from 0."""
    from jittor_pranet.reference_torch import mutation_loss

    classes = shape[1]
    labels = labels_of((shape[0], *shape[2:]), classes)
    inputs = [8 * noise(f"map{index}", *shape) for index in range(maps * (2 if dual else 1))]

    def ours(*given):
        fgs, bgs = list(given[:maps]), list(given[maps:])
        return jt.concat(losses.mutation_loss(fgs, bgs, jt.array(labels)))

    def theirs(*given):
        return torch.stack(mutation_loss(given[:maps], given[maps:], torch.tensor(labels)))

    check(ours, theirs, *inputs)


def test_class_losses_need_classes_and_known_labels(formulas):
    one, two = jt.zeros((1, 1, 2, 2)), jt.zeros((1, 2, 2, 2))
    with pytest.raises(UserError, match="2 or more"):
        losses.mutation_loss([one], [], jt.zeros((1, 2, 2), "int32"))
    unknown = jt.array(np.array([[[0, 1], [2, 0]]], np.int32))
    assert np.isnan(losses.mutation_loss([two], [], unknown)[0].item())
