"""Bilinear resizing."""

from __future__ import annotations

from utils.backend import jt


def resize_bilinear(x, size: tuple[int, int], align_corners: bool = False):
    """Resizes (N,C,H,W) maps to ``size`` = (height, width), as PyTorch's bilinear interpolate does."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return jt.nn.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)


def scale_bilinear(x, factor: float, align_corners: bool = False):
    """Resizes (N,C,H,W) maps by a factor that leaves whole sizes."""
    height, width = x.shape[2:]
    return resize_bilinear(x, (int(height * factor), int(width * factor)), align_corners)
