"""2-D convolution. On the CPU by oneDNN with the blocked kernels that PyTorch uses as well.

Jittor's own asks oneDNN for inference kernels, which sum along one long chain: two to three times the
rounding, enough to flip a ReLU here and there and with it a gradient by a percent. It also compiles a kernel
for each stride, padding and kernel size; these compile once. On CUDA Jittor's own convolution is used.
"""

from __future__ import annotations

from dataclasses import dataclass

from utils.backend import jt, onednn_home

_HEADER = r"""
#include <dnnl.hpp>
#include <vector>

namespace {
using dnnl::memory;

// An array in plain order, and the order that the primitive wants it in.
struct Argument { int name; void* data; memory::desc plain, wanted; };

memory::desc describe(const memory::dims& shape, memory::format_tag tag = memory::format_tag::any) {
    return memory::desc(shape, memory::data_type::f32, tag);
}

// Runs the primitive on plain arrays; the last argument is its output.
void run_primitive(const dnnl::primitive& primitive, const dnnl::engine& engine,
                   const std::vector<Argument>& arguments) {
    dnnl::stream stream(engine);
    std::unordered_map<int, memory> memories;
    memory plain, wanted;
    for (const auto& argument : arguments) {
        plain = wanted = memory(argument.plain, engine, argument.data);
        if (argument.wanted != argument.plain) {
            wanted = memory(argument.wanted, engine);
            if (&argument != &arguments.back()) dnnl::reorder(plain, wanted).execute(stream, plain, wanted);
        }
        memories[argument.name] = wanted;
    }
    primitive.execute(stream, memories);
    if (arguments.back().wanted != arguments.back().plain)
        dnnl::reorder(wanted, plain).execute(stream, wanted, plain);
    stream.wait();
}
}
"""

_SETUP = r"""
    static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    const auto plain_map = memory::format_tag::nchw;
    const int groups = data["groups"];
    const memory::dims stride = {(int)data["stride_h"], (int)data["stride_w"]};
    const memory::dims padding = {(int)data["padding_h"], (int)data["padding_w"]};
    const memory::dims dilation = {(int)data["dilation_h"] - 1, (int)data["dilation_w"] - 1};
    auto dims = [](jittor::Var* v) {
        return memory::dims{v->shape[0], v->shape[1], v->shape[2], v->shape[3]};
    };
    auto filter_dims = [&](jittor::Var* v) {
        auto shape = dims(v);
        if (groups == 1) return shape;
        return memory::dims{groups, shape[0] / groups, shape[1], shape[2], shape[3]};
    };
    const auto plain_filter = groups == 1 ? memory::format_tag::oihw : memory::format_tag::goihw;
    const auto direct = dnnl::algorithm::convolution_direct;
    const auto x_dims = dims(@X), y_dims = dims(@Y), w_dims = filter_dims(@W);
    const auto bias = describe({y_dims[1]}, memory::format_tag::x);
    dnnl::convolution_forward::primitive_desc forward(
        @HAS_BIAS
            ? dnnl::convolution_forward::desc(dnnl::prop_kind::forward_training, direct, describe(x_dims),
                  describe(w_dims), bias, describe(y_dims), stride, dilation, padding, padding)
            : dnnl::convolution_forward::desc(dnnl::prop_kind::forward_training, direct, describe(x_dims),
                  describe(w_dims), describe(y_dims), stride, dilation, padding, padding), engine);
"""

_FORWARD = r"""
    std::vector<Argument> arguments = {
        {DNNL_ARG_SRC, in0->mem_ptr, describe(x_dims, plain_map), forward.src_desc()},
        {DNNL_ARG_WEIGHTS, in1->mem_ptr, describe(w_dims, plain_filter), forward.weights_desc()}};
    @BIAS
    arguments.push_back({DNNL_ARG_DST, out0->mem_ptr, describe(y_dims, plain_map), forward.dst_desc()});
    run_primitive(dnnl::convolution_forward(forward), engine, arguments);
"""

