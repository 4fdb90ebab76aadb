"""Layers that several networks share."""

from __future__ import annotations

from lib import ops
from utils.errors import UserError
from utils.runtime import collectives
from utils.runtime.backend import jt

nn = jt.nn


class BatchNorm2d(nn.Module):
    """Batch normalisation of (N,C,H,W); as in PyTorch, the running variance is the unbiased one.

    In training it is a layer after the convolution, in testing a part of it: see `conv_bn`.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1):
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = jt.ones(channels), jt.zeros(channels)
        self.running_mean = jt.zeros(channels).stop_grad()
        self.running_var = jt.ones(channels).stop_grad()
        self._folded, self._keep_folded = None, False

    def execute(self, x, residual=None, relu: bool = False):
        """Normalises (in training by the statistics of the batch), adds the residual, applies a ReLU."""
        if not self.is_training():
            scale, shift = self._affine()
            y = x * scale.broadcast(x, [0, 2, 3]) + shift.broadcast(x, [0, 2, 3])
            y = y if residual is None else y + residual
            return nn.relu(y) if relu else y
        count = collectives.current_shard(x.shape[0]).total * x.shape[2] * x.shape[3]
        if count < 2:
            raise UserError("batch normalisation needs more than one value per channel in training, got "
                            f"shape {tuple(x.shape)}: take a larger batch or larger images")
        y, mean, variance = ops.batch_norm(x, self.weight, self.bias, self.eps, residual, relu)
        self._update(self.running_mean, mean)
        self._update(self.running_var, variance * (count / (count - 1)))
        return y

    def folded(self, conv: Conv2d):
        """(weight, bias) of the convolution that does what ``conv`` and this layer do in testing."""
        if self._folded is not None:
            return self._folded
        scale, shift = self._affine()
        pair = (conv.filter * scale.reshape(-1, 1, 1, 1),
                shift if conv.bias is None else shift + conv.bias * scale)
        if self._keep_folded:
            self._folded = tuple(each.stop_grad() for each in pair)
        return pair

    def keep_folded(self) -> None:
        """Folds once for all to come: later changes of the weights are not seen in testing."""
        self._keep_folded = True

    def _affine(self):
        scale = self.weight / (self.running_var + self.eps).sqrt()
        return scale, self.bias - self.running_mean * scale

    def _update(self, running, batch) -> None:
        running.update((running + (batch - running) * self.momentum).float32())


class LayerNorm(nn.Module):
    """Layer normalisation over the last dimension."""

    def __init__(self, channels: int, eps: float):
        self.eps = eps
        self.weight, self.bias = jt.ones(channels), jt.zeros(channels)

    def execute(self, x):
        return ops.layer_norm(x, self.weight, self.bias, self.eps)


class Conv2d(nn.Conv2d):
    """2-D convolution through `lib.ops.conv2d`; parameters and arguments are Jittor's."""

    @property
    def geometry(self) -> ops.Geometry:
        return ops.Geometry(self.stride, self.padding, self.dilation, self.groups)

    @property
    def filter(self):
        """The weight as it acts on the input."""
        return self.weight

    def execute(self, x, channels_last: bool = False):
        return ops.conv2d(x, self.filter, self.bias, self.geometry, channels_last)


def conv_bn(conv: Conv2d, norm: BatchNorm2d, x, residual=None, relu: bool = False):
    """A convolution, batch normalisation, the residual added, a ReLU if asked for."""
    if norm.is_training():
        return norm(conv(x), residual, relu)
    weight, bias = norm.folded(conv)
    if residual is None:
        return ops.conv2d(x, weight, bias, conv.geometry, relu=relu)
    y = ops.conv2d(x, weight, bias, conv.geometry)
    return ops.add_relu(y, residual) if relu else y + residual


class Linear(nn.Linear):
    """Linear layer through `lib.ops.linear`; parameters and arguments are Jittor's."""

    def execute(self, x):
        return ops.linear(x, self.weight, self.bias)


class AveragePool(nn.Module):
    """Average pooling that counts the padding."""

    def __init__(self, size: int, stride: int, padding: int = 0):
        self.size, self.stride, self.padding = size, stride, padding

    def execute(self, x):
        if self.size == 1:
            return x
        return ops.average_pool(x, self.size, self.stride, self.padding)


class ConvBN(nn.Module):
    """Convolution and batch normalisation. Published name: BasicConv2d."""

    def __init__(self, inputs: int, outputs: int, kernel_size, padding=0, dilation: int = 1):
        self.conv = Conv2d(inputs, outputs, kernel_size, padding=padding, dilation=dilation, bias=False)
        self.bn = BatchNorm2d(outputs)

    def execute(self, x, residual=None, relu: bool = False):
        return conv_bn(self.conv, self.bn, x, residual, relu)
