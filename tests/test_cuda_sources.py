"""The kernels of lib/ops/kernels as CUDA: compiled, with all that calls them, wherever there is an nvcc.

What they compute is tested on the CPU by the same source, in test_ops; this is about the language.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from unittest import mock

import pytest

from lib import ops
from lib.catalog import GAINS
from lib.ops import kernel
from lib.ops.depthwise import depthwise_conv2d
from utils.backend import jt

ARCHITECTURES = ("80", "90")
TYPES = {"float32": "float", "float64": "double", "uint8": "std::uint8_t", "int32": "int"}

# What Jittor declares around a call: an array's sizes, and the numbers by name.
_SURROUNDINGS = """
struct Sized { long num; long shape[8]; };
struct Numbers { double operator[](const char*) const { return 1.0; } };
"""


def every_call() -> set[tuple]:
    """(kernel file, call, input types, output types) of all that the operations run, forward and backward."""
    calls, run = set(), kernel.run

    def recorded(file, call, inputs, outputs, data=None):
        calls.add((file, call, tuple(str(each.dtype) for each in inputs), tuple(kind for _, kind in outputs)))
        return run(file, call, inputs, outputs, data)

    def differentiate(result, *inputs):
        jt.grad(result.sum(), list(inputs))

    with mock.patch.object(kernel, "run", recorded):
        x, y, one = jt.rand(2, 4, 6, 6), jt.rand(2, 4, 6, 6), jt.rand(2, 1, 3, 3)
        weight, bias = jt.rand(4), jt.rand(4)
        differentiate(ops.resize_bilinear(x, (9, 5)), x)
        differentiate(ops.reverse_attention(one, x), one, x)
        for gain in GAINS:
            differentiate(ops.dsra_gain(x, y, y * 2, gain), x, y)
        labels = jt.zeros((2, 6, 6), "int32")
        for fgs, bgs in (([x], []), ([x, x * 2], [y, y * 2])):
            differentiate(ops.class_sums(fgs, bgs, labels), x)
        for bg in (None, y):
            loss = ops.structure_loss(x, bg, y, ops.boundary_weight(y), 0.8)
            differentiate(loss, x)
        for residual in (None, y):
            differentiate(ops.batch_norm(x, weight, bias, 1e-5, residual, relu=True)[0], x, weight)
        rows = jt.rand(3, 4)
        differentiate(ops.layer_norm(rows, weight, bias, 1e-5), rows)
        differentiate(ops.gelu(rows), rows)
        differentiate(ops.swap_last(x), x)
        taps = jt.rand(6, 1, 3, 3)
        differentiate(depthwise_conv2d(x, taps, jt.rand(6)), x, taps)
        differentiate(depthwise_conv2d(x, taps, None), x)
        differentiate(ops.scaled_softmax(rows, 0.5), rows)
        differentiate(ops.max_pool(x), x)
        differentiate(ops.average_pool(x, 3, 2, 1), x)
        differentiate(ops.add_relu(x, y), x)
        differentiate(ops.capped_sum([x, y, x], 0.5), x, y)
        differentiate(ops.upsample_nearest(x), x)
        differentiate(ops.concat([*ops.split(x, 2), y]), x)
        kernel.column_sums(rows)
        moments = [[jt.rand(3, 4), jt.rand(2)] for _ in range(4)]
        ops.adam_step(*moments, clip=0.5, rate=1e-4, correction=1.0)
    return calls


def translation_unit(calls: set[tuple]) -> str:
    sources = "".join(f'#include "{kernel.FOLDER / file}"\n' for file in sorted({file for file, *_ in calls}))
    functions = []
    for index, (_, call, inputs, outputs) in enumerate(sorted(calls)):
        places = [*((f"in{i}", kind) for i, kind in enumerate(inputs)),
                  *((f"out{i}", kind) for i, kind in enumerate(outputs))]
        parameters = ", ".join(f"Sized* {name}, {TYPES[kind]}* {name}_p" for name, kind in places)
        unused = " ".join(f"(void){name}; (void){name}_p;" for name, _ in places)
        functions.append(f"void call_{index}({parameters}, const Numbers& data) {{\n"
                         f"using namespace pranet; (void)data; {unused}\n{call}\n}}\n")
    return sources + _SURROUNDINGS + "".join(functions)


def test_kernels_and_calls_compile_for_cuda(tmp_path):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc on PATH")
    calls = every_call()
    used = {file for file, *_ in calls} | {"parallel.cuh"}
    assert used == {path.name for path in kernel.FOLDER.glob("*.cuh")}, "a kernel file that no operation uses"
    unit = tmp_path / "calls.cu"
    unit.write_text(translation_unit(calls))
    targets = [f"-gencode=arch=compute_{each},code=sm_{each}" for each in ARCHITECTURES]
    command = [nvcc, "-std=c++14", *targets, "-Werror", "all-warnings", "-Xcompiler", "-Wall",
               "-c", str(unit), "-o", str(tmp_path / "calls.o")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(kernel.FOLDER.glob("*.cuh")), ids=lambda path: path.name)
def test_a_kernel_file_stands_alone(path, tmp_path):
    """As C++ without a warning, each with what it includes and no more."""
    unit = tmp_path / "unit.cc"
    unit.write_text(f'#include "{path}"\n')
    command = ["g++", "-std=c++14", "-fopenmp", "-Wall", "-Wextra", "-Wno-unused-function", "-Werror",
               "-fsyntax-only", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted(kernel.FOLDER.glob("*.cuh")), ids=lambda path: path.name)
def test_nothing_encloses_an_include(path):
    """Jittor defines the types of a call after the last: within `#if` another compiler would miss them."""
    before, include, _ = kernel.source(path.name).rpartition("#include")
    assert include and "#if" not in before


@pytest.mark.parametrize(("module", "file", "names"), [
    ("kernel", "parallel.cuh", ["ROWS"]), ("adam", "pointwise.cuh", ["TENSORS"]),
    ("structure_loss", "structure_loss.cuh", ["SHARE", "SUMS", "SLOPES"]),
    ("class_sums", "class_sums.cuh", ["PATCH", "SINGLE_SUMS"])])
def test_room_is_made_for_what_a_kernel_writes(module, file, names):
    """Sizes of buffers are known to Python and to the kernels; if they differed, one would write beyond."""
    python, text = importlib.import_module(f"lib.ops.{module}"), (kernel.FOLDER / file).read_text()
    for name in names:
        found, = re.findall(rf"constexpr \w+ {name} = (\d+);", text)
        assert int(found) == getattr(python, name), name
