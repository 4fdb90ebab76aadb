"""Scaled dot-product attention of several heads (Vaswani et al., "Attention Is All You Need", 2017).

On the CPU by oneDNN as a whole. On CUDA products are cuBLAS's and the softmax is a kernel of ours: Jittor's
takes a block for each short row and is compiled for every length of one.
"""

from __future__ import annotations

from lib.ops import dispatch, launcher
from lib.ops.autograd import Function
from lib.ops.onednn import onednn_code
from utils.runtime.backend import jt

# Queries are (N,T,heads*depth), keys and values (N,S,2*heads*depth). The products read heads, keys and values
# where they lie, by their strides; nothing is transposed. Each array is described by one image's part of it.
_SETUP = r"""
    const long n = data["batch"], h = data["heads"], t = data["queries"], s = data["keys"], d = data["depth"];
    const long c = h * d;
    const float scale = 1.0 / std::sqrt((double)d);
    auto query = [=](float* p) { return Matrix{strided({h, t, d}, {d, c, 1}), p, t * c}; };
    auto key = [=](float* p) { return Matrix{strided({h, s, d}, {d, 2 * c, 1}), p, s * 2 * c}; };
    auto key_turned = [=](float* p) { return Matrix{strided({h, d, s}, {d, 1, 2 * c}), p, s * 2 * c}; };
    auto scores = [=](float* p) { return Matrix{strided({h, t, s}, {t * s, s, 1}), p, h * t * s}; };
    auto scores_turned = [=](float* p) { return Matrix{strided({h, s, t}, {t * s, 1, s}), p, h * t * s}; };
    (void)query, (void)key, (void)key_turned, (void)scores, (void)scores_turned, (void)scale;
"""

# softmax(Q K^T / sqrt(depth)); in0 is Q, in1 keys and values.
_WEIGHTS = r"""
    multiply(n, query(in0_p), key_turned(in1_p), scores(out0_p));
    #pragma omp parallel for
    for (long row = 0; row < n * h * t; ++row) {
        float* p = out0_p + row * s;
        float largest = p[0];
        for (long i = 1; i < s; ++i) largest = std::max(largest, p[i]);
        float sum = 0;
        for (long i = 0; i < s; ++i) sum += p[i] = std::exp((p[i] - largest) * scale);
        for (long i = 0; i < s; ++i) p[i] /= sum;
    }
"""

# in0 is the weights, in1 keys and values.
_MIX = "multiply(n, scores(in0_p), key(in1_p + c), query(out0_p));"

# Gradient of the scores, from in0 weights, in1 gradient of the mix, in2 keys and values.
_GRAD_SCORES = r"""
    multiply(n, query(in1_p), key_turned(in2_p + c), scores(out0_p));
    #pragma omp parallel for
    for (long row = 0; row < n * h * t; ++row) {
        const float* p = in0_p + row * s;
        float* g = out0_p + row * s;
        float sum = 0;
        for (long i = 0; i < s; ++i) sum += p[i] * g[i];
        for (long i = 0; i < s; ++i) g[i] = p[i] * (g[i] - sum) * scale;
    }
"""

# in0 is the gradient of the scores, in1 keys and values.
_GRAD_QUERY = "multiply(n, scores(in0_p), key(in1_p), query(out0_p));"

# in0 is the gradient of the scores, in1 queries, in2 weights, in3 gradient of the mix.
_GRAD_KEY_VALUE = r"""
    multiply(n, scores_turned(in0_p), query(in1_p), key(out0_p));
    multiply(n, scores_turned(in2_p), query(in3_p), key(out0_p + c));
"""


def attention(query, key_value, heads: int):
    """softmax(Q K^T / sqrt(depth)) V of each head, depth being C / heads.

    query is (N,T,C); key_value is (N,S,2C), keys before values; the result is (N,T,C), all float32.
    """
    if not dispatch.fused_on_cpu():
        return _attention_plain(query, key_value, heads)
    return _Attention(heads)(query, key_value)


def _attention_plain(query, key_value, heads: int):
    """The formula in products of Jittor's."""
    batch, tokens, channels = query.shape
    depth = channels // heads
    query = query.reshape(batch, tokens, heads, depth).transpose(0, 2, 1, 3)
    key, value = key_value.reshape(batch, -1, 2, heads, depth).transpose(2, 0, 3, 1, 4)
    weights = scaled_softmax(jt.nn.bmm_transpose(query, key), depth ** -0.5)
    return jt.matmul(weights, value).transpose(0, 2, 1, 3).reshape(batch, tokens, channels)


def scaled_softmax(x, scale: float):
    """The softmax of ``scale`` * x over the last dimension, float32 of any shape; ``scale`` is above zero."""
    return _Softmax(scale)(x) if dispatch.fused() else jt.nn.softmax(x * scale, dim=-1)


class _Softmax(Function):
    def __init__(self, scale: float):
        self.scale = scale

    def execute(self, x):
        self.saved = self._by_rows("Softmax{in0_p, out0_p, columns, scale}", [x])
        return self.saved

    def grad(self, grad):
        return self._by_rows("SoftmaxGrad{in0_p, in1_p, out0_p, columns, scale}", [self.saved, grad])

    def _by_rows(self, body: str, inputs: list):
        shape = inputs[0].shape
        call = ('const long columns = data["columns"]; const float scale = data["scale"]; '
                f"items(out0->num / columns, {body});")
        return launcher.run("softmax.cuh", call, inputs, [(shape, "float32")],
                            {"columns": shape[-1], "scale": self.scale})[0]


class _Attention(Function):
    def __init__(self, heads: int):
        self.heads = heads

    def execute(self, query, key_value):
        batch, tokens, channels = query.shape
        self.data = {"batch": batch, "heads": self.heads, "queries": tokens, "keys": key_value.shape[1],
                     "depth": channels // self.heads}
        weights = self._run([batch, self.heads, tokens, key_value.shape[1]], [query, key_value], _WEIGHTS)
        self.saved = query, key_value, weights
        return self._run(query.shape, [weights, key_value], _MIX)

    def grad(self, grad_mix):
        query, key_value, weights = self.saved
        grad_scores = self._run(weights.shape, [weights, grad_mix, key_value], _GRAD_SCORES)
        return (self._run(query.shape, [grad_scores, key_value], _GRAD_QUERY),
                self._run(key_value.shape, [grad_scores, query, weights, grad_mix], _GRAD_KEY_VALUE))

    def _run(self, shape, inputs: list, source: str):
        return onednn_code([shape], inputs, _SETUP + source, self.data)[0]
