"""Reverse attention (PraNet-V1) and dual-supervised reverse attention (PraNet-V2), one stage each.

The stages stand by themselves: they take a feature and the maps of the deeper stage, and can be put into
any decoder.
"""

from __future__ import annotations

from lib import ops
from lib.blocks import ConvBN
from utils.backend import jt

nn = jt.nn


class _Stage(nn.Module):
    """conv1 squeezes a feature by 1x1 without activation; conv2 .. conv<convs> refine it, each with ReLU."""

    def __init__(self, inputs: int, channels: int, convs: int, kernel_size: int):
        self.conv1 = ConvBN(inputs, channels, 1)
        self._refining = [f"conv{index}" for index in range(2, convs + 1)]
        for name in self._refining:
            setattr(self, name, ConvBN(channels, channels, kernel_size, padding=kernel_size // 2))

    def refine(self, feature):
        x = self.conv1(feature)
        for name in self._refining:
            x = getattr(self, name)(x, relu=True)
        return x


class ReverseAttention(_Stage):
    """One stage of PraNet-V1 (Fan et al., "PraNet: Parallel Reverse Attention Network", MICCAI 2020).

    The feature is weighted by what the deeper map has not found, and the stage's map corrects the deeper one.
    """

    def __init__(self, inputs: int, channels: int, convs: int, kernel_size: int, head_kernel_size: int):
        super().__init__(inputs, channels, convs, kernel_size)
        self._head = f"conv{convs + 1}"
        setattr(self, self._head, ConvBN(channels, 1, head_kernel_size, padding=head_kernel_size // 2))

    def execute(self, feature, guide):
        """(N,inputs,h,w) and the deeper map (N,1,h',w') to this stage's map (N,1,h,w)."""
        guide = ops.resize_bilinear(guide, feature.shape[2:])
        x = self.refine(ops.reverse_attention(guide, feature))
        return getattr(self, self._head)(x, residual=guide)


class DualSupervisedReverseAttention(_Stage):
    """One stage of PraNet-V2: foreground and background maps of its own.

    The former is raised by what the deeper stage found, see `lib.ops.dsra_gain`.
    """

    def __init__(self, inputs: int, channels: int, convs: int, kernel_size: int, head_kernel_size: int,
                 num_class: int, use_softmax: bool = True):
        super().__init__(inputs, channels, convs, kernel_size)
        self.use_softmax = use_softmax
        self._heads = tuple(f"conv{convs + 1}_{side}" for side in ("fg", "bg"))
        for name in self._heads:
            setattr(self, name, ConvBN(channels, num_class, head_kernel_size, padding=head_kernel_size // 2))

    def execute(self, feature, guide_fg, guide_bg):
        """(N,inputs,h,w) and the deeper (N,num_class,h',w') maps to this stage's (fg, bg)."""
        x = self.refine(feature)
        fg, bg = (getattr(self, name)(x) for name in self._heads)
        return ops.dsra_gain(fg, guide_fg, guide_bg, self.use_softmax), bg
