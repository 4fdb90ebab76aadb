"""The operations that a network is made of, against PyTorch in float64: values, gradients, odd shapes."""

from __future__ import annotations

import numpy as np
import pytest

from lib import losses, ops
from lib.ops import dispatch
from lib.ops.depthwise import depthwise_conv2d
from lib.registry import GAINS
from tests.helpers.compare import assert_close, parity_bound
from tests.helpers.op_parity import check, noise
from utils.runtime.backend import jt

torch = pytest.importorskip("torch")
functional = torch.nn.functional
pytestmark = pytest.mark.gpu


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


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(("side", "shape"), [(3, (2, 7, 5, 6)), (3, (1, 1, 1, 1)), (3, (1, 2, 1, 40)),
                                             (5, (2, 6, 9, 3)), (1, (1, 3, 2, 4))])
def test_depthwise_convolution_of_our_kernel(side, shape, with_bias):
    inputs = [noise("x", *shape), noise("w", shape[3], 1, side, side)]
    if with_bias:
        inputs.append(noise("b", shape[3]))

    def theirs(x, weight, bias=None):
        y = functional.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=side // 2, groups=shape[3])
        return y.permute(0, 2, 3, 1)

    check(lambda x, weight, bias=None: depthwise_conv2d(x, weight, bias), theirs, *inputs)


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 5), (2, 3, 4, 5), (1, 5)])
def test_linear(shape, formulas):
    check(ops.linear, functional.linear, noise("x", *shape), noise("w", 7, 5), noise("b", 7))


@pytest.mark.parametrize(("batch", "tokens", "keys", "heads", "depth"),
                         [(2, 9, 4, 2, 8), (1, 1, 1, 1, 4), (1, 17, 17, 3, 5)])
@pytest.mark.parametrize("as_on_cuda", [False, True])
def test_attention(batch, tokens, keys, heads, depth, as_on_cuda, formulas, monkeypatch):
    if as_on_cuda:
        monkeypatch.setattr(dispatch, "fused_on_cpu", lambda: False)

    def theirs(query, key_value):
        query = query.reshape(batch, tokens, heads, depth).transpose(1, 2)
        key, value = key_value.reshape(batch, keys, 2, heads, depth).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-1, -2) * depth ** -0.5).softmax(-1)
        return (weights @ value).transpose(1, 2).reshape(batch, tokens, heads * depth)

    inputs = noise("q", batch, tokens, heads * depth), 3 * noise("kv", batch, keys, 2 * heads * depth)
    check(lambda q, kv: ops.attention(q, kv, heads), theirs, *inputs)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 1), (2, 2, 7, 121)])
def test_scaled_softmax(shape, formulas):
    check(lambda x: ops.scaled_softmax(x, 0.125), lambda x: (0.125 * x).softmax(-1), 20 * noise("x", *shape))


@pytest.mark.parametrize("shape", [(5, 3), (2, 1, 40), (3, 33, 65), (2, 3, 32, 64)])
def test_matrix_transpose(shape, formulas):
    check(ops.matrix_transpose, lambda x: x.transpose(-1, -2), noise("x", *shape))


def test_channels_first_and_last(formulas):
    x = noise("x", 2, 5, 3, 7)
    assert np.array_equal(ops.channels_first(jt.array(x)).numpy(), x.transpose(0, 3, 1, 2))
    assert np.array_equal(ops.channels_last(jt.array(x)).numpy(), x.transpose(0, 2, 3, 1))


