"""The operations of lib.ops at the shapes that the networks give them: 352 pixels, batch 4."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jittor_pranet.benchmarks.frameworks import Jittor, Torch
from jittor_pranet.benchmarks.network_tasks import CLIP, LR
from utils.data.synthetic import deterministic

BATCH, SIZE = 4, 352
COMPARED = 50  # every so many of an optimizer's tensors are
PARAMETERS = 32_548_842  # numbers in PraNet-V2, which an optimizer moves


@dataclass(frozen=True)
class Case:
    """``jittor(ops, *inputs)`` with lib.ops, ``torch(F, *inputs)`` with torch.nn.functional: one result each.

    ``inputs()`` are float32 arrays, of which the first ``differentiated`` take gradients; None: all.
    """

    inputs: Callable[[], tuple[np.ndarray, ...]]
    jittor: Callable
    torch: Callable
    differentiated: int | None = None


def noise(*shapes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Arrays that differ even where their shapes do not."""
    return tuple(deterministic.stream(f"noise{position}").normal(size=shape).astype(np.float32)
                 for position, shape in enumerate(shapes))


def _probe(shape) -> np.ndarray:
    """The gradient of a result."""
    return np.asarray(deterministic.stream("probe").normal(size=tuple(shape)), np.float32)


def _maps(count: int) -> tuple[np.ndarray, ...]:
    """Logits at full size, and last a mask."""
    return *noise(*[(BATCH, 1, SIZE, SIZE)] * count), deterministic.masks(BATCH, SIZE)


def _resize(channels: int, side: int, to: int, align_corners: bool = False) -> Case:
    return Case(lambda: noise((BATCH, channels, side, side)),
                lambda ops, x: ops.resize_bilinear(x, (to, to), align_corners),
                lambda F, x: F.interpolate(x, (to, to), mode="bilinear", align_corners=align_corners))


def _attention(tokens: int, keys: int, width: int, heads: int) -> Case:
    def torch(F, query, key_value):
        query = query.unflatten(-1, (heads, -1)).transpose(1, 2)
        key, value = key_value.unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

    return Case(lambda: noise((BATCH, tokens, width), (BATCH, keys, 2 * width)),
                lambda ops, query, key_value: ops.attention(query, key_value, heads), torch)


def _dsra_gain(classes: int) -> Case:
    def torch(F, fg, guide_fg, guide_bg):
        guide_fg, guide_bg = (F.interpolate(each, scale_factor=2, mode="bilinear")
                              for each in (guide_fg, guide_bg))
        return fg + fg * (guide_fg - guide_bg).softmax(1)

    guide = BATCH, classes, 22, 22
    return Case(lambda: noise((BATCH, classes, 44, 44), guide, guide),
                lambda ops, *maps: ops.dsra_gain(*maps), torch)


def _reverse_attention(channels: int, side: int, guide_side: int) -> Case:
    def torch(F, guide, feature):
        return (1 - F.interpolate(guide, (side, side), mode="bilinear").sigmoid()) * feature

    return Case(lambda: noise((BATCH, 1, guide_side, guide_side), (BATCH, channels, side, side)),
                lambda ops, guide, feature: ops.reverse_attention(guide, feature), torch)


def _reference():
    from jittor_pranet import reference_torch

    return reference_torch


def _mutation_loss() -> Case:
    """Of four foreground and four background maps with 9 classes, at the size that scans are trained at."""
    classes, side, maps = 9, 224, 4

    def inputs():
        labels = deterministic.stream("labels").randint(classes, size=(BATCH, side, side)).astype(np.float32)
        return *noise(*[(BATCH, classes, side, side)] * (2 * maps)), labels

    def jittor(ops, *inputs):
        from lib.losses import mutation_loss

        return sum(mutation_loss(list(inputs[:maps]), list(inputs[maps:-1]), inputs[-1].int32()))

    def torch(F, *inputs):
        return sum(_reference().mutation_loss(inputs[:maps], inputs[maps:-1], inputs[-1]))

    return Case(inputs, jittor, torch, 2 * maps)


def _layer_norm(side: int, width: int) -> Case:
    return Case(lambda: noise((BATCH, side, side, width), (width,), (width,)),
                lambda ops, x, weight, bias: ops.layer_norm(x, weight, bias, 1e-6),
                lambda F, x, weight, bias: F.layer_norm(x, weight.shape, weight, bias, 1e-6))


