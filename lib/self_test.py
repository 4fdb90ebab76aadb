"""A few operations on the device in use, each held against NumPy in float64."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

BOUND = 1e-5  # of float32; TF32 is off by 1e-4 and more


@dataclass(frozen=True)
class Result:
    name: str
    error: float  # norm of the difference over the norm of the reference
    seconds: float  # with compiling, where the cache was cold

    @property
    def passed(self) -> bool:
        return self.error <= BOUND  # which NaN is not

    def __str__(self) -> str:
        verdict = "right" if self.passed else f"WRONG, expected at most {BOUND:.0e}"
        return f"{self.name}: error {self.error:.1e}, {verdict}; {self.seconds:.1f} s"


def check_operations() -> Iterator[Result]:
    """Yields a result each for a convolution, its gradient, a matrix product and a kernel of lib/ops."""
    from lib import ops

    rng = np.random.default_rng(0)
    image, filters = rng.normal(size=(2, 8, 14, 14)), rng.normal(size=(16, 8, 3, 3))
    rows, weight, bias = rng.normal(size=(50, 32)), rng.normal(size=(24, 32)), rng.normal(size=24)
    geometry = ops.Geometry(padding=(1, 1))

    yield _check("convolution", lambda x, w: ops.conv2d(x, w, None, geometry), _convolve, image, filters)
    yield _check("gradient of a convolution", _gradient(lambda x, w: ops.conv2d(x, w, None, geometry)),
                 lambda x, w: _correlate(x, np.ones_like(_convolve(x, w))), image, filters)
    yield _check("matrix product", ops.linear, lambda x, w, b: x @ w.T + b, rows, weight, bias)
    yield _check("average pool, our kernel", lambda x: ops.average_pool(x, 3, 1, 1),
                 lambda x: _windows(x).mean((4, 5)), image)


def _check(name: str, function: Callable, reference: Callable, *inputs: np.ndarray) -> Result:
    from utils.runtime.backend import jt

    inputs = [each.astype(np.float32) for each in inputs]
    expected = reference(*(each.astype(np.float64) for each in inputs))
    start = time.perf_counter()
    result = function(*map(jt.array, inputs)).numpy()
    seconds = time.perf_counter() - start
    return Result(name, float(np.linalg.norm(result - expected) / np.linalg.norm(expected)), seconds)


def _gradient(function: Callable) -> Callable:
    """The gradient of the sum of a function's results, with respect to its last input."""
    def gradient(*inputs):
        from utils.runtime.backend import jt

        return jt.grad(function(*inputs).sum(), inputs[-1])
    return gradient


def _windows(x: np.ndarray) -> np.ndarray:
    """The 3x3 windows of (N,C,H,W), zeros outside, as (N,C,H,W,3,3)."""
    return sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))


def _convolve(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.einsum("nchwij,ocij->nohw", _windows(x), weight, optimize=True)


def _correlate(x: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """The gradient of the filters for that of the result."""
    return np.einsum("nchwij,nohw->ocij", _windows(x), grad, optimize=True)
