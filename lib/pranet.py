"""The four networks: one assembly of two encoders and two decoders."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lib import ops
from lib.blocks import BatchNorm2d
from lib.decoders import DualSupervisedDecoder, ReverseAttentionDecoder
from lib.pvt_v2 import PVTv2B2
from lib.res2net import Res2Net50
from utils.backend import jt
from utils.errors import UserError

nn = jt.nn
SIZE_DIVISOR = 32  # the encoders halve height and width five times


@dataclass(frozen=True)
class Architecture:
    encoder: type
    decoder: type
    encoder_key: str         # prefix of the encoder's published names
    grey_input: bool         # carries a 1x1 convolution from one channel to three


ARCHITECTURES = {
    "PraNet-V1": Architecture(Res2Net50, ReverseAttentionDecoder, "resnet", grey_input=False),
    "PVT-PraNet-V1": Architecture(PVTv2B2, ReverseAttentionDecoder, "backbone", grey_input=False),
    "PraNet-V2": Architecture(Res2Net50, DualSupervisedDecoder, "backbone", grey_input=True),
    "PVT-PraNet-V2": Architecture(PVTv2B2, DualSupervisedDecoder, "backbone", grey_input=True),
}


def build_model(name: str, num_class: int = 1, use_softmax: bool = True) -> PraNet:
    """A network with fresh weights.

    Args:
        name: one of `ARCHITECTURES`.
        num_class: channels of each map; V1 knows only 1, its reverse attention being that of one map.
        use_softmax: V2 only; see `lib.reverse_attention.dsra_gain`.

    Raises:
        UserError: unknown name, or a number of classes that the network cannot have.
    """
    if name not in ARCHITECTURES:
        raise UserError(f"unknown network {name!r}; the known ones are {', '.join(ARCHITECTURES)}")
    architecture = ARCHITECTURES[name]
    if num_class < 1 or (num_class > 1 and architecture.decoder is ReverseAttentionDecoder):
        raise UserError(f"{name} cannot have {num_class} classes; V1 networks have 1, V2 networks 1 or more")
    return PraNet(architecture, num_class, use_softmax)


class PraNet(nn.Module):
    """Encoder and decoder; see `build_model`."""

    def __init__(self, architecture: Architecture, num_class: int, use_softmax: bool):
        self._encoder_key = architecture.encoder_key
        self.encoder = architecture.encoder()
        self.decoder = architecture.decoder(self.encoder.channels[1:], num_class, use_softmax)
        self.optional_keys = tuple(f"{self._encoder_key}.{key}" for key in self.encoder.optional_keys)
        if architecture.grey_input:
            # Used on one-channel input; the published PraNet-V2 only carries its keys.
            self.conv = nn.Sequential(nn.Conv2d(1, 3, 1), BatchNorm2d(3), nn.ReLU())
            self.optional_keys += ("conv.",)

    def execute(self, x):
        """Normalised images (N,3,H,W), H and W multiples of 32, to the decoder's maps (N,num_class,H,W).

        V2 networks take (N,1,H,W) too. The maps are logits, in the published order.

        Raises:
            UserError: another shape; names the sizes that would do.
        """
        self._check(x.shape)
        size = tuple(x.shape[2:])
        if x.shape[1] == 1:
            x = self.conv(x)
        maps = self.decoder(self.encoder(x)[1:])
        return [ops.resize_bilinear(each, size) for each in maps]

    def losses(self, maps, mask):
        """The loss of each map (V1) or pair of maps (V2) against masks (N,num_class,H,W); the sum is trained."""
        return self.decoder.losses(maps, mask)

    def merge(self, maps):
        """The one map of logits to test with, (N,num_class,H,W)."""
        return self.decoder.merge(maps)

    def state_dict(self, *args, **options) -> dict:
        """Parameters and running statistics under their published names."""
        own = super().state_dict(*args, **options)
        return {self.published_name(name): value for name, value in own.items()}

    def published_name(self, name: str) -> str:
        """"encoder.x" is published as "backbone.x", "decoder.ra4.conv1.x" as "ra4_conv1.x"."""
        name = re.sub(r"^encoder\.", f"{self._encoder_key}.", name)
        return re.sub(r"^ra(\d)\.", r"ra\1_", name.removeprefix("decoder."))

    def _check(self, shape) -> None:
        channels = (1, 3) if hasattr(self, "conv") else (3,)
        if len(shape) != 4 or shape[1] not in channels:
            raise UserError(f"input of shape {tuple(shape)}, expected (N,C,H,W) with C in {channels}")
        check_size(*shape[2:])


def check_size(*sides: int) -> None:
    """Raises UserError, naming the nearest sizes that would do, unless all sides are multiples of 32."""
    for side in sides:
        if side < SIZE_DIVISOR or side % SIZE_DIVISOR:
            below = max(side // SIZE_DIVISOR, 1) * SIZE_DIVISOR
            raise UserError(f"input size {side} is not a multiple of {SIZE_DIVISOR}; {below} or "
                            f"{below + SIZE_DIVISOR} would do")
