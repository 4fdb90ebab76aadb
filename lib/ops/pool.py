"""Pooling."""

from __future__ import annotations

from lib.ops import choice, kernel
from utils.backend import jt


def average_pool(x, size: int, stride: int = 1, padding: int = 0):
    """Mean over size x size windows of float32 (N,C,H,W) maps; pixels outside count as zero.

    Equals PyTorch's avg_pool2d.
    """
    return (_AveragePool if choice.fused() else _plain_average)(size, stride, padding)(x)


def max_pool(x):
    """Largest of 3x3 windows, two pixels apart, of float32 (N,C,H,W): PyTorch's max_pool2d(x, 3, 2, 1).

    The gradient goes to the first of equal pixels; a NaN is the largest.
    """
    if not choice.fused():
        return jt.nn.max_pool2d(x, 3, stride=2, padding=1)
    return _MaxPool(3, 2, 1)(x)


def _plain_average(size: int, stride: int, padding: int):
    """The window is summed along one axis, then the other; Jittor's own refuses one as large as the map."""
    def pool(x):
        for axis in (2, 3):
            x = _window_sum(x, axis, size, stride, padding)
        return x / (size * size)
    return pool


def _window_sum(x, axis: int, size: int, stride: int, padding: int):
    shape = list(x.shape)
    shape[axis] = (shape[axis] + 2 * padding - size) // stride + 1
    index = [f"i{i}" for i in range(4)]
    index[axis] = f"i{axis}*{stride}+i4-{padding}"
    return x.reindex([*shape, size], index).sum(4)


class _Pool(jt.Function):
    def __init__(self, size: int, stride: int, padding: int):
        self.data = {"size": size, "stride": stride, "padding": padding}

    def measure(self, x) -> tuple[int, ...]:
        """The shape of the result."""
        self.shape = batch, channels, height, width = x.shape
        size, stride, padding = self.data.values()
        rows, columns = ((side + 2 * padding - size) // stride + 1 for side in (height, width))
        self.data = {**self.data, "planes": batch * channels, "height": height, "width": width, "rows": rows,
                     "columns": columns}
        return batch, channels, rows, columns

    def run(self, body: str, over: str, inputs: list, outputs: list[tuple]) -> list:
        sides = ("size", "stride", "padding", "height", "width", "rows", "columns")
        windows = ", ".join(f'(int)data["{side}"]' for side in sides)
        call = f'items((long)data["planes"] * (long)data["{over}"], {body});'
        return kernel.run("pool.cuh", f"const Windows windows{{{windows}}};\n{call}", inputs, outputs,
                          self.data)


class _AveragePool(_Pool):
    def execute(self, x):
        result = self.measure(x)
        return self.run("AveragePool{windows, in0_p, out0_p}", "rows", [x], [(result, "float32")])[0]

    def grad(self, grad):
        body = "AveragePoolGradient{windows, in0_p, out0_p}"
        return self.run(body, "height", [grad], [(self.shape, "float32")])[0]


class _MaxPool(_Pool):
    def execute(self, x):
        result = self.measure(x)
        y, self.taken = self.run("MaxPool{windows, in0_p, out0_p, out1_p}", "rows", [x],
                                 [(result, "float32"), (result, "uint8")])
        return y

    def grad(self, grad):
        body = "MaxPoolGradient{windows, in0_p, in1_p, out0_p}"
        return self.run(body, "height", [grad, self.taken], [(self.shape, "float32")])[0]
