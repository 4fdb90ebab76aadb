"""EMCAD on PVTv2-B2, with and without DSRA, by its published names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from jittor_pranet.reference_torch.decoders import BasicConv2d, dsra, grey_to_colour, resize
from jittor_pranet.reference_torch.losses import mutation_loss, v1_loss, v2_loss
from jittor_pranet.reference_torch.pvt_v2 import PVTv2B2

LEVELS = (4, 3, 2, 1)


def shuffle(x, groups: int):
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def depthwise(channels: int, size: int):
    return nn.Conv2d(channels, channels, size, padding=size // 2, groups=channels, bias=False)


def pointwise(inputs: int, outputs: int):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


class ChannelAttention(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, x):
        pooled = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        return sum(self.fc2(self.fc1(each).relu()) for each in pooled).sigmoid()


class SpatialAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x):
        pooled = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True).values], dim=1)
        return self.conv(pooled).sigmoid()


class MultiScale(nn.Module):
    """MSDC: depthwise convolutions side by side."""

    def __init__(self, channels: int):
        super().__init__()
        self.dwconvs = nn.ModuleList(
            nn.Sequential(depthwise(channels, size), nn.BatchNorm2d(channels)) for size in (1, 3, 5))

    def forward(self, x):
        return sum(F.relu6(conv(x)) for conv in self.dwconvs)


class MultiScaleBlock(nn.Module):
    """MSCB."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.pconv1 = pointwise(channels, 2 * channels)
        self.msdc = MultiScale(2 * channels)
        self.pconv2 = pointwise(2 * channels, channels)

    def forward(self, x):
        mixed = shuffle(self.msdc(F.relu6(self.pconv1(x))), self.channels)
        return x + self.pconv2(mixed)


class UpBlock(nn.Module):
    """EUCB; its channel shuffle has groups of one channel and does nothing."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.up_dwc = nn.Sequential(nn.Upsample(scale_factor=2), depthwise(inputs, 3), nn.BatchNorm2d(inputs))
        self.pwc = nn.Sequential(nn.Conv2d(inputs, outputs, 1))

    def forward(self, x):
        return self.pwc(F.relu(self.up_dwc(x)))


class Gate(nn.Module):
    """LGAG."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.W_g, self.W_x = (nn.Sequential(nn.Conv2d(channels, half, 3, padding=1, groups=half),
                                            nn.BatchNorm2d(half)) for _ in range(2))
        self.psi = nn.Sequential(nn.Conv2d(half, 1, 1), nn.BatchNorm2d(1))

    def forward(self, guide, x):
        return x * self.psi(F.relu(self.W_g(guide) + self.W_x(x))).sigmoid()


class Decoder(nn.ModuleDict):
    def __init__(self, channels: tuple[int, ...], num_class: int, dual: bool, gain: str):
        super().__init__()
        self.dual, self.gain = dual, gain
        widths = dict(zip(LEVELS, reversed(channels)))
        for level in LEVELS:
            width = widths[level]
            if level < 4:
                self[f"eucb{level}"], self[f"lgag{level}"] = UpBlock(widths[level + 1], width), Gate(width)
            self[f"mscb{level}"] = nn.Sequential(MultiScaleBlock(width))
        for level in LEVELS:
            self[f"cab{level}"] = ChannelAttention(widths[level])
        self.sab = SpatialAttention()
        for level in LEVELS if dual else ():
            size = 1 if level == 4 else 3
            for side in ("fg", "bg"):
                self[f"ConvBlock{level}_{side}"] = BasicConv2d(widths[level], num_class, size)

    def forward(self, features):
        """Features from coarse to fine; with DSRA the pairs of maps as well."""
        refined, pairs, x = [], [], None
        for level, skip in zip(LEVELS, reversed(features)):
            if x is None:
                x = skip
            else:
                guide = self[f"eucb{level}"](x)
                x = guide + self[f"lgag{level}"](guide, skip)
            x = self[f"cab{level}"](x) * x
            x = self.sab(x) * x
            x = self[f"mscb{level}"](x)
            refined.append(x)
            if self.dual:
                fg, bg = (self[f"ConvBlock{level}_{side}"](x) for side in ("fg", "bg"))
                if pairs:
                    fg = dsra(fg, *(resize(guide, 2) for guide in pairs[-1]), self.gain)
                pairs.append((fg, bg))
        return refined, pairs


class EMCAD(nn.ModuleDict):
    def __init__(self, num_class: int, dual: bool, gain: str):
        super().__init__()
        self.conv = grey_to_colour()
        self.backbone = PVTv2B2()
        self.dual = dual
        self.decoder = Decoder(self.backbone.channels, num_class, dual, gain)
        for level, width in zip(LEVELS, reversed(self.backbone.channels)):
            self[f"out_head{level}"] = nn.Conv2d(width, num_class, 1)  # unused with DSRA

    def forward(self, x):
        """Maps from coarse to fine; with DSRA the foregrounds, then the backgrounds."""
        refined, pairs = self.decoder(self.backbone(self.conv(x) if x.shape[1] == 1 else x))
        if self.dual:
            maps = [fg for fg, _ in pairs] + [bg for _, bg in pairs]
        else:
            maps = [self[f"out_head{level}"](each) for level, each in zip(LEVELS, refined)]
        return [resize(each, factor) for each, factor in zip(maps, (32, 16, 8, 4) * 2)]

    def losses(self, maps, mask):
        if self.dual:
            return [v2_loss(fg, bg, mask) for fg, bg in zip(maps[:4], maps[4:])]
        return [v1_loss(each, mask) for each in maps]

    def multiclass_losses(self, maps, labels):
        return mutation_loss(maps[:4], maps[4:], labels)

    def final_logits(self, maps):
        return sum(maps[:4]) if self.dual else maps[-1]
