"""Pooling."""

from __future__ import annotations

from lib.ops import choice, kernel
from utils.backend import jt


def average_pool(x, size: int, stride: int = 1, padding: int = 0):
    """Mean over size x size windows of (N,C,H,W) maps; pixels outside count as zero.

    Equals PyTorch's avg_pool2d. The window is summed along one axis, then the other: the 31x31 window of the
    losses takes 62 additions a pixel where the square takes 961. Jittor's own refuses a window as large as
    the map.
    """
    for axis in (2, 3):
        x = _window_sum(x, axis, size, stride, padding)
    return x / (size * size)


def _window_sum(x, axis: int, size: int, stride: int, padding: int):
    shape = list(x.shape)
    shape[axis] = (shape[axis] + 2 * padding - size) // stride + 1
    index = [f"i{i}" for i in range(4)]
    index[axis] = f"i{axis}*{stride}+i4-{padding}"
    return x.reindex([*shape, size], index).sum(4)


def max_pool(x):
    """Largest of 3x3 windows, two pixels apart, of float32 (N,C,H,W): PyTorch's max_pool2d(x, 3, 2, 1).

    The gradient goes to the first of equal pixels; a NaN is the largest.
    """
    if not choice.fused():
        return jt.nn.max_pool2d(x, 3, stride=2, padding=1)
    return _MaxPool()(x)


class _MaxPool(jt.Function):
    def execute(self, x):
        self.shape = batch, channels, height, width = x.shape
        rows, columns = (height + 1) // 2, (width + 1) // 2
        self.data = {"planes": batch * channels, "height": height, "width": width, "rows": rows,
                     "columns": columns}
        result = batch, channels, rows, columns
        y, self.taken = kernel.run(
            "pointwise.cuh", f'items({_all_rows("rows")}, MaxPool{{in0_p, out0_p, out1_p, {_SIZES}}});', [x],
            [(result, "float32"), (result, "uint8")], self.data)
        return y

    def grad(self, grad):
        call = f'items({_all_rows("height")}, MaxPoolGradient{{in0_p, in1_p, out0_p, {_SIZES}}});'
        return kernel.run("pointwise.cuh", call, [grad, self.taken], [(self.shape, "float32")], self.data)[0]


_SIZES = ", ".join(f'(long)data["{name}"]' for name in ("height", "width", "rows", "columns"))


def _all_rows(name: str) -> str:
    return f'(long)data["planes"] * (long)data["{name}"]'
