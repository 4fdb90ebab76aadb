"""EMCAD (Rahman et al., "EMCAD: Efficient Multi-scale Convolutional Attention Decoding", CVPR 2024), with and
without DSRA (PraNet-V2)."""

from __future__ import annotations

from lib import ops
from lib.decoders.supervision import DualSupervision, SingleSupervision
from lib.layers import BatchNorm2d, Conv2d, conv_bn
from lib.published_names import PublishedModule, numbered
from lib.reverse_attention import DualSupervisedReverseAttention
from utils.runtime.backend import jt

nn = jt.nn
LEVELS = (4, 3, 2, 1)  # from coarse to fine
SQUEEZE = 16           # channels to those inside the channel attention
KERNEL_SIZES = (1, 3, 5)
CEILING = 6.0          # of a ReLU6
INITIAL_STD = 0.02


class ChannelAttention(nn.Module):
    """(N,C,H,W) times a weight for each channel, from its mean and its maximum. Published name: CAB."""

    def __init__(self, channels: int):
        self.fc1 = Conv2d(channels, channels // SQUEEZE, 1, bias=False)
        self.fc2 = Conv2d(channels // SQUEEZE, channels, 1, bias=False)

    def execute(self, x):
        pooled = x.mean((2, 3), keepdims=True), x.max((2, 3), keepdims=True)
        return x * jt.sigmoid(sum(self.fc2(nn.relu(self.fc1(each))) for each in pooled))


class SpatialAttention(nn.Module):
    """(N,C,H,W) times a weight for each pixel, from mean and maximum over channels. Published name: SAB."""

    def __init__(self):
        self.conv = Conv2d(2, 1, 7, padding=3, bias=False)

    def execute(self, x):
        pooled = ops.concat([x.mean(1, keepdims=True), x.max(1, keepdims=True)])
        return ops.gate(self.conv(pooled), x)


def depthwise(channels: int, size: int) -> Conv2d:
    return Conv2d(channels, channels, size, padding=size // 2, groups=channels, bias=False)


class MultiScaleConv(nn.Module):
    """The sum of depthwise convolutions of several sizes, each with BN and ReLU6. Published name: MSDC."""

    def __init__(self, channels: int):
        self.dwconvs = nn.ModuleList([nn.Sequential(depthwise(channels, size), BatchNorm2d(channels))
                                      for size in KERNEL_SIZES])

    def execute(self, x):
        return ops.clamped_sum([conv_bn(*pair, x, relu=True) for pair in self.dwconvs], CEILING)


class ShuffledConv2d(Conv2d):
    """A 1x1 convolution of shuffled channels: two in turns are first all even ones, then all odd ones.

    The weights are put in the order of the maps, which are larger.
    """

    @property
    def filter(self):
        outputs, inputs = self.weight.shape[:2]
        pairs = self.weight.reshape(outputs, 2, inputs // 2)
        return ops.matrix_transpose(pairs).reshape(outputs, inputs, 1, 1)


class MultiScaleBlock(nn.Module):
    """Inverted residual block around a multi-scale convolution. Published name: MSCB."""

    def __init__(self, channels: int):
        self.pconv1 = nn.Sequential(Conv2d(channels, 2 * channels, 1, bias=False), BatchNorm2d(2 * channels))
        self.msdc = MultiScaleConv(2 * channels)
        self.pconv2 = nn.Sequential(ShuffledConv2d(2 * channels, channels, 1, bias=False),
                                    BatchNorm2d(channels))

    def execute(self, x):
        y = ops.clamped_sum([conv_bn(*self.pconv1, x, relu=True)], CEILING)
        return conv_bn(*self.pconv2, self.msdc(y), residual=x)


class UpConv(nn.Module):
    """(N,inputs,H,W) to (N,outputs,2H,2W). Published name: EUCB, whose channel shuffle changes nothing."""

    def __init__(self, inputs: int, outputs: int):
        # The identity holds the place of the published upsampling, for the names of what follows it.
        self.up_dwc = nn.Sequential(nn.Identity(), depthwise(inputs, 3), BatchNorm2d(inputs))
        self.pwc = nn.Sequential(Conv2d(inputs, outputs, 1))

    def execute(self, x):
        _, conv, norm = self.up_dwc
        return self.pwc(conv_bn(conv, norm, ops.upsample_nearest(x), relu=True))


class AttentionGate(nn.Module):
    """A skip feature times a weight for each pixel, from it and from what is deeper. Published name: LGAG."""

    def __init__(self, channels: int):
        half = channels // 2
        self.W_g, self.W_x = (nn.Sequential(Conv2d(channels, half, 3, padding=1, groups=half),
                                            BatchNorm2d(half)) for _ in range(2))
        self.psi = nn.Sequential(Conv2d(half, 1, 1), BatchNorm2d(1))

    def execute(self, guide, x):
        both = conv_bn(*self.W_g, guide, residual=conv_bn(*self.W_x, x), relu=True)
        return ops.gate(conv_bn(*self.psi, both), x)


class Level(nn.Module):
    """One level of ``width`` channels, which takes what the coarser one, if there is one, has made."""

    def __init__(self, width: int, coarser_width: int | None):
        if coarser_width:
            self.up, self.gate = UpConv(coarser_width, width), AttentionGate(width)
        self.block = MultiScaleBlock(width)
        self.channel_attention = ChannelAttention(width)

    def execute(self, x, coarser, spatial_attention):
        """(N,width,H,W), and the coarser level's result or None, to (N,width,H,W)."""
        if coarser is not None:
            up = self.up(coarser)
            x = up + self.gate(up, x)
        return self.block(spatial_attention(self.channel_attention(x)))


_PUBLISHED = {"spatial_attention": "decoder.sab", **numbered({
    "levels.{}.up": "decoder.eucb{}", "levels.{}.gate": "decoder.lgag{}",
    "levels.{}.block": "decoder.mscb{}.0", "levels.{}.channel_attention": "decoder.cab{}",
    "dsra.{}.fg": "decoder.ConvBlock{}_fg", "dsra.{}.bg": "decoder.ConvBlock{}_bg",
    "heads.{}": "out_head{}"}, LEVELS)}


class _Decoder(PublishedModule):
    """Takes four features from fine to coarse, with the given channels."""

    supervised_stages = LEVELS
    published_names = _PUBLISHED

    def __init__(self, channels: tuple[int, ...]):
        widths = channels[::-1]
        self.levels = nn.ModuleList([Level(*pair) for pair in zip(widths, (None, *widths))])
        self.spatial_attention = SpatialAttention()

    def refine(self, features) -> list:
        """The features from coarse to fine, each refined and fed by the one before."""
        refined = []
        for level, x in zip(self.levels, reversed(features)):
            refined.append(level(x, refined[-1] if refined else None, self.spatial_attention))
        return refined

    def add_heads(self, channels: tuple[int, ...], num_class: int) -> None:
        """Adds the heads of the plain maps, and draws all initial weights."""
        self.heads = nn.ModuleList([Conv2d(width, num_class, 1) for width in reversed(channels)])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.gauss_(module.weight, 0.0, INITIAL_STD)
                if module.bias is not None:
                    nn.init.constant_(module.bias, 0.0)


class EmcadDecoder(SingleSupervision, _Decoder):
    """Maps of levels 4, 3, 2, 1."""

    def __init__(self, channels: tuple[int, ...], num_class: int, gain: str):
        super().__init__(channels)
        self.add_heads(channels, num_class)

    def execute(self, features):
        return [head(x) for head, x in zip(self.heads, self.refine(features))]


class DualSupervisedEmcadDecoder(DualSupervision, _Decoder):
    """Foreground maps of levels 4, 3, 2, 1, then background maps of the same."""

    # The heads are part of the published files; kept so that they load and are written whole.
    optional_keys = ("out_head",)

    def __init__(self, channels: tuple[int, ...], num_class: int, gain: str):
        super().__init__(channels)
        self.dsra = nn.ModuleList([
            DualSupervisedReverseAttention(width, num_class, 1 if level == LEVELS[0] else 3, gain)
            for level, width in zip(LEVELS, reversed(channels))])
        self.add_heads(channels, num_class)
        for unused in self.heads.parameters():
            unused.stop_grad()

    def execute(self, features):
        pairs = []
        for dsra, x in zip(self.dsra, self.refine(features)):
            pairs.append(dsra(x, *pairs[-1:]))
        return [fg for fg, _ in pairs] + [bg for _, bg in pairs]
