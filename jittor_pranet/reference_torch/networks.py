"""PraNet-V1 and PraNet-V2 on either encoder, by their published names; EMCAD by its own file."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from jittor_pranet.reference_torch.decoders import (
    Aggregation,
    BasicConv2d,
    ReceptiveField,
    dsra,
    grey_to_colour,
    resize,
)
from jittor_pranet.reference_torch.emcad import EMCAD
from jittor_pranet.reference_torch.losses import mutation_loss, v1_loss, v2_loss
from jittor_pranet.reference_torch.pvt_v2 import PVTv2B2
from jittor_pranet.reference_torch.res2net import Res2Net50


class PraNet(nn.ModuleDict):
    """What both versions share. ``sides`` ends the names of the heads: ("",) in V1, ("_fg", "_bg") in V2."""

    def __init__(self, encoder: nn.Module, prefix: str, num_class: int, sides: tuple[str, ...]):
        super().__init__()
        if len(sides) == 2:
            self.conv = grey_to_colour()
        self.prefix = prefix
        self[prefix] = encoder
        for stage in (2, 3, 4):
            self[f"rfb{stage}_1"] = ReceptiveField(encoder.channels[stage - 1], 32)
        self.agg1 = Aggregation(32, num_class, sides)
        for stage, width, size, depth, head_size in ((4, 256, 5, 5, 1), (3, 64, 3, 4, 3), (2, 64, 3, 4, 3)):
            self[f"ra{stage}_conv1"] = BasicConv2d(encoder.channels[stage - 1], width)
            for i in range(2, depth):
                self[f"ra{stage}_conv{i}"] = BasicConv2d(width, width, size)
            for side in sides:
                self[f"ra{stage}_conv{depth}{side}"] = BasicConv2d(width, num_class, head_size)

    def features(self, x):
        """The encoder's features by stage, and the maps of the partial decoder."""
        features = dict(enumerate(self[self.prefix](x), start=1))
        coarse = self.agg1(*(self[f"rfb{stage}_1"](features[stage]) for stage in (4, 3, 2)))
        return features, coarse

    def refine(self, stage: int, x):
        x = self[f"ra{stage}_conv1"](x)
        for i in range(2, 5 if stage == 4 else 4):
            x = F.relu(self[f"ra{stage}_conv{i}"](x))
        return x

    def head(self, stage: int, x, side: str = ""):
        return self[f"ra{stage}_conv{5 if stage == 4 else 4}{side}"](x)


class PraNetV1(PraNet):
    def __init__(self, encoder: nn.Module, prefix: str, num_class: int):
        super().__init__(encoder, prefix, num_class, sides=("",))

    def forward(self, x):
        """Maps of stages 5, 4, 3, 2."""
        features, (guide,) = self.features(x.expand(-1, 3, -1, -1))
        maps = [resize(guide, 8)]
        for stage, factor, scale in ((4, 0.25, 32), (3, 2, 16), (2, 2, 8)):
            guide = resize(guide, factor)
            unfound = guide.softmax(1)[:, :1] if guide.shape[1] > 1 else 1 - guide.sigmoid()
            refined = self.refine(stage, unfound * features[stage])
            guide = self.head(stage, refined) + guide
            maps.append(resize(guide, scale))
        return maps

    def losses(self, maps, mask):
        return [v1_loss(each, mask) for each in maps]

    def multiclass_losses(self, maps, labels):
        return mutation_loss(maps, [], labels)

    def final_logits(self, maps):
        return maps[-1]


class PraNetV2(PraNet):
    def __init__(self, encoder: nn.Module, prefix: str, num_class: int, gain: str):
        super().__init__(encoder, prefix, num_class, sides=("_fg", "_bg"))
        self.gain = gain

    def forward(self, x):
        """Foreground maps of stages 2, 3, 4, 5, then background maps of the same."""
        features, (fg, bg) = self.features(self.conv(x) if x.shape[1] == 1 else x)
        fgs, bgs = [resize(fg, 8)], [resize(bg, 8)]
        for stage, factor, scale in ((4, 0.25, 32), (3, 2, 16), (2, 2, 8)):
            guides = resize(fg, factor), resize(bg, factor)
            refined = self.refine(stage, features[stage])
            fg, bg = self.head(stage, refined, "_fg"), self.head(stage, refined, "_bg")
            fg = dsra(fg, *guides, self.gain)
            fgs.insert(0, resize(fg, scale))
            bgs.insert(0, resize(bg, scale))
        return fgs + bgs

    def losses(self, maps, mask):
        half = len(maps) // 2
        return [v2_loss(fg, bg, mask) for fg, bg in zip(maps[:half], maps[half:])]

    def multiclass_losses(self, maps, labels):
        half = len(maps) // 2
        return mutation_loss(maps[:half], maps[half:], labels)

    def final_logits(self, maps):
        return sum(maps[:len(maps) // 2])


def build_torch_model(name: str, num_class: int = 1, gain: str = "softmax") -> nn.Module:
    """A network by the name it has in `lib.NETWORKS`, with PyTorch's default initial weights."""
    if name.startswith("EMCAD-"):
        return EMCAD(num_class, name.endswith("DSRA"), gain)
    encoder = PVTv2B2() if name.startswith("PVT-") else Res2Net50()
    if name.endswith("V2"):
        return PraNetV2(encoder, "backbone", num_class, gain)
    return PraNetV1(encoder, "resnet" if name == "PraNet-V1" else "backbone", num_class)
