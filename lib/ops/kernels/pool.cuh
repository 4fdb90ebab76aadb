// Average and largest value of windows. Gradients are gathered, so that they do not vary.
#pragma once
#include "parallel.cuh"

namespace {
namespace pranet {

// Squares of SIZE pixels a side, STRIDE apart, on a plane with PADDING around it.
template <int SIZE, int STRIDE, int PADDING>
struct Windows {
    static constexpr int size = SIZE, stride = STRIDE, padding = PADDING;
    int height, width, rows, columns;  // of x, of y

    // The columns whose windows hold a pixel of x `right` of their left edge: from `begin` to before `end`.
    PRANET_DEVICE int begin(int right) const {
        return right >= padding ? 0 : (padding - right + stride - 1) / stride;
    }
    PRANET_DEVICE int end(int right) const {
        const int last = (width - 1 + padding - right) / stride;
        return width - 1 + padding < right ? 0 : last < columns ? last + 1 : columns;
    }
};

// The first column of a lane that is not before `begin`: each lane keeps to its own columns.
template <class Lanes>
PRANET_DEVICE int first_from(int begin, Lanes lane) {
    const int step = lane.step(), first = lane.first();
    return first >= begin ? first : first + (begin - first + step - 1) / step * step;
}

template <class Geometry>
struct AveragePool {  // one item for each row of the result; pixels outside count as zero
    static constexpr int lanes = 32;
    Geometry windows;
    const float* x;
    float* y;

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const Geometry w = windows;
        const int top = static_cast<int>(item % w.rows) * w.stride - w.padding;
        const float *plane = x + item / w.rows * w.height * w.width, weight = 1.0f / (w.size * w.size);
        float* row = y + item * w.columns;
        for (int c = lane.first(); c < w.columns; c += lane.step()) row[c] = 0;
        for (int i = top < 0 ? 0 : top; i < top + w.size && i < w.height; ++i)
            for (int right = 0; right < w.size; ++right) {
                const float* in = plane + i * w.width + right - w.padding;
                const int end = w.end(right);
                PRANET_LOOP()
                for (int c = first_from(w.begin(right), lane); c < end; c += lane.step())
                    row[c] += in[c * w.stride];
            }
        for (int c = lane.first(); c < w.columns; c += lane.step()) row[c] *= weight;
    }
};

template <class Geometry>
struct AveragePoolGrad {  // one item for each row of x
    static constexpr int lanes = 32;
    Geometry windows;
    const float* grad;
    float* grad_x;

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const Geometry w = windows;
        const int i = static_cast<int>(item % w.height) + w.padding;
        const float *plane = grad + item / w.height * w.rows * w.columns, weight = 1.0f / (w.size * w.size);
        for (int j = lane.first(); j < w.width; j += lane.step()) {
            float sum = 0;
            for (int row = i / w.stride; row >= 0 && row * w.stride > i - w.size; --row)
                for (int c = (j + w.padding) / w.stride; c >= 0 && c * w.stride > j + w.padding - w.size; --c)
                    if (row < w.rows && c < w.columns) sum += plane[row * w.columns + c];
            grad_x[item * w.width + j] = sum * weight;
        }
    }
};

template <class Geometry>
struct MaxPool {  // one item for each row of the result; `taken` says which pixel of the window it is
    static constexpr int lanes = 32;
    Geometry windows;
    const float* x;
    float* y;
    std::uint8_t* taken;

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const Geometry w = windows;
        const int top = static_cast<int>(item % w.rows) * w.stride - w.padding;
        const float* plane = x + item / w.rows * w.height * w.width;
        float* row = y + item * w.columns;
        std::uint8_t* places = taken + item * w.columns;
        for (int c = lane.first(); c < w.columns; c += lane.step()) row[c] = -INFINITY, places[c] = 0;
        for (int i = top < 0 ? 0 : top; i < top + w.size && i < w.height; ++i)
            for (int right = 0; right < w.size; ++right) {
                const float* in = plane + i * w.width + right - w.padding;
                const int place = (i - top) * w.size + right, begin = w.begin(right), end = w.end(right);
                PRANET_LOOP()
                for (int c = first_from(begin, lane); c < end; c += lane.step()) {
                    const float value = in[c * w.stride];
                    const bool more = (value > row[c]) | (value != value);  // a NaN is the largest
                    row[c] = more ? value : row[c];
                    places[c] = more ? place : places[c];
                }
            }
    }
};

template <class Geometry>
struct MaxPoolGrad {  // one item for each row of x
    static constexpr int lanes = 32;
    Geometry windows;
    const float* grad;
    const std::uint8_t* taken;
    float* grad_x;

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const Geometry w = windows;
        const int i = static_cast<int>(item % w.height) + w.padding;
        const long base = item / w.height * w.rows * w.columns;
        for (int j = lane.first(); j < w.width; j += lane.step()) {
            float sum = 0;
            for (int row = i / w.stride; row >= 0 && row * w.stride > i - w.size; --row)
                for (int c = (j + w.padding) / w.stride; c >= 0 && c * w.stride > j + w.padding - w.size; --c) {
                    const int place = (i - row * w.stride) * w.size + j + w.padding - c * w.stride;
                    const long from = base + row * w.columns + c;
                    if (row < w.rows && c < w.columns && taken[from] == place) sum += grad[from];
                }
            grad_x[item * w.width + j] = sum;
        }
    }
};

}  // namespace pranet
}  // namespace
