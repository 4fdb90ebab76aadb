"""Res2Net50-v1b 26w 4s, by its published names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def conv(inputs: int, outputs: int, size: int, stride: int = 1):
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


class Bottle2neck(nn.Module):
    def __init__(self, inputs: int, planes: int, stride: int, first: bool):
        super().__init__()
        width = planes * 26 // 64
        self.first = first
        self.conv1, self.bn1 = conv(inputs, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.convs = nn.ModuleList(conv(width, width, 3, stride) for _ in range(3))
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(3))
        self.conv3, self.bn3 = conv(4 * width, 4 * planes, 1), nn.BatchNorm2d(4 * planes)
        if first:
            self.pool = nn.AvgPool2d(3, stride, padding=1)
            self.downsample = nn.Sequential(
                nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False),
                conv(inputs, 4 * planes, 1), nn.BatchNorm2d(4 * planes))

    def forward(self, x):
        *groups, last = F.relu(self.bn1(self.conv1(x))).chunk(4, dim=1)
        outputs = []
        for i, group in enumerate(groups):
            if i and not self.first:
                group = group + outputs[-1]
            outputs.append(F.relu(self.bns[i](self.convs[i](group))))
        outputs.append(self.pool(last) if self.first else last)
        residual = self.downsample(x) if self.first else x
        return F.relu(self.bn3(self.conv3(torch.cat(outputs, dim=1))) + residual)


class Res2Net50(nn.Module):
    channels = (256, 512, 1024, 2048)

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Sequential(conv(3, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU(),
                                   conv(32, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), conv(32, 64, 3))
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = self._layer(64, 64, 3, 1)
        self.layer2 = self._layer(256, 128, 4, 2)
        self.layer3 = self._layer(512, 256, 6, 2)
        self.layer4 = self._layer(1024, 512, 3, 2)
        self.fc = nn.Linear(2048, 1000)  # in the published state dicts, unused

    @staticmethod
    def _layer(inputs: int, planes: int, depth: int, stride: int):
        rest = [Bottle2neck(4 * planes, planes, 1, first=False) for _ in range(depth - 1)]
        return nn.Sequential(Bottle2neck(inputs, planes, stride, first=True), *rest)

    def forward(self, x):
        x = self.layer1(self.maxpool(F.relu(self.bn1(self.conv1(x)))))
        features = [x]
        for layer in (self.layer2, self.layer3, self.layer4):
            features.append(layer(features[-1]))
        return features
