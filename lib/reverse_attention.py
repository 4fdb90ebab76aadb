"""Reverse attention (PraNet-V1) and dual-supervised reverse attention (PraNet-V2), one stage each.

The stages stand by themselves: they take a feature and the maps of the deeper stage, and can be put into
any decoder.
"""

from __future__ import annotations

from lib import ops
from lib.blocks import ConvBN
from utils.backend import jt

nn = jt.nn


def dsra_gain(fg, guide_fg, guide_bg, use_softmax: bool = True):
    """Raises a stage's own foreground map by what the deeper stage found: R_f = P_f + P_f * gamma.

    gamma = softmax(up(R_f') - up(R_b')) over the classes (PraNet-V2), or the plain difference.
    fg is (N,num_class,h,w); the guides are the deeper stage's maps (N,num_class,h',w').

    **With one class the softmax is identically 1**: the result is 2 P_f and no gradient reaches the guides.
    That is the published binary network, whose weights rely on it.
    """
    size = fg.shape[2:]
    difference = ops.resize_bilinear(guide_fg, size) - ops.resize_bilinear(guide_bg, size)
    gamma = nn.softmax(difference, dim=1) if use_softmax else difference
    return fg + fg * gamma


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
            x = nn.relu(getattr(self, name)(x))
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
        x = self.refine((1.0 - jt.sigmoid(guide)) * feature)
        return getattr(self, self._head)(x) + guide


class DualSupervisedReverseAttention(_Stage):
    """One stage of PraNet-V2: foreground and background maps of its own, the former raised by `dsra_gain`."""

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
        return dsra_gain(fg, guide_fg, guide_bg, self.use_softmax), bg
