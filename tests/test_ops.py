"""The operations of lib.ops against PyTorch in float64: values, gradients, odd shapes."""

from __future__ import annotations

import numpy as np
import pytest

from lib import ops
from lib.optimizer import Adam
from tests import drawn
from tests.compare import assert_close, parity_bound
from utils.backend import jt

torch = pytest.importorskip("torch")
functional = torch.nn.functional


def noise(tag: str, *shape: int) -> np.ndarray:
    return drawn.stream(tag).normal(size=shape).astype(np.float32)


def check(ours, theirs, *inputs: np.ndarray) -> None:
    """Values and gradients of both for the same inputs; theirs runs in float64."""
    variables = [jt.array(each) for each in inputs]
    found = ours(*variables)
    probe = noise("probe", *found.shape)
    found_gradients = jt.grad((found * jt.array(probe)).sum(), variables)
    tensors = [torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in inputs]
    expected = theirs(*tensors)
    expected.backward(torch.tensor(probe, dtype=torch.float64))
    pairs = [(found, expected.detach()), *((g, t.grad) for g, t in zip(found_gradients, tensors))]
    for index, (value, reference) in enumerate(pairs):
        value, reference = value.numpy(), reference.numpy()
        assert value.shape == reference.shape
        error = np.linalg.norm(value - reference)
        # The gradient is zero in exact arithmetic where the result does not depend on an input.
        bound = parity_bound(0, "forward") * max(np.linalg.norm(reference), 1.0)
        assert error <= bound, f"value or gradient {index}: {error:.1e}, expected at most {bound:.1e}"


CONVOLUTIONS = {
    "pointwise": (ops.Geometry(), (5, 7, 1, 1), (2, 7, 6, 9)),
    "stride": (ops.Geometry((2, 2), (1, 1)), (8, 4, 3, 3), (2, 4, 11, 8)),
    "row": (ops.Geometry(padding=(0, 2)), (4, 4, 1, 5), (1, 4, 6, 6)),
    "dilated": (ops.Geometry(padding=(5, 5), dilation=(5, 5)), (4, 4, 3, 3), (2, 4, 12, 12)),
    "depthwise": (ops.Geometry(padding=(1, 1), groups=6), (6, 1, 3, 3), (2, 6, 7, 5)),
    "groups": (ops.Geometry(padding=(1, 1), groups=2), (6, 2, 3, 3), (1, 4, 7, 5)),
    "one pixel": (ops.Geometry(padding=(3, 3)), (3, 2, 7, 7), (1, 2, 1, 1)),
}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name, with_bias, channels_last):
    geometry, weight_shape, shape = CONVOLUTIONS[name]
    inputs = [noise("x", *shape), noise("w", *weight_shape)]
    if with_bias:
        inputs.append(noise("b", weight_shape[0]))

    def ours(x, weight, bias=None):
        if not channels_last:
            return ops.conv2d(x, weight, bias, geometry)
        x = x.transpose(0, 2, 3, 1)
        return ops.conv2d(x, weight, bias, geometry, channels_last=True).transpose(0, 3, 1, 2)

    def theirs(x, weight, bias=None):
        return functional.conv2d(x, weight, bias, geometry.stride, geometry.padding, geometry.dilation,
                                 geometry.groups)

    check(ours, theirs, *inputs)


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 5), (2, 3, 4, 5), (1, 5)])
def test_linear(shape):
    check(ops.linear, functional.linear, noise("x", *shape), noise("w", 7, 5), noise("b", 7))


@pytest.mark.parametrize(("batch", "tokens", "keys", "heads", "depth"),
                         [(2, 9, 4, 2, 8), (1, 1, 1, 1, 4), (1, 17, 17, 3, 5)])
def test_attention(batch, tokens, keys, heads, depth):
    from lib.ops.attention import _attention_plain

    def theirs(query, key_value):
        query = query.reshape(batch, tokens, heads, depth).transpose(1, 2)
        key, value = key_value.reshape(batch, keys, 2, heads, depth).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-1, -2) * depth ** -0.5).softmax(-1)
        return (weights @ value).transpose(1, 2).reshape(batch, tokens, heads * depth)

    inputs = noise("q", batch, tokens, heads * depth), 3 * noise("kv", batch, keys, 2 * heads * depth)
    for ours in (ops.attention, _attention_plain):
        check(lambda q, kv, ours=ours: ours(q, kv, heads), theirs, *inputs)


def test_attention_of_large_scores_stays_finite():
    weights = ops.attention(jt.array(1e4 * noise("q", 1, 3, 4)), jt.array(noise("kv", 1, 5, 8)), 1)
    assert np.isfinite(weights.numpy()).all()


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 2, 1, 1), (2, 8, 31, 2)])
def test_batch_norm(shape):
    """A mean that is large against the spread costs no digits: the variance is centred."""
    x = noise("x", *shape) + 30.0
    check(lambda *values: ops.batch_norm(*values, 1e-5)[0],
          lambda x, w, b: functional.batch_norm(x, None, None, w, b, training=True, eps=1e-5),
          x, noise("w", shape[1]), noise("b", shape[1]))
    _, mean, variance = ops.batch_norm(jt.array(x), jt.ones(shape[1]), jt.zeros(shape[1]), 1e-5)
    assert_close(mean.numpy(), x.astype(np.float64).mean((0, 2, 3)), "float32")
    assert_close(variance.numpy(), x.astype(np.float64).var((0, 2, 3)), "float32")


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 4, 16), (1, 5)])
def test_layer_norm(shape):
    check(lambda *values: ops.layer_norm(*values, 1e-6),
          lambda x, w, b: functional.layer_norm(x, shape[-1:], w, b, eps=1e-6),
          noise("x", *shape) - 20.0, noise("w", shape[-1]), noise("b", shape[-1]))


@pytest.mark.parametrize(("size", "stride", "padding", "side"), [(3, 2, 1, 8), (2, 2, 0, 2), (31, 1, 15, 20)])
def test_average_pool(size, stride, padding, side):
    check(lambda x: ops.average_pool(x, size, stride, padding),
          lambda x: functional.avg_pool2d(x, size, stride, padding), noise("x", 2, 3, side, side))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(16, 16), (44, 24), (3, 5), (2, 2), (1, 1), (8, 8)])
def test_resize(size, align_corners):
    def theirs(x):
        return functional.interpolate(x, size, mode="bilinear", align_corners=align_corners)

    check(lambda x: ops.resize_bilinear(x, size, align_corners), theirs, noise("x", 2, 3, 8, 8))


def test_adam_takes_pytorchs_steps():
    """With tiny gradients too, where the place of eps decides, and with clamped ones."""
    start = noise("start", 6)
    slopes = np.array([1e-9, 1e-7, 1e-3, 0.4, -3.0, 50.0], np.float32)
    ours, theirs = jt.array(start), torch.tensor(start, requires_grad=True)
    optimizer, peer = Adam([ours], clip=0.5), torch.optim.Adam([theirs], lr=1e-3)
    for step in range(5):
        factor = 1.0 + step % 2
        optimizer.step((ours * jt.array(slopes) * factor).sum(), lr=1e-3)
        peer.zero_grad()
        (theirs * torch.tensor(slopes) * factor).sum().backward()
        theirs.grad.clamp_(-0.5, 0.5)
        peer.step()
    assert_close(ours.numpy(), theirs.detach().numpy(), "adam")
