"""Res2Net50-v1b 26w 4s (Gao et al., "Res2Net: A New Multi-scale Backbone Architecture", TPAMI 2021)."""

from __future__ import annotations

from lib import ops
from lib.layers import AveragePool, BatchNorm2d, Conv2d, conv_bn
from lib.published_names import PublishedModule, numbered
from utils.runtime.backend import jt

nn = jt.nn
SCALES = 4       # groups in a block
BASE_WIDTH = 26  # channels of a group per 64 planes
EXPANSION = 4


class Bottle2neck(nn.Module):
    """Residual block whose 3x3 convolutions act on groups of channels, each fed by the one before.

    ``opening`` marks the first block of a stage: its groups do not feed each other, the last one is pooled,
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
        shortcut = x
        if self._opening:
            pool, conv, norm = self.downsample
            shortcut = conv_bn(conv, norm, pool(x))
        groups = ops.split(conv_bn(self.conv1, self.bn1, x, relu=True), SCALES)
        outputs = []
        for group, conv, norm in zip(groups, self.convs, self.bns):
            source = group if self._opening or not outputs else outputs[-1] + group
            outputs.append(conv_bn(conv, norm, source, relu=True))
        outputs.append(self.pool(groups[-1]) if self._opening else groups[-1])
        return conv_bn(self.conv3, self.bn3, ops.concat(outputs), residual=shortcut, relu=True)


class Res2Net50(PublishedModule):
    """(N,3,H,W) to four features at 1/4, 1/8, 1/16, 1/32 of H and W, with ``channels`` channels."""

    channels = (256, 512, 1024, 2048)
    published_names = numbered({"stages.{}": "layer{}"}, (1, 2, 3, 4))
    # The classifier is part of the published files; kept so that they load and are written whole.
    optional_keys = ("fc.",)

    def __init__(self):
        # Identities hold the places of the published ReLUs, for the names of what follows them.
        self.conv1 = nn.Sequential(
            Conv2d(3, 32, 3, stride=2, padding=1, bias=False), BatchNorm2d(32), nn.Identity(),
            Conv2d(32, 32, 3, padding=1, bias=False), BatchNorm2d(32), nn.Identity(),
            Conv2d(32, 64, 3, padding=1, bias=False))
        self.bn1 = BatchNorm2d(64)
        self.stages = nn.ModuleList([
            _stage(64, 64, blocks=3, stride=1), _stage(256, 128, blocks=4, stride=2),
            _stage(512, 256, blocks=6, stride=2), _stage(1024, 512, blocks=3, stride=2)])
        self.fc = nn.Linear(2048, 1000)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for unused in self.fc.parameters():
            unused.stop_grad()

    def execute(self, x):
        conv1, bn1, _, conv2, bn2, _, conv3 = self.conv1
        x = conv_bn(conv2, bn2, conv_bn(conv1, bn1, x, relu=True), relu=True)
        x = ops.max_pool(conv_bn(conv3, self.bn1, x, relu=True))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def _stage(inputs: int, planes: int, blocks: int, stride: int):
    first = Bottle2neck(inputs, planes, stride, opening=True)
    rest = [Bottle2neck(planes * EXPANSION, planes, 1, opening=False) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)
