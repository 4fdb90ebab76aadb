"""Reverse attention (PraNet-V1) and dual-supervised reverse attention (DSRA, PraNet-V2), one stage each.

The stages stand by themselves: they take a feature and the maps of the deeper stage, and can be put into
any decoder; docs/dsra.md shows how.
"""

from __future__ import annotations

from lib import ops
from lib.layers import ConvBN
from utils.runtime.backend import jt

nn = jt.nn


class _Stage(nn.Module):
    """``convs`` convolutions: the first squeezes a feature by 1x1, the others refine it, each with ReLU."""

    def __init__(self, inputs: int, channels: int, convs: int, kernel_size: int):
        self.convs = nn.ModuleList([ConvBN(inputs, channels, 1)])
        for _ in range(1, convs):
            self.convs.append(ConvBN(channels, channels, kernel_size, padding=kernel_size // 2))

    def refine(self, feature):
        squeeze, *refining = self.convs
        x = squeeze(feature)
        for conv in refining:
            x = conv(x, relu=True)
        return x


class ReverseAttention(_Stage):
    """One stage of PraNet-V1 (Fan et al., "PraNet: Parallel Reverse Attention Network", MICCAI 2020).

    The feature is weighted by the deeper map's background, and the stage's map corrects the deeper one.
    """

    def __init__(self, inputs: int, channels: int, convs: int, kernel_size: int, head_kernel_size: int,
                 num_class: int = 1):
        super().__init__(inputs, channels, convs, kernel_size)
        self.head = ConvBN(channels, num_class, head_kernel_size, padding=head_kernel_size // 2)

    def execute(self, feature, guide):
        """(N,inputs,h,w) and the deeper map (N,num_class,h',w') to this stage's map (N,num_class,h,w)."""
        guide = ops.resize_bilinear(guide, feature.shape[2:])
        x = self.refine(ops.reverse_attention(guide, feature))
        return self.head(x, residual=guide)


class DualSupervisedReverseAttention(nn.Module):
    """DSRA (PraNet-V2): foreground and background maps of a feature.

    The former is raised by the deeper stage's maps, see `lib.ops.dsra_gain`.
    """

    def __init__(self, channels: int, num_class: int, kernel_size: int = 3, gain: str = "softmax"):
        self.gain = gain
        self.fg, self.bg = (ConvBN(channels, num_class, kernel_size, padding=kernel_size // 2)
                            for _ in range(2))

    def execute(self, x, deeper=None):
        """(N,channels,h,w) to this stage's maps (fg, bg), each (N,num_class,h,w).

        ``deeper`` are those of the deeper stage, of any height and width; the deepest stage has none.
        """
        fg, bg = self.fg(x), self.bg(x)
        return (ops.dsra_gain(fg, *deeper, self.gain), bg) if deeper else (fg, bg)


class DualSupervisedStage(_Stage):
    """One stage of PraNet-V2: a refined feature, and DSRA."""

    def __init__(self, inputs: int, channels: int, convs: int, kernel_size: int, head_kernel_size: int,
                 num_class: int, gain: str):
        super().__init__(inputs, channels, convs, kernel_size)
        self.head = DualSupervisedReverseAttention(channels, num_class, head_kernel_size, gain)

    def execute(self, feature, deeper):
        """(N,inputs,h,w) and the deeper (fg, bg), each (N,num_class,h',w'), to this stage's."""
        return self.head(self.refine(feature), deeper)
