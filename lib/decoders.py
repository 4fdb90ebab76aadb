"""The two decoders: how deep features become maps, how the maps are supervised and how they are read."""

from __future__ import annotations

from lib import losses, ops
from lib.blocks import PartialDecoder, ReceptiveFieldBlock
from lib.reverse_attention import DualSupervisedReverseAttention, ReverseAttention
from utils.backend import jt

nn = jt.nn
CHANNELS = 32  # after the receptive-field blocks

# Stage: channels, last refining convolution, its kernel size, kernel size of the heads.
STAGES = {4: (256, 4, 5, 1), 3: (64, 3, 3, 3), 2: (64, 3, 3, 3)}


class _Decoder(nn.Module):
    """Takes the features at 1/8, 1/16, 1/32, with the given channels; stages go from deep to fine."""

    def __init__(self, channels: tuple[int, ...], num_class: int, heads: tuple[str, ...]):
        self.rfb2_1, self.rfb3_1, self.rfb4_1 = (ReceptiveFieldBlock(inputs, CHANNELS) for inputs in channels)
        self.agg1 = PartialDecoder(CHANNELS, num_class, heads)

    def coarse(self, features):
        shallow, middle, deep = features
        return self.agg1(self.rfb4_1(deep), self.rfb3_1(middle), self.rfb2_1(shallow))


class ReverseAttentionDecoder(_Decoder):
    """PraNet-V1: maps of stages 5, 4, 3, 2, in this order."""

    stages = (5, 4, 3, 2)  # that the losses are of

    def __init__(self, channels: tuple[int, ...], num_class: int, use_softmax: bool):
        super().__init__(channels, num_class, heads=("conv5",))
        self.weighted_bce = False  # see `lib.losses.single_supervision`
        for stage, inputs in zip(STAGES, reversed(channels)):
            setattr(self, f"ra{stage}", ReverseAttention(inputs, *STAGES[stage]))

    def execute(self, features):
        maps = list(self.coarse(features))
        for stage, feature in zip(STAGES, reversed(features)):
            maps.append(getattr(self, f"ra{stage}")(feature, maps[-1]))
        return maps

    def losses(self, maps, mask):
        weight = ops.boundary_weight(mask)
        return [losses.single_supervision(each, mask, weight, self.weighted_bce) for each in maps]

    def merge(self, maps):
        """The map to test with: that of stage 2."""
        return maps[-1]


class DualSupervisedDecoder(_Decoder):
    """PraNet-V2: foreground maps of stages 2, 3, 4, 5, then background maps of the same."""

    stages = (2, 3, 4, 5)  # that the losses are of

    def __init__(self, channels: tuple[int, ...], num_class: int, use_softmax: bool):
        super().__init__(channels, num_class, heads=("conv5_fg", "conv5_bg"))
        for stage, inputs in zip(STAGES, reversed(channels)):
            setattr(self, f"ra{stage}",
                    DualSupervisedReverseAttention(inputs, *STAGES[stage], num_class, use_softmax))

    def execute(self, features):
        pairs = [self.coarse(features)]
        for stage, feature in zip(STAGES, reversed(features)):
            pairs.insert(0, getattr(self, f"ra{stage}")(feature, *pairs[0]))
        return [fg for fg, _ in pairs] + [bg for _, bg in pairs]

    def losses(self, maps, mask):
        half = len(maps) // 2
        weight = ops.boundary_weight(mask)
        return [losses.dual_supervision(fg, bg, mask, weight) for fg, bg in zip(maps[:half], maps[half:])]

    def merge(self, maps):
        """The map to test with: the sum of the foreground maps."""
        return sum(maps[1:len(maps) // 2], maps[0])
