"""The six networks: one assembly of encoders and decoders."""

from __future__ import annotations

from lib import ops
from lib.decoders import DECODERS
from lib.encoders import ENCODERS
from lib.layers import BatchNorm2d, Conv2d, conv_bn
from lib.published_names import PublishedModule
from lib.registry import GAINS, Network, check_size, find_network
from utils.errors import UserError
from utils.runtime.backend import jt

nn = jt.nn


def build_model(name: str, num_class: int = 1, gain: str = "softmax") -> PraNet:
    """A network with fresh weights.

    Args:
        name: one of `lib.NETWORKS`.
        num_class: channels of each map. With more than one the first is the background; V1 is published with
            one alone, see `lib.ops.reverse_attention` for more.
        gain: of DSRA, one of `lib.registry.GAINS`; see `lib.ops.dsra_gain`.

    Raises:
        UserError: unknown name or gain, a gain for a network without DSRA, or no class.
    """
    network = find_network(name)
    if num_class < 1:
        raise UserError(f"{num_class} classes; a network has 1 (a foreground alone) or more")
    if gain not in GAINS:
        raise UserError(f"unknown gain {gain!r}; the known ones are {', '.join(GAINS)}")
    if gain != GAINS[0] and not network.has_dsra:
        raise UserError(f"{name} has no DSRA, so no gain {gain!r}; leave it out, or take a network with DSRA")
    return PraNet(network, num_class, gain)


class PraNet(PublishedModule):
    """Encoder and decoder; see `build_model`."""

    def __init__(self, network: Network, num_class: int, gain: str):
        self.num_class = num_class
        (prefix, encoder), = network.encoders.items()
        self.encoder = ENCODERS[encoder]()
        self.decoder = DECODERS[network.decoder](self.encoder.channels, num_class, gain)
        self.published_names = {
            "encoder": prefix,
            **{f"encoder.{ours}": f"{prefix}.{published}"
               for ours, published in self.encoder.published_names.items()},
            **{f"decoder.{ours}": published for ours, published in self.decoder.published_names.items()}}
        self.optional_keys = (*(f"{prefix}.{key}" for key in self.encoder.optional_keys),
                              *self.decoder.optional_keys)
        if network.decoder != "RA":
            # Used on one-channel input; the published PraNet-V2 only carries its keys.
            self.conv = nn.Sequential(Conv2d(1, 3, 1), BatchNorm2d(3))
            self.optional_keys += ("conv.",)

    def execute(self, x):
        """Normalised images (N,3,H,W), or grey (N,1,H,W), to the decoder's maps (N,num_class,H,W).

        H and W are multiples of 32. The maps are logits, in the published order.

        Raises:
            UserError: another shape; names the sizes that would do.
        """
        self._check(x.shape)
        size = tuple(x.shape[2:])
        if x.shape[1] == 1:
            x = conv_bn(*self.conv, x, relu=True) if hasattr(self, "conv") else ops.concat([x] * 3)
        return [ops.resize_bilinear(each, size) for each in self.decoder(self.encoder(x))]

    def fuse(self) -> None:
        """Folds batch normalisations into their convolutions: for testing, with weights that stay."""
        for module in self.modules():
            if isinstance(module, BatchNorm2d):
                module.keep_folded()

    def losses(self, maps, mask, weighted_bce: bool = False):
        """The loss of each map, or pair with DSRA, on masks (N,num_class,H,W); their sum is trained.

        ``weighted_bce``: see `lib.losses.v1_loss`; with DSRA the BCE is always weighted.
        """
        return self.decoder.losses(maps, mask, weighted_bce)

    def multiclass_losses(self, maps, labels):
        """The terms ``decoder.multiclass_terms`` of the loss of several classes; their sum is trained.

        labels are int32 (N,H,W), from 0 (background) to num_class - 1. See `lib.losses.mutation_loss`.

        Raises:
            UserError: the network has one class.
        """
        return self.decoder.multiclass_losses(maps, labels)

    def final_logits(self, maps):
        """The logits to test with, (N,num_class,H,W)."""
        return self.decoder.final_logits(maps)

    @staticmethod
    def _check(shape) -> None:
        if len(shape) != 4 or shape[1] not in (1, 3):
            raise UserError(f"input of shape {tuple(shape)}, expected (N,C,H,W) with C in (1, 3)")
        check_size(*shape[2:])
