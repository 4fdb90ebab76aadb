"""The two decoders of PraNet: how deep features become maps."""

from __future__ import annotations

import re

from lib.decoders.supervision import DualSupervision, SingleSupervision
from lib.layers import PartialDecoder, ReceptiveFieldBlock
from lib.reverse_attention import DualSupervisedStage, ReverseAttention
from utils.runtime.backend import jt

nn = jt.nn
CHANNELS = 32  # after the receptive-field blocks

# Stage: channels, last refining convolution, its kernel size, kernel size of the heads.
STAGES = {4: (256, 4, 5, 1), 3: (64, 3, 3, 3), 2: (64, 3, 3, 3)}


class _Decoder(nn.Module):
    """Takes four features from fine to coarse, with the given channels, and leaves the finest out.

    Stages go from deep to fine.
    """

    optional_keys = ()

    def __init__(self, channels: tuple[int, ...], num_class: int, heads: tuple[str, ...]):
        self.rfb2_1, self.rfb3_1, self.rfb4_1 = (ReceptiveFieldBlock(inputs, CHANNELS)
                                                 for inputs in channels[1:])
        self.agg1 = PartialDecoder(CHANNELS, num_class, heads)

    def coarse(self, features):
        _, shallow, middle, deep = features
        return self.agg1(self.rfb4_1(deep), self.rfb3_1(middle), self.rfb2_1(shallow))

    @staticmethod
    def published_name(name: str) -> str:
        """"ra4.conv1.x" is published as "ra4_conv1.x"."""
        return re.sub(r"^ra(\d)\.", r"ra\1_", name)


class ReverseAttentionDecoder(SingleSupervision, _Decoder):
    """PraNet-V1: maps of stages 5, 4, 3, 2, in this order."""

    stages = (5, 4, 3, 2)  # that the losses are of

    def __init__(self, channels: tuple[int, ...], num_class: int, gain: str):
        super().__init__(channels, num_class, heads=("conv5",))
        for stage, inputs in zip(STAGES, reversed(channels)):
            setattr(self, f"ra{stage}", ReverseAttention(inputs, *STAGES[stage], num_class))

    def execute(self, features):
        maps = list(self.coarse(features))
        for stage, feature in zip(STAGES, reversed(features)):
            maps.append(getattr(self, f"ra{stage}")(feature, maps[-1]))
        return maps


class DualSupervisedDecoder(DualSupervision, _Decoder):
    """PraNet-V2: foreground maps of stages 2, 3, 4, 5, then background maps of the same."""

    stages = (2, 3, 4, 5)  # that the losses are of

    def __init__(self, channels: tuple[int, ...], num_class: int, gain: str):
        super().__init__(channels, num_class, heads=("conv5_fg", "conv5_bg"))
        for stage, inputs in zip(STAGES, reversed(channels)):
            setattr(self, f"ra{stage}", DualSupervisedStage(inputs, *STAGES[stage], num_class, gain))

    def execute(self, features):
        pairs = [self.coarse(features)]
        for stage, feature in zip(STAGES, reversed(features)):
            pairs.insert(0, getattr(self, f"ra{stage}")(feature, pairs[0]))
        return [fg for fg, _ in pairs] + [bg for _, bg in pairs]
