"""The operations of lib.ops at the shapes that the networks give them: 352 pixels, batch 4.

A case is a name, what it is fed, ours, and PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jittor_pranet.benchmarks.frameworks import Jittor, Torch
from tests import drawn

BATCH, SIZE = 4, 352


@dataclass(frozen=True)
class Case:
    """``ours(ops, *inputs)`` with lib.ops, ``theirs(F, *inputs)`` with torch.nn.functional: one result each.

    ``inputs()`` are float32 arrays, of which the first ``differentiated`` take gradients; None: all.
    """

    inputs: Callable[[], tuple[np.ndarray, ...]]
    ours: Callable
    theirs: Callable
    differentiated: int | None = None


def noises(*shapes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Arrays that differ even where their shapes do not."""
    return tuple(drawn.stream(f"noise{position}").normal(size=shape).astype(np.float32)
                 for position, shape in enumerate(shapes))


def _probe(shape) -> np.ndarray:
    """The gradient of a result."""
    return drawn.stream("probe").normal(size=tuple(shape)).astype(np.float32)


def _masks(channels: int = 1) -> np.ndarray:
    return drawn.masks(BATCH, SIZE, channels=channels)


def _resize(channels: int, side: int, to: int, align_corners: bool = False) -> Case:
    return Case(lambda: noises((BATCH, channels, side, side)),
                lambda ops, x: ops.resize_bilinear(x, (to, to), align_corners),
                lambda F, x: F.interpolate(x, (to, to), mode="bilinear", align_corners=align_corners))


def _attention(tokens: int, keys: int, width: int, heads: int) -> Case:
    def theirs(F, query, key_value):
        query = query.unflatten(-1, (heads, -1)).transpose(1, 2)
        key, value = key_value.unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

    return Case(lambda: noises((BATCH, tokens, width), (BATCH, keys, 2 * width)),
                lambda ops, query, key_value: ops.attention(query, key_value, heads), theirs)


def _layer_norm(side: int, width: int) -> Case:
    return Case(lambda: noises((BATCH, side, side, width), (width,), (width,)),
                lambda ops, x, weight, bias: ops.layer_norm(x, weight, bias, 1e-6),
                lambda F, x, weight, bias: F.layer_norm(x, weight.shape, weight, bias, 1e-6))


def _batch_norm(channels: int, side: int) -> Case:
    return Case(lambda: noises((BATCH, channels, side, side), (channels,), (channels,)),
                lambda ops, x, weight, bias: ops.batch_norm(x, weight, bias, 1e-5)[0],
                lambda F, x, weight, bias: F.batch_norm(x, None, None, weight, bias, training=True))


def _conv(inputs: int, outputs: int, kernel: int, side: int) -> Case:
    padding = kernel // 2
    return Case(lambda: noises((BATCH, inputs, side, side), (outputs, inputs, kernel, kernel)),
                lambda ops, x, weight: ops.conv2d(x, weight, None, ops.Geometry(padding=(padding, padding))),
                lambda F, x, weight: F.conv2d(x, weight, padding=padding))


def _depthwise(width: int, side: int) -> Case:
    """On tokens, as PVT has it: channels last."""
    return Case(lambda: noises((BATCH, side, side, width), (width, 1, 3, 3), (width,)),
                lambda ops, x, weight, bias: ops.conv2d(
                    x, weight, bias, ops.Geometry(padding=(1, 1), groups=width), channels_last=True),
                lambda F, x, weight, bias: F.conv2d(
                    x.permute(0, 3, 1, 2), weight, bias, padding=1, groups=width).permute(0, 2, 3, 1))


def _linear(tokens: int, inputs: int, outputs: int) -> Case:
    return Case(lambda: noises((BATCH, tokens, inputs), (outputs, inputs), (outputs,)),
                lambda ops, x, weight, bias: ops.linear(x, weight, bias),
                lambda F, x, weight, bias: F.linear(x, weight, bias))


CASES: dict[str, Case] = {
    "resize map x8": _resize(1, 44, 352),
    "resize map x16": _resize(1, 22, 352),
    "resize map x32": _resize(1, 11, 352),
    "resize map x1/4": _resize(1, 44, 11),
    "resize feature x2, corners": _resize(64, 22, 44, align_corners=True),
    "resize images to 448, corners": _resize(3, 352, 448, align_corners=True),
    "average pool 31x31": Case(lambda: (_masks(),), lambda ops, x: ops.average_pool(x, 31, 1, 15),
                               lambda F, x: F.avg_pool2d(x, 31, 1, 15)),
    "attention, PVT stage 1": _attention(7744, 121, 64, 1),
    "attention, PVT stage 3": _attention(484, 121, 320, 5),
    "layer norm, PVT stage 1": _layer_norm(88, 64),
    "layer norm, PVT stage 3": _layer_norm(22, 320),
    "batch norm, Res2Net layer 1": _batch_norm(256, 88),
    "batch norm, Res2Net layer 3": _batch_norm(1024, 22),
    "conv 1x1, Res2Net layer 1": _conv(64, 256, 1, 88),
    "conv 3x3, Res2Net layer 1": _conv(26, 26, 3, 88),
    "depthwise conv, PVT stage 1": _depthwise(512, 88),
    "linear, PVT stage 1": _linear(7744, 64, 512),
}


@dataclass(frozen=True)
class Operation:
    """A case of `CASES`: the result, or the result and the gradients of the inputs for a drawn one of it."""

    case: str
    backward: bool

    def __str__(self) -> str:
        return f"{self.case}, {self.direction}"

    @property
    def direction(self) -> str:
        return "forward and backward" if self.backward else "forward"

    def traffic(self, outputs: list[np.ndarray]) -> int:
        """Bytes at least: each input is read and each output written once, and for the gradients the inputs
        and the gradient of the result are read once more."""
        inputs = sum(each.nbytes for each in CASES[self.case].inputs())
        total = inputs + sum(each.nbytes for each in outputs)
        return total + inputs + outputs[0].nbytes if self.backward else total

    def in_jittor(self, jittor: Jittor) -> Callable[[], list]:
        from lib import ops

        jt, case = jittor.jt, CASES[self.case]
        inputs = [jt.array(each) for each in case.inputs()]
        if not self.backward:
            def forward():
                with jt.no_grad():
                    return [case.ours(ops, *inputs).sync()]
            return forward
        probe = jt.array(_probe(case.ours(ops, *inputs).shape))
        jt.sync_all(True)

        class Probe(jt.Function):
            """Passes the drawn gradient down, whatever comes from above."""

            def execute(self, x):
                return x

            def grad(self, _):
                return probe

        def both():
            result = case.ours(ops, *inputs)
            found = [result, *jt.grad(Probe()(result).sum(), inputs[:case.differentiated])]
            jt.sync(found)
            return found
        return both

    def in_torch(self, torch: Torch) -> Callable[[], list]:
        case, functional = CASES[self.case], torch.torch.nn.functional
        inputs = [torch.tensor(each) for each in case.inputs()]
        function = torch.compile(lambda *inputs: case.theirs(functional, *inputs))
        if not self.backward:
            def forward():
                with torch.torch.inference_mode():
                    return [function(*inputs)]
            return forward
        taking = [each.requires_grad_() for each in inputs[:case.differentiated]]
        probe = torch.tensor(_probe(case.theirs(functional, *inputs).shape))

        def both():
            result = function(*inputs)
            return [result, *torch.torch.autograd.grad(result, taking, probe)]
        return both
