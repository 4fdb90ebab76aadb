"""Holds an operation to PyTorch's in float64: values and gradients for seeded inputs."""

from __future__ import annotations

import numpy as np

from tests.helpers.compare import parity_bound
from utils.data.synthetic import deterministic
from utils.runtime.backend import jt


def noise(tag: str, *shape: int) -> np.ndarray:
    return deterministic.stream(tag).normal(size=shape).astype(np.float32)


def check(ours, theirs, *inputs: np.ndarray) -> None:
    """Values and gradients of both for the same inputs; theirs runs in float64."""
    import torch

    variables = [jt.array(each) for each in inputs]
    found = ours(*variables)
    probe = noise("probe", *found.shape)
    found_gradients = jt.grad((found * jt.array(probe)).sum(), variables)
    tensors = [torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in inputs]
    expected = theirs(*tensors)
    expected.backward(torch.tensor(probe, dtype=torch.float64))
    pairs = [(found, expected.detach()), *((g, t.grad) for g, t in zip(found_gradients, tensors))]
    for index, (value, reference) in enumerate(pairs):
        value, reference = value.numpy(), reference.numpy()
        assert value.shape == reference.shape
        error = np.linalg.norm(value - reference)
        # The gradient is zero in exact arithmetic where the result does not depend on an input.
        bound = parity_bound(0, "forward") * max(np.linalg.norm(reference), 1.0)
        assert error <= bound, f"value or gradient {index}: {error:.1e}, expected at most {bound:.1e}"
