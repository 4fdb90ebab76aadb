"""2-D convolution. On the CPU by oneDNN with the blocked kernels that PyTorch uses as well.

Jittor's own asks oneDNN for inference kernels, which sum along one long chain: two to three times the
rounding, enough to flip a ReLU here and there and with it a gradient by a percent. It also compiles a kernel
for each stride, padding and kernel size. On CUDA Jittor's own is used, which is cuDNN's, but for depthwise
ones with channels last.
"""

from __future__ import annotations

from dataclasses import dataclass

from lib.ops import depthwise, dispatch, launcher
from lib.ops.autograd import Function
from lib.ops.onednn import onednn_code
from lib.ops.transpose import channels_first
from lib.ops.transpose import channels_last as to_channels_last
from utils.runtime.backend import jt

# X, Y and W stand for the inputs and outputs that hold image, result and weight. If ONE_IMAGE, x and y
# describe one image and its result, else all.
_SETUP = r"""
    const bool last = data["channels_last"];
    const auto plain_map = last ? memory::format_tag::nhwc : memory::format_tag::nchw;
    auto map_shape = [&](jittor::Var* v) {
        const auto& s = v->shape;
        const long n = ONE_IMAGE ? 1 : s[0];
        return last ? memory::dims{n, s[3], s[1], s[2]} : memory::dims{n, s[1], s[2], s[3]};
    };
    const int groups = data["groups"];
    const auto plain_filter = groups == 1 ? memory::format_tag::oihw : memory::format_tag::goihw;
    auto filter_shape = [&](jittor::Var* v) {
        const auto& s = v->shape;
        if (groups == 1) return memory::dims{s[0], s[1], s[2], s[3]};
        return memory::dims{groups, s[0] / groups, s[1], s[2], s[3]};
    };
    const memory::dims stride = {(int)data["stride_h"], (int)data["stride_w"]};
    const memory::dims padding = {(int)data["padding_h"], (int)data["padding_w"]};
    const memory::dims dilation = {(int)data["dilation_h"] - 1, (int)data["dilation_w"] - 1};
    const auto direct = dnnl::algorithm::convolution_direct;
    const auto training = dnnl::prop_kind::forward_training;
    const auto x_shape = map_shape(X), y_shape = map_shape(Y), w_shape = filter_shape(W);
    // Maps with channels last are taken as they lie: reordering them costs more than it gains.
    const auto order = last ? plain_map : memory::format_tag::any;
    const auto x = describe(x_shape, order), y = describe(y_shape, order), w = describe(w_shape);
    const auto x_plain = describe(x_shape, plain_map), y_plain = describe(y_shape, plain_map);
    const auto w_plain = describe(w_shape, plain_filter);
    const auto bias = describe({y_shape[1]}, memory::format_tag::x);
    dnnl::post_ops after;
    if (data["relu"]) after.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
    dnnl::primitive_attr attributes;
    attributes.set_post_ops(after);
    using Forward = dnnl::convolution_forward;
    Forward::primitive_desc forward(
        HAS_BIAS ? Forward::desc(training, direct, x, w, bias, y, stride, dilation, padding, padding)
                 : Forward::desc(training, direct, x, w, y, stride, dilation, padding, padding),
        attributes, cpu());
"""

_FORWARD = r"""
    auto length = [](const memory::desc& order) { return long(order.get_size() / sizeof(float)); };
    std::vector<Argument> arguments = {
        {DNNL_ARG_SRC, in0->mem_ptr, x_plain, forward.src_desc(), length(x_plain)},
        {DNNL_ARG_WEIGHTS, in1->mem_ptr, w_plain, forward.weights_desc()}};
    if (HAS_BIAS) arguments.push_back({DNNL_ARG_BIAS, BIAS->mem_ptr, bias, bias});
    arguments.push_back({DNNL_ARG_DST, out0->mem_ptr, y_plain, forward.dst_desc(), length(y_plain)});
    run_primitive(Forward(forward), arguments, X->shape[0]);
"""

# The gradients of image and weight, or of the weight alone. They mostly want the gradient of the result in
# the same order, in which it is then put once.
_BACKWARD = r"""
    using Weights = dnnl::convolution_backward_weights;
    Weights::primitive_desc weights(
        Weights::desc(direct, x, w, y, stride, dilation, padding, padding), cpu(), forward);
    Argument grad_y = {DNNL_ARG_DIFF_DST, in1->mem_ptr, y_plain, weights.diff_dst_desc()};
    std::vector<Temporary> ordered;
    if (WITH_IMAGE && grad_y.wanted != grad_y.plain) {
        ordered.push_back(arranged(grad_y));
        grad_y.data = ordered[0].room.ptr;
        grad_y.plain = grad_y.wanted;
    }
    run_primitive(Weights(weights), {
        {DNNL_ARG_SRC, in0->mem_ptr, x_plain, weights.src_desc()}, grad_y,
        {DNNL_ARG_DIFF_WEIGHTS, out0->mem_ptr, w_plain, weights.diff_weights_desc()}});
    if (WITH_IMAGE) {
        using Data = dnnl::convolution_backward_data;
        Data::primitive_desc image(
            Data::desc(direct, x, w, y, stride, dilation, padding, padding), cpu(), forward);
        if (grad_y.plain != image.diff_dst_desc())
            grad_y = {DNNL_ARG_DIFF_DST, in1->mem_ptr, y_plain, image.diff_dst_desc()};
        run_primitive(Data(image), {
            grad_y, {DNNL_ARG_WEIGHTS, in2->mem_ptr, w_plain, image.weights_desc()},
            {DNNL_ARG_DIFF_SRC, IMAGE->mem_ptr, x_plain, image.diff_src_desc()}});
    }
"""


