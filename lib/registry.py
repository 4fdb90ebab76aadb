"""Names, parts and signatures of the networks, without building any: there before Jittor is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from utils.errors import UserError

GAINS = ("softmax", "sigmoid", "difference")  # of DSRA: see `lib.ops.dsra_gain`
TASKS = ("binary", "multiclass")
SIZE_DIVISOR = 32  # the encoders halve height and width five times
MAX_SIZE = 8192  # of an image's side: an activation of the first layers takes some GB there


@dataclass(frozen=True)
class Network:
    """What a network is made of, and the published training's epochs and batch size."""

    encoders: Mapping[str, str]  # by the prefix of their published names
    decoder: str
    epochs: int
    batch_size: int

    @property
    def has_dsra(self) -> bool:
        return self.decoder.endswith("DSRA")


NETWORKS = {
    "PraNet-V1": Network({"resnet": "Res2Net50-v1b"}, "RA", epochs=20, batch_size=16),
    "PVT-PraNet-V1": Network({"backbone": "PVTv2-B2"}, "RA", epochs=20, batch_size=16),
    "PraNet-V2": Network({"backbone": "Res2Net50-v1b"}, "DSRA", epochs=30, batch_size=8),
    "PVT-PraNet-V2": Network({"backbone": "PVTv2-B2"}, "DSRA", epochs=30, batch_size=8),
    "EMCAD-B2": Network({"backbone": "PVTv2-B2"}, "EMCAD", epochs=300, batch_size=6),
    "EMCAD-B2-DSRA": Network({"backbone": "PVTv2-B2"}, "EMCAD-DSRA", epochs=300, batch_size=6),
}


def find_network(name: str) -> Network:
    """The network of this name. Raises UserError, listing the known names, for an unknown one."""
    if name not in NETWORKS:
        raise UserError(f"unknown network {name!r}; the known ones are {', '.join(NETWORKS)}")
    return NETWORKS[name]


def check_size(*sides: int) -> None:
    """Raises UserError, naming the nearest sizes that would do, unless all are multiples of 32 up to 8192."""
    for side in sides:
        if side > MAX_SIZE:
            raise UserError(f"image size {side} is too large, at most {MAX_SIZE} is expected")
        if side < SIZE_DIVISOR or side % SIZE_DIVISOR:
            below = max(side // SIZE_DIVISOR, 1) * SIZE_DIVISOR
            raise UserError(f"image size {side} is not a multiple of {SIZE_DIVISOR}; {below} or "
                            f"{below + SIZE_DIVISOR} would do")


BARE_ENCODERS = ("a bare Res2Net encoder", "a bare PVTv2 encoder")

# Names that tell the published networks apart: a file is of the first that has all of them.
_SIGNATURES = (
    ("EMCAD-B2-DSRA", ("decoder.ConvBlock1_fg.conv.weight",)),
    ("EMCAD-B2", ("out_head1.weight",)),
    ("PraNet-V1", ("resnet.conv1.0.weight",)),
    ("PraNet-V2", ("backbone.conv1.0.weight",)),
    ("PVT-PraNet-V1", ("backbone.patch_embed1.proj.weight", "agg1.conv5.weight")),
    ("PVT-PraNet-V2", ("backbone.patch_embed1.proj.weight", "agg1.conv5_fg.weight")),
    (BARE_ENCODERS[0], ("conv1.0.weight",)),
    (BARE_ENCODERS[1], ("patch_embed1.proj.weight",)),
    (BARE_ENCODERS[1], ("patch_embed.proj.weight", "stages.1.downsample.proj.weight")),  # timm's names
)
_HEADS = ("agg1.conv5.bias", "agg1.conv5_fg.bias", "out_head1.bias")  # one value for each class


def identify_network(names: Mapping) -> str | None:
    """The network, or bare encoder, that has these names; None if it is no published one."""
    return next((known for known, signature in _SIGNATURES if all(name in names for name in signature)), None)


def class_count(weights: Mapping) -> int | None:
    """Number of classes of the published network that has these weights; None if it is none."""
    heads = [weights[head] for head in _HEADS if head in weights]
    return len(heads[0]) if heads and heads[0].ndim == 1 else None
