// Softmax of rows, as attention weights its scores, and its gradient.
#pragma once
#include "parallel.cuh"

namespace {
namespace pranet {

struct Softmax {  // of scale * x; one item for each row of (rows,columns)
    static constexpr int lanes = 32;
    const float* x;
    float* y;
    long columns;
    float scale;  // above zero

    template <class Lanes>
    PRANET_DEVICE void operator()(long row, Lanes lane) const {
        const float* in = x + row * columns;
        float* out = y + row * columns;
        float largest = -INFINITY;
        PRANET_LOOP(reduction(max : largest))
        for (long c = lane.first(); c < columns; c += lane.step()) largest = in[c] > largest ? in[c] : largest;
        largest = lane.max(largest);
        double sum = 0;
        PRANET_LOOP(reduction(+ : sum))
        for (long c = lane.first(); c < columns; c += lane.step()) {
            out[c] = std::exp((in[c] - largest) * scale);
            sum += out[c];
        }
        const float inverse = static_cast<float>(1.0 / lane.sum(sum));
        PRANET_LOOP()
        for (long c = lane.first(); c < columns; c += lane.step()) out[c] *= inverse;
    }
};

struct SoftmaxGrad {  // one item for each row; y is the softmax
    static constexpr int lanes = 32;
    const float *y, *grad;
    float* grad_x;
    long columns;
    float scale;

    template <class Lanes>
    PRANET_DEVICE void operator()(long row, Lanes lane) const {
        const float *p = y + row * columns, *g = grad + row * columns;
        double sum = 0;
        PRANET_LOOP(reduction(+ : sum))
        for (long c = lane.first(); c < columns; c += lane.step()) sum += p[c] * g[c];
        const float mean = static_cast<float>(lane.sum(sum));
        float* out = grad_x + row * columns;
        PRANET_LOOP()
        for (long c = lane.first(); c < columns; c += lane.step()) out[c] = p[c] * (g[c] - mean) * scale;
    }
};

}  // namespace pranet
}  // namespace
