"""All calls of lib/ops/kernels that the operations make, and C++ that makes them outside Jittor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable
from unittest import mock

from lib import ops
from lib.ops import launcher
from lib.ops.depthwise import depthwise_conv2d
from lib.registry import GAINS
from utils.data.synthetic import deterministic
from utils.runtime.backend import jt

TYPES = {"float32": "float", "float64": "double", "uint8": "std::uint8_t", "int32": "int"}
CLASSES = 3

# What Jittor declares around a call: an array's sizes, and the numbers by name.
_SURROUNDINGS = """
#include <cstring>
struct Sized { long num, shape[8]; };
struct Numbers {
    const char* const* names;
    const double* values;
    double operator[](const char* name) const {
        long i = 0;
        while (std::strcmp(names[i], name)) ++i;
        return values[i];
    }
};
"""


def run_operations(run: Callable, shape: tuple[int, int, int, int] = (2, 4, 6, 6)) -> None:
    """Has every operation, forward and backward, call ``run`` for launcher.run and launcher.update on maps of
    this shape."""
    batch, channels, height, width = shape

    def noise(tag: str, *sides: int):
        return jt.array(2.0 * deterministic.stream(tag).normal(size=sides).astype("float32"))

    def share(tag: str, *sides: int):
        return jt.array(deterministic.stream(tag).random(sides).astype("float32"))

    def differentiate(result, *inputs):
        probe = noise("probe", *result.shape).cast(result.dtype)
        jt.grad((result * probe).sum(), list(inputs))

    def update(file: str, text: str, inputs: list, variables: list, data: dict[str, float]):
        run(file, text, [*inputs, *variables], [(each.shape, "float32") for each in variables], data)

    with mock.patch.object(launcher, "run", run), mock.patch.object(launcher, "update", update):
        x, y = noise("x", *shape), noise("y", *shape)
        small, one = noise("small", batch, channels, 3, 3), noise("one", batch, 1, 3, 3)
        weight, bias = noise("weight", channels), noise("bias", channels)
        for size in ((9, 5), (2 * height + 1, max(width // 2, 1)), (1, 33)):
            for corners in (False, True):
                differentiate(ops.resize_bilinear(x, size, corners), x)
        differentiate(ops.reverse_attention(one, x), one, x)
        for gain in GAINS:
            differentiate(ops.dsra_gain(x, y, small, gain), x, y)
        maps = [noise(f"map{i}", batch, CLASSES, height, width) for i in range(4)]
        labels = deterministic.stream("labels").randint(0, CLASSES, (batch, height, width))
        labels = jt.array(labels.astype("int32"))
        for fgs, bgs in ((maps[:1], []), (maps[:2], maps[2:])):
            differentiate(ops.mutation_sums(fgs, bgs, labels), *fgs, *bgs)
        mask = share("mask", *shape)
        for bg in (None, y):
            loss = ops.structure_loss(x, bg, mask, ops.boundary_weight(mask), 0.8)
            differentiate(loss, *([x] if bg is None else [x, bg]))
        for residual in (None, y):
            differentiate(ops.batch_norm(x, weight, bias, 1e-5, residual, relu=True)[0], x, weight)
        rows = noise("rows", batch * height * width, channels)
        differentiate(ops.layer_norm(rows, weight, bias, 1e-5), rows)
        differentiate(ops.gelu(rows), rows)
        differentiate(ops.scaled_softmax(rows, 0.5), rows)
        launcher.column_sums(rows)
        differentiate(ops.matrix_transpose(x), x)
        taps, shift = noise("taps", width, 1, 3, 3), noise("shift", width)
        for each in (None, shift):
            differentiate(depthwise_conv2d(x, taps, each), x, taps)
        differentiate(ops.max_pool(x), x)
        differentiate(ops.average_pool(x, 3, 2, 1), x)
        differentiate(ops.add_relu(x, y), x)
        differentiate(ops.clamped_sum([x, y, x], 0.5), x, y)
        differentiate(ops.upsample_nearest(x), x)
        differentiate(ops.concat([*ops.split(noise("both", batch, 2 * channels, height, width), 2), y]), y)
        sizes = (17000, channels)
        values, gradients, means = ([noise(f"{tag}{size}", size) for size in sizes] for tag in "vgm")
        squares = [share(f"square{size}", size) for size in sizes]
        ops.adam_step(values, gradients, means, squares, clip=0.5, rate=1e-4, correction=1.0)
        ops.ema_step(values, means, decay=0.9)


@dataclass(frozen=True, order=True)
class Call:
    """The statements of one call, and the types of what they find."""

    file: str
    text: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def places(self) -> list[tuple[str, str]]:
        """(name, C++ type) of inputs, then of outputs."""
        groups = ("in", self.inputs), ("out", self.outputs)
        return [(f"{name}{index}", TYPES[kind]) for name, kinds in groups for index, kind in enumerate(kinds)]


def describe(file: str, text: str, inputs: list, outputs: list[tuple]) -> Call:
    """The call that launcher.run has these arguments for."""
    return Call(file, text, tuple(str(each.dtype) for each in inputs), tuple(kind for _, kind in outputs))


def every_call() -> list[Call]:
    """All that the operations run, forward and backward. Nothing is computed."""
    calls, run = set(), launcher.run

    def recorded(file, text, inputs, outputs, data=None):
        calls.add(describe(file, text, inputs, outputs))
        return run(file, text, inputs, outputs, data)

    run_operations(recorded)
    return sorted(calls)


def translation_unit(calls: list[Call]) -> str:
    """C++ with a function call_0, call_1 ... for each call, of the sizes, the arrays and the numbers."""
    functions = []
    for index, call in enumerate(calls):
        parameters = ", ".join(f"Sized* {name}, {kind}* {name}_p" for name, kind in call.places)
        arguments = ", ".join(f"sizes + {i}, static_cast<{kind}*>(arrays[{i}])"
                              for i, (_, kind) in enumerate(call.places))
        unused = " ".join(f"(void){name}; (void){name}_p;" for name, _ in call.places)
        functions.append(f"""
static void make_{index}({parameters}, const Numbers& data) {{
    using namespace pranet; (void)data; {unused}
    {call.text}
}}
extern "C" void call_{index}(Sized* sizes, void** arrays, const Numbers& data) {{
    make_{index}({arguments}, data);
}}
""")
    return launcher.source(*sorted({call.file for call in calls})) + _SURROUNDINGS + "".join(functions)