def _batch_norm(channels: int, side: int) -> Case:
    return Case(lambda: noise((BATCH, channels, side, side), (channels,), (channels,)),
                lambda ops, x, weight, bias: ops.batch_norm(x, weight, bias, 1e-5)[0],
                lambda F, x, weight, bias: F.batch_norm(x, None, None, weight, bias, training=True))


def _normed_residual(channels: int, side: int) -> Case:
    """What closes a block of Res2Net."""
    maps = BATCH, channels, side, side
    return Case(lambda: noise(maps, (channels,), (channels,), maps),
                lambda ops, x, weight, bias, residual: ops.batch_norm(
                    x, weight, bias, 1e-5, residual, relu=True)[0],
                lambda F, x, weight, bias, residual: F.relu(
                    F.batch_norm(x, None, None, weight, bias, training=True) + residual))


def _conv(inputs: int, outputs: int, kernel: int, side: int) -> Case:
    padding = kernel // 2
    return Case(lambda: noise((BATCH, inputs, side, side), (outputs, inputs, kernel, kernel)),
                lambda ops, x, weight: ops.conv2d(x, weight, None, ops.Geometry(padding=(padding, padding))),
                lambda F, x, weight: F.conv2d(x, weight, padding=padding))


def _depthwise(width: int, side: int) -> Case:
    """On tokens, as PVT has it: channels last."""
    return Case(lambda: noise((BATCH, side, side, width), (width, 1, 3, 3), (width,)),
                lambda ops, x, weight, bias: ops.conv2d(
                    x, weight, bias, ops.Geometry(padding=(1, 1), groups=width), channels_last=True),
                lambda F, x, weight, bias: F.conv2d(
                    x.permute(0, 3, 1, 2), weight, bias, padding=1, groups=width).permute(0, 2, 3, 1))


def _linear(tokens: int, inputs: int, outputs: int) -> Case:
    return Case(lambda: noise((BATCH, tokens, inputs), (outputs, inputs), (outputs,)),
                lambda ops, x, weight, bias: ops.linear(x, weight, bias),
                lambda F, x, weight, bias: F.linear(x, weight, bias))


CASES: dict[str, Case] = {
    "resize map x8": _resize(1, 44, 352),
    "resize map x16": _resize(1, 22, 352),
    "resize map x32": _resize(1, 11, 352),
    "resize map x1/4": _resize(1, 44, 11),
    "resize feature x2, corners": _resize(64, 22, 44, align_corners=True),
    "resize images to 448, corners": _resize(3, 352, 448, align_corners=True),
    "reverse attention, stage 2": _reverse_attention(512, 44, 22),
    "reverse attention, stage 4": _reverse_attention(2048, 11, 44),
    "DSRA gain, 1 class": _dsra_gain(1),
    "DSRA gain, 9 classes": _dsra_gain(9),
    "channels last, stage 1": Case(lambda: noise((BATCH, 64, 88, 88)), lambda ops, x: ops.channels_last(x),
                                   lambda F, x: x.permute(0, 2, 3, 1).contiguous()),
    "boundary weight": Case(lambda: _maps(0), lambda ops, mask: ops.boundary_weight(mask),
                            lambda F, mask: 1 + 5 * (F.avg_pool2d(mask, 31, 1, 15) - mask).abs(), 0),
    "loss of a map, V1": Case(lambda: _maps(1), lambda ops, fg, mask: ops.structure_loss(
        fg, None, mask, ops.boundary_weight(mask), weighted_bce=False),
        lambda F, *maps: _reference().v1_loss(*maps), 1),
    "loss of a pair of maps, V2": Case(lambda: _maps(2), lambda ops, fg, bg, mask: ops.structure_loss(
        fg, bg, mask, ops.boundary_weight(mask), 0.8), lambda F, *maps: _reference().v2_loss(*maps), 2),
    "loss of 9 classes, 224 px": _mutation_loss(),
    "max pool": Case(lambda: noise((BATCH, 64, 176, 176)), lambda ops, x: ops.max_pool(x),
                     lambda F, x: F.max_pool2d(x, 3, 2, 1)),
    "GELU, PVT stage 1": Case(lambda: noise((BATCH, 7744, 512)), lambda ops, x: ops.gelu(x),
                              lambda F, x: F.gelu(x)),
    "attention, PVT stage 1": _attention(7744, 121, 64, 1),
    "attention, PVT stage 3": _attention(484, 121, 320, 5),
    "layer norm, PVT stage 1": _layer_norm(88, 64),
    "layer norm, PVT stage 3": _layer_norm(22, 320),
    "batch norm, Res2Net layer 1": _batch_norm(256, 88),
    "batch norm, Res2Net layer 3": _batch_norm(1024, 22),
    "batch norm, residual, ReLU": _normed_residual(256, 88),
    "conv 1x1, Res2Net layer 1": _conv(64, 256, 1, 88),
    "conv 3x3, Res2Net layer 1": _conv(26, 26, 3, 88),
    "depthwise conv, PVT stage 1": _depthwise(512, 88),
    "linear, PVT stage 1": _linear(7744, 64, 512),
}


