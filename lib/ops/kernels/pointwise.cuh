// The exact (erf) GELU, sums over rows, max-pooling and the optimizer's step.
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

struct GeluGradient {  // one item for each row
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

// ---------------------------------------------------------------------------------------------- max-pooling

constexpr int WINDOW = 3, STRIDE = 2, PADDING = 1;

struct MaxPool {  // one item for each row of the result; `taken` says which pixel of the window it is
    static constexpr int lanes = 32;
    const float* x;
    float* y;
    std::uint8_t* taken;
    long height, width, rows, columns;  // of x, of y

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const long top = item % rows * STRIDE - PADDING;
        const float* plane = x + item / rows * height * width;
        for (long column = lane.first(); column < columns; column += lane.step()) {
            const long left = column * STRIDE - PADDING;
            float most = 0;
            int best = -1;
            for (int k = 0; k < WINDOW * WINDOW; ++k) {
                const long i = top + k / WINDOW, j = left + k % WINDOW;
                if (i < 0 || j < 0 || i >= height || j >= width) continue;
                const float value = plane[i * width + j];
                if (best < 0 || value > most || value != value) most = value, best = k;  // a NaN wins
            }
            y[item * columns + column] = most;
            taken[item * columns + column] = static_cast<std::uint8_t>(best);
        }
    }
};

struct MaxPoolGradient {  // one item for each row of x
    static constexpr int lanes = 32;
    const float* grad;
    const std::uint8_t* taken;
    float* grad_x;
    long height, width, rows, columns;

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const long i = item % height, base = item / height * rows;
        for (long j = lane.first(); j < width; j += lane.step()) {
            float sum = 0;
            // Windows that hold row i begin at row * STRIDE - PADDING, from i - WINDOW + 1 to i; columns alike.
            for (long row = (i + PADDING) / STRIDE; row >= 0 && row * STRIDE - PADDING > i - WINDOW; --row)
                for (long c = (j + PADDING) / STRIDE; c >= 0 && c * STRIDE - PADDING > j - WINDOW; --c) {
                    const long k = (i - (row * STRIDE - PADDING)) * WINDOW + j - (c * STRIDE - PADDING);
                    const long place = (base + row) * columns + c;
                    if (row < rows && c < columns && taken[place] == k) sum += grad[place];
                }
            grad_x[item * width + j] = sum;
        }
    }
};

// ----------------------------------------------------------------------------------------------------- Adam

constexpr int TENSORS = 16;  // that one launch steps

struct Tensor {
    const float *value, *gradient, *mean, *square;
    float *new_value, *new_mean, *new_square;
    long size;
};

struct Adam {  // one item for each `share` elements of a tensor; tensors follow each other
    static constexpr int lanes = THREADS;
    static constexpr long share = 16384;
    Tensor tensors[TENSORS];
    float clip, rate, correction, eps;
    float old_mean, new_mean, old_square, new_square;  // beta1, 1 - beta1, beta2, 1 - beta2

    static long parts(long size) { return (size + share - 1) / share; }

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        int index = 0;
        for (long size; size = tensors[index].size, item * share >= size; ++index)
            item -= (size + share - 1) / share;
        const Tensor t = tensors[index];
        const long start = item * share, end = start + share < t.size ? start + share : t.size;
        PRANET_LOOP()
        for (long i = start + lane.first(); i < end; i += lane.step()) {
            const float raw = t.gradient[i], least = raw < -clip ? -clip : raw, g = least > clip ? clip : least;
            const float mean = t.mean[i] * old_mean + g * new_mean;
            const float square = t.square[i] * old_square + g * g * new_square;
            t.new_mean[i] = mean;
            t.new_square[i] = square;
            t.new_value[i] = t.value[i] - rate * mean / (std::sqrt(square) / correction + eps);
        }
    }
};

}  // namespace pranet
}  // namespace
