// What changes many tensors: a step of Adam or AdamW, and of a moving average. The new values may lie where the
// old ones do.
#pragma once
#include "parallel.cuh"

namespace {
namespace pranet {

template <class Change>
struct Update {  // one item for each `tile` elements of a tensor; tensors follow each other
    static constexpr int lanes = THREADS;
    static constexpr long tile = 16384;
    typename Change::Tensor tensors[TENSORS_PER_LAUNCH];
    Change change;

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        int index = 0;
        for (long size; size = tensors[index].size, item * tile >= size; ++index)
            item -= (size + tile - 1) / tile;
        const typename Change::Tensor tensor = tensors[index];
        const long start = item * tile, end = start + tile < tensor.size ? start + tile : tensor.size;
        PRANET_LOOP()
        for (long i = start + lane.first(); i < end; i += lane.step()) change(tensor, i);
    }
};

template <class Change>
void update(const Update<Change>& body, int count) {
    long tiles = 0;
    for (int i = 0; i < count; ++i) tiles += (body.tensors[i].size + body.tile - 1) / body.tile;
    items(tiles, body);
}

struct Adam {
    struct Tensor {
        const float *grad, *value, *mean, *square;
        float *new_value, *new_mean, *new_square;
        long size;
    };
    float scale, clip, rate, correction, decay, eps;
    float old_mean, new_mean, old_square, new_square;  // beta1, 1 - beta1, beta2, 1 - beta2

    PRANET_DEVICE void operator()(const Tensor& t, long i) const {
        const float raw = t.grad[i] * scale;
        const float least = raw < -clip ? -clip : raw, g = least > clip ? clip : least;
        const float mean = t.mean[i] * old_mean + g * new_mean;
        const float square = t.square[i] * old_square + g * g * new_square;
        t.new_mean[i] = mean;
        t.new_square[i] = square;
        t.new_value[i] = t.value[i] * decay - rate * mean / (std::sqrt(square) / correction + eps);
    }
};

struct Ema {
    struct Tensor {
        const float *value, *average;
        float* new_average;
        long size;
    };
    float old, recent;  // weights of the average and of the value

    PRANET_DEVICE void operator()(const Tensor& t, long i) const {
        t.new_average[i] = t.average[i] * old + t.value[i] * recent;
    }
};

}  // namespace pranet
}  // namespace
