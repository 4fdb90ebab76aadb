// Batch and layer normalisation with a centred variance and sums in float64.
#pragma once
#include "parallel.cuh"

namespace {
namespace pranet {

template <int WIDE>
struct BatchNorm {  // one item for each channel of (batch,channels,plane)
    static constexpr int lanes = MAX_THREADS;
    const float *x, *weight, *bias, *residual;  // residual may be null
    float* y;
    double *mean, *variance;
    float* scale;  // 1 / deviation
    long batch, channels, plane;
    double eps;
    bool relu;

    template <class Lanes>
    PRANET_DEVICE void operator()(long channel, Lanes lane) const {
        const long apart = channels * plane;  // from one image's plane to the next
        const auto part = lane.template split<WIDE>();
        const double count = static_cast<double>(batch) * plane;
        double sum = 0, squares = 0;
        for (long n = part.row; n < batch; n += part.rows) {
            const float* in = x + n * apart + channel * plane;
            PRANET_LOOP(reduction(+ : sum))
            for (long i = part.column; i < plane; i += part.columns) sum += in[i];
        }
        const double middle = lane.sum(sum) / count;
        const float centre = static_cast<float>(middle);
        for (long n = part.row; n < batch; n += part.rows) {
            const float* in = x + n * apart + channel * plane;
            PRANET_LOOP(reduction(+ : squares))
            for (long i = part.column; i < plane; i += part.columns) {
                const float deviation = in[i] - centre;
                squares += static_cast<double>(deviation) * deviation;
            }
        }
        const double spread = lane.sum(squares) / count;
        const float factor = static_cast<float>(1.0 / std::sqrt(spread + eps));
        if (lane.first() == 0) mean[channel] = middle, variance[channel] = spread, scale[channel] = factor;
        const float slope = factor * weight[channel], shift = bias[channel];
        const float limit = relu ? 0.0f : -INFINITY;
        for (long n = part.row; n < batch; n += part.rows) {
            const long base = n * apart + channel * plane;
            const float *in = x + base, *added = residual ? residual + base : nullptr;
            float* out = y + base;
            PRANET_LOOP()
            for (long i = part.column; i < plane; i += part.columns) {
                const float value = (in[i] - centre) * slope + shift + (added ? added[i] : 0.0f);
                out[i] = value < limit ? 0.0f : value;
            }
        }
    }
};

template <int WIDE>
struct BatchNormGrad {  // one item for each channel
    static constexpr int lanes = MAX_THREADS;
    const float *x, *y, *weight, *grad;
    const double* mean;
    const float* scale;
    float *grad_x, *grad_weight, *grad_bias, *grad_residual;  // the last may be null
    long batch, channels, plane;
    bool relu;

    // The gradient of what was there before the ReLU, which lets pass what is above `limit`. A NaN passes too.
    PRANET_DEVICE static float passed(float gradient, float result, float limit) {
        return gradient * (result <= limit ? 0.0f : 1.0f);  // compilers vectorise this, not a choice of loads
    }

