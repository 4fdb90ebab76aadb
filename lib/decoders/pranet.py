"""The two decoders of PraNet: how deep features become maps."""

from __future__ import annotations

from lib import ops
from lib.decoders.supervision import DualSupervision, SingleSupervision
from lib.layers import Conv2d, ConvBN
from lib.published_names import PublishedModule, numbered
from lib.reverse_attention import DualSupervisedStage, ReverseAttention
from utils.runtime.backend import jt

nn = jt.nn
CHANNELS = 32  # after the receptive-field blocks

# Stage: channels, last refining convolution, its kernel size, kernel size of the heads.
STAGES = {4: (256, 4, 5, 1), 3: (64, 3, 3, 3), 2: (64, 3, 3, 3)}

_PUBLISHED = {"partial_decoder": "agg1", **numbered({"receptive_fields.{}": "rfb{}_1"}, (2, 3, 4)),
              **numbered({f"stages.{{}}.convs.{i}": f"ra{{}}_conv{i + 1}" for i in range(4)}, STAGES)}
_HEADS = {"stages.0.head": "ra4_conv5", "stages.1.head": "ra3_conv4", "stages.2.head": "ra2_conv4"}
_PUBLISHED_V1 = {**_PUBLISHED, "partial_decoder.heads.0": "agg1.conv5", **_HEADS}
_PUBLISHED_V2 = {**_PUBLISHED,
                 "partial_decoder.heads.0": "agg1.conv5_fg", "partial_decoder.heads.1": "agg1.conv5_bg",
                 **{f"{ours}.{side}": f"{published}_{side}" for ours, published in _HEADS.items()
                    for side in ("fg", "bg")}}


class ReceptiveFieldBlock(nn.Module):
    """(N,inputs,H,W) to (N,outputs,H,W) by four branches of growing reach. Published name: RFB_modified."""

    def __init__(self, inputs: int, outputs: int):
        self.branch0 = nn.Sequential(ConvBN(inputs, outputs, 1))
        self.branch1, self.branch2, self.branch3 = (self._branch(inputs, outputs, size) for size in (3, 5, 7))
        self.conv_cat = ConvBN(4 * outputs, outputs, 3, padding=1)
        self.conv_res = ConvBN(inputs, outputs, 1)

    @staticmethod
    def _branch(inputs: int, outputs: int, size: int):
        half = size // 2
        return nn.Sequential(ConvBN(inputs, outputs, 1),
                             ConvBN(outputs, outputs, (1, size), padding=(0, half)),
                             ConvBN(outputs, outputs, (size, 1), padding=(half, 0)),
                             ConvBN(outputs, outputs, 3, padding=size, dilation=size))

    def execute(self, x):
        branches = [branch(x) for branch in (self.branch0, self.branch1, self.branch2, self.branch3)]
        return self.conv_cat(ops.concat(branches), residual=self.conv_res(x), relu=True)


class PartialDecoder(nn.Module):
    """Fuses the three deep features into coarse maps at the resolution of the finest (PraNet, MICCAI 2020).

    Published name: aggregation.
    """

    def __init__(self, channels: int, num_class: int, heads: int):
        self.conv_upsample1, self.conv_upsample2, self.conv_upsample3, self.conv_upsample4 = (
            ConvBN(channels, channels, 3, padding=1) for _ in range(4))
        self.conv_upsample5 = ConvBN(2 * channels, 2 * channels, 3, padding=1)
        self.conv_concat2 = ConvBN(2 * channels, 2 * channels, 3, padding=1)
        self.conv_concat3 = ConvBN(3 * channels, 3 * channels, 3, padding=1)
        self.conv4 = ConvBN(3 * channels, 3 * channels, 3, padding=1)
        self.heads = nn.ModuleList([Conv2d(3 * channels, num_class, 1) for _ in range(heads)])

    def execute(self, deep, middle, shallow):
        """(N,C,h,w), (N,C,2h,2w), (N,C,4h,4w) to one (N,num_class,4h,4w) map per head."""
        deep_up = self._up(deep)
        middle_1 = self.conv_upsample1(deep_up) * middle
        shallow_1 = self.conv_upsample2(self._up(deep_up)) * self.conv_upsample3(self._up(middle)) * shallow
        middle_2 = self.conv_concat2(ops.concat([middle_1, self.conv_upsample4(deep_up)]))
        fused = self.conv_concat3(ops.concat([shallow_1, self.conv_upsample5(self._up(middle_2))]))
        fused = self.conv4(fused)
        return tuple(head(fused) for head in self.heads)

    @staticmethod
    def _up(x):
        # Unlike every other resize of these networks; the published weights were trained with it.
        return ops.scale_bilinear(x, 2, align_corners=True)


class _Decoder(PublishedModule):
    """Takes four features from fine to coarse, with the given channels, and leaves the finest out.

    Stages go from deep to fine.
    """

    def __init__(self, channels: tuple[int, ...], num_class: int, heads: int):
        self.receptive_fields = nn.ModuleList([ReceptiveFieldBlock(inputs, CHANNELS)
                                               for inputs in channels[1:]])
        self.partial_decoder = PartialDecoder(CHANNELS, num_class, heads)

    def coarse(self, features):
        """The maps of stage 5."""
        pairs = list(zip(self.receptive_fields, features[1:]))
        deep, middle, shallow = (block(x) for block, x in reversed(pairs))  # in the published order
        return self.partial_decoder(deep, middle, shallow)


class ReverseAttentionDecoder(SingleSupervision, _Decoder):
    """PraNet-V1: maps of stages 5, 4, 3, 2, in this order."""

    supervised_stages = (5, 4, 3, 2)
    published_names = _PUBLISHED_V1

    def __init__(self, channels: tuple[int, ...], num_class: int, gain: str):
        super().__init__(channels, num_class, heads=1)
        self.stages = nn.ModuleList([ReverseAttention(inputs, *stage, num_class)
                                     for inputs, stage in zip(reversed(channels), STAGES.values())])

    def execute(self, features):
        maps = list(self.coarse(features))
        for stage, feature in zip(self.stages, reversed(features)):
            maps.append(stage(feature, maps[-1]))
        return maps


class DualSupervisedDecoder(DualSupervision, _Decoder):
    """PraNet-V2: foreground maps of stages 2, 3, 4, 5, then background maps of the same."""

    supervised_stages = (2, 3, 4, 5)
    published_names = _PUBLISHED_V2

    def __init__(self, channels: tuple[int, ...], num_class: int, gain: str):
        super().__init__(channels, num_class, heads=2)
        self.stages = nn.ModuleList([DualSupervisedStage(inputs, *stage, num_class, gain)
                                     for inputs, stage in zip(reversed(channels), STAGES.values())])

    def execute(self, features):
        pairs = [self.coarse(features)]
        for stage, feature in zip(self.stages, reversed(features)):
            pairs.insert(0, stage(feature, pairs[0]))
        return [fg for fg, _ in pairs] + [bg for _, bg in pairs]
