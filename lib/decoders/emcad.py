"""EMCAD (Rahman et al., "EMCAD: Efficient Multi-scale Convolutional Attention Decoding", CVPR 2024), with and
without DSRA (PraNet-V2)."""

from __future__ import annotations

from lib import ops
from lib.decoders.supervision import DualSupervision, SingleSupervision
from lib.layers import BatchNorm2d, Conv2d, conv_bn
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


class _Decoder(nn.Module):
    """Takes four features from fine to coarse, with the given channels."""

    stages = LEVELS  # that the losses are of

    def __init__(self, channels: tuple[int, ...]):
        self._widths = dict(zip(LEVELS, reversed(channels)))
        for level, width in self._widths.items():
            if level < LEVELS[0]:
                setattr(self, f"eucb{level}", UpConv(self._widths[level + 1], width))
                setattr(self, f"lgag{level}", AttentionGate(width))
            setattr(self, f"mscb{level}", nn.Sequential(MultiScaleBlock(width)))
            setattr(self, f"cab{level}", ChannelAttention(width))
        self.sab = SpatialAttention()

    def refine(self, features) -> list:
        """The features from coarse to fine, each refined and fed by the one before."""
        refined = []
        for level, x in zip(LEVELS, reversed(features)):
            if refined:
                deeper = getattr(self, f"eucb{level}")(refined[-1])
                x = deeper + getattr(self, f"lgag{level}")(deeper, x)
            x = self.sab(getattr(self, f"cab{level}")(x))
            refined.append(getattr(self, f"mscb{level}")(x))
        return refined

    def add_heads(self, num_class: int) -> None:
        for level, width in self._widths.items():
            setattr(self, f"out_head{level}", Conv2d(width, num_class, 1))

    def initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.gauss_(module.weight, 0.0, INITIAL_STD)
                if module.bias is not None:
                    nn.init.constant_(module.bias, 0.0)

    @staticmethod
    def published_name(name: str) -> str:
        return name if name.startswith("out_head") else f"decoder.{name}"


class EmcadDecoder(SingleSupervision, _Decoder):
    """Maps of levels 4, 3, 2, 1."""

    optional_keys = ()

    def __init__(self, channels: tuple[int, ...], num_class: int, gain: str):
        super().__init__(channels)
        self.add_heads(num_class)
        self.initialise()

    def execute(self, features):
        return [getattr(self, f"out_head{level}")(x) for level, x in zip(LEVELS, self.refine(features))]


class DualSupervisedEmcadDecoder(DualSupervision, _Decoder):
    """Foreground maps of levels 4, 3, 2, 1, then background maps of the same."""

    optional_keys = ("out_head",)

    def __init__(self, channels: tuple[int, ...], num_class: int, gain: str):
        super().__init__(channels)
        for level, width in self._widths.items():
            setattr(self, f"ConvBlock{level}", DualSupervisedReverseAttention(
                width, num_class, 1 if level == LEVELS[0] else 3, gain))
        self.add_heads(num_class)  # part of the published files; kept so that they load and are written whole
        self.initialise()
        for level in LEVELS:
            for unused in getattr(self, f"out_head{level}").parameters():
                unused.stop_grad()

    def execute(self, features):
        pairs = []
        for level, x in zip(LEVELS, self.refine(features)):
            pairs.append(getattr(self, f"ConvBlock{level}")(x, *pairs[-1:]))
        return [fg for fg, _ in pairs] + [bg for _, bg in pairs]
