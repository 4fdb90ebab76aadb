"""Pooling."""

from __future__ import annotations

from lib.ops import dispatch, launcher
from lib.ops.autograd import Function
from utils.runtime.backend import jt


def average_pool(x, size: int, stride: int = 1, padding: int = 0):
    """Mean over size x size windows of float32 (N,C,H,W) maps; pixels outside count as zero.

    Equals PyTorch's avg_pool2d.
    """
    return (_AveragePool if dispatch.fused() else _plain_average)(size, stride, padding)(x)


def max_pool(x):
    """Largest of 3x3 windows, two pixels apart, of float32 (N,C,H,W): PyTorch's max_pool2d(x, 3, 2, 1).

    The gradient goes to the first of equal pixels; a NaN is the largest.
    """
    if not dispatch.fused():
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


class _Pool(Function):
    def __init__(self, size: int, stride: int, padding: int):
        self.geometry = size, stride, padding

    def measure(self, x) -> tuple[int, ...]:
        """The shape of the result."""
        size, stride, padding = self.geometry
        self.shape = batch, channels, height, width = x.shape
        rows, columns = ((side + 2 * padding - size) // stride + 1 for side in (height, width))
        self.data = {"planes": batch * channels, "height": height, "width": width, "rows": rows,
                     "columns": columns}
        return batch, channels, rows, columns

    def run(self, body: str, pointers: str, over: str, inputs: list, outputs: list[tuple]) -> list:
        """Runs a struct of pool.cuh on all rows ``over`` which it goes."""
        windows = "Windows<{}, {}, {}>".format(*self.geometry)
        sides = ", ".join(f'(int)data["{side}"]' for side in ("height", "width", "rows", "columns"))
        call = f"""
            items((long)data["planes"] * (long)data["{over}"],
                  {body}<{windows}>{{{windows}{{{sides}}}, {pointers}}});
        """
        return launcher.run("pool.cuh", call, inputs, outputs, self.data)


class _AveragePool(_Pool):
    def execute(self, x):
        outputs = [(self.measure(x), "float32")]
        return self.run("AveragePool", "in0_p, out0_p", "rows", [x], outputs)[0]

    def grad(self, grad):
        outputs = [(self.shape, "float32")]
        return self.run("AveragePoolGrad", "in0_p, out0_p", "height", [grad], outputs)[0]


class _MaxPool(_Pool):
    def execute(self, x):
        result = self.measure(x)
        outputs = [(result, "float32"), (result, "uint8")]
        y, self.taken = self.run("MaxPool", "in0_p, out0_p, out1_p", "rows", [x], outputs)
        return y

    def grad(self, grad):
        outputs = [(self.shape, "float32")]
        return self.run("MaxPoolGrad", "in0_p, in1_p, out0_p", "height", [grad, self.taken], outputs)[0]
