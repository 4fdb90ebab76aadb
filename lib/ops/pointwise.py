"""Operations on single elements, and the joining and splitting of maps."""

from __future__ import annotations

from lib.ops import dispatch, launcher
from lib.ops.autograd import Function
from utils.runtime.backend import jt


def gelu(x):
    """x Phi(x), the exact GELU, of float32 of any shape."""
    if not dispatch.fused():
        return 0.5 * x * (1.0 + jt.erf(x * (0.5 ** 0.5)))
    return _Gelu()(x)


class _Gelu(Function):
    def execute(self, x):
        self.saved = x
        return self._by_rows("Gelu{in0_p, out0_p, columns}", [x])

    def grad(self, grad):
        return self._by_rows("GeluGrad{in0_p, in1_p, out0_p, columns}", [self.saved, grad])

    @staticmethod
    def _by_rows(body: str, inputs: list):
        shape = inputs[0].shape
        call = f'const long columns = data["columns"]; items(out0->num / columns, {body});'
        return launcher.run("pointwise.cuh", call, inputs, [(shape, "float32")], {"columns": shape[-1]})[0]


def add_relu(x, residual):
    """The ReLU of the sum of two float32 maps of one shape."""
    return jt.nn.relu(x + residual) if not dispatch.fused() else _AddRelu()(x, residual)


class _AddRelu(Function):
    def execute(self, x, residual):
        self.saved = launcher.run("pointwise.cuh", "elements(out0->num, AddRelu{in0_p, in1_p, out0_p});",
                                  [x, residual], [(x.shape, "float32")])[0]
        return self.saved

    def grad(self, grad):
        grad = jt.ternary(self.saved > 0.0, grad, 0.0)
        return grad, grad


def clamped_sum(parts: list, ceiling: float):
    """The sum of float32 maps of one shape, at most 8, each cut off at ``ceiling``: of ReLUs, of ReLU6s."""
    if not dispatch.fused():
        capped = [jt.ternary(part > ceiling, ceiling, part) for part in parts]
        return sum(capped[1:], capped[0])
    return _ClampedSum(ceiling)(*parts)


class _ClampedSum(Function):
    def __init__(self, ceiling: float):
        self.data = {"ceiling": ceiling}

    def execute(self, *parts):
        self.saved = parts
        body = f'ClampedSum<{len(parts)}>{{{{{_pointers("in", parts)}}}, out0_p, (float)data["ceiling"]}}'
        return launcher.run("pointwise.cuh", f"elements(out0->num, {body});", list(parts),
                            [(parts[0].shape, "float32")], self.data)[0]

    def grad(self, grad):
        count = len(self.saved)
        body = (f'ClampedSumGrad<{count}>{{{{{_pointers("in", self.saved)}}}, in{count}_p, '
                f'{{{_pointers("out", self.saved)}}}, (float)data["ceiling"]}}')
        return launcher.run("pointwise.cuh", f"elements(out0->num, {body});", [*self.saved, grad],
                            [(grad.shape, "float32")] * count, self.data)


def _pointers(name: str, parts) -> str:
    return ", ".join(f"{name}{index}_p" for index in range(len(parts)))


def concat(parts: list):
    """Joins float32 (N,C,H,W) maps, at most 8, along the channels."""
    return jt.concat(parts, dim=1) if not dispatch.fused() else _Concat()(*parts)


def split(x, count: int) -> list:
    """Splits float32 (N,C,H,W) along the channels into ``count`` maps, at most 8, of as many each."""
    if not dispatch.fused():
        return jt.split(x, x.shape[1] // count, dim=1)
    return _Split([x.shape[1] // count] * count)(x)


def _copy(whole: str, parts: list[str], join: bool) -> str:
    pointers = ", ".join(f"{name}_p" for name in parts)
    counts = ", ".join(f"{name}->shape[1]" for name in parts)
    return f"""
        const Parts parts{{{{{pointers}}}, {{{counts}}}}};
        const auto& shape = {whole}->shape;
        const long plane = shape[2] * shape[3];
        items(shape[0] * shape[1], Copy<{str(join).lower()}>{{parts, {whole}_p, shape[1], plane}});
    """


def _joined(parts: list):
    batch, _, height, width = parts[0].shape
    channels = [part.shape[1] for part in parts]
    call = _copy("out0", [f"in{i}" for i in range(len(parts))], join=True)
    return launcher.run("pointwise.cuh", call, parts, [((batch, sum(channels), height, width), "float32")])[0]


def _parted(x, channels: list[int]) -> list:
    batch, _, height, width = x.shape
    call = _copy("in0", [f"out{i}" for i in range(len(channels))], join=False)
    return launcher.run("pointwise.cuh", call, [x],
                        [((batch, each, height, width), "float32") for each in channels])


class _Concat(Function):
    def execute(self, *parts):
        self.channels = [part.shape[1] for part in parts]
        return _joined(list(parts))

    def grad(self, grad):
        return _parted(grad, self.channels)


class _Split(Function):
    def __init__(self, channels: list[int]):
        self.channels = channels

    def execute(self, x):
        parts = _parted(x, self.channels)
        self.shapes = [part.shape for part in parts]
        return parts

    def grad(self, *grads):
        return _joined([jt.zeros(shape) if grad is None else grad for grad, shape in zip(grads, self.shapes)])
