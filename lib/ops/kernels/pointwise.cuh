// The exact (erf) GELU, sums over rows and of ReLU6s, and joining and splitting of maps.
#pragma once
#include "parallel.cuh"

namespace {
namespace pranet {

// Row by row: a vector function rounds otherwise than the one for what is left at the end of a loop, and where
// that is must not depend on the batch.

struct Gelu {  // x Phi(x); one item for each row
    static constexpr int lanes = 32;
    const float* x;
    float* y;
    long columns;

    template <class Lanes>
    PRANET_DEVICE void operator()(long row, Lanes lane) const {
        const float* in = x + row * columns;
        float* out = y + row * columns;
        PRANET_LOOP()
        for (long c = lane.first(); c < columns; c += lane.step())
            out[c] = 0.5f * in[c] * (1.0f + std::erf(in[c] * 0.70710678f));
    }
};

struct GeluGrad {  // one item for each row
    static constexpr int lanes = 32;
    const float *x, *grad;
    float* grad_x;
    long columns;

    template <class Lanes>
    PRANET_DEVICE void operator()(long row, Lanes lane) const {
        const float *in = x + row * columns, *g = grad + row * columns;
        float* out = grad_x + row * columns;
        PRANET_LOOP()
        for (long c = lane.first(); c < columns; c += lane.step()) {
            const float below = 0.5f * (1.0f + std::erf(in[c] * 0.70710678f));
            out[c] = g[c] * (below + in[c] * 0.39894228f * std::exp(-0.5f * in[c] * in[c]));
        }
    }
};

struct ColumnTerm {
    const float* x;
    long columns;

    PRANET_DEVICE void operator()(long row, long column, float* terms) const {
        *terms += x[row * columns + column];
    }
};

// -------------------------------------------------------------------------------------- joining and splitting

constexpr int PARTS = 8;

// Maps (batch,channels of the part,plane) that lie one after the other along the channels of a whole.
struct Parts {
    float* part[PARTS];
    long channels[PARTS];
};

template <bool JOIN>
struct Copy {  // one item for each plane of the whole: from its part, or to it
    static constexpr int lanes = 32;
    Parts parts;
    float* whole;
    long all_channels, plane;

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const long image = item / all_channels;
        long channel = item % all_channels;
        int k = 0;
        for (; channel >= parts.channels[k]; ++k) channel -= parts.channels[k];
        float* one = parts.part[k] + (image * parts.channels[k] + channel) * plane;
        float* all = whole + item * plane;
        PRANET_LOOP()
        for (long i = lane.first(); i < plane; i += lane.step())
            if (JOIN) all[i] = one[i];
            else one[i] = all[i];
    }
};

struct AddRelu {  // one element
    const float *x, *residual;
    float* y;

    PRANET_DEVICE void operator()(long i) const {
        const float value = x[i] + residual[i];
        y[i] = value < 0.0f ? 0.0f : value;
    }
};

template <int COUNT>
struct ClampedSum {  // one element
    const float* parts[COUNT];
    float* y;
    float ceiling;

    PRANET_DEVICE void operator()(long i) const {
        float sum = 0;
        for (int k = 0; k < COUNT; ++k) sum += parts[k][i] > ceiling ? ceiling : parts[k][i];
        y[i] = sum;
    }
};

template <int COUNT>
struct ClampedSumGrad {  // one element
    const float* parts[COUNT];
    const float* grad;
    float* grads[COUNT];
    float ceiling;

    PRANET_DEVICE void operator()(long i) const {
        for (int k = 0; k < COUNT; ++k) grads[k][i] = parts[k][i] >= ceiling ? 0.0f : grad[i];
    }
};

}  // namespace pranet
}  // namespace