def test_attention_of_large_scores_stays_finite():
    weights = ops.attention(jt.array(1e4 * noise("q", 1, 3, 4)), jt.array(noise("kv", 1, 5, 8)), 1)
    assert np.isfinite(weights.numpy()).all()


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 2, 1, 1), (2, 8, 31, 2)])
def test_batch_norm(shape, formulas):
    """A mean that is large against the spread costs no digits: the variance is centred."""
    x = noise("x", *shape) + 30.0
    check(lambda *values: ops.batch_norm(*values, 1e-5)[0],
          lambda x, w, b: functional.batch_norm(x, None, None, w, b, training=True, eps=1e-5),
          x, noise("w", shape[1]), noise("b", shape[1]))
    _, mean, variance = ops.batch_norm(jt.array(x), jt.ones(shape[1]), jt.zeros(shape[1]), 1e-5)
    assert_close(mean.numpy(), x.astype(np.float64).mean((0, 2, 3)), "float32")
    assert_close(variance.numpy(), x.astype(np.float64).var((0, 2, 3)), "float32")


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 4, 16), (1, 5)])
def test_layer_norm(shape, formulas):
    check(lambda *values: ops.layer_norm(*values, 1e-6),
          lambda x, w, b: functional.layer_norm(x, shape[-1:], w, b, eps=1e-6),
          noise("x", *shape) - 20.0, noise("w", shape[-1]), noise("b", shape[-1]))


@pytest.mark.parametrize(("size", "stride", "padding", "side"), [(3, 2, 1, 8), (2, 2, 0, 2), (31, 1, 15, 20)])
def test_average_pool(size, stride, padding, side):
    check(lambda x: ops.average_pool(x, size, stride, padding),
          lambda x: functional.avg_pool2d(x, size, stride, padding), noise("x", 2, 3, side, side))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(16, 16), (44, 24), (3, 5), (2, 2), (1, 1), (8, 8), (64, 9)])
def test_resize(size, align_corners, formulas):
    def theirs(x):
        return functional.interpolate(x, size, mode="bilinear", align_corners=align_corners)

    check(lambda x: ops.resize_bilinear(x, size, align_corners), theirs, noise("x", 2, 3, 8, 8))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("before", "after"), [((1, 1), (7, 3)), ((1, 5), (32, 5)), ((11, 11), (352, 352)),
                                               ((37, 53), (5, 1)), ((352, 2), (264, 3))])
def test_resize_of_odd_shapes(before, after, align_corners):
    check(lambda x: ops.resize_bilinear(x, after, align_corners),
          lambda x: functional.interpolate(x, after, mode="bilinear", align_corners=align_corners),
          noise("x", 1, 2, *before))


@pytest.mark.parametrize("size", [(20, 20), (1, 1), (6, 35), (64, 33)])
def test_resize_has_the_adjoint_for_a_gradient(size):
    """<resize(x), y> = <x, gradient of y>: both sides see the same weights, to rounding."""
    x, y = noise("x", 2, 3, 9, 13), noise("y", 2, 3, *size)
    variable = jt.array(x)
    resized = ops.resize_bilinear(variable, size)
    gradient = jt.grad((resized * jt.array(y)).sum(), variable).numpy()
    both = np.vdot(x.astype(np.float64), gradient), np.vdot(resized.numpy().astype(np.float64), y)
    assert abs(both[0] - both[1]) <= parity_bound(0, "forward") * np.linalg.norm(x) * np.linalg.norm(gradient)


@pytest.mark.parametrize(("guide", "feature"), [
    ((2, 1, 3, 4), (2, 5, 6, 8)), ((1, 1, 1, 1), (1, 1, 1, 1)), ((3, 1, 11, 7), (3, 40, 11, 7)),
    ((1, 1, 8, 8), (1, 3, 5, 3))])
def test_reverse_attention(guide, feature, formulas):
    def theirs(g, f):
        return (1 - functional.interpolate(g, f.shape[2:], mode="bilinear").sigmoid()) * f

    check(ops.reverse_attention, theirs, 4 * noise("guide", *guide), noise("feature", *feature))


