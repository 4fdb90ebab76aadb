"""The one comparison of numbers in the tests, and the one place for its tolerances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tolerance:
    """Each element may differ by ``absolute + relative * |expected|``."""

    absolute: float = 0.0
    relative: float = 0.0


TOLERANCES = {
    "metrics": Tolerance(absolute=1e-12),  # metrics of maps, fractions of 1
    "label metrics": Tolerance(absolute=1e-9),  # those of label maps: fractions of 1, and distances
    "float32": Tolerance(absolute=2e-6, relative=2e-6),  # one float32 operation on values near 1
    "float64": Tolerance(absolute=1e-12, relative=1e-10),  # float64 throughout, in another order
    "loss": Tolerance(relative=2e-6),  # sums of some thousand float32 terms
    "weight": Tolerance(absolute=1e-6),  # boundary weights, from 1 to 6
    "slope": Tolerance(absolute=2e-4),  # differences of float32 losses over 0.1, and their third-order term
    "mDice of rounded maps": Tolerance(absolute=1e-4),  # a level in 255 next to a whole number may be either
    "adam": Tolerance(absolute=1e-7, relative=1e-6),  # a few steps of 1e-4 on values near 1
}


def assert_close(actual, expected, kind: str, what: str = "values") -> None:
    """Compares shape and elements of arrays or numbers by the tolerance of this kind; NaN equals nothing."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    tolerance = TOLERANCES[kind]
    difference = np.abs(actual - expected)
    wrong = ~(difference <= tolerance.absolute + tolerance.relative * np.abs(expected))
    if wrong.any():
        worst = np.unravel_index(np.argmax(np.nan_to_num(difference, nan=np.inf)), wrong.shape)
        raise AssertionError(f"{what}: {np.count_nonzero(wrong)} of {wrong.size} differ by more than "
                             f"{tolerance}; at {worst} {actual[worst]!r}, expected {expected[worst]!r}")


# Parity with float64 values, in units of PyTorch's own float32 error: (multiple, least bound).
PARITY = {
    "forward": (10, 1e-5),
    "gradient": (5, 1e-4),
    "gradient on the same branches": (0, 1e-4),
    "first step": (0, 1e-4),
}


def parity_bound(floor: float, kind: str) -> float:
    """The relative error that is allowed where PyTorch's own float32 has the relative error ``floor``."""
    multiple, least = PARITY[kind]
    return max(multiple * floor, least)


# ReLU inputs that float32 sees on the other side of zero than float64: how far from zero they may be, in
# units of PyTorch's own float32 error of that ReLU's inputs, and how many of all. PyTorch has 1e-6 of all.
CROSSING_DISTANCE = 5
CROSSING_SHARE = 1e-5
