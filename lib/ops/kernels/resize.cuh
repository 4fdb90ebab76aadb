// Bilinear resizing of planes, nearest upsampling by 2, and their adjoints. Every value is gathered, so that sums do
// not vary.
#pragma once
#include "parallel.cuh"

namespace {
namespace pranet {

struct Tap { int low, high; float fraction; };  // 1 - fraction of pixel `low`, fraction of pixel `high`

// One axis. The place of output pixel o is numerator(o) / denominator input pixels; whole numbers keep the
// fractions exact to rounding at any size.
struct Axis {
    int inputs, outputs, corners, denominator;
    float inverse;

    Axis(int inputs, int outputs, bool corners)
        : inputs(inputs), outputs(outputs), corners(corners),
          denominator(!corners ? 2 * outputs : outputs > 1 ? outputs - 1 : 1), inverse(1.0f / denominator) {}

    PRANET_DEVICE int numerator(int o) const {
        if (corners) return outputs > 1 ? o * (inputs - 1) : 0;
        const int place = (2 * o + 1) * inputs - outputs;
        return place > 0 ? place : 0;
    }

    PRANET_DEVICE Tap tap(int o) const {
        const int place = numerator(o), whole = static_cast<int>(place * inverse);
        const int low = whole < inputs - 1 ? whole : inputs - 1;
        return {low, low < inputs - 1 ? low + 1 : low, (place - low * denominator) * inverse};
    }

    // What output o takes of input i.
    PRANET_DEVICE float weight(int o, int i) const {
        const Tap t = tap(o);
        return (t.low == i ? 1.0f - t.fraction : 0.0f) + (t.high == i ? t.fraction : 0.0f);
    }

    // Outputs before `begin(i)` and from `begin(i + 2)` on take nothing of input i.
    PRANET_DEVICE int begin(int i) const {
        if (i <= 0) return 0;
        if (i > inputs) return outputs;
        // The first o whose place is beyond input i - 1.
        const long above = corners ? static_cast<long>(i - 1) * denominator
                                   : (2L * i - 1) * outputs - inputs;
        const long below = corners ? inputs - 1 : 2L * inputs;
        if (below == 0) return 0;
        const long first = above < 0 ? 0 : above / below + 1;
        return first < outputs ? static_cast<int>(first) : outputs;
    }
};

struct Resize {  // one item for each row of the result
    static constexpr int lanes = 32;
    const float* x;
    float* y;
    Axis rows, columns;

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const Tap v = rows.tap(static_cast<int>(item % rows.outputs));
        const float* plane = x + item / rows.outputs * rows.inputs * columns.inputs;
        const float *low = plane + v.low * columns.inputs, *high = plane + v.high * columns.inputs;
        float* row = y + item * columns.outputs;
        PRANET_LOOP()
        for (int o = lane.first(); o < columns.outputs; o += lane.step()) {
            const Tap h = columns.tap(o);
            const float upper = (1.0f - h.fraction) * low[h.low] + h.fraction * low[h.high];
            const float lower = (1.0f - h.fraction) * high[h.low] + h.fraction * high[h.high];
            row[o] = (1.0f - v.fraction) * upper + v.fraction * lower;
        }
    }
};

struct AdjointRows {  // one item for each input row: gathers the rows of the result that took of it
    static constexpr int lanes = 32;
    const float* grad;
    float* gathered;
    Axis rows, columns;

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const int i = static_cast<int>(item % rows.inputs);
        const float* plane = grad + item / rows.inputs * rows.outputs * columns.outputs;
        float* row = gathered + item * columns.outputs;
        for (int o = lane.first(); o < columns.outputs; o += lane.step()) row[o] = 0;
        for (int from = rows.begin(i); from < rows.begin(i + 2); ++from) {
            const float weight = rows.weight(from, i);
            const float* source = plane + static_cast<long>(from) * columns.outputs;
            PRANET_LOOP()
            for (int o = lane.first(); o < columns.outputs; o += lane.step()) row[o] += weight * source[o];
        }
    }
};

struct AdjointColumns {  // one item for each input row
    static constexpr int lanes = 32;
    const float* gathered;
    float* result;
    Axis columns;

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const float* row = gathered + item * columns.outputs;
        for (int i = lane.first(); i < columns.inputs; i += lane.step()) {
            float sum = 0;
            const int end = columns.begin(i + 2);
            for (int from = columns.begin(i); from < end; ++from) sum += columns.weight(from, i) * row[from];
            result[item * columns.inputs + i] = sum;
        }
    }
};

struct UpsampleNearest2x {  // one item for each row of the result, whose planes have an even number of them
    static constexpr int lanes = 32;
    const float* x;
    float* y;
    long width;  // of the result

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const float* from = x + item / 2 * (width / 2);
        PRANET_LOOP()
        for (long o = lane.first(); o < width; o += lane.step()) y[item * width + o] = from[o / 2];
    }
};

struct UpsampleNearest2xGrad {  // one item for each row of the result, the gradient of what was doubled
    static constexpr int lanes = 32;
    const float* grad;
    float* result;
    long width;  // of the result

    template <class Lanes>
    PRANET_DEVICE void operator()(long item, Lanes lane) const {
        const float *upper = grad + item * 4 * width, *lower = upper + 2 * width;
        PRANET_LOOP()
        for (long i = lane.first(); i < width; i += lane.step())
            result[item * width + i] = (upper[2 * i] + upper[2 * i + 1]) + (lower[2 * i] + lower[2 * i + 1]);
    }
};

// x (planes,rows.inputs,columns.inputs) to y (planes,rows.outputs,columns.outputs).
inline void resize(long planes, const float* x, float* y, Axis rows, Axis columns) {
    items(planes * rows.outputs, Resize{x, y, rows, columns});
}

// The gradient of y to that of x; `gathered` is (planes,rows.inputs,columns.outputs).
inline void resize_adjoint(long planes, const float* grad, float* gathered, float* result, Axis rows,
                           Axis columns) {
    items(planes * rows.inputs, AdjointRows{grad, gathered, rows, columns});
    items(planes * rows.inputs, AdjointColumns{gathered, result, columns});
}

}  // namespace pranet
}  // namespace
