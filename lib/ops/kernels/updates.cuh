// What changes many tensors: a step of Adam or AdamW, and of a moving average. The new values may lie where the
// old ones do.
#pragma once
#include "parallel.cuh"

namespace {
namespace pranet {

constexpr int TENSORS = 16;  // that one launch changes

template <class Change>
struct Update {  // one item for each `share` elements of a tensor; tensors follow each other
    static constexpr int lanes = THREADS;
    static constexpr long share = 16384;
    typename Change::Tensor tensors[TENSORS];
    Change change;

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        int index = 0;
        for (long size; size = tensors[index].size, item * share >= size; ++index)
            item -= (size + share - 1) / share;
        const typename Change::Tensor tensor = tensors[index];
        const long start = item * share, end = start + share < tensor.size ? start + share : tensor.size;
        PRANET_LOOP()
        for (long i = start + lane.first(); i < end; i += lane.step()) change(tensor, i);
    }
};

template <class Change>
void update(const Update<Change>& body, int count) {
    long parts = 0;
    for (int i = 0; i < count; ++i) parts += (body.tensors[i].size + body.share - 1) / body.share;
    items(parts, body);
}

struct Adam {
    struct Tensor {
        const float *gradient, *value, *mean, *square;
        float *new_value, *new_mean, *new_square;
        long size;
    };
    float scale, clip, rate, correction, decay, eps;
    float old_mean, new_mean, old_square, new_square;  // beta1, 1 - beta1, beta2, 1 - beta2

    PRANET_DEVICE void operator()(const Tensor& t, long i) const {
        const float raw = t.gradient[i] * scale;
        const float least = raw < -clip ? -clip : raw, g = least > clip ? clip : least;
        const float mean = t.mean[i] * old_mean + g * new_mean;
        const float square = t.square[i] * old_square + g * g * new_square;
        t.new_mean[i] = mean;
        t.new_square[i] = square;
        t.new_value[i] = t.value[i] * decay - rate * mean / (std::sqrt(square) / correction + eps);
    }
};

struct Average {
    struct Tensor {
        const float *value, *average;
        float* new_average;
        long size;
    };
    float old, recent;  // their parts

    PRANET_DEVICE void operator()(const Tensor& t, long i) const {
        t.new_average[i] = t.average[i] * old + t.value[i] * recent;
    }
};

}  // namespace pranet
}  // namespace
