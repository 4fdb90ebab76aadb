"""CUDA's half of the kernels, run on the CPU by an emulation of its threads, against the CPU's own half."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pytest

from lib.ops import launcher
from tests.cuda_on_cpu import library
from tests.cuda_on_cpu.rewrite import rewrite
from tests.helpers import kernel_calls
from tests.helpers.compare import assert_close
from utils.data.synthetic import deterministic
from utils.runtime.backend import jt

# One element; less than a warp; rows of one column, columns of one row; many partial sums; more channels than
# a block has threads; more images than planes that a block takes at a time, and threads left over.
SHAPES = ((1, 1, 1, 1), (2, 4, 6, 6), (1, 3, 5, 7), (3, 2, 33, 1), (1, 1, 1, 257), (2, 33, 9, 31),
          (1, 2, 70, 61), (1, 300, 2, 3), (17, 2, 12, 12))


@dataclass(frozen=True)
class Run:
    """A call with what it was given, and what the CPU's own half made of it."""

    call: kernel_calls.Call
    inputs: list[np.ndarray]
    shapes: list[tuple[int, ...]]
    data: dict[str, float]
    outputs: list[library.Guarded]


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    return library.compile_both(kernel_calls.every_call(), tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="module")
def runs_of(halves):
    @functools.cache
    def runs_of(shape):
        runs = []

        def record(file, text, inputs, outputs, data=None):
            call = kernel_calls.describe(file, text, inputs, outputs)
            arrays, shapes = [each.numpy() for each in inputs], [tuple(sides) for sides, _ in outputs]
            results = halves[1].run(call, arrays, shapes, data or {})
            runs.append(Run(call, arrays, shapes, data or {}, results))
            with jt.flag_scope(auto_convert_64_to_32=0):
                return [jt.array(each.array) for each in results]

        kernel_calls.run_operations(record, shape)
        return runs
    return runs_of


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_halves_give_the_same(shape, halves, runs_of):
    for run in runs_of(shape):
        results = halves[0].run(run.call, run.inputs, run.shapes, run.data)
        for index, (found, expected) in enumerate(zip(results, run.outputs)):
            what = f"output {index} of {run.call}"
            written = expected.written()
            np.testing.assert_array_equal(found.written(), written, what)
            if np.shape(written) == (1,) and not written.any():
                continue  # in place of the gradient of a background map that is not there
            assert written.all(), f"{what}: not all is written"
            assert_close(found.array, expected.array, "float32", what)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_bit_depends_on_the_order_of_threads_or_the_place_of_arrays(shape, halves, runs_of):
    cuda = halves[0]
    for run in runs_of(shape):
        results = []
        for order, offset in ((0, False), (-1, False), (1, True), (2, False)):
            cuda.set_order(order)
            outputs = cuda.run(run.call, run.inputs, run.shapes, run.data, offset)
            results.append([each.array.tobytes() for each in outputs])
        cuda.set_order(0)
        assert all(each == results[0] for each in results), run.call


def test_jittor_builds_cudas_half(monkeypatch):
    """Jittor puts its own lines into a kernel's source, where the CUDA half has to find them."""
    source, device = launcher.source, library.DEVICE.read_text().replace("#pragma once\n", "")
    monkeypatch.setattr(launcher, "source",
                        lambda file: f"{device}#define __CUDACC__\n{rewrite(source(file))}")
    x = deterministic.stream("x").normal(size=(70, 3)).astype(np.float32)
    expected = x.astype(np.float64).sum(0)
    assert_close(launcher.column_sums(jt.array(x)).numpy(), expected, "float32")
