"""Holds an operation to PyTorch's in float64: values and gradients for seeded inputs."""

from __future__ import annotations

import numpy as np

from tests.helpers.compare import parity_bound
from utils.data.synthetic import deterministic
from utils.runtime.backend import jt


def noise(tag: str, *shape: int) -> np.ndarray:
    return deterministic.stream(tag).normal(size=shape).astype(np.float32)


def check(in_jittor, in_torch, *inputs: np.ndarray) -> None:
    """Compares values and gradients of two functions for the same inputs; PyTorch's runs in float64."""
    import torch

    variables = [jt.array(each) for each in inputs]
    result = in_jittor(*variables)
    probe = noise("probe", *result.shape)
    gradients = jt.grad((result * jt.array(probe)).sum(), variables)
    tensors = [torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in inputs]
    expected = in_torch(*tensors)
    expected.backward(torch.tensor(probe, dtype=torch.float64))
    pairs = [(result, expected.detach()), *((g, t.grad) for g, t in zip(gradients, tensors))]
    for index, (value, reference) in enumerate(pairs):
        value, reference = value.numpy(), reference.numpy()
        assert value.shape == reference.shape
        error = np.linalg.norm(value - reference)
        # The gradient is zero in exact arithmetic where the result does not depend on an input.
        bound = parity_bound(0, "forward") * max(np.linalg.norm(reference), 1.0)
        assert error <= bound, f"value or gradient {index}: {error:.1e}, expected at most {bound:.1e}"
