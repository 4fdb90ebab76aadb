"""Receptive-field blocks, partial decoder, and the layers of the reverse attention stages."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def resize(x, factor: float, align_corners: bool = False):
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=align_corners)


def dsra(fg, guide_fg, guide_bg, gain: str):
    """The foreground raised by the deeper stage's maps, which have its size."""
    difference = guide_fg - guide_bg
    gamma = {"softmax": lambda: difference.softmax(1), "sigmoid": difference.sigmoid,
             "difference": lambda: difference}[gain]()
    return fg + fg * gamma


def grey_to_colour():
    return nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.ReLU())


class BasicConv2d(nn.Module):
    """Convolution that keeps the size, and batch normalisation."""

    def __init__(self, inputs: int, outputs: int, size=1, dilation: int = 1):
        super().__init__()
        height, width = (size, size) if isinstance(size, int) else size
        padding = dilation * (height // 2), dilation * (width // 2)
        self.conv = nn.Conv2d(inputs, outputs, (height, width), 1, padding, dilation, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return self.bn(self.conv(x))


class ReceptiveField(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.branch0 = nn.Sequential(BasicConv2d(inputs, outputs))
        self.branch1, self.branch2, self.branch3 = (nn.Sequential(
            BasicConv2d(inputs, outputs), BasicConv2d(outputs, outputs, (1, size)),
            BasicConv2d(outputs, outputs, (size, 1)), BasicConv2d(outputs, outputs, 3, dilation=size))
            for size in (3, 5, 7))
        self.conv_cat = BasicConv2d(4 * outputs, outputs, 3)
        self.conv_res = BasicConv2d(inputs, outputs)

    def forward(self, x):
        branches = self.branch0, self.branch1, self.branch2, self.branch3
        return F.relu(self.conv_cat(torch.cat([branch(x) for branch in branches], dim=1)) + self.conv_res(x))


class Aggregation(nn.ModuleDict):
    """The partial decoder; for ``sides`` see `PraNet`."""

    def __init__(self, width: int, num_class: int, sides: tuple[str, ...]):
        super().__init__()
        self.conv_upsample1, self.conv_upsample2, self.conv_upsample3, self.conv_upsample4 = (
            BasicConv2d(width, width, 3) for _ in range(4))
        self.conv_upsample5 = BasicConv2d(2 * width, 2 * width, 3)
        self.conv_concat2 = BasicConv2d(2 * width, 2 * width, 3)
        self.conv_concat3 = BasicConv2d(3 * width, 3 * width, 3)
        self.conv4 = BasicConv2d(3 * width, 3 * width, 3)
        self.heads = [f"conv5{side}" for side in sides]
        for head in self.heads:
            self[head] = nn.Conv2d(3 * width, num_class, 1)

    def forward(self, a, b, c):
        """a at 1/32, b at 1/16, c at 1/8; returns one map at 1/8 for each side."""
        def up(x):
            return resize(x, 2, align_corners=True)

        b1 = self.conv_upsample1(up(a)) * b
        c1 = self.conv_upsample2(up(up(a))) * self.conv_upsample3(up(b)) * c
        b2 = self.conv_concat2(torch.cat([b1, self.conv_upsample4(up(a))], dim=1))
        c2 = self.conv_concat3(torch.cat([c1, self.conv_upsample5(up(b2))], dim=1))
        x = self.conv4(c2)
        return [self[head](x) for head in self.heads]