@pytest.mark.parametrize("classes", [2, 5])
def test_reverse_attention_of_several_classes(classes, formulas):
    """The weight is the probability of the first class; also where exp of a logit would overflow."""
    def theirs(g, f):
        return functional.interpolate(g, f.shape[2:], mode="bilinear").softmax(1)[:, :1] * f

    guide = 40 * noise("guide", 2, classes, 4, 3)
    check(ops.reverse_attention, theirs, guide, noise("feature", 2, 3, 8, 6))
    two = noise("two", 1, 2, 4, 4)
    two[:, 0] = 0
    feature = jt.array(noise("feature", 1, 2, 4, 4))
    one = ops.reverse_attention(jt.array(two[:, 1:]), feature).numpy()
    assert_close(ops.reverse_attention(jt.array(two), feature).numpy(), one, "float32")


def test_gate(formulas):
    check(ops.gate, lambda logits, x: logits.sigmoid() * x, 4 * noise("logits", 2, 1, 5, 3),
          noise("x", 2, 7, 5, 3))


@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize(("guide", "fg"), [((2, 3, 3, 4), (2, 3, 6, 8)), ((1, 9, 1, 1), (1, 9, 1, 1)),
                                           ((2, 1, 3, 3), (2, 1, 6, 7)), ((1, 30, 5, 5), (1, 30, 11, 3))])
def test_dsra_gain(guide, fg, gain, formulas):
    def theirs(fg, guide_fg, guide_bg):
        up_fg, up_bg = (functional.interpolate(each, fg.shape[2:], mode="bilinear")
                        for each in (guide_fg, guide_bg))
        difference = up_fg - up_bg
        return fg + fg * {"softmax": difference.softmax(1), "sigmoid": difference.sigmoid(),
                          "difference": difference}[gain]

    inputs = noise("fg", *fg), 3 * noise("guide_fg", *guide), 3 * noise("guide_bg", *guide)
    if gain == "softmax" and fg[1] == 1:  # the guides take no part; jt.grad gives zeros, as PyTorch does
        check(lambda *maps: ops.dsra_gain(*maps, gain) + 0 * maps[1].sum() + 0 * maps[2].sum(),
              theirs, *inputs)
    else:
        check(lambda *maps: ops.dsra_gain(*maps, gain), theirs, *inputs)


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (2, 5, 6, 24), (1, 1025)])
def test_gelu(shape, formulas):
    check(ops.gelu, functional.gelu, 3 * noise("x", *shape))


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 1, 1, 1), (1, 2, 7, 5), (1, 1, 2, 9)])
def test_max_pool(shape, formulas, request):
    if min(shape[2:]) <= 3 and "plain" in request.node.name:
        pytest.skip("Jittor's own refuses maps that are no larger than the window")
    check(ops.max_pool, lambda x: functional.max_pool2d(x, 3, 2, 1), noise("x", *shape))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
def test_batch_norm_with_what_follows_it(relu, with_residual, formulas):
    def theirs(x, w, b, residual):
        y = functional.batch_norm(x, None, None, w, b, training=True) + with_residual * residual
        return y.relu() if relu else y

    def ours(x, w, b, residual):
        y = ops.batch_norm(x, w, b, 1e-5, residual if with_residual else None, relu)[0]
        return y if with_residual else y + 0 * residual

    check(ours, theirs, noise("x", 2, 5, 9, 7), noise("w", 5), noise("b", 5), noise("residual", 2, 5, 9, 7))


@pytest.mark.parametrize("channels_last", [False, True])
def test_convolution_with_relu(channels_last, formulas):
    def theirs(x, w, b):
        x = x.permute(0, 3, 1, 2) if channels_last else x
        y = functional.conv2d(x, w, b, padding=1).relu()
        return y.permute(0, 2, 3, 1) if channels_last else y

    check(lambda x, w, b: ops.conv2d(x, w, b, ops.Geometry(padding=(1, 1)), channels_last, relu=True), theirs,
          noise("x", 2, 6, 6, 6), noise("w", 4, 6, 3, 3), noise("b", 4))


