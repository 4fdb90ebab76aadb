"""Runs oneDNN primitives inside Jittor on the CPU: what is common to convolution, products and attention.

Jittor passes plain arrays; a primitive may want another order, so that its arguments are reordered on the
way in and out, on all cores. Sizes go through ``data``, so that each source is compiled once.
"""

from __future__ import annotations

from functools import lru_cache

from utils.runtime.backend import jt
from utils.runtime.onednn import onednn_home

_HEADER = r"""
#include <dnnl.hpp>
#include <unordered_map>
#include <vector>
#include "executor.h"

namespace {
using dnnl::memory;

// The array `data` of order `plain`, the order that the primitive wants it in, and how many numbers on the
// next image's is: 0 if all images have the same.
struct Argument { int name; void* data; memory::desc plain, wanted; long step = 0; };

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

// An argument on its way to the primitive, or from it if it is the output.
struct Passage {
    memory plain, wanted;
    dnnl::primitive way;  // none where the array is taken as it lies

    Passage(const Argument& argument, bool output, std::vector<Temporary>& temporaries)
        : plain(argument.plain, cpu(), argument.data), wanted(plain) {
        if (argument.wanted == argument.plain) return;
        temporaries.emplace_back(argument.wanted);
        wanted = temporaries.back().array;
        way = output ? dnnl::reorder(wanted, plain) : dnnl::reorder(plain, wanted);
    }

    void pass(dnnl::stream& stream, memory from, memory to) {
        if (way) way.execute(stream, {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
    }
};

// Runs the primitive for one image after another; the last argument is its output.
//
// Some of oneDNN's primitives sum in an order that depends on how many rows or images they are given. Which
// ones do differs from processor to processor. So maps are made one image at a time, and none depends on the
// others of its batch.
void run_primitive(const dnnl::primitive& primitive, const std::vector<Argument>& arguments,
                   long images = 1) {
    dnnl::stream stream(cpu());
    std::unordered_map<int, memory> memories;
    std::vector<Temporary> temporaries;
    std::vector<Passage> passages;
    for (const auto& argument : arguments) {
        passages.emplace_back(argument, &argument == &arguments.back(), temporaries);
        memories[argument.name] = passages.back().wanted;
    }
    auto& output = passages.back();
    for (long image = 0; image < images; ++image) {
        for (size_t k = 0; k < arguments.size(); ++k) {
            auto& passage = passages[k];
            const auto& argument = arguments[k];
            if (image > 0 && argument.step == 0) continue;
            passage.plain.set_data_handle(static_cast<float*>(argument.data) + image * argument.step);
            if (&passage != &output) passage.pass(stream, passage.plain, passage.wanted);
        }
        primitive.execute(stream, memories);
        output.pass(stream, output.wanted, output.plain);
    }
    stream.wait();
}

memory::desc strided(const memory::dims& shape, const memory::dims& strides) {
    return memory::desc(shape, memory::data_type::f32, strides);
}

// One image's matrix or stack of them, and how many numbers on the next image's is.
struct Matrix { memory::desc order; float* data; long step = 0; };

// c = a b for each image; each dimension has its stride, so that transposed and interleaved ones do.
void multiply(long images, const Matrix& a, const Matrix& b, const Matrix& c, float* bias = nullptr) {
    const auto columns = c.order.dims().back();
    memory::dims bias_shape(c.order.dims().size(), 1);
    bias_shape.back() = columns;
    memory::dims bias_strides(bias_shape.size(), columns);
    bias_strides.back() = 1;
    const auto bias_order = strided(bias_shape, bias_strides);
    auto operation = bias ? dnnl::matmul::desc(a.order, b.order, bias_order, c.order)
                          : dnnl::matmul::desc(a.order, b.order, c.order);
    dnnl::matmul::primitive_desc product(operation, cpu());
    std::vector<Argument> arguments = {{DNNL_ARG_SRC, a.data, a.order, a.order, a.step},
                                       {DNNL_ARG_WEIGHTS, b.data, b.order, b.order, b.step}};
    if (bias) arguments.push_back({DNNL_ARG_BIAS, bias, bias_order, bias_order});
    arguments.push_back({DNNL_ARG_DST, c.data, c.order, c.order, c.step});
    run_primitive(dnnl::matmul(product), arguments, images);
}
}
"""


def onednn_code(shapes: list, inputs: list, source: str, data: dict[str, float] | None = None) -> list:
    """float32 Vars of ``shapes`` that the C++ ``source`` fills: out0, out1 ... from in0, in1 ..."""
    with jt.flag_scope(compile_options={f"FLAGS:{_compiler_flags()}": 1}):
        return jt.code([list(shape) for shape in shapes], ["float32"] * len(shapes), inputs,
                       cpu_header=_HEADER, cpu_src=source, data=data or {})


@lru_cache(maxsize=1)
def _compiler_flags() -> str:
    """Made once: asking for the cache folder writes a file, 316 times a forward pass of PraNet-V2."""
    return f' -I"{onednn_home()}/include" -L"{onednn_home()}/lib" -lmkldnn '
