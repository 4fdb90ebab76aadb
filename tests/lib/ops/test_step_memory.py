"""What a step keeps of its maps, counted by Jittor's profiler of memory, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lib import ops
from lib.optimizer import Adam
from tests.helpers.op_parity import noise
from tests.helpers.paths import ROOT
from utils.runtime.backend import jt

FLOAT = 4  # bytes


def most_during(loss_of, variables: list) -> int:
    """Bytes of all that Jittor held at most in a first step of Adam; its profiler never forgets a most."""
    with jt.flag_scope(profile_memory_enable=1):
        Adam(variables, clip=0.5).step(loss_of(), lr=1e-3)
        return int(jt.get_max_memory_info().partition("[")[0])


def in_own_process(call: str) -> float:
    code = f"from tests.lib.ops.test_step_memory import *\nprint({call})"
    child = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.PIPE)
    return float(child.stdout)


def of_products(count: int) -> float:
    """The most during a step of so many products in a chain, in maps."""
    weights = [jt.array(noise(f"weight{layer}", 32, 32)).sync() for layer in range(count)]

    def loss():
        value = jt.array(noise("value", 4000, 32)).stop_grad()
        for weight in weights:
            value = jt.matmul(value, weight)
        return value.sum()

    return most_during(loss, weights) / (FLOAT * 4000 * 32)


def test_a_step_keeps_no_gradients_of_maps():
    """Kept, they would be as many as the maps; of these products Jittor has half wait for the weights'."""
    assert 20 < in_own_process("of_products(20)") < 1.8 * 20


def of_layers(name: str, count: int) -> float:
    """The most during a step that moves twice so many maps, a chain of layers upon their sum; in these."""
    size = 64
    weight = jt.array(noise("weight", size, size)).sync()
    scale, shift = jt.array(noise("scale", size)).sync(), jt.array(noise("shift", size)).sync()
    maps = jt.array(noise("maps", 2 * count, 4, size, 32, 32)).sync()
    layer = {"batch norm": lambda x: ops.batch_norm(x, scale, shift, 1e-5, relu=True)[0],
             "convolution": lambda x: ops.conv2d(x, weight.reshape(size, size, 1, 1), shift, ops.Geometry()),
             "linear, GELU": lambda x: ops.gelu(ops.linear(x.reshape(-1, size), weight, shift))}[name]

    def loss():
        value = maps.sum(0)
        for _ in range(count):
            value = layer(value)
        return (value * value).sum()

    return most_during(loss, [maps]) / (FLOAT * maps.numel())


@pytest.mark.parametrize("layer", ["batch norm", "convolution", "linear, GELU"])
def test_a_step_keeps_no_map_that_its_gradient_was_taken_of(layer):
    """The gradient of the maps comes last, when what was made of their sum is no longer needed."""
    maps, moments, gradient, few = 1, 2, 1, 0.2
    least = maps + moments + gradient
    assert least < in_own_process(f"of_layers({layer!r}, 10)") < least + few
