"""Res2Net50-v1b 26w 4s (Gao et al., "Res2Net: A New Multi-scale Backbone Architecture", TPAMI 2021)."""

from __future__ import annotations

from lib.blocks import AveragePool, BatchNorm2d, Conv2d
from utils.backend import jt

nn = jt.nn
SCALES = 4       # groups in a block
BASE_WIDTH = 26  # channels of a group per 64 planes
EXPANSION = 4


class Bottle2neck(nn.Module):
    """Residual block whose 3x3 convolutions act on groups of channels, each fed by the one before.

    ``opening`` marks the first block of a layer: its groups do not feed each other, the last one is pooled,
    and the shortcut is projected.
    """

    def __init__(self, inputs: int, planes: int, stride: int, opening: bool):
        width = planes * BASE_WIDTH // 64
        self._opening = opening
        self.conv1 = Conv2d(inputs, width * SCALES, 1, bias=False)
        self.bn1 = BatchNorm2d(width * SCALES)
        self.convs = nn.ModuleList([Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
                                    for _ in range(SCALES - 1)])
        self.bns = nn.ModuleList([BatchNorm2d(width) for _ in range(SCALES - 1)])
        self.conv3 = Conv2d(width * SCALES, planes * EXPANSION, 1, bias=False)
        self.bn3 = BatchNorm2d(planes * EXPANSION)
        if opening:
            self.pool = AveragePool(3, stride, padding=1)
            # The published shortcut pools with ceil_mode and without counting padding: neither acts on even
            # sizes.
            self.downsample = nn.Sequential(AveragePool(stride, stride),
                                            Conv2d(inputs, planes * EXPANSION, 1, bias=False),
                                            BatchNorm2d(planes * EXPANSION))

    def execute(self, x):
        shortcut = self.downsample(x) if self._opening else x
        groups = jt.chunk(nn.relu(self.bn1(self.conv1(x))), SCALES, dim=1)
        outputs = []
        for group, conv, norm in zip(groups, self.convs, self.bns):
            source = group if self._opening or not outputs else outputs[-1] + group
            outputs.append(nn.relu(norm(conv(source))))
        outputs.append(self.pool(groups[-1]) if self._opening else groups[-1])
        return nn.relu(self.bn3(self.conv3(jt.concat(outputs, dim=1))) + shortcut)


class Res2Net50(nn.Module):
    """(N,3,H,W) to four features at 1/4, 1/8, 1/16, 1/32 of H and W, with ``channels`` channels."""

    channels = (256, 512, 1024, 2048)
    # The classifier is part of the published files; kept so that they load and are written whole.
    optional_keys = ("fc.",)

    def __init__(self):
        self.conv1 = nn.Sequential(
            Conv2d(3, 32, 3, stride=2, padding=1, bias=False), BatchNorm2d(32), nn.ReLU(),
            Conv2d(32, 32, 3, padding=1, bias=False), BatchNorm2d(32), nn.ReLU(),
            Conv2d(32, 64, 3, padding=1, bias=False))
        self.bn1 = BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = 64
        for index, (planes, blocks) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3)), start=1):
            setattr(self, f"layer{index}", _layer(inputs, planes, blocks, stride=1 if index == 1 else 2))
            inputs = planes * EXPANSION
        self.fc = nn.Linear(inputs, 1000)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for unused in self.fc.parameters():
            unused.stop_grad()

    def execute(self, x):
        x = self.maxpool(nn.relu(self.bn1(self.conv1(x))))
        features = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            features.append(x)
        return features


def _layer(inputs: int, planes: int, blocks: int, stride: int):
    first = Bottle2neck(inputs, planes, stride, opening=True)
    rest = [Bottle2neck(planes * EXPANSION, planes, 1, opening=False) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)
