"""Linear layers. On the CPU by oneDNN, whose sums do not depend on the number of rows as Jittor's do."""

from __future__ import annotations

from lib.ops import dispatch, launcher
from lib.ops.autograd import Function
from lib.ops.onednn import onednn_code
from utils.runtime.backend import jt

# Matrices of (rows, columns) float32; a transposed one is read by its strides.
_SETUP = r"""
    const long rows = data["rows"], inputs = data["inputs"], outputs = data["outputs"];
    auto plain = [](long m, long n) { return strided({m, n}, {n, 1}); };
    auto turned = [](long m, long n) { return strided({m, n}, {1, m}); };
    const auto x = plain(rows, inputs), y = plain(rows, outputs), w = plain(outputs, inputs);
"""
_PRODUCTS = {
    "y": "multiply(x, in0_p, turned(inputs, outputs), in1_p, y, out0_p, in2_p);",
    "x": "multiply(y, in0_p, w, in1_p, x, out0_p);",
    "weight": "multiply(turned(outputs, rows), in0_p, x, in1_p, w, out0_p);",
}


def linear(x, weight, bias):
    """x (...,I) times weight (O,I) transposed, plus bias (O,): (...,O), all float32."""
    if not dispatch.fused_on_cpu():
        return jt.nn.linear(x, weight, bias)
    return _Linear()(x, weight, bias)


class _Linear(Function):
    def execute(self, x, weight, bias):
        self.saved = x, weight
        return self._multiply("y", [*x.shape[:-1], weight.shape[0]], [x, weight, bias])

    def grad(self, grad_y):
        x, weight = self.saved
        grad_bias = launcher.column_sums(grad_y)
        return (self._multiply("x", x.shape, [grad_y, weight]),
                self._multiply("weight", weight.shape, [grad_y, x]), grad_bias)

    def _multiply(self, which: str, shape, inputs: list):
        x, weight = self.saved
        outputs, width = weight.shape
        rows = 1
        for side in x.shape[:-1]:
            rows *= side
        return onednn_code([shape], inputs, _SETUP + _PRODUCTS[which],
                           {"rows": rows, "inputs": width, "outputs": outputs})[0]
