// Depthwise convolution of maps with channels last by K x K weights, K odd, to maps of the same size. The weights are
// (K*K,channels).
#pragma once
#include "parallel.cuh"

namespace {
namespace pranet {

struct Place { int row, column; };

struct MapSize {
    int height, width;

    PRANET_DEVICE Place pixel(long index) const {  // of all images one after another
        const unsigned in_image = static_cast<unsigned>(index % (static_cast<long>(height) * width));
        return {static_cast<int>(in_image / width), static_cast<int>(in_image % width)};
    }
    PRANET_DEVICE bool has(int row, int column) const {
        return row >= 0 && row < height && column >= 0 && column < width;
    }
};

template <int K>
struct Depthwise {  // one item for each pixel
    static constexpr int lanes = 32;
    const float *x, *weight, *bias;  // bias may be null
    float* y;
    MapSize size;
    long channels;
    bool rot180;  // of the weights, as the gradient of x takes them

    template <class Lanes>
    PRANET_DEVICE void operator()(long index, Lanes lane) const {
        const Place pixel = size.pixel(index);
        const float* in = x + index * channels;
        float* out = y + index * channels;
        for (long c = lane.first(); c < channels; c += lane.step()) {
            float sum = 0;
            for (int tap = 0; tap < K * K; ++tap) {
                const int down = tap / K - K / 2, right = tap % K - K / 2;
                if (!size.has(pixel.row + down, pixel.column + right)) continue;
                const long there = (static_cast<long>(down) * size.width + right) * channels + c;
                sum += in[there] * weight[(rot180 ? K * K - 1 - tap : tap) * channels + c];
            }
            out[c] = bias ? sum + bias[c] : sum;
        }
    }
};

template <int K>
struct DepthwiseTerms {  // of the gradient of the weights
    const float *x, *grad;
    MapSize size;
    long channels;

    PRANET_DEVICE void operator()(long index, long c, float* terms) const {
        const Place pixel = size.pixel(index);
        const float g = grad[index * channels + c];
        for (int tap = 0; tap < K * K; ++tap) {
            const int down = tap / K - K / 2, right = tap % K - K / 2;
            if (!size.has(pixel.row + down, pixel.column + right)) continue;
            terms[tap] += g * x[(index + static_cast<long>(down) * size.width + right) * channels + c];
        }
    }
};

}  // namespace pranet
}  // namespace
