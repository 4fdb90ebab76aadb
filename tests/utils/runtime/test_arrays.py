"""Arrays and numbers of NumPy in Jittor and back: it reads them by a layout that NumPy's has to match."""

from __future__ import annotations

import numpy as np
import pytest

from utils.runtime.backend import jt


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32",
                                   "float64"])
def test_arrays_of_any_type_and_stride_keep_their_values(dtype):
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    for given in (values, values[:, ::2], values.T, values[..., 1]):
        np.testing.assert_array_equal(jt.array(given).numpy(), given)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_numbers_of_numpy_are_indices(kind):
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    x = jt.array(values)
    np.testing.assert_array_equal(x[kind(2)].numpy(), values[2])
    np.testing.assert_array_equal(x[kind(1):kind(3), kind(5)].numpy(), values[1:3, 5])


def test_numbers_of_numpy_are_factors():
    np.testing.assert_array_equal((jt.ones(3) * np.float32(2) + np.float64(0.5)).numpy(), np.full(3, 2.5))
