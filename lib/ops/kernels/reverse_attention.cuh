// (1 - sigmoid(guide)) * feature, the guide (N,1,h,w) being the weight of every channel of (N,C,h,w).
#pragma once
#include "parallel.cuh"

namespace {
namespace pranet {

// 1 - sigmoid(x) without a difference that loses digits.
PRANET_DEVICE float reverse(float x) { return 1.0f / (1.0f + std::exp(x)); }

struct ReverseWeights {  // one item for each image, so that nothing depends on the batch
    static constexpr int lanes = THREADS;
    const float* guide;
    float* weights;
    long plane;

    template <class Lanes>
    PRANET_DEVICE void operator()(long image, Lanes lane) const {
        PRANET_LOOP()
        for (long i = lane.first(); i < plane; i += lane.step())
            weights[image * plane + i] = reverse(guide[image * plane + i]);
    }
};

template <class Pack>
struct ReverseAttention {  // one item for each plane of the feature
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

struct ReverseAttentionGradients {  // one item for each PIXELS pixels of a guide
    static constexpr int lanes = 32;
    static constexpr long PIXELS = 128;
    const float *weights, *feature, *grad;
    float *grad_feature, *grad_guide;
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
            grad_guide[image * plane + start + i] = -weight[i] * (1.0f - weight[i]) * sums[i / lane.step()];
    }
};

inline void reverse_attention(const float* guide, const float* feature, float* result, float* weights,
                              long batch, long channels, long plane) {
    items(batch, ReverseWeights{guide, weights, plane});
#ifdef __CUDACC__
    const auto places = reinterpret_cast<std::uintptr_t>(weights) | reinterpret_cast<std::uintptr_t>(feature)
                        | reinterpret_cast<std::uintptr_t>(result);
    if (plane % 4 == 0 && places % sizeof(Four) == 0) {
        items(batch * channels, ReverseAttention<Four>{reinterpret_cast<const Four*>(weights),
            reinterpret_cast<const Four*>(feature), reinterpret_cast<Four*>(result), channels, plane / 4});
        return;
    }
#endif
    items(batch * channels, ReverseAttention<float>{weights, feature, result, channels, plane});
}

inline void reverse_attention_gradients(const float* weights, const float* feature, const float* grad,
                                        float* grad_feature, float* grad_guide, long batch, long channels,
                                        long plane) {
    const long strips = (plane + ReverseAttentionGradients::PIXELS - 1) / ReverseAttentionGradients::PIXELS;
    items(batch * strips, ReverseAttentionGradients{weights, feature, grad, grad_feature, grad_guide, channels,
                                                    plane, strips});
}

}  // namespace pranet
}  // namespace
