"""Depthwise convolution of maps with channels last, for CUDA.

cuDNN wants such maps turned to channels first and back, which takes longer than the convolution.
"""

from __future__ import annotations

from lib.ops import launcher
from lib.ops.autograd import Function
from lib.ops.transpose import matrix_transpose

_SIZES = "MapSize{(int)in0->shape[1], (int)in0->shape[2]}, in0->shape[3]"


def depthwise_conv2d(x, weight, bias):
    """Convolves (N,H,W,C) to the same shape, all float32; weight is (C,1,K,K), K odd, bias (C,) or None."""
    inputs = (x, weight) if bias is None else (x, weight, bias)
    return _Depthwise()(*inputs)


class _Depthwise(Function):
    def execute(self, x, weight, *bias):
        self.x, self.shape, self.has_bias = x, weight.shape, bool(bias)
        self.kernel = weight.shape[-1]
        self.weight = matrix_transpose(weight.reshape(weight.shape[0], -1))  # neighbours are of one tap
        return self._convolve(x, *bias, rot180=False)

    def grad(self, grad_y):
        grads = self._convolve(grad_y, rot180=True), self._weight_gradient(grad_y)
        return (*grads, launcher.column_sums(grad_y)) if self.has_bias else grads

    def _convolve(self, x, *bias, rot180: bool):
        call = f"""
            items(out0->num / out0->shape[3],
                  Depthwise<{self.kernel}>{{in0_p, in1_p, {"in2_p" if bias else "nullptr"}, out0_p, {_SIZES},
                                            {str(rot180).lower()}}});
        """
        return launcher.run("depthwise.cuh", call, [x, self.weight, *bias], [(x.shape, "float32")])[0]

    def _weight_gradient(self, grad_y):
        taps, channels = self.kernel ** 2, self.x.shape[-1]
        rows = self.x.numel() // channels
        call = f"""
            column_sums<{taps}>(DepthwiseTerms<{self.kernel}>{{in0_p, in1_p, {_SIZES}}},
                                in0->num / in0->shape[3], in0->shape[3], out1_p, out0_p);
        """
        outputs = [((taps, channels), "float32"), ((launcher.partial_count(rows), taps, channels), "float64")]
        sums = launcher.run("depthwise.cuh", call, [self.x, grad_y], outputs)[0]
        return matrix_transpose(sums).reshape(self.shape)
