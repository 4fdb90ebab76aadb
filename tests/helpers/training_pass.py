"""One training pass of train.json: Jittor's, and PyTorch's in float64 on the branches that Jittor took.

A ReLU whose input lies within rounding of zero may pass in one program what it blocks in another. With so
few pixels one of them moves the gradients of all layers below by up to a percent, in PyTorch's own float32 as
in Jittor's. On the same branches nothing but rounding is left between two programs; that the branches differ
only where float32 cannot tell is a question of its own, which the crossings answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from unittest import mock

import numpy as np

from tests.helpers.networks import reference_network, seeded_network
from utils.data.synthetic import deterministic
from utils.runtime.backend import jt

ZERO_NORM = 1e-10  # of a gradient that is zero in exact arithmetic, as a bias before a normalisation has


@dataclass
class TrainingPass:
    losses: list[float]
    gradients: dict[str, np.ndarray]  # by published name
    statistics: dict[str, float]  # norm of each parameter and running statistic after the pass
    relu_outputs: list[np.ndarray]  # in the order of the calls
    crossings: np.ndarray | None = None  # see `reference_pass`


def jittor_pass(case: dict) -> TrainingPass:
    from lib import ops
    from lib.optimizer import trainable_parameters

    outputs, batch_norm = [], ops.batch_norm

    def recorded(*arguments):
        result = batch_norm(*arguments)
        if arguments[-1]:  # a ReLU
            outputs.append(result[0])
        return result

    model = seeded_network(case["model"], case.get("num_class", 1), case["seed"])
    model.train()
    images, targets = (jt.array(array) for array in _batch(case))
    with mock.patch.object(ops, "batch_norm", recorded):
        losses = _losses(case, model, images, targets)
    names = {id(value): name for name, value in model.state_dict().items()}
    parameters = trainable_parameters(model)
    gradients = jt.grad(sum(losses), parameters)
    jt.sync_all(True)
    return TrainingPass(
        losses=[loss.item() for loss in losses],
        gradients={names[id(value)]: each.numpy() for value, each in zip(parameters, gradients)},
        statistics={name: float(np.linalg.norm(value.numpy())) for name, value in model.state_dict().items()},
        relu_outputs=[each.numpy() for each in outputs])


def reference_pass(case: dict, jittor: TrainingPass) -> TrainingPass:
    """PyTorch's pass in float64; each ReLU and ReLU6 passes, and the max-pool takes, what Jittor's did.

    The crossings are where float64 itself would have decided otherwise: how far each such ReLU input is from
    zero, and each such pixel from the largest of its window. Their unit is PyTorch's own float32 error of the
    inputs of that ReLU, at worst: how far that is depends on the layer, and a little on the processor.
    """
    import torch

    network, losses, inputs, crossings = _on_same_branches(case, jittor, torch.float64)
    sum(losses).backward()
    _, _, rounded, _ = _on_same_branches(case, jittor, torch.float32)
    floors = [np.abs(each - exact).max() for each, exact in zip(rounded, inputs)]
    return TrainingPass(
        losses=[loss.item() for loss in losses],
        gradients={name: value.grad.numpy() for name, value in network.named_parameters()
                   if value.grad is not None},
        statistics={name: value.double().norm().item() for name, value in network.state_dict().items()},
        relu_outputs=[(each > 0) * exact for each, exact in zip(jittor.relu_outputs, inputs)],
        crossings=np.concatenate([distances / floors[relu] for relu, distances in crossings]))


def _on_same_branches(case: dict, jittor: TrainingPass, dtype) -> tuple:
    """PyTorch's forward pass: (network, losses, inputs of ReLUs, crossings by the number of their ReLU)."""
    import torch
    import torch.nn.functional as F

    inputs, crossings, max_pool = [], [], F.max_pool2d

    def relu(x, inplace=False):
        value = x.detach().double().numpy()
        passed = jittor.relu_outputs[len(inputs)] > 0
        crossings.append((len(inputs), np.abs(value[passed != (value > 0)])))
        inputs.append(value)
        return x * torch.from_numpy(passed)

    def relu6(x):
        """A ReLU, of which what is 6 or more stays behind."""
        before, last = relu(x), len(inputs) - 1
        below, value = jittor.relu_outputs[last] < 6, before.detach().double().numpy()
        crossings.append((last, np.abs(value[below != (value < 6)] - 6)))
        below = torch.from_numpy(below)
        return before * below + 6 * ~below

    def pool(x, *arguments, **options):
        last = len(inputs) - 1
        before = torch.from_numpy(jittor.relu_outputs[last])
        taken = max_pool(before, *arguments, **{**options, "return_indices": True})[1]
        values = x.flatten(2).gather(2, taken.flatten(2)).view(taken.shape)
        short = max_pool(x.detach(), *arguments, **options) - values.detach()
        crossings.append((last, short[short > 0].double().numpy()))
        return values

    network = reference_network(case["model"], case.get("num_class", 1), case["seed"]).train().to(dtype)
    images, targets = map(torch.from_numpy, _batch(case))
    with mock.patch.object(F, "relu", relu), mock.patch.object(F, "relu6", relu6), \
            mock.patch.object(F, "max_pool2d", pool):
        losses = _losses(case, network, images.to(dtype), targets)
    return network, losses, inputs, crossings


def _batch(case: dict) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks, or labels where there are several classes."""
    shape = case["batch"], case["size"], case["seed"]
    images = deterministic.images(*shape, case.get("channels", 3))
    if case.get("num_class", 1) == 1:
        return images, deterministic.masks(*shape)
    return images, deterministic.labels(*shape, case["num_class"])


def _losses(case: dict, network, images, targets) -> list:
    """Of Jittor's network or of the reference."""
    of_maps = network.losses if case.get("num_class", 1) == 1 else network.multiclass_losses
    return of_maps(network(images), targets)


def projection_errors(gradients: dict[str, np.ndarray], case: dict) -> dict[str, float]:
    """Error of each gradient's projection on its probe against the published one, in units of the gradient's
    norm; of those that are zero, in units of the mean norm."""
    mean_norm = np.mean([norm for norm, _ in case["gradients"].values()])
    errors = {}
    for name, (norm, projection) in case["gradients"].items():
        probe = deterministic.stream("probe" + name, case["seed"]).normal(size=gradients[name].shape)
        error = abs((gradients[name] * probe).sum() - projection)
        errors[name] = float(error / (norm if norm > ZERO_NORM else mean_norm))
    return errors


def projection_floors(case: dict) -> dict[str, float]:
    """PyTorch's own float32 errors for `projection_errors`; 0 where the gradient is zero."""
    floors = case["gradient_float32_relative_error"]
    return {name: floors[name] if norm > ZERO_NORM else 0.0 for name, (norm, _) in case["gradients"].items()}


def branch_errors(jittor: TrainingPass, reference: TrainingPass) -> dict[str, float]:
    """Relative error of each gradient of Jittor's against the reference's on the same branches; one that is
    zero counts in units of the mean norm."""
    norms = {name: float(np.linalg.norm(gradient)) for name, gradient in reference.gradients.items()}
    mean_norm = np.mean(list(norms.values()))
    return {name: float(np.linalg.norm(jittor.gradients[name] - gradient)
                        / (norms[name] if norms[name] > ZERO_NORM else mean_norm))
            for name, gradient in reference.gradients.items()}
