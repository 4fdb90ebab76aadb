"""Runs oneDNN primitives inside Jittor on the CPU: what is common to convolution, products and attention.

Jittor passes plain arrays; a primitive may want another order, so that its arguments are reordered on the
way in and out, on all cores. Sizes go through ``data``, so that each source is compiled once.
"""

from __future__ import annotations

from utils.runtime.backend import jt, onednn_home

_HEADER = r"""
#include <dnnl.hpp>
#include <unordered_map>
#include <vector>
#include "executor.h"

namespace {
using dnnl::memory;

// The array `data` of order `plain`, and the order that the primitive wants it in.
struct Argument { int name; void* data; memory::desc plain, wanted; };

const dnnl::engine& cpu() {
    static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    return engine;
}

memory::desc describe(const memory::dims& shape, memory::format_tag tag = memory::format_tag::any) {
    return memory::desc(shape, memory::data_type::f32, tag);
}

// An array of Jittor's memory, where it lies ready: the system would clear new pages for each.
struct Temporary {
    jittor::Allocation room;
    memory array;
    explicit Temporary(const memory::desc& order)
        : room(jittor::exe.allocator, order.get_size()), array(order, cpu(), room.ptr) {}
};

void reorder(dnnl::stream& stream, memory from, memory to) {
    dnnl::reorder(from, to).execute(stream, from, to);
}

// The argument in the order that the primitive wants.
Temporary arranged(const Argument& argument) {
    dnnl::stream stream(cpu());
    Temporary wanted(argument.wanted);
    reorder(stream, memory(argument.plain, cpu(), argument.data), wanted.array);
    stream.wait();
    return wanted;
}

// Runs the primitive; the last argument is its output.
void run_primitive(const dnnl::primitive& primitive, const std::vector<Argument>& arguments) {
    dnnl::stream stream(cpu());
    std::unordered_map<int, memory> memories;
    std::vector<Temporary> temporaries;
    for (const auto& argument : arguments) {
        const memory plain(argument.plain, cpu(), argument.data);
        memories[argument.name] = plain;
        if (argument.wanted == argument.plain) continue;
        temporaries.emplace_back(argument.wanted);
        const memory wanted = memories[argument.name] = temporaries.back().array;
        if (&argument != &arguments.back()) reorder(stream, plain, wanted);
    }
    primitive.execute(stream, memories);
    const auto& output = arguments.back();
    if (output.wanted != output.plain)
        reorder(stream, memories[output.name], memory(output.plain, cpu(), output.data));
    stream.wait();
}

// c = a b for stacks of matrices; each dimension has its stride, so that transposed and interleaved ones do.
void multiply(const memory::desc& a_desc, float* a, const memory::desc& b_desc, float* b,
              const memory::desc& c_desc, float* c, float* bias = nullptr) {
    const auto columns = c_desc.dims().back();
    memory::dims bias_shape(c_desc.dims().size(), 1);
    bias_shape.back() = columns;
    memory::dims bias_strides(bias_shape.size(), columns);
    bias_strides.back() = 1;
    memory::desc bias_desc(bias_shape, memory::data_type::f32, bias_strides);
    auto operation = bias ? dnnl::matmul::desc(a_desc, b_desc, bias_desc, c_desc)
                          : dnnl::matmul::desc(a_desc, b_desc, c_desc);
    dnnl::matmul::primitive_desc product(operation, cpu());
    std::vector<Argument> arguments = {{DNNL_ARG_SRC, a, a_desc, a_desc},
                                       {DNNL_ARG_WEIGHTS, b, b_desc, b_desc}};
    if (bias) arguments.push_back({DNNL_ARG_BIAS, bias, bias_desc, bias_desc});
    arguments.push_back({DNNL_ARG_DST, c, c_desc, c_desc});
    run_primitive(dnnl::matmul(product), arguments);
}

memory::desc strided(const memory::dims& shape, const memory::dims& strides) {
    return memory::desc(shape, memory::data_type::f32, strides);
}
}
"""


def onednn_code(shapes: list, inputs: list, source: str, data: dict[str, float] | None = None) -> list:
    """float32 Vars of ``shapes`` that the C++ ``source`` fills: out0, out1 ... from in0, in1 ..."""
    flags = f' -I"{onednn_home()}/include" -L"{onednn_home()}/lib" -lmkldnn '
    with jt.flag_scope(compile_options={f"FLAGS:{flags}": 1}):
        return jt.code([list(shape) for shape in shapes], ["float32"] * len(shapes), inputs,
                       cpu_header=_HEADER, cpu_src=source, data=data or {})