@dataclass(frozen=True)
class Operation:
    """A case of `CASES`: the result, or the result and the gradients of the inputs for a seeded one of it."""

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
                    return [case.jittor(ops, *inputs).sync()]
            return forward
        probe = jt.array(_probe(case.jittor(ops, *inputs).shape))
        jt.sync_all(True)

        class Probe(jt.Function):
            """Passes the synthetic gradient down, whatever comes from above."""

            def execute(self, x):
                return x

            def grad(self, _):
                return probe

        def both():
            result = case.jittor(ops, *inputs)
            outputs = [result, *jt.grad(Probe()(result).sum(), inputs[:case.differentiated])]
            jt.sync(outputs)
            return outputs
        return both

    def in_torch(self, torch: Torch) -> Callable[[], list]:
        case, functional = CASES[self.case], torch.torch.nn.functional
        inputs = [torch.tensor(each) for each in case.inputs()]
        function = torch.compile(lambda *inputs: case.torch(functional, *inputs))
        if not self.backward:
            def forward():
                with torch.torch.inference_mode():
                    return [function(*inputs)]
            return forward
        taking = [each.requires_grad_() for each in inputs[:case.differentiated]]
        probe = torch.tensor(_probe(case.torch(functional, *inputs).shape))

        def both():
            result = function(*inputs)
            return [result, *torch.torch.autograd.grad(result, taking, probe)]
        return both


@dataclass(frozen=True)
class AdamStep:
    """Clamps the gradients of all parameters of PraNet-V2 and moves the parameters, from zero."""

    case: ClassVar[str] = "Adam with clamp, PraNet-V2"
    direction: ClassVar[str] = "step"

    def __str__(self) -> str:
        return self.case

    def traffic(self, _) -> int:
        """Bytes at least: values and both moments are read and written, gradients read."""
        return 7 * 4 * PARAMETERS

    def in_jittor(self, jittor: Jittor) -> Callable[[], list]:
        from lib import build_model, ops

        jt = jittor.jt
        grads = [jt.array(each) for each in noise(*parameter_shapes(build_model("PraNet-V2")))]
        values, means, squares = ([jt.zeros_like(each) for each in grads] for _ in range(3))
        steps = itertools.count(1)

        def work():
            step = next(steps)
            ops.adam_step(values, grads, means, squares, CLIP, rate=LR / (1 - ops.BETAS[0] ** step),
                          correction=(1 - ops.BETAS[1] ** step) ** 0.5)
            jt.sync_all()
            return values[::COMPARED]
        return work

    def in_torch(self, torch: Torch) -> Callable[[], list]:
        shapes = parameter_shapes(_reference().build_torch_model("PraNet-V2"))
        grads = [torch.tensor(each) for each in noise(*shapes)]
        values = [torch.torch.zeros_like(each, requires_grad=True) for each in grads]
        for value, grad in zip(values, grads):
            value.grad = grad
        optimizer = torch.torch.optim.Adam(values, lr=LR, fused=True)

        def work():
            torch.torch.nn.utils.clip_grad_value_(values, CLIP)
            optimizer.step()
            return values[::COMPARED]
        return work


def parameter_shapes(model) -> list[tuple[int, ...]]:
    """In alphabetical order of the names, of which both frameworks' networks have the same."""
    return [tuple(value.shape) for name, value in sorted(model.state_dict().items(), key=lambda item: item[0])
            if name.endswith(("weight", "bias"))]


def op_tasks() -> list[Operation | AdamStep]:
    """All that is timed; backward where there is something to differentiate."""
    operations = [Operation(name, backward) for name, case in CASES.items() for backward in (False, True)
                  if not backward or case.differentiated != 0]
    return [*operations, AdamStep()]
