"""Bilinear resizing."""

from __future__ import annotations

from lib.ops import choice, kernel
from utils.backend import jt

_AXES = ("const Axis rows(data[\"height\"], data[\"new_height\"], data[\"corners\"]),"
         " columns(data[\"width\"], data[\"new_width\"], data[\"corners\"]);\n")


def resize_bilinear(x, size: tuple[int, int], align_corners: bool = False):
    """Resizes (N,C,H,W) float32 maps to ``size`` = (height, width), as PyTorch's bilinear interpolate does.

    Gradients are gathered, so that they are the same from run to run on CUDA too.
    """
    if tuple(x.shape[2:]) == tuple(size):
        return x
    if not choice.fused():
        return jt.nn.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)
    return _Resize(size, align_corners)(x)


def scale_bilinear(x, factor: float, align_corners: bool = False):
    """Resizes (N,C,H,W) maps by a factor that leaves whole sizes."""
    height, width = x.shape[2:]
    return resize_bilinear(x, (int(height * factor), int(width * factor)), align_corners)


class _Resize(jt.Function):
    def __init__(self, size: tuple[int, int], align_corners: bool):
        self.size, self.corners = size, align_corners

    def execute(self, x):
        self.shape = batch, channels, height, width = x.shape
        self.data = {"planes": batch * channels, "height": height, "width": width, "new_height": self.size[0],
                     "new_width": self.size[1], "corners": int(self.corners)}
        return kernel.run("resize.cuh", _AXES + 'resize(data["planes"], in0_p, out0_p, rows, columns);', [x],
                          [((batch, channels, *self.size), "float32")], self.data)[0]

    def grad(self, grad_y):
        batch, channels, height, _ = self.shape
        gathered = (batch, channels, height, self.size[1])
        call = 'resize_adjoint(data["planes"], in0_p, out1_p, out0_p, rows, columns);'
        return kernel.run("resize.cuh", _AXES + call, [grad_y],
                          [(self.shape, "float32"), (gathered, "float32")], self.data)[0]