@dataclass(frozen=True)
class Geometry:
    """Stride, padding and dilation, each (along height, along width), and the number of groups."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def output_size(self, size, kernel) -> list[int]:
        return [(side + 2 * padding - dilation * (span - 1) - 1) // stride + 1
                for side, span, stride, padding, dilation
                in zip(size, kernel, self.stride, self.padding, self.dilation)]

    def keeps_size_by_channel(self, weight_shape) -> bool:
        """Whether this is a depthwise convolution by odd squares to a map of the same size."""
        channels, inputs, height, width = weight_shape
        around = (height // 2, height // 2)
        return (inputs == 1 and height == width and height % 2 == 1
                and self == Geometry(padding=around, groups=channels))

    def data(self) -> dict[str, int]:
        both = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        sides = {f"{name}_{axis}": value for name, pair in both.items() for axis, value in zip("hw", pair)}
        return {**sides, "groups": self.groups}


def conv2d(x, weight, bias, geometry: Geometry, channels_last: bool = False, relu: bool = False):
    """Convolves (N,C,H,W), or (N,H,W,C) if ``channels_last``, to the like of O channels, all float32.

    weight is (O,C/groups,kh,kw), bias (O,) or None. ``relu`` has a ReLU applied to the result.
    """
    if not dispatch.fused_on_cpu():
        if dispatch.fused() and channels_last and geometry.keeps_size_by_channel(weight.shape):
            y = depthwise.depthwise_conv2d(x, weight, bias)
        else:
            y = _plain(x, weight, bias, geometry, channels_last)
        return jt.nn.relu(y) if relu else y
    inputs = (x, weight) if bias is None else (x, weight, bias)
    return _Convolution(geometry, channels_last, relu, not x.is_stop_grad())(*inputs)


def _plain(x, weight, bias, geometry: Geometry, channels_last: bool):
    if channels_last:
        x = channels_first(x)
    if bias is not None and bias.numel() == 1:
        bias.sync()  # Jittor cannot compile the sum of a map and an array of one element yet to be read
    y = jt.nn.conv2d(x, weight, bias, geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
    return to_channels_last(y) if channels_last else y


class _Convolution(Function):
    def __init__(self, geometry: Geometry, channels_last: bool, relu: bool, with_image: bool):
        self.geometry, self.channels_last, self.relu = geometry, channels_last, relu
        self.with_image = with_image  # whether the image takes a gradient

    def execute(self, x, weight, *bias):
        self.saved, self.has_bias = (x, weight), bool(bias)
        first = 1 if self.channels_last else 2
        size = self.geometry.output_size(x.shape[first:first + 2], weight.shape[2:])
        outputs = weight.shape[0]
        shape = [x.shape[0], *size, outputs] if self.channels_last else [x.shape[0], outputs, *size]
        y, = self._run([shape], [x, weight, *bias], _FORWARD, X="in0", W="in1", Y="out0",
                       ONE_IMAGE="true", HAS_BIAS=str(self.has_bias).lower(), BIAS=f"in{len(bias) + 1}")
        self.result = y if self.relu else None
        return y

    def grad(self, grad_y):
        x, weight = self.saved
        if self.relu:
            grad_y = jt.ternary(self.result > 0.0, grad_y, 0.0)
        shapes = [weight.shape, x.shape] if self.with_image else [weight.shape]
        names = {"ONE_IMAGE": "false", "HAS_BIAS": "false", "WITH_IMAGE": str(self.with_image).lower(),
                 "IMAGE": f"out{len(shapes) - 1}"}
        grad_weight, *grad_x = self._run(shapes, [x, grad_y, weight], _BACKWARD, X="in0", W="in2", Y="in1",
                                         **names)
        grad_x = grad_x[0] if grad_x else None
        if not self.has_bias:
            return grad_x, grad_weight
        if self.channels_last:
            return grad_x, grad_weight, launcher.column_sums(grad_y)
        return grad_x, grad_weight, grad_y.float64().sum([0, 2, 3]).float32()

    def _run(self, shapes: list, inputs: list, source: str, **names: str) -> list:
        aliases = "".join(f"#define {name} {value}\n" for name, value in names.items())
        undo = "".join(f"\n#undef {name}" for name in names)
        data = {**self.geometry.data(), "channels_last": int(self.channels_last), "relu": int(self.relu)}
        return onednn_code(shapes, inputs, "\n" + aliases + _SETUP + source + undo + "\n", data)
