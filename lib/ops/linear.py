"""Linear layers. On the CPU by oneDNN, one image at a time, so that no row depends on the other images."""

from __future__ import annotations

from lib.ops import dispatch, launcher
from lib.ops.autograd import Function
from lib.ops.onednn import onednn_code
from utils.runtime.backend import jt

# Matrices of (rows, columns) float32, `rows` of each image; a transposed one is read by its strides. For the
# gradients all images are one matrix, which is faster where they are small.
_SETUP = r"""
    const long images = data["images"], rows = data["rows"], all = images * rows;
    const long inputs = data["inputs"], outputs = data["outputs"];
    auto plain = [](long m, long n) { return strided({m, n}, {n, 1}); };
    auto turned = [](long m, long n) { return strided({m, n}, {1, m}); };
    (void)images, (void)rows, (void)all, (void)plain, (void)turned;
"""
_PRODUCTS = {
    "y": """multiply(images, {plain(rows, inputs), in0_p, rows * inputs}, {turned(inputs, outputs), in1_p},
                     {plain(rows, outputs), out0_p, rows * outputs}, in2_p);""",
    "x": """multiply(1, {plain(all, outputs), in0_p}, {plain(outputs, inputs), in1_p},
                     {plain(all, inputs), out0_p});""",
    "weight": """multiply(1, {turned(outputs, all), in0_p}, {plain(all, inputs), in1_p},
                          {plain(outputs, inputs), out0_p});""",
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
        for side in x.shape[1:-1]:
            rows *= side
        return onednn_code([shape], inputs, _SETUP + _PRODUCTS[which],
                           {"images": x.shape[0], "rows": rows, "inputs": width, "outputs": outputs})[0]
