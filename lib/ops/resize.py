"""Bilinear resizing, and doubling by repetition."""

from __future__ import annotations

from lib.ops import dispatch, launcher
from lib.ops.autograd import Function
from utils.runtime.backend import jt

_AXES = ("const Axis rows(data[\"height\"], data[\"new_height\"], data[\"corners\"]),"
         " columns(data[\"width\"], data[\"new_width\"], data[\"corners\"]);\n")


def resize_bilinear(x, size: tuple[int, int], align_corners: bool = False):
    """Resizes (N,C,H,W) float32 maps to ``size`` = (height, width), as PyTorch's bilinear interpolate does.

    Gradients are gathered, so that they are the same from run to run on CUDA too.
    """
    if tuple(x.shape[2:]) == tuple(size):
        return x
    if not dispatch.fused():
        return jt.nn.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)
    return _Resize(size, align_corners)(x)


def scale_bilinear(x, factor: float, align_corners: bool = False):
    """Resizes (N,C,H,W) maps by a factor that leaves whole sizes."""
    height, width = x.shape[2:]
    return resize_bilinear(x, (int(height * factor), int(width * factor)), align_corners)


class _Resize(Function):
    def __init__(self, size: tuple[int, int], align_corners: bool):
        self.size, self.corners = size, align_corners

    def execute(self, x):
        self.shape = batch, channels, height, width = x.shape
        self.data = {"planes": batch * channels, "height": height, "width": width, "new_height": self.size[0],
                     "new_width": self.size[1], "corners": int(self.corners)}
        call = 'resize(data["planes"], in0_p, out0_p, rows, columns);'
        return launcher.run("resize.cuh", _AXES + call, [x],
                            [((batch, channels, *self.size), "float32")], self.data)[0]

    def grad(self, grad_y):
        batch, channels, height, _ = self.shape
        gathered = (batch, channels, height, self.size[1])
        call = 'resize_adjoint(data["planes"], in0_p, out1_p, out0_p, rows, columns);'
        return launcher.run("resize.cuh", _AXES + call, [grad_y],
                            [(self.shape, "float32"), (gathered, "float32")], self.data)[0]


def upsample_nearest(x):
    """(N,C,H,W) float32 maps to (N,C,2H,2W): each pixel four times."""
    if not dispatch.fused():
        batch, channels, height, width = x.shape
        spread = x.reshape(batch, channels, height, 1, width, 1).broadcast(
            [batch, channels, height, 2, width, 2])
        return spread.reshape(batch, channels, 2 * height, 2 * width)
    return _UpsampleNearest()(x)


class _UpsampleNearest(Function):
    def execute(self, x):
        batch, channels, height, width = x.shape
        return self._rows("UpsampleNearest2x", x, (batch, channels, 2 * height, 2 * width))

    def grad(self, grad):
        batch, channels, height, width = grad.shape
        return self._rows("UpsampleNearest2xGrad", grad, (batch, channels, height // 2, width // 2))

    @staticmethod
    def _rows(body: str, x, shape: tuple[int, ...]):
        call = f'const long width = data["width"]; items(out0->num / width, {body}{{in0_p, out0_p, width}});'
        return launcher.run("resize.cuh", call, [x], [(shape, "float32")], {"width": shape[3]})[0]
