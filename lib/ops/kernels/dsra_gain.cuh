// fg + fg * gamma over classes: gamma is the softmax or sigmoid of guide_fg - guide_bg, or that difference.
#pragma once
#include "parallel.cuh"

namespace {
namespace pranet {

enum class Gamma { softmax, sigmoid, difference };

template <class Rule>
struct EachPixel {  // one item for each image; maps are (N,classes,plane)
    static constexpr int lanes = THREADS;
    Rule rule;

    template <class Lanes>
    PRANET_DEVICE void operator()(long image, Lanes lane) const {
        for (long i = lane.first(); i < rule.plane; i += lane.step())
            rule.pixel(image * rule.classes * rule.plane + i);
    }
};

template <Gamma GAMMA>
struct Gain {
    const float *fg, *guide_fg, *guide_bg;
    float *result, *gamma;
    long classes, plane;

    // `first` is the pixel of the first class.
    PRANET_DEVICE void pixel(long first) const {
        const long end = first + classes * plane;
        float largest = guide_fg[first] - guide_bg[first], sum = 0;
        for (long i = first; i < end; i += plane) {
            gamma[i] = guide_fg[i] - guide_bg[i];
            largest = gamma[i] > largest ? gamma[i] : largest;
        }
        if (GAMMA == Gamma::softmax) {
            for (long i = first; i < end; i += plane) sum += gamma[i] = std::exp(gamma[i] - largest);
            for (long i = first; i < end; i += plane) gamma[i] /= sum;
        }
        if (GAMMA == Gamma::sigmoid)
            for (long i = first; i < end; i += plane) gamma[i] = 1.0f / (1.0f + std::exp(-gamma[i]));
        for (long i = first; i < end; i += plane) result[i] = fg[i] + fg[i] * gamma[i];
    }
};

template <Gamma GAMMA>
struct GainGrad {  // `grad_difference` is that of guide_fg - guide_bg
    const float *fg, *gamma, *grad;
    float *grad_fg, *grad_difference;
    long classes, plane;

    // `first` is the pixel of the first class.
    PRANET_DEVICE void pixel(long first) const {
        const long end = first + classes * plane;
        float mean = 0;
        if (GAMMA == Gamma::softmax)
            for (long i = first; i < end; i += plane) mean += gamma[i] * grad[i] * fg[i];
        for (long i = first; i < end; i += plane) {
            const float here = grad[i] * fg[i];
            grad_fg[i] = grad[i] * (1.0f + gamma[i]);
            grad_difference[i] = GAMMA == Gamma::softmax   ? gamma[i] * (here - mean)
                                 : GAMMA == Gamma::sigmoid ? gamma[i] * (1.0f - gamma[i]) * here
                                                           : here;
        }
    }
};

template <Gamma GAMMA>
void dsra_gain(const float* fg, const float* guide_fg, const float* guide_bg, float* result, float* gamma,
               long batch, long classes, long plane) {
    const Gain<GAMMA> rule{fg, guide_fg, guide_bg, result, gamma, classes, plane};
    items(batch, EachPixel<Gain<GAMMA>>{rule});
}

template <Gamma GAMMA>
void dsra_gain_grad(const float* fg, const float* gamma, const float* grad, float* grad_fg,
                         float* grad_difference, long batch, long classes, long plane) {
    const GainGrad<GAMMA> rule{fg, gamma, grad, grad_fg, grad_difference, classes, plane};
    items(batch, EachPixel<GainGrad<GAMMA>>{rule});
}

}  // namespace pranet
}  // namespace