@pytest.mark.parametrize("channels", [(1,), (3, 1, 5), (2, 2, 2, 2)])
def test_concat_and_split(channels, formulas):
    maps = [noise(f"map{index}", 2, count, 5, 3) for index, count in enumerate(channels)]
    check(lambda *maps: ops.concat(list(maps)), lambda *maps: torch.cat(maps, dim=1), *maps)
    count = len(channels)
    check(lambda x: sum((i + 1) * part for i, part in enumerate(ops.split(x, count))),
          lambda x: sum((i + 1) * part for i, part in enumerate(x.chunk(count, dim=1))),
          noise("whole", 2, 3 * count, 5, 3))


@pytest.mark.parametrize("count", [1, 3])
def test_clamped_sum(count, formulas):
    parts = [8 * noise(f"part{index}", 2, 3, 4, 5) for index in range(count)]
    check(lambda *parts: ops.clamped_sum(list(parts), 6.0),
          lambda *parts: sum(part.clamp(max=6.0) for part in parts), *parts)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (1, 2, 7, 1)])
def test_upsample_nearest(shape, formulas):
    check(ops.upsample_nearest, lambda x: functional.interpolate(x, scale_factor=2), noise("x", *shape))


def test_add_relu(formulas):
    check(ops.add_relu, lambda x, y: (x + y).relu(), noise("x", 2, 3, 4, 5), noise("y", 2, 3, 4, 5))


EMPTY = {
    "resize": (lambda x: ops.resize_bilinear(x, (8, 8)), (0, 1, 8, 8)),
    "weight": (ops.boundary_weight, (0, 1, 4, 4)),
    "max pool": (ops.max_pool, (0, 1, 2, 2)),
    "gelu": (ops.gelu, (0, 1, 4, 4)),
    "concat": (lambda x: ops.concat([x, x]), (0, 2, 4, 4)),
}


@pytest.mark.parametrize("name", EMPTY)
def test_of_no_images_there_are_no_maps(name):
    operation, shape = EMPTY[name]
    assert operation(jt.zeros((0, 1, 4, 4))).numpy().shape == shape


NAN_PASSES = {
    "resize": lambda x: ops.resize_bilinear(x, (9, 9)),
    "reverse attention": lambda x: ops.reverse_attention(x, jt.ones((1, 2, 4, 4))),
    "clamped sum": lambda x: ops.clamped_sum([x], 6.0),
    "classes": lambda x: losses.mutation_loss([jt.concat([x, x], dim=1)], [],
                                              jt.ones((1, 4, 4), "int32"))[1],
    "gain": lambda x: ops.dsra_gain(jt.ones((1, 2, 4, 4)), jt.concat([x, x], dim=1), jt.zeros((1, 2, 4, 4))),
    "weight": ops.boundary_weight,
    "loss": lambda x: losses.v2_loss(x, x, jt.ones((1, 1, 4, 4)), jt.ones((1, 1, 4, 4))),
    "batch norm": lambda x: ops.batch_norm(x, jt.ones(1), jt.zeros(1), 1e-5, None, True)[0],
    "layer norm": lambda x: ops.layer_norm(x, jt.ones(4), jt.zeros(4), 1e-5),
    "gelu": ops.gelu,
    "max pool": ops.max_pool,
}


@pytest.mark.parametrize("name", NAN_PASSES)
def test_a_nan_is_not_lost(name):
    """The training stops on a loss that is no number; a kernel that made one of it would hide the fault."""
    x = np.ones((1, 1, 4, 4), np.float32)
    x[0, 0, 1, 2] = np.nan
    assert np.isnan(NAN_PASSES[name](jt.array(x)).numpy()).any()


def test_gradients_are_the_same_to_the_bit_from_run_to_run():
    def gradients():
        x, w, b = (jt.array(each) for each in (noise("x", 2, 8, 9, 9), noise("w", 8), noise("b", 8)))
        y = ops.resize_bilinear(ops.batch_norm(x, w, b, 1e-5, None, True)[0], (31, 30))
        return [each.numpy() for each in jt.grad((y * y).sum(), [x, w, b])]

    for first, second in zip(gradients(), gradients()):
        np.testing.assert_array_equal(first, second)