    template <class Lanes>
    PRANET_DEVICE void operator()(long channel, Lanes lane) const {
        const long apart = channels * plane;
        const auto part = lane.template split<WIDE>();
        const double count = static_cast<double>(batch) * plane;
        const float centre = static_cast<float>(mean[channel]), factor = scale[channel];
        const float limit = relu ? 0.0f : -INFINITY;
        double sum = 0, product = 0;
        for (long n = part.row; n < batch; n += part.rows) {
            const long base = n * apart + channel * plane;
            const float *in = x + base, *result = y + base, *g = grad + base;
            PRANET_LOOP(reduction(+ : sum, product))
            for (long i = part.column; i < plane; i += part.columns) {
                const float here = passed(g[i], result[i], limit);
                sum += here;
                product += here * (in[i] - centre);
            }
        }
        const double sums = lane.sum(sum), products = lane.sum(product) * factor;
        if (lane.first() == 0) grad_bias[channel] = sums, grad_weight[channel] = products;
        const float shift = sums / count, projection = products * factor / count;
        const float slope = weight[channel] * factor;
        for (long n = part.row; n < batch; n += part.rows) {
            const long base = n * apart + channel * plane;
            const float *in = x + base, *result = y + base, *g = grad + base;
            float *out = grad_x + base, *added = grad_residual ? grad_residual + base : nullptr;
            PRANET_LOOP()
            for (long i = part.column; i < plane; i += part.columns)
                out[i] = slope * (passed(g[i], result[i], limit) - shift - (in[i] - centre) * projection);
            if (!added) continue;
            PRANET_LOOP()
            for (long i = part.column; i < plane; i += part.columns) added[i] = passed(g[i], result[i], limit);
        }
    }
};

// Runs a body for each channel, in blocks that have several images at work where planes are small.
template <template <int> class Body, class... Values>
void each_channel(long channels, long plane, Values... values) {
    if (plane < MAX_THREADS) items(channels, Body<128>{values...});
    else items(channels, Body<MAX_THREADS>{values...});
}

struct LayerNorm {  // one item for each row of (rows,columns)
    static constexpr int lanes = 32;
    const float *x, *weight, *bias;
    float *y, *mean, *scale;
    long columns;
    double eps;

    template <class Lanes>
    PRANET_DEVICE void operator()(long row, Lanes lane) const {
        const float* in = x + row * columns;
        double sum = 0, squares = 0;
        PRANET_LOOP(reduction(+ : sum))
        for (long c = lane.first(); c < columns; c += lane.step()) sum += in[c];
        const float centre = static_cast<float>(lane.sum(sum) / columns);
        PRANET_LOOP(reduction(+ : squares))
        for (long c = lane.first(); c < columns; c += lane.step()) {
            const float deviation = in[c] - centre;
            squares += static_cast<double>(deviation) * deviation;
        }
        const float factor = static_cast<float>(1.0 / std::sqrt(lane.sum(squares) / columns + eps));
        if (lane.first() == 0) mean[row] = centre, scale[row] = factor;
        float* out = y + row * columns;
        PRANET_LOOP()
        for (long c = lane.first(); c < columns; c += lane.step())
            out[c] = (in[c] - centre) * factor * weight[c] + bias[c];
    }
};

struct LayerNormGrad {  // one item for each row
    static constexpr int lanes = 32;
    const float *x, *weight, *grad, *mean, *scale;
    float* grad_x;
    long columns;

    template <class Lanes>
    PRANET_DEVICE void operator()(long row, Lanes lane) const {
        const float *in = x + row * columns, *g = grad + row * columns;
        const float centre = mean[row], factor = scale[row];
        double sum = 0, product = 0;
        PRANET_LOOP(reduction(+ : sum, product))
        for (long c = lane.first(); c < columns; c += lane.step()) {
            const float slope = g[c] * weight[c];
            sum += slope;
            product += slope * ((in[c] - centre) * factor);
        }
        const float shift = lane.sum(sum) / columns, projection = lane.sum(product) / columns;
        float* out = grad_x + row * columns;
        PRANET_LOOP()
        for (long c = lane.first(); c < columns; c += lane.step())
            out[c] = factor * (g[c] * weight[c] - shift - (in[c] - centre) * factor * projection);
    }
};

struct LayerNormTerms {  // of the gradients of weight and bias
    const float *x, *grad, *mean, *scale;
    long columns;

    PRANET_DEVICE void operator()(long row, long column, float* terms) const {
        const float g = grad[row * columns + column];
        terms[0] += g * ((x[row * columns + column] - mean[row]) * scale[row]);
        terms[1] += g;
    }
};

inline void layer_norm_grad(const float* x, const float* weight, const float* grad, const float* mean,
                                 const float* scale, float* grad_x, float* grad_weight_bias, double* partial,
                                 long rows, long columns) {
    items(rows, LayerNormGrad{x, weight, grad, mean, scale, grad_x, columns});
    column_sums<2>(LayerNormTerms{x, grad, mean, scale, columns}, rows, columns, partial, grad_weight_bias);
}

}  // namespace pranet
}  // namespace
