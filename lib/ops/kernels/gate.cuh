// sigmoid(logits) * feature, the logits (N,1,h,w) being those of every channel of (N,C,h,w).
#pragma once
#include "parallel.cuh"

namespace {
namespace pranet {

struct GateWeights {  // one item for each image, so that nothing depends on the batch
    static constexpr int lanes = THREADS;
    const float* logits;
    float* weights;
    long plane;

    template <class Lanes>
    PRANET_DEVICE void operator()(long image, Lanes lane) const {
        PRANET_LOOP()
        for (long i = lane.first(); i < plane; i += lane.step())
            weights[image * plane + i] = 1.0f / (1.0f + std::exp(-logits[image * plane + i]));
    }
};

template <class Pack>
struct Gate {  // one item for each plane of the feature
    static constexpr int lanes = 32;
    const Pack *weights, *feature;
    Pack* result;
    long channels, plane;  // in packs

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const Pack* weight = weights + item / channels * plane;
        PRANET_LOOP()
        for (long i = lane.first(); i < plane; i += lane.step())
            result[item * plane + i] = weight[i] * feature[item * plane + i];
    }
};

struct GateGrad {  // one item for each PIXELS pixels of the logits
    static constexpr int lanes = 32;
    static constexpr long PIXELS = 128;
    const float *weights, *feature, *grad;
    float *grad_feature, *grad_logits;
    long channels, plane, strips;

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const long image = item / strips, start = item % strips * PIXELS;
        if (start + PIXELS <= plane) strip<true>(image, start, PIXELS, lane);
        else strip<false>(image, start, plane - start, lane);
    }

    // `count` pixels from `start` on; WHOLE: as many as fit, which the compiler then knows.
    template <bool WHOLE, class Lanes>
    PRANET_DEVICE void strip(long image, long start, long count, Lanes lane) const {
        const long pixels = WHOLE ? PIXELS : count;
        const float* weight = weights + image * plane + start;
        float sums[PIXELS / Lanes::step()] = {};
        for (long c = 0; c < channels; ++c) {
            const long base = (image * channels + c) * plane + start;
            const float *in = feature + base, *g = grad + base;
            float* out = grad_feature + base;
            PRANET_LOOP()
            for (long i = lane.first(); i < pixels; i += lane.step()) {
                out[i] = weight[i] * g[i];
                sums[i / lane.step()] += in[i] * g[i];
            }
        }
        for (long i = lane.first(); i < pixels; i += lane.step())
            grad_logits[image * plane + start + i] = weight[i] * (1.0f - weight[i]) * sums[i / lane.step()];
    }
};

inline void gate(const float* logits, const float* feature, float* result, float* weights,
                              long batch, long channels, long plane) {
    items(batch, GateWeights{logits, weights, plane});
#ifdef __CUDACC__
    const auto places = reinterpret_cast<std::uintptr_t>(weights) | reinterpret_cast<std::uintptr_t>(feature)
                        | reinterpret_cast<std::uintptr_t>(result);
    if (plane % 4 == 0 && places % sizeof(float4) == 0) {
        items(batch * channels, Gate<float4>{reinterpret_cast<const float4*>(weights),
            reinterpret_cast<const float4*>(feature), reinterpret_cast<float4*>(result), channels, plane / 4});
        return;
    }
#endif
    items(batch * channels, Gate<float>{weights, feature, result, channels, plane});
}

inline void gate_grad(const float* weights, const float* feature, const float* grad,
                                        float* grad_feature, float* grad_logits, long batch, long channels,
                                        long plane) {
    const long strips = (plane + GateGrad::PIXELS - 1) / GateGrad::PIXELS;
    items(batch * strips, GateGrad{weights, feature, grad, grad_feature, grad_logits, channels,
                                                    plane, strips});
}

}  // namespace pranet
}  // namespace
