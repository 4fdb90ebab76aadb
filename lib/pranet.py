"""The four networks: one assembly of two encoders and two decoders."""

from __future__ import annotations

import re

from lib import ops
from lib.blocks import BatchNorm2d, Conv2d, conv_bn
from lib.catalog import Network, check_size, find_network
from lib.decoders import DualSupervisedDecoder, ReverseAttentionDecoder
from lib.pvt_v2 import PVTv2B2
from lib.res2net import Res2Net50
from utils.backend import jt
from utils.errors import UserError

nn = jt.nn
ENCODERS = {"Res2Net50-v1b": Res2Net50, "PVTv2-B2": PVTv2B2}
DECODERS = {"RA": ReverseAttentionDecoder, "DSRA": DualSupervisedDecoder}


def build_model(name: str, num_class: int = 1, use_softmax: bool = True) -> PraNet:
    """A network with fresh weights.

    Args:
        name: one of `lib.NETWORKS`.
        num_class: channels of each map; V1 knows only 1, its reverse attention being that of one map.
        use_softmax: V2 only; see `lib.ops.dsra_gain`.

    Raises:
        UserError: unknown name, or a number of classes that the network cannot have.
    """
    network = find_network(name)
    if num_class < 1 or (num_class > 1 and network.decoder == "RA"):
        raise UserError(f"{name} cannot have {num_class} classes; V1 networks have 1, V2 networks 1 or more")
    return PraNet(network, num_class, use_softmax)


class PraNet(nn.Module):
    """Encoder and decoder; see `build_model`."""

    def __init__(self, network: Network, num_class: int, use_softmax: bool):
        self._encoder_key = network.encoder_key
        self.encoder = ENCODERS[network.encoder]()
        self.decoder = DECODERS[network.decoder](self.encoder.channels[1:], num_class, use_softmax)
        self.optional_keys = tuple(f"{self._encoder_key}.{key}" for key in self.encoder.optional_keys)
        if network.decoder == "DSRA":
            # Used on one-channel input; the published PraNet-V2 only carries its keys.
            self.conv = nn.Sequential(Conv2d(1, 3, 1), BatchNorm2d(3))
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
            x = conv_bn(*self.conv, x, relu=True)
        maps = self.decoder(self.encoder(x)[1:])
        return [ops.resize_bilinear(each, size) for each in maps]

    def fuse(self) -> None:
        """Folds batch normalisations into their convolutions: for testing, with weights that stay."""
        for module in self.modules():
            if isinstance(module, BatchNorm2d):
                module.keep_folded()

    def losses(self, maps, mask):
        """The loss of each map (V1) or pair of maps (V2) on masks (N,num_class,H,W); their sum is trained."""
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
