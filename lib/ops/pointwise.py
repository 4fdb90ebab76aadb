"""Operations on single elements."""

from __future__ import annotations

from lib.ops import choice, kernel
from utils.backend import jt


def gelu(x):
    """x Phi(x), the exact GELU, of float32 of any shape."""
    if not choice.fused():
        return 0.5 * x * (1.0 + jt.erf(x * (0.5 ** 0.5)))
    return _Gelu()(x)


class _Gelu(jt.Function):
    def execute(self, x):
        self.saved = x
        return self._by_rows("Gelu{in0_p, out0_p, columns}", [x])

    def grad(self, grad):
        return self._by_rows("GeluGradient{in0_p, in1_p, out0_p, columns}", [self.saved, grad])

    @staticmethod
    def _by_rows(body: str, inputs: list):
        shape = inputs[0].shape
        call = f'const long columns = data["columns"]; items(out0->num / columns, {body});'
        return kernel.run("pointwise.cuh", call, inputs, [(shape, "float32")], {"columns": shape[-1]})[0]