_BACKWARD_DATA = r"""
    dnnl::convolution_backward_data::primitive_desc backward(
        dnnl::convolution_backward_data::desc(direct, describe(x_dims), describe(w_dims),
                                              describe(y_dims), stride, dilation, padding, padding),
        engine, forward);
    run_primitive(dnnl::convolution_backward_data(backward), engine, {
        {DNNL_ARG_DIFF_DST, in0->mem_ptr, describe(y_dims, plain_map), backward.diff_dst_desc()},
        {DNNL_ARG_WEIGHTS, in1->mem_ptr, describe(w_dims, plain_filter), backward.weights_desc()},
        {DNNL_ARG_DIFF_SRC, out0->mem_ptr, describe(x_dims, plain_map), backward.diff_src_desc()}});
"""

_BACKWARD_WEIGHTS = r"""
    dnnl::convolution_backward_weights::primitive_desc backward(
        dnnl::convolution_backward_weights::desc(direct, describe(x_dims), describe(w_dims),
                                                 describe(y_dims), stride, dilation, padding, padding),
        engine, forward);
    run_primitive(dnnl::convolution_backward_weights(backward), engine, {
        {DNNL_ARG_SRC, in0->mem_ptr, describe(x_dims, plain_map), backward.src_desc()},
        {DNNL_ARG_DIFF_DST, in1->mem_ptr, describe(y_dims, plain_map), backward.diff_dst_desc()},
        {DNNL_ARG_DIFF_WEIGHTS, out0->mem_ptr, describe(w_dims, plain_filter),
         backward.diff_weights_desc()}});
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

    def data(self) -> dict[str, int]:
        both = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        sides = {f"{name}_{axis}": value for name, pair in both.items() for axis, value in zip("hw", pair)}
        return {**sides, "groups": self.groups}


def conv2d(x, weight, bias, geometry: Geometry):
    """Convolves (N,C,H,W) with weight (O,C/groups,kh,kw) and bias (O,) or None to (N,O,h,w), all float32."""
    if jt.flags.use_cuda:
        return jt.nn.conv2d(x, weight, bias, geometry.stride, geometry.padding, geometry.dilation,
                            geometry.groups)
    if bias is None:
        return _Convolution(geometry)(x, weight)
    return _Convolution(geometry)(x, weight, bias)


class _Convolution(jt.Function):
    def __init__(self, geometry: Geometry):
        self.geometry = geometry

    def execute(self, x, weight, *bias):
        self.saved, self.has_bias = (x, weight), bool(bias)
        size = self.geometry.output_size(x.shape[2:], weight.shape[2:])
        source = _setup("in0", "in1", "out0", has_bias=self.has_bias) + _FORWARD.replace(
            "@BIAS", "arguments.push_back({DNNL_ARG_BIAS, in2->mem_ptr, bias, bias});" if bias else "")
        return self._run([x.shape[0], weight.shape[0], *size], [x, weight, *bias], source)

    def grad(self, grad_y):
        x, weight = self.saved
        grad_x = self._run(x.shape, [grad_y, weight], _setup("out0", "in1", "in0") + _BACKWARD_DATA)
        grad_weight = self._run(weight.shape, [x, grad_y], _setup("in0", "out0", "in1") + _BACKWARD_WEIGHTS)
        if not self.has_bias:
            return grad_x, grad_weight
        return grad_x, grad_weight, grad_y.float64().sum([0, 2, 3]).float32()

    def _run(self, shape, inputs, source):
        flags = f' -I"{onednn_home()}/include" -L"{onednn_home()}/lib" -lmkldnn '
        with jt.flag_scope(compile_options={f"FLAGS:{flags}": 1}):
            return jt.code(list(shape), "float32", inputs, cpu_header=_HEADER, cpu_src=source,
                           data=self.geometry.data())


def _setup(x: str, weight: str, y: str, has_bias: bool = False) -> str:
    replacements = {"@X": x, "@W": weight, "@Y": y, "@HAS_BIAS": str(has_bias).lower()}
    source = _SETUP
    for name, value in replacements.items():
        source = source.replace(name, value)
    return source
